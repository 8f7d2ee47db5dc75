//! Activation functions, the gated product, and Gemma-2's soft cap.

use crate::Real;

/// An MLP's nonlinearity.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)`.
    Silu,
    /// GELU in its tanh form (Hendrycks & Gimpel 2016): `x/2 · (1 + tanh(√(2/π)·(x + 0.044715 x³)))`.
    GeluTanh,
}

#[inline(always)]
fn apply<R: Real>(activation: Activation, x: R) -> R {
    match activation {
        Activation::Silu => x / (R::ONE + (-x).exp()),
        Activation::GeluTanh => {
            // x/2·(1 + tanh u) = x · sigmoid(2u), which does not cancel for negative x.
            let u = R::from_f64(0.797_884_560_802_865_4) * (x + R::from_f64(0.044_715) * x * x * x);
            x / (R::ONE + (-(u + u)).exp())
        }
    }
}

vectorised! {
    /// `out = activation(x)`; the plain MLP of GPT-2.
    pub fn activate<R: Real>(activation: Activation, x: &[R], out: &mut [R]) {
        for (o, &v) in out.iter_mut().zip(x) {
            *o = apply(activation, v);
        }
    }
}

vectorised! {
    /// `out = activation(gate) ⊙ up`; the gated MLP (Shazeer 2020).
    pub fn activate_gated<R: Real>(activation: Activation, gate: &[R], up: &[R], out: &mut [R]) {
        for ((o, &g), &u) in out.iter_mut().zip(gate).zip(up) {
            *o = apply(activation, g) * u;
        }
    }
}

vectorised! {
    /// `x ← cap · tanh(x / cap)`; Gemma-2's soft cap of attention scores and of logits.
    pub fn softcap<R: Real>(x: &mut [R], cap: R) {
        let inverse = R::ONE / cap;
        for v in x {
            *v = cap * (*v * inverse).tanh();
        }
    }
}

/// The derivative, and what the output is per unit of input: `activation(x) / x`.
#[inline(always)]
fn slopes<R: Real>(activation: Activation, x: R) -> (R, R) {
    match activation {
        Activation::Silu => {
            let gate = R::ONE / (R::ONE + (-x).exp());
            (gate * (R::ONE + x * (R::ONE - gate)), gate)
        }
        Activation::GeluTanh => {
            let (c, cubic) = (R::from_f64(0.797_884_560_802_865_4), R::from_f64(0.044_715));
            let u = c * (x + cubic * x * x * x);
            let gate = R::ONE / (R::ONE + (-(u + u)).exp());
            let slope = c * (R::ONE + R::from_f64(3.0) * cubic * x * x);
            (gate + x * gate * (R::ONE - gate) * (slope + slope), gate)
        }
    }
}

vectorised! {
    /// Multiplies a gradient by the slope of the activation at `x`: `dx = dy ⊙ activation′(x)`, or, with `secant`, by
    /// `activation(x) / x`, the slope of the line through the origin.
    pub fn activate_backward<R: Real>(activation: Activation, secant: bool, x: &[R], dy: &[R], dx: &mut [R]) {
        for ((d, &v), &g) in dx.iter_mut().zip(x).zip(dy) {
            let (tangent, chord) = slopes(activation, v);
            *d = g * if secant { chord } else { tangent };
        }
    }
}

vectorised! {
    /// The gradient of `activation(gate) ⊙ up` with respect to both factors.
    pub fn activate_gated_backward<R: Real>(
        activation: Activation,
        secant: bool,
        gate: &[R],
        up: &[R],
        dy: &[R],
        dgate: &mut [R],
        dup: &mut [R],
    ) {
        for ((((dg, du), &g), &u), &d) in dgate.iter_mut().zip(dup).zip(gate).zip(up).zip(dy) {
            let (tangent, chord) = slopes(activation, g);
            *dg = d * u * if secant { chord } else { tangent };
            *du = d * g * chord;
        }
    }
}

vectorised! {
    /// Takes a gradient back through [`softcap`], from its outputs: `dy ← dy ⊙ (1 − (y / cap)²)`.
    pub fn softcap_backward<R: Real>(y: &[R], cap: R, dy: &mut [R]) {
        let inverse = R::ONE / cap;
        for (d, &v) in dy.iter_mut().zip(y) {
            let t = v * inverse;
            *d *= R::ONE - t * t;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f32_agrees_with_f64() {
        let x: Vec<f64> = (-400..400).map(|i| f64::from(i) * 0.05).collect();
        let x32: Vec<f32> = x.iter().map(|&v| v as f32).collect();
        for activation in [Activation::Silu, Activation::GeluTanh] {
            let (mut a, mut b) = (vec![0.0f64; x.len()], vec![0.0f32; x.len()]);
            activate(activation, &x, &mut a);
            activate(activation, &x32, &mut b);
            for ((exact, got), v) in a.iter().zip(&b).zip(&x) {
                assert!((exact - f64::from(*got)).abs() <= 1e-6 * v.abs().max(1e-3), "{activation:?}({v})");
            }
        }
        let (mut a, mut b) = (x.clone(), x32.clone());
        softcap(&mut a, 30.0);
        softcap(&mut b, 30.0);
        assert!(a.iter().zip(&b).all(|(e, g)| (e - f64::from(*g)).abs() < 3e-6));
    }

    #[test]
    fn slopes_are_those_of_finite_differences() {
        let step = 1e-6;
        for activation in [Activation::Silu, Activation::GeluTanh] {
            for i in -60..60 {
                let (x, up, dy) = (f64::from(i) * 0.11 + 0.01, 1.7, 0.6);
                let difference = (apply(activation, x + step) - apply(activation, x - step)) / (2.0 * step);
                let (mut dx, mut dgate, mut dup) = ([0.0], [0.0], [0.0]);
                activate_backward(activation, false, &[x], &[dy], &mut dx);
                activate_gated_backward(activation, false, &[x], &[up], &[dy], &mut dgate, &mut dup);
                assert!((dx[0] - dy * difference).abs() < 1e-9);
                assert!((dgate[0] - dy * up * difference).abs() < 1e-9);
                assert!((dup[0] - dy * apply(activation, x)).abs() < 1e-12);
                activate_backward(activation, true, &[x], &[dy], &mut dx);
                assert!((dx[0] * x - dy * apply(activation, x)).abs() < 1e-12);
            }
        }
        for x in [-80.0, -3.0, 0.0, 0.5, 40.0] {
            let capped = |x: f64| {
                let mut y = [x];
                softcap(&mut y, 30.0);
                y[0]
            };
            let mut dy = [2.0];
            softcap_backward(&[capped(x)], 30.0, &mut dy);
            let difference = (capped(x + step) - capped(x - step)) / step;
            assert!((dy[0] - difference).abs() < 1e-7);
        }
    }

    #[test]
    fn known_values() {
        let mut out = [0.0f64; 3];
        activate(Activation::GeluTanh, &[0.0, 1.0, -1.0], &mut out);
        assert_eq!(out[0], 0.0);
        assert!((out[1] - 0.841_191_990_6).abs() < 1e-9 && (out[2] + 0.158_808_009_4).abs() < 1e-9);
        activate_gated(Activation::Silu, &[1.0, 0.0, -1.0], &[2.0, 5.0, 1.0], &mut out);
        assert!((out[0] - 2.0 * 0.731_058_578_630_005).abs() < 1e-12 && out[1] == 0.0);
    }
}
