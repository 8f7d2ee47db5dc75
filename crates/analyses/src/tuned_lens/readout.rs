//! The way from a residual state to the next-token distribution, forwards and backwards: final norm, output matrix, soft cap.
//!
//! The divergence KL(final ‖ lens) over the whole vocabulary and its gradient with respect to the state, for training a lens.
//! What a table reports is read by the engine itself; this copy exists because the engine computes no gradients.

use crate::error::Result;
use lorascope_engine::{Mat, Model, NormKind};
use lorascope_kernels::{
    MatRef, Packed, Real, Write, dot, layer_norm, matmul, rms_norm, softcap, softmax_masked,
};

/// Rows whose logits over the vocabulary exist at a time.
const ROWS: usize = 64;

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

/// Distributions that a lens is to match, one a row.
#[derive(Debug)]
pub(super) struct Targets<R> {
    /// Probabilities, `[rows, V]`.
    probs: Mat<R>,
    /// Σ p ln p of each row.
    neg_entropy: Vec<f64>,
}

impl<R: Real> Readout<R> {
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

    /// The distributions that final residual states lead to.
    pub fn targets(&self, finals: &Mat<R>) -> Targets<R> {
        let mut probs = Mat { data: Vec::new(), rows: finals.rows, cols: self.output.n_out() };
        let mut neg_entropy = Vec::with_capacity(finals.rows);
        for rows in chunks(finals.rows) {
            let mut part = self.logits(&finals.gather(&rows));
            let logits = part.clone();
            part.for_rows(|_, row| softmax_masked(row, 0..row.len()));
            neg_entropy.extend((0..part.rows).map(|i| {
                let (p, u) = (part.row(i), logits.row(i));
                dot(p, u) - log_sum_exp(u, p)
            }));
            probs.data.extend(part.data);
        }
        Targets { probs, neg_entropy }
    }

    /// KL(target ‖ reading of the state) in nats; state `i` is compared with target `which[i]`.
    pub fn kl(&self, resid: &Mat<R>, targets: &Targets<R>, which: &[usize]) -> Vec<f64> {
        let mut found = Vec::with_capacity(resid.rows);
        for rows in chunks(resid.rows) {
            let logits = self.logits(&resid.gather(&rows));
            let mut kl = Mat::<f64>::zeros(rows.len(), 1);
            kl.for_rows(|i, out| {
                let target = which[rows[i]];
                let mut q = logits.row(i).to_vec();
                softmax_masked(&mut q, 0..logits.cols);
                let cross = dot(targets.probs.row(target), logits.row(i));
                // Rounding can make the divergence of equal distributions a hair negative.
                out[0] = (targets.neg_entropy[target] - cross + log_sum_exp(logits.row(i), &q)).max(0.0);
            });
            found.extend(kl.data);
        }
        found
    }

    /// Gradient of each row's divergence with respect to its state, `[rows, d_model]`.
    pub fn gradient(&self, resid: &Mat<R>, targets: &Targets<R>, which: &[usize]) -> Mat<R> {
        let mut found =
            Mat { data: Vec::with_capacity(resid.data.len()), rows: resid.rows, cols: resid.cols };
        for rows in chunks(resid.rows) {
            let states = resid.gather(&rows);
            let mut by_logit = self.logits(&states);
            by_logit.for_rows(|i, row| {
                let capped = self.cap.map(|_| row.to_vec());
                softmax_masked(row, 0..row.len());
                for (q, &p) in row.iter_mut().zip(targets.probs.row(which[rows[i]])) {
                    *q -= p;
                }
                if let (Some(cap), Some(logits)) = (self.cap, capped) {
                    // d/da c·tanh(a/c) = 1 − (u/c)²
                    for (g, &u) in row.iter_mut().zip(&logits) {
                        *g *= R::ONE - (u / cap) * (u / cap);
                    }
                }
            });
            let mut by_state = Mat::zeros(rows.len(), resid.cols);
            matmul(by_state.view_mut(), by_logit.view(), &self.transposed, Write::Set);
            by_state.for_rows(|i, g| self.through_norm(states.row(i), g));
            found.data.extend(by_state.data);
        }
        found
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

impl<R: Real> Targets<R> {
    /// Number of distributions.
    pub fn len(&self) -> usize {
        self.probs.rows
    }
}

/// Weight and bias of the final norm, read off from what it makes of a known vector: they are not the same tensors in all
/// families.
fn norm_parameters<R: Real>(model: &Model<R>) -> (Vec<R>, Vec<R>) {
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

/// `ln Σ exp(u)`, from the softmax of u: at the largest u, `u − ln q`.
fn log_sum_exp<R: Real>(u: &[R], q: &[R]) -> f64 {
    let largest = (1..u.len()).fold(0, |best, i| if u[i] > u[best] { i } else { best });
    u[largest].to_f64() - q[largest].to_f64().ln()
}

/// Indices `0..n` in groups of [`ROWS`].
fn chunks(n: usize) -> impl Iterator<Item = Vec<usize>> {
    (0..n).step_by(ROWS).map(move |first| (first..n.min(first + ROWS)).collect())
}

#[cfg(test)]
mod tests {
    use super::super::testing::{noise, tiny};
    use super::*;

    /// Central differences in f64: error about h² + 1e-16/h.
    #[test]
    fn the_gradient_is_that_of_the_divergence() {
        for family in ["llama", "gemma2", "gpt2"] {
            let model = tiny::<f64>(family);
            let readout = Readout::of(&model).expect("readout");
            let d = model.spec().d_model;
            let (finals, states) = (noise(3, d, 1), noise(3, d, 2));
            let targets = readout.targets(&finals);
            let which = [0, 1, 2];
            let gradient = readout.gradient(&states, &targets, &which);
            for (i, k) in [(0, 0), (0, d - 1), (1, d / 2), (2, 3), (2, 4)] {
                let at = |h: f64| {
                    let mut moved = states.clone();
                    moved.row_mut(i)[k] += h;
                    readout.kl(&moved, &targets, &which)[i]
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

    #[test]
    fn the_divergence_is_the_engines() {
        for family in ["llama", "gemma2", "gpt2"] {
            let model = tiny::<f64>(family);
            let readout = Readout::of(&model).expect("readout");
            let (finals, states) = (noise(2, model.spec().d_model, 1), noise(2, model.spec().d_model, 2));
            let both = Mat { data: [&states.data[..], &finals.data].concat(), rows: 4, cols: finals.cols };
            let asked = lorascope_engine::States {
                model: 0,
                normalized: model.final_norm(0, &both),
                tokens: vec![Vec::new(); 4],
                reference: vec![2, 3, 2, 3],
                top: 0,
            };
            let engine = model.next_tokens(&asked).expect("next tokens");
            let own = readout.kl(&states, &readout.targets(&finals), &[0, 1]);
            for (own, engine) in own.iter().zip(&engine) {
                assert!(
                    (own - engine.kl).abs() < 1e-9 * engine.kl.max(1.0),
                    "{family}: {own} against {}",
                    engine.kl
                );
            }
            assert!(readout.kl(&finals, &readout.targets(&finals), &[0, 1]).iter().all(|&kl| kl < 1e-12));
        }
    }
}
