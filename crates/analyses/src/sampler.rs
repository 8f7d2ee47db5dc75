//! Answers drawn token by token from a model's own distribution, over the whole vocabulary.
//!
//! Draws that have said the same so far share one row, and what can happen next is drawn for all of them at once: the work
//! grows with the number of different beginnings, not with the number of draws. Prompts are computed once; their keys and
//! values are kept, and every step computes what comes after them. It shares no code with the scoring of answers beyond
//! the forward pass, so that the two can be held against each other.

use crate::error::Result;
use lorascope_engine::{Batch, Hooks, Mat, Model, ModelId};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Rows whose logits over the whole vocabulary exist at a time.
const ROWS: usize = 32;

/// One model asked one prompt.
#[derive(Clone, Debug)]
pub(crate) struct Asked<'a> {
    pub model: ModelId,
    /// At least one token.
    pub prompt: &'a [u32],
    /// Decides what is drawn.
    pub seed: u64,
    /// Answers whose probabilities are wanted besides, each at least one token.
    pub scored: Vec<&'a [u32]>,
}

/// What was drawn, and what was scored on the way.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Sampled {
    /// Answers, as far as they were drawn, and how often.
    pub answers: BTreeMap<Vec<u32>, usize>,
    /// Log-probability of each scored answer in nats, token by token.
    pub log_probs: Vec<f64>,
}

/// Draws `draws` answers to each question. One ends with the first token after which `goes_on(question, tokens)` is false,
/// after `most` tokens, or where the model's context does.
pub(crate) fn sample(
    model: &Model<f32>,
    asked: &[Asked],
    draws: usize,
    most: usize,
    goes_on: &dyn Fn(usize, &[u32]) -> bool,
) -> Result<Vec<Sampled>> {
    let none = |a: &Asked| Sampled { answers: BTreeMap::new(), log_probs: vec![0.0; a.scored.len()] };
    let mut found: Vec<Sampled> = asked.iter().map(none).collect();
    // A prompt of one token has nothing before its last one that could be kept.
    let kept = if asked.iter().all(|a| a.prompt.len() > 1) {
        let before: Vec<(ModelId, &[u32])> =
            asked.iter().map(|a| (a.model, &a.prompt[..a.prompt.len() - 1])).collect();
        Some(model.keep(&before, &|_, _| {})?)
    } else {
        None
    };
    // Beginnings by question, each with the number of draws that have said it so far: none where it is scored only.
    let mut alive: BTreeMap<(usize, Vec<u32>), usize> =
        (0..asked.len()).map(|i| ((i, Vec::new()), draws)).collect();
    while !alive.is_empty() {
        let nodes: Vec<((usize, Vec<u32>), usize)> = std::mem::take(&mut alive).into_iter().collect();
        let inputs: Vec<Vec<u32>> = nodes
            .iter()
            .map(|((i, said), _)| {
                let prompt = asked[*i].prompt;
                let from = if kept.is_some() { prompt.len() - 1 } else { 0 };
                [&prompt[from..], said].concat()
            })
            .collect();
        let readout = last_rows(model, kept.as_ref(), asked, &nodes, &inputs)?;
        let places: Vec<usize> = (0..nodes.len()).collect();
        for of_model in places.chunk_by(|&a, &b| asked[nodes[a].0.0].model == asked[nodes[b].0.0].model) {
            for rows in of_model.chunks(ROWS) {
                let which = asked[nodes[rows[0]].0.0].model;
                let logits = model.all_logits(which, &readout.gather(rows))?;
                for (r, &node) in rows.iter().enumerate() {
                    let ((i, said), n) = &nodes[node];
                    let next = Next::new(logits.row(r));
                    let question = &asked[*i];
                    for (log_prob, answer) in found[*i].log_probs.iter_mut().zip(&question.scored) {
                        if answer.len() > said.len() && answer.starts_with(said) {
                            *log_prob += next.log_prob(answer[said.len()]);
                            let longer = &answer[..=said.len()];
                            if longer.len() < answer.len() {
                                alive.entry((*i, longer.to_vec())).or_insert(0);
                            }
                        }
                    }
                    let fits = question.prompt.len() + said.len() < model.spec().n_ctx;
                    for (token, times) in next.draw(*n, question.seed, said) {
                        let longer = [&said[..], &[token]].concat();
                        if longer.len() < most && fits && goes_on(*i, &longer) {
                            *alive.entry((*i, longer)).or_insert(0) += times;
                        } else {
                            *found[*i].answers.entry(longer).or_insert(0) += times;
                        }
                    }
                }
            }
        }
    }
    Ok(found)
}

