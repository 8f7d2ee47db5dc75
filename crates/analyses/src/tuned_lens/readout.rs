//! The way from a residual state to the next-token distribution, forwards and backwards: final norm, output matrix, soft cap.
//!
//! It gives the gradient of KL(final ‖ lens) over the whole vocabulary with respect to the state, for the steps of a fit. What a
//! table reports is read by the engine itself; this copy exists because the engine computes no gradients.

use crate::error::Result;
use lorascope_engine::{Mat, Model, NormKind, Number};
use lorascope_kernels::{MatRef, Packed, Write, layer_norm, matmul, rms_norm, softcap, softmax_masked};

/// Final norm, output matrix and soft cap of the base model. Holds the output matrix twice (for both directions).
#[derive(Debug)]
pub(super) struct Readout<R> {
    norm: NormKind,
    weight: Vec<R>,
    bias: Vec<R>,
    cap: Option<R>,
    /// From states to tokens.
    output: Packed<R>,
    /// From tokens to states.
    transposed: Packed<R>,
}

impl<R: Number> Readout<R> {
    /// Of the base model.
    pub fn of(model: &Model<R>) -> Result<Self> {
        let spec = model.spec();
        let (n, d) = (spec.d_vocab, spec.d_model);
        let mut rows = Vec::with_capacity(n * d);
        for token in 0..n {
            rows.extend(model.output_row(0, token as u32)?);
        }
        let (weight, bias) = norm_parameters(model);
        Ok(Self {
            norm: spec.norm,
            weight,
            bias,
            cap: spec.final_softcap.map(R::from_f64),
            output: Packed::from_output_rows(MatRef::new(&rows, n, d)),
            transposed: Packed::from_input_rows(MatRef::new(&rows, n, d)),
        })
    }

    /// Gradient of each row's KL(final ‖ reading) with respect to its state, `[rows, d_model]`. All logits of both exist at a
    /// time: 8 bytes for each row and token of the vocabulary.
    pub fn gradient(&self, resid: &Mat<R>, finals: &Mat<R>) -> Mat<R> {
        let mut target = self.logits(finals);
        target.for_rows(|_, row| softmax_masked(row, 0..row.len()));
        let mut by_logit = self.logits(resid);
        by_logit.for_rows(|i, row| {
            let capped = self.cap.map(|_| row.to_vec());
            softmax_masked(row, 0..row.len());
            for (q, &p) in row.iter_mut().zip(target.row(i)) {
                *q -= p;
            }
            if let (Some(cap), Some(logits)) = (self.cap, capped) {
                // d/da c·tanh(a/c) = 1 − (u/c)²
                for (g, &u) in row.iter_mut().zip(&logits) {
                    *g *= R::ONE - (u / cap) * (u / cap);
                }
            }
        });
        let mut by_state = Mat::zeros(resid.rows, resid.cols);
        matmul(by_state.view_mut(), by_logit.view(), &self.transposed, Write::Set);
        by_state.for_rows(|i, g| self.through_norm(resid.row(i), g));
        by_state
    }

    /// `[rows, V]`, after the soft cap.
    fn logits(&self, resid: &Mat<R>) -> Mat<R> {
        let mut normalized = Mat::zeros(resid.rows, resid.cols);
        normalized.for_rows(|i, out| {
            let x = resid.row(i);
            match self.norm {
                NormKind::Rms { eps, .. } => rms_norm(x, &self.weight, R::from_f64(eps), out),
                NormKind::Layer { eps } => layer_norm(x, &self.weight, &self.bias, R::from_f64(eps), out),
            };
        });
        let mut logits = Mat::zeros(resid.rows, self.output.n_out());
        matmul(logits.view_mut(), normalized.view(), &self.output, Write::Set);
        if let Some(cap) = self.cap {
            logits.for_rows(|_, row| softcap(row, cap));
        }
        logits
    }

