//! Prompts and spellings of their answers as one token tree.
//!
//! The last token of a spelling is predicted and never read, tokens that spellings or prompts share at their beginning are computed
//! once, and only rows that predict a token of an answer meet the output matrix.

use crate::error::Result;
use lorascope_engine::{Batch, Mat, Model, ModelId, ModelSpec, NextToken, Number, States};
use std::collections::BTreeMap;

/// One spelling of an answer, after a prompt, in one model.
#[derive(Clone, Copy, Debug)]
pub struct Spelling<'a> {
    /// Who is asked.
    pub model: ModelId,
    /// Tokens of the prompt; at least one.
    pub prompt: &'a [u32],
    /// Tokens of the spelling; at least one.
    pub answer: &'a [u32],
}

/// The rows of some spellings, and where their tokens are predicted.
#[derive(Debug)]
pub struct AnswerTree {
    batch: Batch,
    rows: Vec<usize>,
    tokens: Vec<Vec<u32>>,
    /// For each spelling and token, which of `rows` predicts it, and which of that row's `tokens` it is.
    steps: Vec<Vec<(usize, usize)>>,
}

impl AnswerTree {
    /// Puts spellings together.
    ///
    /// # Errors
    /// A sequence that the model can't read.
    pub fn new(spec: &ModelSpec, spellings: &[Spelling]) -> Result<Self> {
        let read = |s: &Spelling| [s.prompt, &s.answer[..s.answer.len() - 1]].concat();
        let inputs: Vec<Vec<u32>> = spellings.iter().map(read).collect();
        let sequences: Vec<(ModelId, &[u32])> =
            spellings.iter().zip(&inputs).map(|(s, tokens)| (s.model, tokens.as_slice())).collect();
        let batch = Batch::new(spec, &sequences)?;
        let mut wanted: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let mut steps = Vec::with_capacity(spellings.len());
        for (sequence, spelling) in spellings.iter().enumerate() {
            let place = |(i, &token): (usize, &u32)| {
                let row = batch.row_of(sequence, spelling.prompt.len() - 1 + i);
                let row = row.unwrap_or_else(|| unreachable!("every token of a sequence has a row"));
                (row, interned(wanted.entry(row).or_default(), token))
            };
            steps.push(spelling.answer.iter().enumerate().map(place).collect::<Vec<_>>());
        }
        let rows: Vec<usize> = wanted.keys().copied().collect();
        let place_of: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(i, &row)| (row, i)).collect();
        steps.iter_mut().flatten().for_each(|step| step.0 = place_of[&step.0]);
        Ok(Self { batch, rows, tokens: wanted.into_values().collect(), steps })
    }

    /// What runs through the model.
    pub fn batch(&self) -> &Batch {
        &self.batch
    }

    /// Rows whose next token matters, in ascending order: the readout of a run.
    pub fn rows(&self) -> &[usize] {
        &self.rows
    }

    /// The readout of a run as states to be asked for the answers' tokens, by groups of one model each.
    pub fn states<R: Number>(&self, readout: &Mat<R>) -> Vec<States<R>> {
        let places: Vec<usize> = (0..self.rows.len()).collect();
        let model = |i: usize| self.batch.row(self.rows[i]).model;
        let groups = places.chunk_by(|&i, &j| model(i) == model(j));
        let states = |group: &[usize]| States {
            model: model(group[0]),
            normalized: readout.gather(group),
            tokens: group.iter().map(|&i| self.tokens[i].clone()).collect(),
            reference: Vec::new(),
            top: 0,
        };
        groups.map(states).collect()
    }

    /// What the rows say about the next token, from the readout of a run.
    ///
    /// # Errors
    /// The output matrix can't be read.
    pub fn next_tokens<R: Number>(&self, model: &Model<R>, readout: &Mat<R>) -> Result<Vec<NextToken>> {
        let mut next = Vec::with_capacity(self.rows.len());
        for states in self.states(readout) {
            next.extend(model.next_tokens(&states)?);
        }
        Ok(next)
    }

    /// Log-probability of each spelling, in nats: the sum over its tokens.
    pub fn log_probs(&self, next: &[NextToken]) -> Vec<f64> {
        let sum =
            |steps: &Vec<(usize, usize)>| steps.iter().map(|&(row, token)| next[row].log_prob(token)).sum();
        self.steps.iter().map(sum).collect()
    }

    /// For each row the weights of its tokens, from a weight of each spelling's log-probability.
    ///
    /// # Panics
    /// If there are not as many weights as spellings.
    pub fn token_weights(&self, weights: &[f64]) -> Vec<Vec<f64>> {
        assert_eq!(weights.len(), self.steps.len(), "a weight for each spelling");
        let mut of_tokens: Vec<Vec<f64>> = self.tokens.iter().map(|t| vec![0.0; t.len()]).collect();
        for (steps, weight) in self.steps.iter().zip(weights) {
            steps.iter().for_each(|&(row, token)| of_tokens[row][token] += weight);
        }
        of_tokens
    }
}

/// Index of a token in a list of distinct ones, to which it is added where it is new.
fn interned(tokens: &mut Vec<u32>, token: u32) -> usize {
    tokens.iter().position(|&t| t == token).unwrap_or_else(|| {
        tokens.push(token);
        tokens.len() - 1
    })
}

/// `ln Σ exp`, in the order given; −∞ for nothing and for impossible things alone, NaN where one is.
pub fn log_sum_exp(values: &[f64]) -> f64 {
    let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if values.iter().any(|v| v.is_nan()) {
        return f64::NAN;
    }
    if max == f64::NEG_INFINITY {
        return max;
    }
    max + values.iter().map(|v| (v - max).exp()).sum::<f64>().ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn probabilities_add_up() {
        assert!((log_sum_exp(&[0.25f64.ln(), 0.5f64.ln()]) - 0.75f64.ln()).abs() < 1e-15);
        assert_eq!(log_sum_exp(&[f64::NEG_INFINITY; 2]), f64::NEG_INFINITY);
        assert_eq!(log_sum_exp(&[]), f64::NEG_INFINITY);
        assert!(log_sum_exp(&[f64::NAN, f64::NEG_INFINITY]).is_nan());
    }
}
