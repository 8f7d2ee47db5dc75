//! A base model with its adapters, loaded once, ready to run any mixture of them.

use crate::adapter::{Adapter, Control};
use crate::batch::{Batch, ModelId};
use crate::embed::Embeddings;
use crate::error::{Error, Result};
use crate::families::{Family, Names, read_spec};
use crate::forward::{self, Memory, Progress, Run, norm_row};
use crate::hook::{HookPoint, Site};
use crate::joined::JoinedRun;
use crate::mat::Mat;
use crate::memo::Memo;
use crate::module::Module;
use crate::number::Number;
use crate::request::Hooks;
use crate::spec::ModelSpec;
use crate::standing::Standing;
use crate::unembed::{OutputBlocks, n_blocks};
use crate::weights::{NormWeights, PerModel, WeightStore, vector};
use lorascope_checkpoint::{Checkpoint, StoredTensor};
use lorascope_peft::LowRank;
use std::path::PathBuf;
use std::sync::Arc;

/// The base model's name in every table.
pub const BASE: &str = "base";

/// How much memory packed weights may take when nothing else is said: 3 GiB.
pub const DEFAULT_MEMORY: usize = 3 << 30;

/// Asked between layers whether a run is to end.
#[derive(Clone)]
pub struct Stop(pub Arc<dyn Fn() -> bool + Send + Sync>);

impl std::fmt::Debug for Stop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Stop")
    }
}

/// A base model and its adapters. `R` is the type of all arithmetic: f32 for work, f64 for checks.
#[derive(Debug)]
pub struct Model<R> {
    spec: ModelSpec,
    family: &'static Family,
    weights: WeightStore<R>,
    embeddings: Embeddings<R>,
    final_norm: PerModel<NormWeights<R>>,
    output_blocks: OutputBlocks<R>,
    pub(crate) standing: Standing<R>,
    pub(crate) memo: Memo<R>,
    stop: Option<Stop>,
}

impl<R: Number> Model<R> {
    /// Reads the specification from the checkpoint, checks its tensors, and loads the adapters (name and folder).
    ///
    /// `memory` bounds the bytes of packed weights that are kept between sweeps; with less than the model needs,
    /// weights are packed anew in every sweep, with the same results.
    pub fn load(base: Checkpoint, adapters: &[(String, PathBuf)], memory: usize) -> Result<Self> {
        Self::load_with_controls(base, adapters, &[], memory)
    }

    /// [`Model::load`], with control adapters (name, and how each is made of one of the adapters) as further models after the
    /// adapters.
    pub fn load_with_controls(
        base: Checkpoint,
        adapters: &[(String, PathBuf)],
        controls: &[(String, Control)],
        memory: usize,
    ) -> Result<Self> {
        let (family, spec) = read_spec(base.config())?;
        let mut seen = vec![BASE];
        for name in adapters.iter().map(|a| &a.0).chain(controls.iter().map(|c| &c.0)) {
            if seen.contains(&name.as_str()) {
                return Err(Error::DuplicateModel(name.clone()));
            }
            seen.push(name);
        }
        let mut adapters = adapters
            .iter()
            .map(|(name, dir)| Adapter::load(name, dir, &spec, &family.names, &base))
            .collect::<Result<Vec<_>>>()?;
        for (name, control) in controls {
            let original = adapters.iter().find(|a| a.name == control.of).ok_or_else(|| {
                let known = adapters.iter().map(|a| a.name.clone()).collect();
                Error::NoSuchOriginal { control: name.clone(), of: control.of.clone(), known }
            })?;
            adapters.push(original.control(name, control.clone())?);
        }
        let embeddings = Embeddings::new(&spec, &family.names, &base, &adapters)?;
        let weights = WeightStore::new(&spec, &family.names, base, adapters, memory)?;
        let final_norm = weights.norm(&spec, family.names.final_norm)?;
        let output_bytes = spec.d_vocab * spec.d_model * size_of::<R>();
        let kept = weights.is_resident() && weights.panel_bytes(&spec) + output_bytes <= memory;
        let output_blocks = OutputBlocks::new(if kept { n_blocks(spec.d_vocab) } else { 0 });
        let standing = Standing::default();
        Ok(Self {
            spec,
            family,
            weights,
            embeddings,
            final_norm,
            output_blocks,
            standing,
            memo: Memo::default(),
            stop: None,
        })
    }

