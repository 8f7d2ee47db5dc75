//! The decision metric: log-probabilities of both answers, exactly, for all models in one pass.
//!
//! `logp(answer) = logsumexp over its variants of Σ_i log p(token_i | prompt, tokens before i)`, teacher-forced, in f64 nats.
//! The prompt and the tokens that variants share are computed once per model; only the positions that predict an answer
//! token meet the output matrix.

use crate::answers::Answers;
use crate::error::Result;
use crate::subject::Prompt;
use lorascope_engine::{Batch, Hooks, Mat, Model, ModelId, NextToken, Progress, States};
use std::collections::BTreeMap;

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

fn log_sum_exp(values: &[f64]) -> f64 {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
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
    let run = model.run_with_progress(&scoring.batch, &Hooks::default(), &scoring.rows, progress)?;
    scoring.decisions(model, &run.readout)
}

/// What scoring asks of a run of models over prompts; whoever carries the run out may read more on the way.
pub(crate) struct Scoring {
    /// All variants of both answers to every prompt on every model, without their last tokens.
    pub batch: Batch,
    /// The rows whose next token matters.
    pub rows: Vec<usize>,
    /// The tokens that matter at each of them.
    wanted: BTreeMap<usize, Vec<u32>>,
    /// For each sequence, the row and the place among its tokens of every token of the variant.
    steps: Vec<Vec<(usize, usize)>>,
    /// For each model and prompt, its first sequence and the number of A's variants; then the end.
    first: Vec<(usize, usize)>,
}

impl Scoring {
    /// For at least one model and prompt.
    pub fn new(model: &Model<f32>, models: &[ModelId], prompts: &[&Prompt]) -> Result<Self> {
        let mut asked: Vec<(ModelId, &Prompt, &Vec<u32>)> = Vec::new();
        let mut first = Vec::with_capacity(models.len() * prompts.len() + 1);
        for &m in models {
            for p in prompts {
                first.push((asked.len(), p.answers.a.len()));
                asked.extend(p.answers.a.iter().chain(&p.answers.b).map(|v| (m, *p, v)));
            }
        }
        first.push((asked.len(), 0));
        // The last token of a variant is predicted, never read.
        let inputs: Vec<Vec<u32>> =
            asked.iter().map(|(_, p, v)| [&p.tokens.ids[..], &v[..v.len() - 1]].concat()).collect();
        let sequences: Vec<(ModelId, &[u32])> =
            asked.iter().zip(&inputs).map(|((m, ..), tokens)| (*m, tokens.as_slice())).collect();
        let batch = Batch::new(model.spec(), &sequences)?;
        // Rows whose next token matters, with those tokens.
        let mut wanted: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut steps = Vec::with_capacity(asked.len());
        for (s, (_, prompt, variant)) in asked.iter().enumerate() {
            let mut of_variant = Vec::with_capacity(variant.len());
            for (i, &token) in variant.iter().enumerate() {
                let row = batch.row_of(s, prompt.tokens.ids.len() - 1 + i);
                let row = row.unwrap_or_else(|| unreachable!("every token of a sequence has a row"));
                let tokens = wanted.entry(row).or_default();
                let place = tokens.iter().position(|&t| t == token).unwrap_or_else(|| {
                    tokens.push(token);
                    tokens.len() - 1
                });
                of_variant.push((row, place));
            }
            steps.push(of_variant);
        }
        Ok(Self { rows: wanted.keys().copied().collect(), batch, wanted, steps, first })
    }

    /// The sequence of variant `a` of answer A on a model and prompt, numbered as [`Scoring::new`] was given them: model ·
    /// prompts + prompt. It holds the prompt, and what the pairs of that variant share.
    pub fn sequence(&self, asked: usize, a: usize) -> usize {
        self.first[asked].0 + a
    }

    /// Decisions from the final states of [`Scoring::rows`], in the order model by model, prompts within.
    pub fn decisions(&self, model: &Model<f32>, readout: &Mat<f32>) -> Result<Vec<Decision>> {
        let next = next_tokens(model, &self.batch, &self.rows, readout, &self.wanted)?;
        let log_prob = |(row, place): &(usize, usize)| next[row].log_prob(*place);
        let scores: Vec<f64> =
            self.steps.iter().map(|steps| steps.iter().map(log_prob).sum::<f64>()).collect();
        let decision = |ends: &[(usize, usize)]| {
            let (first, n_a) = ends[0];
            let (a, b) = scores[first..ends[1].0].split_at(n_a);
            Decision { variants_a: a.to_vec(), variants_b: b.to_vec() }
        };
        Ok(self.first.windows(2).map(decision).collect())
    }
}

/// Reads the final states of rows against the output matrices of their models.
fn next_tokens(
    model: &Model<f32>,
    batch: &Batch,
    rows: &[usize],
    readout: &Mat<f32>,
    wanted: &BTreeMap<usize, Vec<u32>>,
) -> Result<BTreeMap<usize, NextToken>> {
    let mut next = BTreeMap::new();
    let places: Vec<usize> = (0..rows.len()).collect();
    for group in places.chunk_by(|&i, &j| batch.row(rows[i]).model == batch.row(rows[j]).model) {
        let states = States {
            model: batch.row(rows[group[0]]).model,
            normalized: readout.gather(group),
            tokens: group.iter().map(|&i| wanted[&rows[i]].clone()).collect(),
            reference: Vec::new(),
            top: 0,
        };
        let found = model.next_tokens(&states)?;
        next.extend(group.iter().map(|&i| rows[i]).zip(found));
    }
    Ok(next)
}