    /// Turns a gradient with respect to the norm's output into one with respect to its input `x`, in place:
    /// with x̂ the normalised x and ĝ = g ⊙ weight, `(ĝ − x̂·mean(ĝ ⊙ x̂)) / scale`, for LayerNorm less the mean of ĝ.
    fn through_norm(&self, x: &[R], g: &mut [R]) {
        let n = x.len() as f64;
        let mean_of = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / n;
        let (eps, centre) = match self.norm {
            NormKind::Rms { eps, .. } => (eps, 0.0),
            NormKind::Layer { eps } => (eps, mean_of(&mut x.iter().map(|v| v.to_f64()))),
        };
        let scale = (mean_of(&mut x.iter().map(|v| (v.to_f64() - centre).powi(2))) + eps).sqrt();
        let hat = |k: usize| (x[k].to_f64() - centre) / scale;
        g.iter_mut().zip(&self.weight).for_each(|(g, &w)| *g *= w);
        let along = mean_of(&mut g.iter().enumerate().map(|(k, g)| g.to_f64() * hat(k)));
        let mean = match self.norm {
            NormKind::Rms { .. } => 0.0,
            NormKind::Layer { .. } => mean_of(&mut g.iter().map(|g| g.to_f64())),
        };
        for (k, g) in g.iter_mut().enumerate() {
            *g = R::from_f64((g.to_f64() - mean - hat(k) * along) / scale);
        }
    }
}

/// Weight and bias of the final norm, read off from what it makes of a known vector: they are not the same tensors in all
/// families.
fn norm_parameters<R: Number>(model: &Model<R>) -> (Vec<R>, Vec<R>) {
    let d = model.spec().d_model;
    let bias = model.final_norm(0, &Mat::zeros(1, d)).data;
    // Far from zero everywhere, and not constant, since LayerNorm removes a constant.
    let x: Vec<f64> = (0..d).map(|k| if k % 2 == 0 { 64.0 } else { -64.0 }).collect();
    let probe = Mat { data: x.iter().map(|&v| R::from_f64(v)).collect(), rows: 1, cols: d };
    let y = model.final_norm(0, &probe).data;
    let (eps, centre) = match model.spec().norm {
        NormKind::Rms { eps, .. } => (eps, 0.0),
        NormKind::Layer { eps } => (eps, x.iter().sum::<f64>() / d as f64),
    };
    let scale = (x.iter().map(|v| (v - centre).powi(2)).sum::<f64>() / d as f64 + eps).sqrt();
    let weight = |(k, y): (usize, &R)| R::from_f64((y.to_f64() - bias[k].to_f64()) * scale / (x[k] - centre));
    (y.iter().enumerate().map(weight).collect(), bias)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{noise, tiny};
    use super::*;

    /// What the engine says of the divergence of one state.
    fn divergence(model: &Model<f64>, state: &[f64], last: &[f64]) -> f64 {
        let both = Mat { data: [last, state].concat(), rows: 2, cols: state.len() };
        let asked = lorascope_engine::States {
            model: 0,
            normalized: model.final_norm(0, &both),
            tokens: vec![Vec::new(); 2],
            reference: vec![0, 0],
            top: 0,
        };
        model.next_tokens(&asked).expect("next tokens")[1].kl
    }

    /// Central differences in f64: error about h² + 1e-16/h.
    #[test]
    fn the_gradient_is_that_of_the_engines_divergence() {
        for family in ["llama", "gemma2", "gpt2"] {
            let model = tiny::<f64>(family);
            let readout = Readout::of(&model).expect("readout");
            let d = model.spec().d_model;
            let (finals, states) = (noise(3, d, 1), noise(3, d, 2));
            let gradient = readout.gradient(&states, &finals);
            for (i, k) in [(0, 0), (0, d - 1), (1, d / 2), (2, 3), (2, 4)] {
                let at = |h: f64| {
                    let mut moved = states.clone();
                    moved.row_mut(i)[k] += h;
                    divergence(&model, moved.row(i), finals.row(i))
                };
                let (h, analytic) = (1e-5, gradient.row(i)[k]);
                let numeric = (at(h) - at(-h)) / (2.0 * h);
                let allowed = 1e-6 * analytic.abs().max(1e-2);
                assert!(
                    (numeric - analytic).abs() < allowed,
                    "{family} [{i}][{k}]: {numeric} against {analytic}"
                );
            }
        }
    }
}