    /// From now on `stop` is asked between the blocks of rows of every layer, there and back, and between the blocks of the output matrix;
    /// a run that it ends is [`Error::Stopped`]. `None`: nobody may end one.
    pub fn stop_when(&mut self, stop: Option<Stop>) {
        self.stop = stop;
    }

    /// An error where somebody wants an end, or the device did not do what it was given.
    pub(crate) fn check_stop(&self) -> Result<()> {
        if let Some(failure) = lorascope_kernels::device_failure() {
            return Err(Error::Device(failure));
        }
        match &self.stop {
            Some(stop) if (stop.0)() => Err(Error::Stopped),
            _ => Ok(()),
        }
    }

    /// What the model is.
    pub fn spec(&self) -> &ModelSpec {
        &self.spec
    }
    /// Number of models: the base and its adapters.
    pub fn n_models(&self) -> usize {
        1 + self.weights.adapters.len()
    }
    /// Name of a model: `base`, or the adapter's.
    pub fn name(&self, model: ModelId) -> &str {
        model.checked_sub(1).and_then(|i| self.adapters().get(i)).map_or(BASE, |a| &a.name)
    }
    /// Names of all models, the base first.
    pub fn names(&self) -> Vec<&str> {
        (0..self.n_models()).map(|m| self.name(m)).collect()
    }
    /// The adapters in the order in which they were given.
    pub fn adapters(&self) -> &[Adapter] {
        &self.weights.adapters
    }
    /// The base's files.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.weights.base
    }
    /// Whether packed weights stay in memory between sweeps.
    pub fn is_resident(&self) -> bool {
        self.weights.is_resident()
    }
    /// Bytes that the packed weights of all layers take, adapters included.
    pub fn panel_bytes(&self) -> usize {
        self.weights.panel_bytes(&self.spec)
    }

    /// The stored weight matrix of a module of the base, as the checkpoint has it.
    pub fn stored_weight(&self, path: &str) -> Result<&StoredTensor> {
        Ok(self.checkpoint().tensor(&format!("{path}.weight"))?)
    }

    /// The weight that the base uses at a module path: as [`Model::stored_weight`], and for the head of a tied model the
    /// embedding.
    pub fn base_weight(&self, path: &str) -> Result<&StoredTensor> {
        match self.checkpoint().find(&format!("{path}.weight")) {
            None if path == self.family.names.unembed => Ok(self.output_table(0)),
            _ => self.stored_weight(path),
        }
    }

    /// Runs a batch. `readout` names rows whose final normalised states are wanted.
    ///
    /// # Errors
    /// A request that does not fit the model or the batch, weights that can't be read or are not finite, an
    /// activation that is not finite, a request that did not happen exactly once.
    pub fn run(&self, batch: &Batch, hooks: &Hooks<R>, readout: &[usize]) -> Result<Run<R>> {
        self.run_with_progress(batch, hooks, readout, &|_, _| {})
    }

    /// [`Model::run`], telling how many layers are done.
    pub fn run_with_progress(
        &self,
        batch: &Batch,
        hooks: &Hooks<R>,
        readout: &[usize],
        progress: Progress,
    ) -> Result<Run<R>> {
        if batch.n_kept > 0 {
            return Err(Error::OtherBatch);
        }
        self.check_readout(batch, readout)?;
        if let Some(JoinedRun { joined, hooks, readout }) = JoinedRun::of(&self.spec, batch, hooks, readout)?
        {
            return self
                .run_with_progress(&joined.batch, &hooks, &readout, progress)
                .map_err(|error| joined.explained(error));
        }
        if let Some(run) = self.run_from_memo(batch, hooks, readout, progress)? {
            return Ok(run);
        }
        forward::run(self, batch, hooks, readout, progress, Memory::None)
    }

    /// Whether all models of a batch are loaded and all rows of a readout are computed.
    pub(crate) fn check_readout(&self, batch: &Batch, readout: &[usize]) -> Result<()> {
        self.check_models(&batch.models())?;
        match readout.iter().find(|&&r| r >= batch.n_rows() || r < batch.n_kept) {
            Some(&row) => Err(Error::NoSuchRow { row, n_rows: batch.n_rows() }),
            None => Ok(()),
        }
    }

    /// The final norm applied to any residual states of one model, as the logit lens needs it: `[rows, d_model]`.
    pub fn final_norm(&self, model: ModelId, resid: &Mat<R>) -> Mat<R> {
        let (kind, own) = (self.spec.norm, self.final_norm.of(model));
        let mut out = Mat::zeros(resid.rows, resid.cols);
        out.for_rows(|i, row| {
            norm_row(kind, own, resid.row(i), row);
        });
        out
    }

    pub(crate) fn tensor_names(&self) -> &'static Names {
        &self.family.names
    }
    pub(crate) fn weights(&self) -> &WeightStore<R> {
        &self.weights
    }
    pub(crate) fn weights_mut(&mut self) -> &mut WeightStore<R> {
        &mut self.weights
    }
    pub(crate) fn embeddings(&self) -> &Embeddings<R> {
        &self.embeddings
    }
    pub(crate) fn final_norm_weights(&self) -> &PerModel<NormWeights<R>> {
        &self.final_norm
    }
    pub(crate) fn output_blocks(&self) -> &OutputBlocks<R> {
        &self.output_blocks
    }

    /// Changes the factors of an adapter's module, which exist.
    pub(crate) fn set_factor(
        &mut self,
        model: ModelId,
        layer: usize,
        module: Module,
        change: impl FnOnce(&mut LowRank),
    ) -> Result<()> {
        self.forget();
        self.weights.set_factor(&self.spec, model, layer, module, change)
    }

    /// Replaces the base's embedding or final norm.
    pub(crate) fn replace_outside_layers(&mut self, new: StoredTensor) -> Result<()> {
        self.forget();
        self.weights.base.replace(new);
        let names = &self.family.names;
        self.final_norm = self.weights.norm(&self.spec, names.final_norm)?;
        self.embeddings = Embeddings::new(&self.spec, names, &self.weights.base, &self.weights.adapters)?;
        self.output_blocks.forget();
        Ok(())
    }

    /// Rank of a model's adapter at a low-rank hook point.
    pub(crate) fn rank_at(&self, model: ModelId, point: HookPoint) -> Option<usize> {
        let HookPoint::Layer(layer, Site::LoraA(module) | Site::LoraOut(module)) = point else { return None };
        self.standing_update(model, layer, module).map(|update| update.factors.rank)
    }

    /// Whether an adapter brings an output matrix of its own.
    pub(crate) fn has_own_output(&self, model: ModelId) -> bool {
        let adapter = model.checked_sub(1).and_then(|i| self.adapters().get(i));
        adapter.is_some_and(|a| a.replaced_weight(self.family.names.unembed).is_some())
    }

    /// The output matrix `[V, d_model]` of a model.
    pub(crate) fn output_table(&self, model: ModelId) -> &StoredTensor {
        let names = &self.family.names;
        let adapter = model.checked_sub(1).and_then(|i| self.adapters().get(i));
        if let Some(own) = adapter.and_then(|a| a.replaced_weight(names.unembed)) {
            return own;
        }
        let untied = self.checkpoint().find(&format!("{}.weight", names.unembed));
        match untied {
            Some(head) if !self.spec.tied_embeddings => head,
            _ => self.embeddings.table(0),
        }
    }

    /// A row of a model's output matrix, in the engine's numbers.
    pub fn output_row(&self, model: ModelId, token: u32) -> Result<Vec<R>> {
        let table = self.output_table(model);
        let mut row = vec![R::ZERO; self.spec.d_model];
        crate::weights::widen(table, token as usize..token as usize + 1, &mut row)?;
        Ok(row)
    }

    /// All numbers of a stored tensor in the engine's type; for weight analyses.
    pub fn widened(stored: &StoredTensor) -> Result<Vec<R>> {
        vector(stored)
    }
}
