//! Keys and values of a run, kept for later runs that go on where it ended.
//!
//! Who patches the ends of the same prompts again and again (growing a circuit, say) computes the prompts once.

use super::attention::Keys;
use super::tape::{LayerTape, Recorder};
use super::{Progress, Run, run};
use crate::batch::{Batch, ModelId};
use crate::branch::Branch;
use crate::error::{Error, Result};
use crate::hook::HookPoint;
use crate::mat::Mat;
use crate::mixture::{Given, Wanted};
use crate::model::Model;
use crate::number::Number;
use crate::request::Hooks;
use crate::tap::Tap;
use std::collections::HashMap;

/// Sequences of any models with their keys and values in every layer: `2 · n_layers · n_kv_heads · d_head` numbers a row.
#[derive(Debug)]
pub struct Kept<R> {
    batch: Batch,
    layers: Vec<(Mat<R>, Mat<R>)>,
}

/// What a run does with keys and values beyond itself.
pub(crate) enum Memory<'k, R> {
    /// Nothing.
    None,
    /// Puts them here, layer by layer; those of the batch's first rows come from there, where there are any.
    Take(&'k mut Vec<(Mat<R>, Mat<R>)>, Option<&'k Kept<R>>),
    /// Has those of the batch's first rows from here.
    Give(&'k Kept<R>),
    /// Writes down here what a pass backwards needs; kept rows from there, where there are any.
    Record(&'k mut Record<R>, Option<&'k Kept<R>>),
    /// Rows begin with these residual streams; those before some layers are left there.
    Streams(&'k [Given<R>], &'k mut [Wanted<R>]),
}

/// What a run leaves for the pass backwards.
#[derive(Debug)]
pub(crate) struct Record<R> {
    /// Keep every layer's tape; else only the residual stream before each layer, from which the layer is computed anew.
    pub keeps_tapes: bool,
    /// For each layer, the modules whose parameters' derivatives are wanted.
    pub trained: Vec<[bool; 7]>,
    /// Layers below this one are never gone through backwards.
    pub lowest: usize,
    /// The residual stream before each layer.
    pub starts: Vec<Mat<R>>,
    /// The layers' tapes.
    pub tapes: Vec<LayerTape<R>>,
    /// The residual stream after all layers.
    pub end: Mat<R>,
    /// Values that edits made, where they made them.
    pub edited: HashMap<(HookPoint, usize), Vec<R>>,
}

impl<R: Number> Memory<'_, R> {
    /// Puts what was kept into the layer's keys and values, or into the residual stream before it.
    pub(super) fn recall(&self, layer: usize, resid: &mut Mat<R>, keys: &mut Keys<R>) {
        match self {
            Memory::Give(kept) | Memory::Record(_, Some(kept)) | Memory::Take(_, Some(kept)) => {
                kept.recall(layer, keys);
            }
            Memory::Streams(given, _) => given.iter().for_each(|given| given.put(layer, resid)),
            _ => {}
        }
    }

    /// Keeps what was asked for of a layer that is over.
    pub(super) fn remember(
        &mut self,
        layer: usize,
        resid: &Mat<R>,
        keys: &Keys<R>,
        tape: Option<Recorder<R>>,
    ) {
        match (self, tape) {
            (Memory::Take(layers, _), _) => layers.push((keys.k.clone(), keys.v.clone())),
            (Memory::Streams(_, wanted), _) => wanted.iter_mut().for_each(|w| w.take(layer + 1, resid)),
            (Memory::Record(record, _), Some(tape)) => {
                record.tapes.push(tape.finish(keys.clone()));
            }
            _ => {}
        }
    }

    /// What the run begins from, without what it is to leave.
    pub(super) fn given(&self) -> Self {
        match self {
            Memory::Give(kept) | Memory::Record(_, Some(kept)) | Memory::Take(_, Some(kept)) => {
                Memory::Give(kept)
            }
            Memory::Streams(given, _) => Memory::Streams(given, &mut []),
            _ => Memory::None,
        }
    }

    /// Whether the run will be gone through backwards.
    pub(super) fn is_record(&self) -> bool {
        matches!(self, Memory::Record(..))
    }

    /// A layer begins: the tape on which its steps are to be written, if they are.
    pub(super) fn recorder(&mut self, layer: usize, resid: &Mat<R>) -> Option<Recorder<R>> {
        let Memory::Record(record, _) = self else { return None };
        if layer < record.lowest {
            return None;
        }
        if record.keeps_tapes {
            return Some(Recorder::new(record.trained[layer]));
        }
        record.starts.push(resid.clone());
        None
    }

    /// All layers are over.
    pub(super) fn end(&mut self, resid: Mat<R>, tap: &mut Tap<R>) {
        if let Memory::Record(record, _) = self {
            record.end = resid;
            record.edited = tap.take_log();
        }
    }
}

impl<R: Number> Model<R> {
    /// [`Model::keep`], whatever is remembered.
    pub(crate) fn keep_whole(&self, sequences: &[(ModelId, &[u32])], progress: Progress) -> Result<Kept<R>> {
        let batch = Batch::new(self.spec(), sequences)?;
        self.check_models(&batch.models())?;
        let mut layers = Vec::with_capacity(self.spec().n_layers);
        run(self, &batch, &Hooks::default(), &[], progress, Memory::Take(&mut layers, None))?;
        Ok(Kept { batch, layers })
    }

