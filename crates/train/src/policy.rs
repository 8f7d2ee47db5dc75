//! What can be trained: something that gives log-probabilities of answers and the gradient of a weighted sum of them.

use crate::error::Result;
use crate::objective::LogProbs;
use lorascope_analyses::log_sum_exp;

/// A number for each spelling of both answers of one prompt: log-probabilities in nats, or weights of them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Spellings {
    /// Of answer A (cooperate).
    pub a: Vec<f64>,
    /// Of answer B (defect).
    pub b: Vec<f64>,
}

impl Spellings {
    /// Log-probabilities of the answers, their spellings added up.
    pub fn log_probs(&self) -> LogProbs {
        [log_sum_exp(&self.a), log_sum_exp(&self.b)]
    }

    /// Takes derivatives by the answers' log-probabilities back to those by the spellings': a spelling's share is its
    /// share of the answer's probability.
    pub fn share(&self, gradient: LogProbs) -> Spellings {
        let of = |spellings: &[f64], total: f64, weight: f64| {
            spellings
                .iter()
                .map(|l| if total.is_finite() { weight * (l - total).exp() } else { 0.0 })
                .collect()
        };
        let [a, b] = self.log_probs();
        Spellings { a: of(&self.a, a, gradient[0]), b: of(&self.b, b, gradient[1]) }
    }
}

/// From the log-probabilities of prompts to the weights of the sum whose gradient is wanted.
pub type Weigh<'a> = dyn FnMut(&[Spellings]) -> Result<Vec<Spellings>> + 'a;

/// Something that is trained on the prompts of a pool, which are named by their index.
pub trait Policy {
    /// Log-probabilities that the untrained base gives; always the same for a prompt.
    ///
    /// # Errors
    /// The model can't be run.
    fn reference(&self, prompts: &[usize]) -> Result<Vec<Spellings>>;

    /// The gradient, by each array of the factors, of Σ weight · log-probability, with the weights that `weigh` gives for
    /// the present log-probabilities. It is the same whatever ran before: bit for bit.
    ///
    /// # Errors
    /// The model can't be run, or what `weigh` says.
    fn gradient(&self, prompts: &[usize], weigh: &mut Weigh) -> Result<Vec<Vec<f32>>>;

    /// Puts new values into the factors, array by array.
    ///
    /// # Errors
    /// Arrays that are not those of the policy.
    fn set(&mut self, values: &[&[f32]]) -> Result<()>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spellings_add_up_and_share() {
        let one = Spellings { a: vec![0.1f64.ln(), 0.3f64.ln()], b: vec![0.2f64.ln(), f64::NEG_INFINITY] };
        let [a, b] = one.log_probs();
        assert!((a - 0.4f64.ln()).abs() < 1e-15 && (b - 0.2f64.ln()).abs() < 1e-15);
        let shared = one.share([2.0, -1.0]);
        assert!((shared.a[0] - 0.5).abs() < 1e-12 && (shared.a[1] - 1.5).abs() < 1e-12, "{shared:?}");
        assert_eq!(shared.b, [-1.0, 0.0]);
        let never = Spellings { a: vec![f64::NEG_INFINITY], b: vec![0.0] };
        assert_eq!(never.share([1.0, 1.0]).a, [0.0]);
    }
}
