//! Which patched runs go through the models together: consecutive ones, as many as fit the budget.

use super::measure::Question;
use super::sweep::{Change, PatchedRun, Replacement};
use lorascope_engine::{Birth, ModelSpec};
use std::collections::BTreeSet;
use std::ops::Range;

/// Consecutive patched runs, and how much they cost.
pub(super) struct Chunk {
    pub runs: Range<usize>,
    /// Rows times layers.
    pub work: u64,
}

/// The first position that a run changes, and the latest birth from which all its changes can happen.
pub(super) fn start(run: &PatchedRun) -> (usize, Birth) {
    let from = run.changes.iter().map(|c| c.position).min().unwrap_or(0);
    let birth = run.changes.iter().filter_map(|c| Birth::before(c.point)).min();
    (from, birth.unwrap_or_else(|| unreachable!("changes are at points of layers")))
}

/// Unpatched runs that a patched one needs: its own, and those that it copies from.
pub(super) fn needed(run: &PatchedRun) -> impl Iterator<Item = (usize, usize)> + '_ {
    let sources = run.changes.iter().filter_map(|c| c.replacement.source());
    std::iter::once((run.model, run.prompt)).chain(sources.map(|s| (s.model, s.prompt)))
}

/// Rows of a run.
fn rows(run: &PatchedRun, questions: &[Question]) -> usize {
    let (from, _) = start(run);
    questions[run.prompt].sequences().iter().map(|s| s.len() - from.min(s.len() - 1)).sum()
}

/// What the account of one edit takes, about, besides numbers of its own.
const CHANGE_BYTES: usize = 256;

fn bytes_of(change: &Change) -> usize {
    let own = matches!(change.replacement, Replacement::Values(_) | Replacement::Add { .. });
    CHANGE_BYTES + if own { 4 * change.units.len() } else { 0 }
}

/// Whether a run and everything that it copies from change nothing before the decision points.
pub(super) fn is_at_decision(run: &PatchedRun, questions: &[Question]) -> bool {
    let sources = run.changes.iter().filter_map(|c| c.replacement.source());
    let (from, _) = start(run);
    from >= questions[run.prompt].position()
        && sources.into_iter().all(|s| s.position >= questions[s.prompt].position())
}

/// Bytes of a row: residual stream, final state, keys and values.
fn row_bytes(spec: &ModelSpec) -> usize {
    4 * (3 * spec.d_model + 2 * spec.n_kv_heads * spec.d_head)
}

/// The order in which runs go through the models. Runs that change something before the decision point are ordered by what they
/// change, so that those of prompts that begin alike meet in a chunk and share what they can; others stay with their prompts. Every
/// chunk needs the unpatched runs of its prompts, so only as many prompts are mixed as take a small part of the budget.
pub(super) fn in_order(
    spec: &ModelSpec,
    runs: &[PatchedRun],
    questions: &[Question],
    budget: usize,
    trunk_rows_of: impl Fn(usize) -> usize,
) -> Vec<usize> {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    if runs.iter().all(|run| is_at_decision(run, questions)) {
        return order;
    }
    let most = budget / 8 / row_bytes(spec);
    let (mut mixed, mut rows, mut trunk) = (0, 0, BTreeSet::new());
    let mut mixed_of = Vec::with_capacity(runs.len());
    for (i, run) in runs.iter().enumerate() {
        if rows > most && run.prompt != runs[i - 1].prompt {
            (mixed, rows) = (mixed + 1, 0);
            trunk.clear();
        }
        rows += needed(run).filter(|&key| trunk.insert(key)).map(|(_, p)| trunk_rows_of(p)).sum::<usize>();
        mixed_of.push(mixed);
    }
    let place =
        |run: &PatchedRun| (run.model, start(run).1, run.changes.first().map(|c| (c.point, c.units.start)));
    order.sort_by_cached_key(|&i| (mixed_of[i], place(&runs[i])));
    order
}

/// Cuts the runs where the budget (bytes) is used up. Results do not depend on it.
pub(super) fn chunks(
    spec: &ModelSpec,
    runs: &[&PatchedRun],
    questions: &[Question],
    budget: usize,
    trunk_rows_of: impl Fn(usize) -> usize,
) -> Vec<Chunk> {
    let row_bytes = row_bytes(spec);
    let mut chunks: Vec<Chunk> = Vec::new();
    let (mut first, mut bytes, mut work) = (0, 0, 0u64);
    let mut trunk: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (i, run) in runs.iter().enumerate() {
        let new: BTreeSet<(usize, usize)> = needed(run).filter(|key| !trunk.contains(key)).collect();
        let trunk_rows: usize = new.iter().map(|(_, prompt)| trunk_rows_of(*prompt)).sum();
        let own = rows(run, questions);
        let cost = (own + trunk_rows) * row_bytes + run.changes.iter().map(bytes_of).sum::<usize>();
        if bytes + cost > budget && i > first {
            chunks.push(Chunk { runs: first..i, work });
            (first, bytes, work) = (i, 0, 0);
            trunk.clear();
        }
        let (_, birth) = start(run);
        work += (own * (spec.n_layers - birth.layer) + trunk_rows * spec.n_layers) as u64;
        bytes += cost;
        trunk.extend(new);
    }
    if first < runs.len() {
        chunks.push(Chunk { runs: first..runs.len(), work });
    }
    chunks
}