    /// Runs what comes after kept sequences (each tail names one by its index) and keeps all of it, in the tails' order.
    pub(crate) fn keep_after(
        &self,
        kept: &Kept<R>,
        tails: &[(usize, &[u32])],
        progress: Progress,
    ) -> Result<Kept<R>> {
        let batch = kept.batch(self, tails, &[])?;
        let mut layers = Vec::with_capacity(self.spec().n_layers);
        let memory = Memory::Take(&mut layers, Some(kept));
        run(self, &batch, &Hooks::default(), &[], progress, memory)?;
        Ok(Kept { batch, layers })
    }

    /// Runs a batch made by [`Kept::batch`] of these kept sequences: only what comes after them is computed. The result has
    /// the bits of a run of whole sequences.
    ///
    /// # Errors
    /// As [`Model::run`]; a hook or readout at a kept row; a batch of other sequences.
    pub fn run_after(
        &self,
        kept: &Kept<R>,
        batch: &Batch,
        hooks: &Hooks<R>,
        readout: &[usize],
        progress: Progress,
    ) -> Result<Run<R>> {
        self.check_readout(batch, readout)?;
        kept.check(batch)?;
        run(self, batch, hooks, readout, progress, Memory::Give(kept))
    }
}

impl<R: Number> Kept<R> {
    /// Whether a batch goes on these sequences.
    pub(crate) fn check(&self, batch: &Batch) -> Result<()> {
        let is_of = batch.n_kept == self.batch.n_rows()
            && (0..batch.n_kept).all(|row| batch.row(row) == self.batch.row(row));
        if is_of { Ok(()) } else { Err(Error::OtherBatch) }
    }

    /// Puts the kept keys and values of a layer into its own.
    pub(crate) fn recall(&self, layer: usize, keys: &mut Keys<R>) {
        let (k, v) = &self.layers[layer];
        keys.k.data[..k.data.len()].copy_from_slice(&k.data);
        keys.v.data[..v.data.len()].copy_from_slice(&v.data);
    }

    /// Sequences put together from rows that were kept elsewhere: `source` tells for each sequence and position where, which sequence
    /// there, and at which position.
    pub(crate) fn gathered<'k>(
        model: &Model<R>,
        sequences: &[(ModelId, &[u32])],
        source: impl Fn(usize, usize) -> (&'k Self, usize, usize),
    ) -> Result<Self>
    where
        R: 'k,
    {
        let batch = Batch::new(model.spec(), sequences)?;
        let mut rows: Vec<Option<(&Self, usize)>> = vec![None; batch.n_rows()];
        for (s, (_, tokens)) in sequences.iter().enumerate() {
            for position in 0..tokens.len() {
                let (kept, of, at) = source(s, position);
                if let Some(row) = batch.row_of(s, position) {
                    rows[row] = kept.batch.row_of(of, at).map(|row| (kept, row));
                }
            }
        }
        let rows: Vec<(&Self, usize)> = rows.into_iter().flatten().collect();
        if rows.len() != batch.n_rows() {
            return Err(Error::OtherBatch);
        }
        let layer = |l: usize| {
            let cols = rows.first().map_or(0, |(kept, _)| kept.layers[l].0.cols);
            let (mut k, mut v) = (Mat::zeros(rows.len(), cols), Mat::zeros(rows.len(), cols));
            for (i, (kept, row)) in rows.iter().enumerate() {
                let (from_k, from_v) = &kept.layers[l];
                k.row_mut(i).copy_from_slice(from_k.row(*row));
                v.row_mut(i).copy_from_slice(from_v.row(*row));
            }
            (k, v)
        };
        let layers = (0..model.spec().n_layers).map(layer).collect();
        Ok(Self { batch, layers })
    }

    /// Number of rows.
    pub(crate) fn n_rows(&self) -> usize {
        self.batch.n_rows()
    }

    /// Bytes of the keys and values.
    pub(crate) fn bytes(&self) -> usize {
        self.layers.iter().map(|(k, v)| (k.data.len() + v.data.len()) * size_of::<R>()).sum()
    }

    /// A batch of sequences that go on kept ones: each names one by its index, and the tokens that follow it, at least one.
    ///
    /// # Errors
    /// As [`Batch::with_branches`]; a branch may only copy what follows.
    pub fn batch(
        &self,
        model: &Model<R>,
        sequences: &[(usize, &[u32])],
        branches: &[Branch],
    ) -> Result<Batch> {
        let together: Vec<(usize, usize, &[u32])> = sequences.iter().map(|&(of, t)| (of, 0, t)).collect();
        Batch::going_on(model.spec(), &self.batch, &together, branches)
    }

    /// The same without branches, where only sequences of one group share rows: each is `(kept sequence, group, tokens)`.
    ///
    /// # Errors
    /// As [`Kept::batch`].
    pub fn batch_apart(&self, model: &Model<R>, sequences: &[(usize, usize, &[u32])]) -> Result<Batch> {
        Batch::going_on(model.spec(), &self.batch, sequences, &[])
    }
}
