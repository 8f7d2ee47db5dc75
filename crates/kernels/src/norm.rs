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
    fn layer_norm_has_the_mean_and_variance_it_promises() {
        let x: Vec<f64> = (0..37).map(|i| (f64::from(i) * 0.7).sin() + 3.0).collect();
        let mut out = vec![0.0; 37];
        let scale = layer_norm(&x, &[1.0; 37], &[0.5; 37], 0.0, &mut out);
        let mean: f64 = out.iter().sum::<f64>() / 37.0;
        let var: f64 = out.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / 37.0;
        assert!((mean - 0.5).abs() < 1e-12 && (var - 1.0).abs() < 1e-12 && scale > 0.0);
    }
}