/// Final states after each beginning.
fn last_rows(
    model: &Model<f32>,
    kept: Option<&lorascope_engine::Kept<f32>>,
    asked: &[Asked],
    nodes: &[((usize, Vec<u32>), usize)],
    inputs: &[Vec<u32>],
) -> Result<Mat<f32>> {
    let batch = match kept {
        Some(kept) => {
            let on: Vec<(usize, &[u32])> =
                nodes.iter().zip(inputs).map(|(((i, _), _), input)| (*i, input.as_slice())).collect();
            kept.batch(model, &on, &[])?
        }
        None => {
            let whole: Vec<(ModelId, &[u32])> =
                nodes.iter().zip(inputs).map(|(((i, _), _), t)| (asked[*i].model, t.as_slice())).collect();
            Batch::new(model.spec(), &whole)?
        }
    };
    let last = |(s, ((i, said), _)): (usize, &((usize, Vec<u32>), usize))| {
        let row = batch.row_of(s, asked[*i].prompt.len() + said.len() - 1);
        row.unwrap_or_else(|| unreachable!("every token of a sequence has a row"))
    };
    let rows: Vec<usize> = nodes.iter().enumerate().map(last).collect();
    // Questions that are equal in model and beginning share a row.
    let mut distinct = rows.clone();
    distinct.sort_unstable();
    distinct.dedup();
    let run = match kept {
        Some(kept) => model.run_after(kept, &batch, &Hooks::default(), &distinct, &|_, _| {})?,
        None => model.run(&batch, &Hooks::default(), &distinct)?,
    };
    let place = |row: &usize| distinct.partition_point(|d| d < row);
    Ok(run.readout.gather(&rows.iter().map(place).collect::<Vec<_>>()))
}

/// A distribution over the next token.
struct Next<'a> {
    logits: &'a [f32],
    max: f64,
    total: f64,
}

impl<'a> Next<'a> {
    fn new(logits: &'a [f32]) -> Self {
        let max = logits.iter().fold(f64::NEG_INFINITY, |m, &v| m.max(f64::from(v)));
        let total = logits.iter().map(|&v| (f64::from(v) - max).exp()).sum();
        Self { logits, max, total }
    }

    fn log_prob(&self, token: u32) -> f64 {
        f64::from(self.logits[token as usize]) - self.max - self.total.ln()
    }

    /// How often each token follows in `n` draws, by inversion: sorted uniform numbers meet the cumulated weights in one go.
    fn draw(&self, n: usize, seed: u64, said: &[u32]) -> Vec<(u32, usize)> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // A stream of its own for every beginning.
        rng.set_stream(
            said.iter().fold(0, |s: u64, &t| s.wrapping_mul(1_000_003).wrapping_add(u64::from(t) + 1)),
        );
        let mut at: Vec<f64> = (0..n).map(|_| rng.random_range(0.0..1.0) * self.total).collect();
        at.sort_by(f64::total_cmp);
        let (mut drawn, mut sum, mut done) = (Vec::new(), 0.0, 0);
        for (token, &logit) in self.logits.iter().enumerate() {
            let weight = (f64::from(logit) - self.max).exp();
            sum += weight;
            let upto = done + at[done..].partition_point(|&u| u < sum);
            if upto > done {
                drawn.push((token as u32, upto - done));
                done = upto;
            }
            if done == n {
                break;
            }
        }
        // A number so near to the total that rounding made it equal belongs to the last token.
        if done < n {
            let possible = |&t: &usize| (f64::from(self.logits[t]) - self.max).exp() > 0.0;
            if let Some(token) = (0..self.logits.len()).rev().find(possible) {
                drawn.push((token as u32, n - done));
            }
        }
        drawn
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_drawn_as_often_as_they_are_probable() {
        let logits = [0.0f32, f32::NEG_INFINITY, 2.0f32.ln(), 5.0f32.ln()];
        let next = Next::new(&logits);
        assert!((next.log_prob(3) - (5.0f64 / 8.0).ln()).abs() < 1e-7);
        let drawn: BTreeMap<u32, usize> = next.draw(80_000, 3, &[]).into_iter().collect();
        assert_eq!(drawn.values().sum::<usize>(), 80_000);
        assert!(!drawn.contains_key(&1), "an impossible token");
        for (token, expected) in [(0, 10_000.0), (2, 20_000.0), (3, 50_000.0f64)] {
            let error = (expected * (1.0 - expected / 80_000.0)).sqrt();
            let seen = drawn[&token] as f64;
            assert!((seen - expected).abs() < 4.0 * error, "{token}: {seen} of {expected}, ±{error}");
        }
        assert_eq!(next.draw(50, 3, &[7]), next.draw(50, 3, &[7]));
        assert_ne!(next.draw(50, 3, &[7]), next.draw(50, 3, &[8]), "another beginning, other draws");
        assert_ne!(next.draw(50, 3, &[7]), next.draw(50, 4, &[7]));
        assert!(next.draw(0, 3, &[]).is_empty());
    }
}
