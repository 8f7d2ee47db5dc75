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

/// `ln Σ exp(x)` in f64 over values that arrive in pieces, and the mean of a second quantity under that softmax.
#[derive(Clone, Copy, Debug)]
pub struct LogSumExp {
    max: f64,
    sum: f64,
    weighted: f64,
}

impl Default for LogSumExp {
    fn default() -> Self {
        Self { max: f64::NEG_INFINITY, sum: 0.0, weighted: 0.0 }
    }
}

impl LogSumExp {
    /// Takes in the next piece.
    pub fn add(&mut self, values: &[f64]) {
        self.add_weighted(values, |_| 0.0);
    }

    /// Takes in the next piece together with a second quantity per value, whose softmax-weighted mean
    /// [`LogSumExp::mean`] gives (the Kullback-Leibler divergence needs it).
    pub fn add_weighted(&mut self, values: &[f64], second: impl Fn(usize) -> f64) {
        let max = values.iter().fold(self.max, |m, &v| m.max(v));
        if max == f64::NEG_INFINITY {
            return;
        }
        let shrink = (self.max - max).exp();
        self.sum *= shrink;
        self.weighted *= shrink;
        self.max = max;
        for (i, &v) in values.iter().enumerate() {
            let e = (v - max).exp();
            self.sum += e;
            self.weighted += e * second(i);
        }
    }

    /// `ln Σ exp(x)` of everything taken in.
    pub fn value(&self) -> f64 {
        self.max + self.sum.ln()
    }

    /// Mean of the second quantity under the softmax of the first.
    pub fn mean(&self) -> f64 {
        self.weighted / self.sum
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
        let mut lse = LogSumExp::default();
        for piece in values.chunks(77) {
            lse.add_weighted(piece, |i| piece[i]);
        }
        assert!((lse.value() - exact).abs() < 1e-12);
        let mean = values.iter().map(|v| (v - exact).exp() * v).sum::<f64>();
        assert!((lse.mean() - mean).abs() < 1e-10);
    }
}
