//! The decision metric: log-probabilities of both answers, exactly, for all models in one pass.
//!
//! `logp(answer) = logsumexp over its variants of Σ_i log p(token_i | prompt, tokens before i)`, teacher-forced, in f64 nats.

use crate::answer_tree::{AnswerTree, Spelling, log_sum_exp};
use crate::answers::Answers;
use crate::error::Result;
use crate::subject::Prompt;
use lorascope_engine::{Hooks, Model, ModelId, Progress};

/// What one model answers to one prompt.
#[derive(Clone, Debug, PartialEq)]
pub struct Decision {
    /// Log-probability of each variant of answer A, in nats.
    pub variants_a: Vec<f64>,
    /// Log-probability of each variant of answer B, in nats.
    pub variants_b: Vec<f64>,
}

impl Decision {
    /// Log-probability of answer A.
    pub fn logp_a(&self) -> f64 {
        log_sum_exp(&self.variants_a)
    }
    /// Log-probability of answer B.
    pub fn logp_b(&self) -> f64 {
        log_sum_exp(&self.variants_b)
    }
    /// `logp_b − logp_a`; positive where the model prefers B.
    pub fn delta(&self) -> f64 {
        self.logp_b() - self.logp_a()
    }
    /// Probability of B among the two answers: σ(delta).
    pub fn p_b(&self) -> f64 {
        1.0 / (1.0 + (-self.delta()).exp())
    }
    /// Probability of giving one of the two answers at all.
    pub fn legal_mass(&self) -> f64 {
        self.logp_a().exp() + self.logp_b().exp()
    }
    /// Probability of the two variants of a pair.
    pub fn pair_mass(&self, answers: &Answers, pair: usize) -> f64 {
        let pair = &answers.pairs[pair];
        self.variants_a[pair.a].exp() + self.variants_b[pair.b].exp()
    }
    /// The pair with the most probability; the first of equals.
    pub fn primary_pair(&self, answers: &Answers) -> usize {
        let mass = |i: usize| self.pair_mass(answers, i);
        (1..answers.pairs.len()).fold(0, |best, i| if mass(i) > mass(best) { i } else { best })
    }
}

/// Scores every prompt on every model: decisions in the order model by model, prompts within.
pub fn score(
    model: &Model<f32>,
    models: &[ModelId],
    prompts: &[&Prompt],
    progress: Progress,
) -> Result<Vec<Decision>> {
    if models.is_empty() || prompts.is_empty() {
        return Ok(Vec::new());
    }
    let mut spellings = Vec::new();
    for &model in models {
        for prompt in prompts {
            for answer in prompt.answers.a.iter().chain(&prompt.answers.b) {
                spellings.push(Spelling { model, prompt: &prompt.tokens.ids, answer });
            }
        }
    }
    let tree = AnswerTree::new(model.spec(), &spellings)?;
    let readout = model.run_with_progress(tree.batch(), &Hooks::default(), tree.rows(), progress)?.readout;
    let mut scores = tree.log_probs(&tree.next_tokens(model, &readout)?).into_iter();
    let mut decisions = Vec::with_capacity(models.len() * prompts.len());
    for _ in models {
        for prompt in prompts {
            decisions.push(Decision {
                variants_a: scores.by_ref().take(prompt.answers.a.len()).collect(),
                variants_b: scores.by_ref().take(prompt.answers.b.len()).collect(),
            });
        }
    }
    Ok(decisions)
}
