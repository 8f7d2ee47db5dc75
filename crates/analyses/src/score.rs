//! The decision metric: log-probabilities of both answers, exactly, for all models in one pass.
//!
//! `logp(answer) = logsumexp over its variants of Σ_i log p(token_i | prompt, tokens before i)`, teacher-forced, in f64 nats.

use crate::answer_tree::{AnswerTree, Spelling, log_sum_exp};
use crate::answers::Answers;
use crate::error::Result;
use crate::subject::Prompt;
use lorascope_engine::{Hooks, Mat, Model, ModelId, NextToken, Progress};

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
    let scoring = Scoring::new(model, models, prompts)?;
    let tree = &scoring.tree;
    let run = model.run_with_progress(tree.batch(), &Hooks::default(), tree.rows(), progress)?;
    scoring.decisions(model, &run.readout)
}

/// What scoring asks of a run of models over prompts; whoever carries the run out may read more on the way.
pub(crate) struct Scoring {
    /// All variants of both answers to every prompt on every model.
    pub tree: AnswerTree,
    /// For each model and prompt, its first sequence and the number of A's variants; then the end.
    first: Vec<(usize, usize)>,
}

impl Scoring {
    /// For at least one model and prompt.
    pub fn new(model: &Model<f32>, models: &[ModelId], prompts: &[&Prompt]) -> Result<Self> {
        let mut spellings = Vec::new();
        let mut first = Vec::with_capacity(models.len() * prompts.len() + 1);
        for &model in models {
            for prompt in prompts {
                let answers = &prompt.answers;
                first.push((spellings.len(), answers.a.len()));
                let spelling = |answer| Spelling { model, prompt: &prompt.tokens.ids, answer };
                spellings.extend(answers.a.iter().chain(&answers.b).map(|v| spelling(v.as_slice())));
            }
        }
        first.push((spellings.len(), 0));
        Ok(Self { tree: AnswerTree::new(model.spec(), &spellings)?, first })
    }

    /// The sequence of variant `a` of answer A on a model and prompt, numbered as [`Scoring::new`] was given them: model ·
    /// prompts + prompt. It holds the prompt, and what the pairs of that variant share.
    pub fn sequence(&self, asked: usize, a: usize) -> usize {
        self.first[asked].0 + a
    }

    /// Decisions from the readout of the tree's rows, in the order model by model, prompts within.
    pub fn decisions(&self, model: &Model<f32>, readout: &Mat<f32>) -> Result<Vec<Decision>> {
        Ok(self.decisions_of(&self.tree.next_tokens(model, readout)?))
    }

    /// The same from what the tree's rows say about the next token.
    pub fn decisions_of(&self, next: &[NextToken]) -> Vec<Decision> {
        let scores = self.tree.log_probs(next);
        let decision = |ends: &[(usize, usize)]| {
            let (first, n_a) = ends[0];
            let (a, b) = scores[first..ends[1].0].split_at(n_a);
            Decision { variants_a: a.to_vec(), variants_b: b.to_vec() }
        };
        self.first.windows(2).map(decision).collect()
    }
}
