//! Softmax over keys, and log-sum-exp over a vocabulary that arrives in pieces.

use crate::Real;
use crate::norm::lane_sum;

vectorised! {
    /// Softmax of `scores[visible]` in place; everything outside `visible` becomes exactly 0, so that a masked key
    /// adds nothing to any sum. `visible` must not be empty.
    pub fn softmax_masked<R: Real>(scores: &mut [R], visible: std::ops::Range<usize>) {
        scores[..visible.start].fill(R::ZERO);
        scores[visible.end..].fill(R::ZERO);
        let max = scores[visible.clone()].iter().fold(R::NEG_INFINITY, |m, &v| if v > m { v } else { m });
        for v in &mut scores[visible.clone()] {
            *v = (*v - max).exp();
        }
        // Summed from index 0 on, zeros included: the order of additions must not depend on what is masked.
        let total = lane_sum(&scores[..visible.end], |v| v);
        let inverse = R::ONE / total;
        for v in &mut scores[visible] {
            *v *= inverse;
        }
    }
}

vectorised! {
    /// Takes a gradient back through a softmax, from its outputs: `dy ← p ⊙ (dy − Σ p dy)`.
    pub fn softmax_backward<R: Real>(p: &[R], dy: &mut [R]) {
        let mut sums = [R::ZERO; 16];
        let ((ps, p_rest), (ds, d_rest)) = (p.as_chunks::<16>(), dy.as_chunks::<16>());
        let tail = std::iter::once((p_rest, d_rest));
        for (p, d) in ps.iter().zip(ds).map(|(p, d)| (&p[..], &d[..])).chain(tail) {
            for ((s, &p), &d) in sums.iter_mut().zip(p).zip(d) {
                *s += p * d;
            }
        }
        let mean: R = sums.into_iter().sum();
        for (d, &p) in dy.iter_mut().zip(p) {
            *d = p * (*d - mean);
        }
    }
}

/// `ln Σ exp(x)` in f64 over values that arrive in pieces.
#[derive(Clone, Copy, Debug)]
pub struct LogSumExp {
    max: f64,
    sum: f64,
}

/// Weights of one piece of values under the softmax of all that has arrived, up to a factor: `exp(x − max)`. Whoever sums something
/// under that softmax multiplies his sum by `shrink` and adds to it by `exps`; at the end [`LogSumExp::mean`] makes it a mean.
#[derive(Clone, Debug, Default)]
pub struct Weights {
    /// What sums over earlier pieces are to be multiplied by.
    pub shrink: f64,
    /// For each value of the piece; empty where all that has arrived are minus infinities.
    pub exps: Vec<f64>,
}

impl Default for LogSumExp {
    fn default() -> Self {
        Self { max: f64::NEG_INFINITY, sum: 0.0 }
    }
}

impl LogSumExp {
    /// Takes in the next piece.
    pub fn add(&mut self, values: &[f64]) {
        if let Some(max) = self.rise(values) {
            for &v in values {
                self.sum += (v - max).exp();
            }
        }
    }

    /// Takes in the next piece and says what its values weigh.
    pub fn add_weighing(&mut self, values: &[f64], weights: &mut Weights) {
        weights.exps.clear();
        let before = self.max;
        let Some(max) = self.rise(values) else {
            weights.shrink = 1.0;
            return;
        };
        weights.shrink = (before - max).exp();
        weights.exps.extend(values.iter().map(|v| (v - max).exp()));
        for e in &weights.exps {
            self.sum += e;
        }
    }

    /// Makes room for values, which may be larger than all before; the largest now, if there is one.
    fn rise(&mut self, values: &[f64]) -> Option<f64> {
        let max = values.iter().fold(self.max, |m, &v| m.max(v));
        if max == f64::NEG_INFINITY {
            return None;
        }
        self.sum *= (self.max - max).exp();
        self.max = max;
        Some(max)
    }

    /// `ln Σ exp(x)` of everything taken in.
    pub fn value(&self) -> f64 {
        self.max + self.sum.ln()
    }

    /// Mean under the softmax, from a sum by [`Weights`].
    pub fn mean(&self, weighted: f64) -> f64 {
        weighted / self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masked_keys_change_nothing_bit_for_bit() {
        let values: Vec<f32> = (0..50).map(|i| (i as f32 * 0.37).sin() * 4.0).collect();
        let mut short = values[..33].to_vec();
        let mut long = values.clone();
        softmax_masked(&mut short, 0..33);
        softmax_masked(&mut long, 0..33);
        assert_eq!(short, long[..33]);
        assert!(long[33..].iter().all(|&v| v == 0.0));
        let sum: f32 = short.iter().sum();
        assert!((sum - 1.0).abs() < 1e-6);
    }

    #[test]
    fn a_window_hides_what_lies_before_it() {
        let mut scores = vec![100.0f64, 1.0, 1.0, 1.0, 100.0];
        softmax_masked(&mut scores, 1..4);
        assert_eq!(scores[0], 0.0);
        assert_eq!(scores[4], 0.0);
        assert!((scores[2] - 1.0 / 3.0).abs() < 1e-15);
    }

    #[test]
    fn its_gradient_is_that_of_finite_differences() {
        let scores: Vec<f64> = (0..21).map(|i| (f64::from(i) * 0.9).sin() * 3.0).collect();
        let dy: Vec<f64> = (0..21).map(|i| (f64::from(i) * 0.4).cos()).collect();
        let softmax = |scores: &[f64]| {
            let mut p = scores.to_vec();
            softmax_masked(&mut p, 2..19);
            p
        };
        let value = |scores: &[f64]| softmax(scores).iter().zip(&dy).map(|(p, d)| p * d).sum::<f64>();
        let mut got = dy.clone();
        softmax_backward(&softmax(&scores), &mut got);
        for i in 0..21 {
            let (mut up, mut down) = (scores.clone(), scores.clone());
            up[i] += 1e-5;
            down[i] -= 1e-5;
            assert!((got[i] - (value(&up) - value(&down)) / 2e-5).abs() < 1e-9);
        }
    }

    #[test]
    fn pieces_give_the_same_log_sum_exp_as_the_whole() {
        let values: Vec<f64> = (0..1000).map(|i| f64::from(i) * 0.01 - 700.0).collect();
        let max = values.last().copied().unwrap();
        let exact = max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln();
        let (mut lse, mut plain, mut weights) =
            (LogSumExp::default(), LogSumExp::default(), Weights::default());
        let mut weighted = 0.0;
        for piece in values.chunks(77) {
            plain.add(piece);
            lse.add_weighing(piece, &mut weights);
            weighted *= weights.shrink;
            weighted += piece.iter().zip(&weights.exps).map(|(v, e)| v * e).sum::<f64>();
        }
        assert!((lse.value() - exact).abs() < 1e-12);
        assert_eq!(lse.value(), plain.value());
        let mean = values.iter().map(|v| (v - exact).exp() * v).sum::<f64>();
        assert!((lse.mean(weighted) - mean).abs() < 1e-10);
        // Nothing but minus infinities weighs nothing.
        let mut none = LogSumExp::default();
        none.add_weighing(&[f64::NEG_INFINITY; 3], &mut weights);
        assert_eq!((weights.shrink, weights.exps.len()), (1.0, 0));
    }
}
