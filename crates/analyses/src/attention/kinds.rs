//! What kind of head is it? Previous-token and induction scores on random tokens that repeat (Olsson et al. 2022).
//!
//! A sequence is the token that prompts begin with and then `repeat` distinct random tokens, twice. `previous_token`: mean
//! attention to the token before. `induction`: mean attention, from the second time on, to the token that came after the same
//! token's first time. An even pattern would give `1/n` at the n-th token.

use super::layout::Layout;
use crate::error::Result;
use crate::subject::Subject;
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Site};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Scores of a head on one sequence.
pub(super) const SCORES: [&str; 2] = ["previous_token", "induction"];

/// Tokens that random sequences are drawn from: all but those that begin and end texts.
pub(super) fn vocabulary(subject: &Subject) -> Vec<u32> {
    let n = subject.tokenizer.vocab_size().min(subject.model.spec().d_vocab) as u32;
    let kept = [subject.tokenizer.bos_id(), subject.tokenizer.eos_id(), Some(first(subject))];
    (0..n).filter(|t| !kept.contains(&Some(*t))).collect()
}

/// The token that prompts begin with.
fn first(subject: &Subject) -> u32 {
    subject.prompts.first().and_then(|p| p.tokens.ids.first().copied()).unwrap_or_default()
}

/// Scores on the `n`-th sequence: `[model][layer][head][score]`.
pub(super) fn scores(
    subject: &Subject,
    layout: &Layout,
    repeat: usize,
    n: usize,
    seed: u64,
) -> Result<Vec<f32>> {
    let (model, spec) = (&subject.model, subject.model.spec());
    let mut vocabulary = vocabulary(subject);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    // A stream for each sequence, so that a run that goes on draws the same.
    rng.set_stream(2 + n as u64);
    let drawn = vocabulary.partial_shuffle(&mut rng, repeat).0.to_vec();
    let tokens = [&[first(subject)][..], &drawn, &drawn].concat();
    let sequences: Vec<(usize, &[u32])> = (0..layout.n_models).map(|m| (m, tokens.as_slice())).collect();
    let batch = Batch::new(spec, &sequences)?;
    let rows: Vec<usize> = (0..batch.n_rows()).collect();
    let captures: Vec<Capture> = (0..spec.n_layers)
        .map(|l| Capture { point: HookPoint::Layer(l, Site::Pattern), rows: rows.clone() })
        .collect();
    let run = model.run(&batch, &Hooks { captures, edits: Vec::new() }, &[])?;
    let mut found = Vec::with_capacity(layout.n_models * layout.heads() * SCORES.len());
    for which in 0..layout.n_models {
        for patterns in &run.captures {
            for head in 0..spec.n_heads {
                let weight = |t: usize, key: usize| -> f64 {
                    let pattern = batch.row_of(which, t).map_or(&[][..], |row| &patterns[row]);
                    f64::from(pattern.get(head * (t + 1) + key).copied().unwrap_or_default())
                };
                let before: f64 = (1..tokens.len()).map(|t| weight(t, t - 1)).sum();
                let after: f64 = (1 + repeat..tokens.len()).map(|t| weight(t, t + 1 - repeat)).sum();
                found.push((before / (tokens.len() - 1) as f64) as f32);
                found.push((after / repeat as f64) as f32);
            }
        }
    }
    Ok(found)
}
