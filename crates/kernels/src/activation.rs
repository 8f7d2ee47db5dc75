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
    fn known_values() {
        let mut out = [0.0f64; 3];
        activate(Activation::GeluTanh, &[0.0, 1.0, -1.0], &mut out);
        assert_eq!(out[0], 0.0);
        assert!((out[1] - 0.841_191_990_6).abs() < 1e-9 && (out[2] + 0.158_808_009_4).abs() < 1e-9);
        activate_gated(Activation::Silu, &[1.0, 0.0, -1.0], &[2.0, 5.0, 1.0], &mut out);
        assert!((out[0] - 2.0 * 0.731_058_578_630_005).abs() < 1e-12 && out[1] == 0.0);
    }
}
