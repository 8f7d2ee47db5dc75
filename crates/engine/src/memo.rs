//! Remembered sequences: who asks many questions of the same prompts computes the prompts once, without saying so each time.
//!
//! A run whose sequences all go on remembered ones, and that reads nothing within these, computes only what comes after them. By the
//! independence of rows the result has the same bits. Every other run is as it would be without.

use crate::batch::{Batch, ModelId};
use crate::error::Result;
use crate::forward::{Kept, Progress, Run};
use crate::model::Model;
use crate::request::{Capture, Hooks};
use lorascope_kernels::Real;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

/// Sequences with their keys and values.
#[derive(Debug)]
pub(crate) struct Memo<R> {
    kept: Kept<R>,
    index: BTreeMap<(ModelId, Vec<u32>), usize>,
    /// Models that have changed since.
    stale: BTreeSet<ModelId>,
}

/// A run that begins after remembered sequences.
struct After {
    batch: Batch,
    /// The row of that batch for each row of the whole one that is computed.
    rows: HashMap<usize, usize>,
}

impl<R: Real> Model<R> {
    /// Runs these sequences and remembers their keys and values, `2 · n_layers · n_kv_heads · d_head` numbers a token, in place of those
    /// remembered before. Where these are the same sequences, only models that edits have changed since are run. Results of later
    /// runs are the same, bit for bit; those that go on these sequences are faster.
    ///
    /// # Errors
    /// As [`Model::keep`].
    pub fn remember(&mut self, sequences: &[(ModelId, &[u32])], progress: Progress) -> Result<()> {
        let index: BTreeMap<(ModelId, Vec<u32>), usize> =
            sequences.iter().enumerate().map(|(i, (m, tokens))| ((*m, tokens.to_vec()), i)).collect();
        let stale = BTreeSet::new();
        let kept = match self.memo.take().filter(|old| old.index == index) {
            None => self.keep(sequences, progress)?,
            Some(old) if old.stale.is_empty() => old.kept,
            Some(old) => {
                let changed = sequences.iter().copied().filter(|(model, _)| old.stale.contains(model));
                let changed: Vec<(ModelId, &[u32])> = changed.collect();
                match &changed[..] {
                    [] => old.kept,
                    _ => old.kept.with_models_of(self.keep(&changed, progress)?),
                }
            }
        };
        self.memo = Some(Memo { kept, index, stale });
        Ok(())
    }

    /// Forgets what [`Model::remember`] has.
    pub fn forget(&mut self) {
        self.memo = None;
    }

    /// What is remembered of these models holds no more.
    pub(crate) fn forget_models(&mut self, models: impl IntoIterator<Item = ModelId>) {
        if let Some(memo) = &mut self.memo {
            memo.stale.extend(models);
        }
    }

    /// The run, where it can begin after remembered sequences.
    pub(crate) fn run_from_memo(
        &self,
        batch: &Batch,
        hooks: &Hooks<R>,
        readout: &[usize],
        progress: Progress,
    ) -> Result<Option<Run<R>>> {
        // Edits may read rows in an order that only the whole batch has.
        let plain = hooks.edits.is_empty() && batch.n_trunk == batch.n_rows();
        let Some(memo) = self.memo.as_ref().filter(|_| plain) else { return Ok(None) };
        let Some(after) = memo.after(self, batch)? else { return Ok(None) };
        let moved =
            |rows: &[usize]| rows.iter().map(|row| after.rows.get(row).copied()).collect::<Option<_>>();
        let capture = |c: &Capture| Some(Capture { point: c.point, rows: moved(&c.rows)? });
        let captures: Option<Vec<Capture>> = hooks.captures.iter().map(capture).collect();
        let (Some(captures), Some(readout)) = (captures, moved(readout)) else { return Ok(None) };
        let hooks = Hooks { captures, edits: Vec::new() };
        let readout: Vec<usize> = readout;
        self.run_after(&memo.kept, &after.batch, &hooks, &readout, progress).map(Some)
    }
}

impl<R: Real> Memo<R> {
    /// `None` where a sequence of the batch does not go on a remembered one.
    fn after(&self, model: &Model<R>, batch: &Batch) -> Result<Option<After>> {
        let mut ends: Vec<(usize, usize, Vec<u32>)> = Vec::with_capacity(batch.n_sequences());
        for sequence in 0..batch.n_sequences() {
            let Some(last) = batch.end_of(sequence) else { return Ok(None) };
            let (which, tokens) = (batch.row(last).model, batch.tokens_to(last));
            if self.stale.contains(&which) {
                return Ok(None);
            }
            let known = |n: usize| self.index.get(&(which, tokens[..n].to_vec())).map(|&i| (i, n));
            let Some((of, n)) = (1..tokens.len()).rev().find_map(known) else { return Ok(None) };
            ends.push((of, n, tokens[n..].to_vec()));
        }
        let sequences: Vec<(usize, &[u32])> =
            ends.iter().map(|(of, _, tail)| (*of, tail.as_slice())).collect();
        let short = self.kept.batch(model, &sequences, &[])?;
        let mut rows = HashMap::new();
        for (sequence, (_, n, tail)) in ends.iter().enumerate() {
            for position in *n..n + tail.len() {
                let places = batch.row_of(sequence, position).zip(short.row_of(sequence, position));
                let Some((whole, short)) = places else { return Ok(None) };
                rows.insert(whole, short);
            }
        }
        // Rows that a batch keeps apart would have become one.
        let distinct: HashSet<usize> = rows.values().copied().collect();
        Ok((distinct.len() == rows.len()).then_some(After { batch: short, rows }))
    }
}
