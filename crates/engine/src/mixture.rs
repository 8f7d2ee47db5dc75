//! Mixtures: models put together from the updates of loaded adapters, module by module.
//!
//! At each module of each layer a mixture takes the low-rank update of one adapter, times a factor, or none; all else is the base's.
//! An adapter with some of its parts off, one adapter's parts in another, an adapter at half its strength are mixtures. No factor is
//! copied or merged: rows of a mixture multiply by the very numbers of the adapter that they take a part from, so ranks and scales
//! need no reconciling, and a mixture of all parts of an adapter has the adapter's bits.
//!
//! Many mixtures go through the model together. Those that are equal in the first layers are one set of rows there: rows divide at
//! the first layer at which their mixtures differ. By the independence of rows the results are those of each mixture alone.

use crate::batch::{Batch, ModelId};
use crate::branch::Fork;
use crate::error::{Error, Result};
use crate::forward::{self, Memory, Progress};
use crate::mat::Mat;
use crate::model::Model;
use crate::module::Module;
use crate::request::Hooks;
use lorascope_kernels::Real;
use std::collections::BTreeMap;

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

    /// For sorting: mixtures that are equal in more of the first layers stand nearer.
    fn key(&self, n_layers: usize) -> Vec<Vec<(Module, ModelId, u64)>> {
        let mut layers = vec![Vec::new(); n_layers];
        for ((layer, module), part) in self.parts() {
            layers[layer].push((module, part.model, part.factor.to_bits()));
        }
        layers
    }
}

/// Which rows mixtures share.
struct Plan {
    /// The mixture that runs the batch's own rows.
    first: usize,
    /// The others that differ from it, each with the mixture that runs it.
    forks: Vec<Fork>,
    /// For each mixture, the copy of the rows that it runs: 0 is the batch's own rows, the others are the forks.
    copy_of: Vec<usize>,
}

/// `mixtures` are not empty; those of layer `n_layers` and above do not exist. Models of mixtures are numbered from `n_models` on.
fn plan(mixtures: &[Mixture], n_layers: usize, n_models: usize) -> Plan {
    let keys: Vec<_> = mixtures.iter().map(|m| m.key(n_layers)).collect();
    let mut order: Vec<usize> = (0..mixtures.len()).collect();
    order.sort_by(|&a, &b| keys[a].cmp(&keys[b]));
    let mut plan = Plan { first: order[0], forks: Vec::new(), copy_of: vec![0; mixtures.len()] };
    for pair in order.windows(2) {
        let (before, now) = (pair[0], pair[1]);
        let shared = keys[before].iter().zip(&keys[now]).take_while(|(a, b)| a == b).count();
        if shared == n_layers {
            plan.copy_of[now] = plan.copy_of[before];
            continue;
        }
        // In sorted order nobody before shares more layers; go back to rows that exist at the first layer of difference.
        let mut of = plan.copy_of[before];
        while of > 0 && plan.forks[of - 1].layer > shared {
            of = plan.forks[of - 1].of;
        }
        plan.forks.push(Fork { of, model: n_models + now, layer: shared });
        plan.copy_of[now] = plan.forks.len();
    }
    plan
}

impl<R: Real> Model<R> {
    /// Runs rows of the base as each of some mixtures: the final normalised states of the rows of `readout`, mixture by mixture.
    ///
    /// # Errors
    /// As [`Model::run`]; rows of another model, or kept or patched ones; a part that no adapter has, or that is more than a low-rank
    /// update (DoRA).
    pub fn run_mixtures(
        &self,
        batch: &Batch,
        mixtures: &[Mixture],
        readout: &[usize],
        progress: Progress,
    ) -> Result<Vec<Mat<R>>> {
        self.check_readout(batch, readout)?;
        if batch.n_kept > 0 || batch.n_trunk < batch.n_rows() || batch.models().iter().any(|&m| m > 0) {
            let why = "its rows must be whole sequences of the base".to_owned();
            return Err(Error::BadMixture { mixture: 0, why });
        }
        if !self.standing().is_empty() {
            let why = "edits stand in these models, and a mixture is none of them; run it without edits";
            return Err(Error::BadMixture { mixture: 0, why: why.to_owned() });
        }
        for (i, mixture) in mixtures.iter().enumerate() {
            self.check_mixture(mixture).map_err(|why| Error::BadMixture { mixture: i, why })?;
        }
        if mixtures.is_empty() {
            return Ok(Vec::new());
        }
        let n_models = self.n_models();
        let plan = plan(mixtures, self.spec().n_layers, n_models);
        let (forked, starts) = batch.forked(n_models + plan.first, &plan.forks);
        let rows: Vec<usize> =
            starts.iter().flat_map(|start| readout.iter().map(move |r| start + r)).collect();
        let run =
            forward::run_mixtures(self, &forked, &Hooks::default(), &rows, progress, Memory::None, mixtures)?;
        let n = readout.len();
        let of_copy = |&copy: &usize| run.readout.gather(&(copy * n..(copy + 1) * n).collect::<Vec<_>>());
        Ok(plan.copy_of.iter().map(of_copy).collect())
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

#[cfg(test)]
mod tests {
    use super::*;

    /// A mixture of a model with one module a layer, from the adapter that each layer takes (0: none).
    fn mixture(layers: &[usize]) -> Mixture {
        let mut mixture = Mixture::default();
        for (layer, &model) in layers.iter().enumerate().filter(|(_, m)| **m > 0) {
            mixture.take(layer, Module::Up, Part { model, factor: 1.0 });
        }
        mixture
    }

    #[test]
    fn mixtures_divide_where_they_differ_and_equal_ones_are_one() {
        let all = [[1, 0, 1, 0], [0, 0, 0, 0], [1, 0, 1, 1], [0, 0, 0, 1], [1, 0, 1, 0], [1, 1, 0, 0]]
            .map(|m| mixture(&m));
        let plan = plan(&all, 4, 3);
        assert_eq!((plan.first, plan.copy_of[0]), (1, plan.copy_of[4]));
        // Layers that are computed: 4 for nothing, 1 for the last layer alone, 4 for 1010, 1 for 1011, 3 for 1100.
        let mut layers: Vec<(usize, usize)> = plan.forks.iter().map(|f| (f.model - 3, f.layer)).collect();
        layers.sort_unstable();
        assert_eq!(layers.len(), 4);
        assert_eq!(layers.iter().map(|l| 4 - l.1).sum::<usize>(), 1 + 4 + 1 + 3);
        for (n, fork) in plan.forks.iter().enumerate() {
            assert!(fork.of <= n, "a fork comes after what it copies");
            assert!(fork.of == 0 || plan.forks[fork.of - 1].layer <= fork.layer);
            // What it copies runs the same mixture in the layers before.
            let of = if fork.of == 0 { plan.first } else { plan.forks[fork.of - 1].model - 3 };
            assert_eq!(all[of].key(4)[..fork.layer], all[fork.model - 3].key(4)[..fork.layer]);
        }
    }
}
