//! Normalisation of rows; formulas as the checkpoints' authors define them.

use crate::Real;

/// Independent partial sums, so that a sum vectorises with an order of additions that never changes.
const LANES: usize = 16;

/// Sum of `f(x)` over a slice in [`LANES`] interleaved partial sums.
#[inline(always)]
pub(crate) fn lane_sum<R: Real>(x: &[R], f: impl Fn(R) -> R) -> R {
    let mut sums = [R::ZERO; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for (s, &v) in sums.iter_mut().zip(chunk) {
            *s += f(v);
        }
    }
    for (s, &v) in sums.iter_mut().zip(rest) {
        *s += f(v);
    }
    sums.into_iter().sum()
}

vectorised! {
    /// RMSNorm (Zhang & Sennrich 2019): `out = x / scale ⊙ weight`, returning `scale = sqrt(mean(x²) + eps)`, the
    /// `hook_scale` of the row. Gemma's `1 + w` is expected to be in `weight` already.
    pub fn rms_norm<R: Real>(x: &[R], weight: &[R], eps: R, out: &mut [R]) -> R {
        let n = R::from_f64(x.len() as f64);
        let scale = (lane_sum(x, |v| v * v) / n + eps).sqrt();
        let inverse = R::ONE / scale;
        for ((o, &v), &w) in out.iter_mut().zip(x).zip(weight) {
            *o = v * inverse * w;
        }
        scale
    }
}

vectorised! {
    /// LayerNorm (Ba et al. 2016): `out = (x − mean) / scale ⊙ weight + bias`, returning
    /// `scale = sqrt(var(x) + eps)`.
    pub fn layer_norm<R: Real>(x: &[R], weight: &[R], bias: &[R], eps: R, out: &mut [R]) -> R {
        let n = R::from_f64(x.len() as f64);
        let mean = lane_sum(x, |v| v) / n;
        let scale = (lane_sum(x, |v| (v - mean) * (v - mean)) / n + eps).sqrt();
        let inverse = R::ONE / scale;
        for (((o, &v), &w), &b) in out.iter_mut().zip(x).zip(weight).zip(bias) {
            *o = (v - mean) * inverse * w + b;
        }
        scale
    }
}

vectorised! {
    /// Takes a gradient back through a norm whose scale is held: `dx = (g − mean(g) if centred) / scale` with `g = dy ⊙ weight`,
    /// written to `dx`. Returns the derivative with respect to the scale: `−Σ g_i (x_i − mean(x) if centred) / scale²`.
    ///
    /// With [`norm_scale_backward`] for that derivative it is the whole gradient of [`rms_norm`] (not centred) and
    /// [`layer_norm`] (centred).
    pub fn norm_backward<R: Real>(centred: bool, x: &[R], weight: &[R], scale: R, dy: &[R], dx: &mut [R]) -> R {
        let n = R::from_f64(x.len() as f64);
        for ((d, &g), &w) in dx.iter_mut().zip(dy).zip(weight) {
            *d = g * w;
        }
        let (mean_x, mean_g) = if centred {
            (lane_sum(x, |v| v) / n, lane_sum(dx, |v| v) / n)
        } else {
            (R::ZERO, R::ZERO)
        };
        let inverse = R::ONE / scale;
        let mut sums = [R::ZERO; LANES];
        let (dxs, dx_rest) = dx.as_chunks_mut::<LANES>();
        let (xs, x_rest) = x.as_chunks::<LANES>();
        for (d, v) in dxs.iter_mut().zip(xs) {
            for ((s, d), &v) in sums.iter_mut().zip(d).zip(v) {
                *s += *d * (v - mean_x);
                *d = (*d - mean_g) * inverse;
            }
        }
        for ((s, d), &v) in sums.iter_mut().zip(dx_rest).zip(x_rest) {
            *s += *d * (v - mean_x);
            *d = (*d - mean_g) * inverse;
        }
        let total: R = sums.into_iter().sum();
        -total * inverse * inverse
    }
}

vectorised! {
    /// Adds what a derivative with respect to the scale of a norm means for its input:
    /// `dx += dscale · (x − mean(x) if centred) / (n · scale)`, with the scale that the norm found in `x`.
    pub fn norm_scale_backward<R: Real>(centred: bool, x: &[R], scale: R, dscale: R, dx: &mut [R]) {
        let n = R::from_f64(x.len() as f64);
        let mean = if centred { lane_sum(x, |v| v) / n } else { R::ZERO };
        let factor = dscale / (n * scale);
        for (d, &v) in dx.iter_mut().zip(x) {
            *d += factor * (v - mean);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rms_norm_by_hand() {
        let mut out = [0.0f64; 2];
        let scale = rms_norm(&[3.0, 4.0], &[1.0, 2.0], 0.0, &mut out);
        assert!((scale - 12.5f64.sqrt()).abs() < 1e-15);
        assert!(
            (out[0] - 3.0 / 12.5f64.sqrt()).abs() < 1e-15 && (out[1] - 8.0 / 12.5f64.sqrt()).abs() < 1e-15
        );
    }

    #[test]
    fn gradients_of_both_norms_are_those_of_finite_differences() {
        const EPS: f64 = 1e-5;
        let x: Vec<f64> = (0..37).map(|i| (f64::from(i) * 0.7).sin() + 0.3).collect();
        let weight: Vec<f64> = (0..37).map(|i| 1.0 + 0.1 * f64::from(i % 5)).collect();
        let dy: Vec<f64> = (0..37).map(|i| (f64::from(i) * 1.3).cos()).collect();
        for centred in [false, true] {
            let norm = |x: &[f64], out: &mut [f64]| match centred {
                false => rms_norm(x, &weight, EPS, out),
                true => layer_norm(x, &weight, &[0.5; 37], EPS, out),
            };
            let mut out = vec![0.0; 37];
            let value = |x: &[f64]| {
                let mut out = vec![0.0; 37];
                norm(x, &mut out);
                out.iter().zip(&dy).map(|(o, d)| o * d).sum::<f64>()
            };
            let scale = norm(&x, &mut out);
            let mut dx = vec![0.0; 37];
            let dscale = norm_backward(centred, &x, &weight, scale, &dy, &mut dx);
            norm_scale_backward(centred, &x, scale, dscale, &mut dx);
            for (i, got) in dx.iter().enumerate() {
                let (mut up, mut down) = (x.clone(), x.clone());
                up[i] += 1e-5;
                down[i] -= 1e-5;
                let wanted = (value(&up) - value(&down)) / 2e-5;
                assert!((got - wanted).abs() < 1e-8, "{got} against {wanted}");
            }
        }
    }

    #[test]
    fn layer_norm_has_the_mean_and_variance_it_promises() {
        let x: Vec<f64> = (0..37).map(|i| (f64::from(i) * 0.7).sin() + 3.0).collect();
        let mut out = vec![0.0; 37];
        let scale = layer_norm(&x, &[1.0; 37], &[0.5; 37], 0.0, &mut out);
        let mean: f64 = out.iter().sum::<f64>() / 37.0;
        let var: f64 = out.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 37.0;
        assert!((mean - 0.5).abs() < 1e-12 && (var - 1.0).abs() < 1e-12 && scale > 0.0);
    }
}
