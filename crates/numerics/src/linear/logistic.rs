//! Two-class logistic regression with an L2 penalty: the minimum of `Σ log(1 + exp(−s_i·f_i)) + penalty/2·‖w‖²`, with
//! `f = Z·w + b` and an intercept b that is not penalised (scikit-learn's `LogisticRegression` with `C = 1/penalty`).

use super::cholesky::{Cholesky, dot};
use lorascope_engine::Mat;
use lorascope_kernels::{Packed, Write, matmul};

/// Newton steps at most. The function is strictly convex and steps are halved where they overshoot; separable classes under a
/// small penalty take about thirty.
const STEPS: usize = 200;
/// The minimum is found where a further full step would lower the function by less than this share of it.
const DECREMENT: f64 = 1e-14;

/// A fitted model.
#[derive(Clone, Debug, PartialEq)]
pub struct Logistic {
    weights: Vec<f64>,
    intercept: f64,
}

impl Logistic {
    /// Fits labels (true: the class that scores are for) to the rows of `z`, for each of the penalties, from the largest to the
    /// smallest; each fit begins where the last one ended. In the order of `penalties`, which are positive. `None` where both
    /// classes are not there, or Newton's method does not come to an end (not known to happen with finite features).
    pub fn fit(z: &Mat<f64>, labels: &[bool], penalties: &[f64]) -> Option<Vec<Self>> {
        let positive = labels.iter().filter(|l| **l).count();
        if positive == 0 || positive == labels.len() {
            return None;
        }
        let odds = positive as f64 / (labels.len() - positive) as f64;
        let mut model = Self { weights: vec![0.0; z.cols], intercept: odds.ln() };
        let mut order: Vec<usize> = (0..penalties.len()).collect();
        order.sort_by(|&a, &b| penalties[b].total_cmp(&penalties[a]));
        let mut found = vec![None; penalties.len()];
        for i in order {
            model = model.descend(z, labels, penalties[i])?;
            found[i] = Some(model.clone());
        }
        found.into_iter().collect()
    }

    /// Log-odds of each row.
    pub fn scores(&self, z: &Mat<f64>) -> Vec<f64> {
        (0..z.rows).map(|i| dot(z.row(i), &self.weights) + self.intercept).collect()
    }

    /// Newton's method from here.
    fn descend(mut self, z: &Mat<f64>, labels: &[bool], penalty: f64) -> Option<Self> {
        let (n, r) = (z.rows, z.cols);
        let mut value = self.objective(z, labels, penalty);
        for _ in 0..STEPS {
            let p: Vec<f64> = self.scores(z).into_iter().map(sigmoid).collect();
            // Gradient, and features scaled by the square roots of the curvatures; the intercept comes last.
            let mut gradient: Vec<f64> = self.weights.iter().map(|w| penalty * w).chain([0.0]).collect();
            let mut scaled = Mat::zeros(r + 1, n);
            for i in 0..n {
                let error = p[i] - f64::from(u8::from(labels[i]));
                let root = (p[i] * (1.0 - p[i])).sqrt();
                for (k, &feature) in z.row(i).iter().enumerate() {
                    gradient[k] += error * feature;
                    scaled.data[k * n + i] = root * feature;
                }
                gradient[r] += error;
                scaled.data[r * n + i] = root;
            }
            let mut hessian = Mat::zeros(r + 1, r + 1);
            matmul(hessian.view_mut(), scaled.view(), &Packed::from_output_rows(scaled.view()), Write::Set);
            (0..r).for_each(|k| hessian.row_mut(k)[k] += penalty);
            let mut step = gradient.clone();
            Cholesky::new(&hessian, 0.0)?.solve(&mut step);
            let decrement = dot(&gradient, &step);
            if decrement <= DECREMENT * value.max(f64::MIN_POSITIVE) {
                return decrement.is_finite().then(|| self.moved(&step, 1.0));
            }
            let mut share = 1.0;
            loop {
                let next = self.moved(&step, share);
                let reached = next.objective(z, labels, penalty);
                if reached <= value - 1e-4 * share * decrement {
                    (self, value) = (next, reached);
                    break;
                }
                share /= 2.0;
                if share < 1e-10 {
                    // No step lowers it any more: what is left of the gradient is rounding.
                    return (decrement <= 1e-10 * value).then_some(self);
                }
            }
        }
        None
    }

    fn moved(&self, step: &[f64], share: f64) -> Self {
        let weights = self.weights.iter().zip(step).map(|(w, s)| w - share * s).collect();
        Self { weights, intercept: self.intercept - share * step[self.weights.len()] }
    }

    fn objective(&self, z: &Mat<f64>, labels: &[bool], penalty: f64) -> f64 {
        let losses: f64 = self.scores(z).iter().zip(labels).map(|(&s, &l)| log_loss(s, l)).sum();
        losses + penalty / 2.0 * dot(&self.weights, &self.weights)
    }
}

/// `−log P(label)` of a row with log-odds `score`.
pub(super) fn log_loss(score: f64, label: bool) -> f64 {
    let against = if label { -score } else { score };
    // log(1 + eˣ) without overflow.
    against.max(0.0) + (-against.abs()).exp().ln_1p()
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// Mean of `−log P(label)`.
pub fn mean_log_loss(scores: &[f64], labels: &[bool]) -> f64 {
    scores.iter().zip(labels).map(|(&s, &l)| log_loss(s, l)).sum::<f64>() / scores.len() as f64
}
