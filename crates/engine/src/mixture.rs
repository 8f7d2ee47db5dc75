//! Mixtures: models put together from the updates of loaded adapters, module by module.
//!
//! At each module of each layer a mixture takes the low-rank update of one adapter, times a factor, or none; all else is the base's.
//! An adapter with some of its parts off, one adapter's parts in another, an adapter at half its strength are mixtures. No factor is
//! copied or merged: rows of a mixture multiply by the very numbers of the adapter that they take a part from, so ranks and scales
//! need no reconciling, and a mixture of all parts of an adapter has the adapter's bits.
//!
//! Many mixtures go through the model together. Those that are equal in the first layers are one set of rows there: rows divide at
//! the first layer at which their mixtures differ. Who asks again and again ([`MixtureRuns`]) also shares the first layers of earlier
//! runs. By the independence of rows the results are those of each mixture alone.

mod plan;
mod streams;

use crate::batch::{Batch, ModelId};
use crate::error::{Error, Result};
use crate::forward::{Memory, Progress};
use crate::mat::Mat;
use crate::model::Model;
use crate::module::Module;
use crate::number::Number;
use crate::request::Hooks;
use plan::{LayerKey, plan};
use std::collections::BTreeMap;
use streams::Streams;
pub(crate) use streams::{Given, Wanted};

/// What a mixture takes at one module.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part {
    /// The adapter whose update it is, as a model (from 1).
    pub model: ModelId,
    /// What the update is multiplied by, besides its own scale.
    pub factor: f64,
}

/// A model put together; nothing but the base at first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Mixture {
    parts: BTreeMap<(usize, Module), Part>,
}

impl Mixture {
    /// Takes an adapter's update at a module of a layer, in place of what was taken there before.
    pub fn take(&mut self, layer: usize, module: Module, part: Part) {
        self.parts.insert((layer, module), part);
    }

    /// What it takes at a module of a layer.
    pub fn part(&self, layer: usize, module: Module) -> Option<Part> {
        self.parts.get(&(layer, module)).copied()
    }

    /// All that it takes, in the order of layers and modules.
    pub fn parts(&self) -> impl Iterator<Item = ((usize, Module), Part)> {
        self.parts.iter().map(|(&place, &part)| (place, part))
    }

    /// What it takes in each layer. For sorting: mixtures that are equal in more of the first layers stand nearer.
    fn key(&self, n_layers: usize) -> Vec<LayerKey> {
        let mut layers = vec![Vec::new(); n_layers];
        for ((layer, module), part) in self.parts() {
            layers[layer].push((module, part.model, part.factor.to_bits()));
        }
        layers
    }
}

/// Runs of the same rows as ever other mixtures. What earlier runs computed in their first layers is kept, up to a budget of memory, and
/// a mixture that is equal to an earlier one there begins where it differs. The results have the bits of runs from the beginning.
pub struct MixtureRuns<'m, R> {
    model: &'m Model<R>,
    /// Rows of the base; what runs are copies of them.
    batch: Batch,
    streams: Streams<R>,
}

impl<'m, R: Number> MixtureRuns<'m, R> {
    /// `memory`: bytes of residual streams that are kept from run to run, `d_model` numbers a row, layer and mixture; 0 keeps none.
    ///
    /// # Errors
    /// Rows that are not whole sequences of the base; models in which edits stand.
    pub fn new(model: &'m Model<R>, batch: &Batch, memory: usize) -> Result<Self> {
        if batch.n_kept > 0 || batch.n_trunk < batch.n_rows() || batch.models().iter().any(|&m| m > 0) {
            let why = "its rows must be whole sequences of the base".to_owned();
            return Err(Error::BadMixture { mixture: 0, why });
        }
        if !model.standing().is_empty() {
            let why = "edits stand in these models, and a mixture is none of them; run it without edits";
            return Err(Error::BadMixture { mixture: 0, why: why.to_owned() });
        }
        Ok(Self { model, batch: batch.clone(), streams: Streams::new(memory) })
    }

    /// The final normalised states of the rows of `readout`, mixture by mixture.
    ///
    /// # Errors
    /// A part that no loaded adapter has, of DoRA, or with a factor that is not finite; readout rows that the batch does not have; numbers
    /// that are not finite.
    pub fn run(
        &mut self,
        mixtures: &[Mixture],
        readout: &[usize],
        progress: Progress,
    ) -> Result<Vec<Mat<R>>> {
        self.model.check_readout(&self.batch, readout)?;
        for (i, mixture) in mixtures.iter().enumerate() {
            self.model.check_mixture(mixture).map_err(|why| Error::BadMixture { mixture: i, why })?;
        }
        let spec = self.model.spec();
        let keys: Vec<Vec<LayerKey>> = mixtures.iter().map(|m| m.key(spec.n_layers)).collect();
        let plan = plan(&keys, self.model.n_models(), &|key| self.streams.longest(key));
        let (forked, starts) = self.batch.forked(&plan.forks);
        let (given, mut left) =
            self.streams.passing(&plan, &keys, &starts, (self.batch.n_rows(), spec.d_model));
        let of_fork = |&start: &usize| readout.iter().map(move |row| start + row);
        let rows: Vec<usize> = starts.iter().flat_map(of_fork).collect();
        let memory = Memory::Streams(&given, &mut left);
        let hooks = Hooks::default();
        let run = R::run_mixtures(self.model, &forked, &hooks, &rows, progress, memory, mixtures)?;
        self.streams.keep(left);
        let n = readout.len();
        let of_copy = |&copy: &usize| run.readout.gather(&(copy * n..(copy + 1) * n).collect::<Vec<_>>());
        Ok(plan.copy_of.iter().map(of_copy).collect())
    }
}

impl<R: Number> Model<R> {
    /// Runs rows of the base as each of some mixtures, once: [`MixtureRuns::run`] without anything kept.
    ///
    /// # Errors
    /// As [`MixtureRuns::new`] and [`MixtureRuns::run`].
    pub fn run_mixtures(
        &self,
        batch: &Batch,
        mixtures: &[Mixture],
        readout: &[usize],
        progress: Progress,
    ) -> Result<Vec<Mat<R>>> {
        MixtureRuns::new(self, batch, 0)?.run(mixtures, readout, progress)
    }

    fn check_mixture(&self, mixture: &Mixture) -> std::result::Result<(), String> {
        for ((layer, module), part) in mixture.parts() {
            let adapter = part.model.checked_sub(1).and_then(|i| self.adapters().get(i));
            let Some(adapter) = adapter else { return Err(format!("model {} is no adapter", part.model)) };
            let place = || format!("adapter `{}` at `{module}` of layer {layer}", adapter.name);
            let Some(update) = adapter.update(layer, module) else {
                return Err(format!("{} has no update", place()));
            };
            if update.factors.magnitude.is_some() {
                return Err(format!("{} rescales the weight (DoRA), which is no part by itself", place()));
            }
            if !part.factor.is_finite() {
                return Err(format!("{} has the factor {}", place(), part.factor));
            }
        }
        Ok(())
    }
}
