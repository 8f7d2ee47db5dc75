//! An adapter's factors, placed on the modules of a model's layers.
//!
//! Files speak of module paths; the forward pass speaks of (layer, module). This is where one becomes the other, and
//! where a part that has no place in the forward pass is refused.

use crate::error::{Error, Result};
use crate::families::Names;
use crate::module::Module;
use crate::spec::ModelSpec;
use lorascope_checkpoint::{Checkpoint, StoredTensor};
use lorascope_peft::{
    BaseIdentity, BaseModule, ControlKind, EmbeddingLowRank, LowRank, ModuleKind, PeftAdapter,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::path::Path;

/// An adapter that is loaded beside its base.
#[derive(Debug)]
pub struct Adapter {
    /// The name that the user gave it; never `base`.
    pub name: String,
    /// As it was read.
    pub peft: PeftAdapter,
    /// How it was made, for a control; `None` for an adapter that was read.
    pub control: Option<Control>,
    low_rank: BTreeMap<(usize, Module), LowRankSource>,
}

/// How a control adapter is made: from which adapter, what it keeps of it, and the seed of what is random.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// Name of the original.
    pub of: String,
    /// What it keeps.
    pub kind: ControlKind,
    /// Seed.
    pub seed: u64,
}

/// Where the factors of one module are.
#[derive(Clone, Debug)]
pub(crate) struct LowRankSource {
    pub path: String,
    /// The outputs of a fused matrix that belong to the module; rows of B.
    pub outputs: Range<usize>,
    /// The base stores the matrix `[in, out]`.
    pub transposed: bool,
    pub rank: usize,
}

/// The low-rank update of one module of a layer, with where it is in the files; for analyses of weights.
#[derive(Clone, Debug)]
pub struct Update<'a> {
    /// Path of the module in the checkpoint; several modules of a layer share the path of a fused matrix.
    pub path: &'a str,
    /// The rows of B (outputs of the stored matrix) that belong to the module.
    pub outputs: Range<usize>,
    /// The base stores the matrix `[in, out]` instead of `[out, in]`.
    pub transposed: bool,
    /// Factors, scale and, for DoRA, magnitude.
    pub factors: &'a LowRank,
}

impl Adapter {
    /// Reads an adapter folder and checks it against the base.
    pub fn load(name: &str, dir: &Path, spec: &ModelSpec, names: &Names, base: &Checkpoint) -> Result<Self> {
        let identity = BaseIdentity {
            name_or_path: None,
            vocab_size: Some(spec.d_vocab),
            tied_embeddings: spec.tied_embeddings,
        };
        let modules = base_modules(spec, names, base);
        let peft = lorascope_peft::load(dir, &modules, Some(&identity))
            .map_err(|source| Error::Adapter { name: name.to_owned(), source })?;
        let mut low_rank = BTreeMap::new();
        let mut placed = BTreeSet::new();
        for layer in 0..spec.n_layers {
            for module in spec.modules() {
                let Some(source) = (names.linear)(module) else { continue };
                let path = source.path(layer);
                if let Some(update) = peft.low_rank.get(&path) {
                    let outputs = source.part.outputs(spec.module_shape(module).0);
                    placed.insert(path.clone());
                    let transposed = source.transposed;
                    low_rank.insert(
                        (layer, module),
                        LowRankSource { path, outputs, transposed, rank: update.rank },
                    );
                }
            }
        }
        let adapter = Self { name: name.to_owned(), peft, control: None, low_rank };
        let refuse = |what, path: &str, why: &str| {
            Err(Error::AdapterUnsupported {
                adapter: name.to_owned(),
                what,
                path: path.to_owned(),
                why: why.to_owned(),
            })
        };
        if let Some(path) = adapter.peft.low_rank.keys().find(|p| !placed.contains(*p)) {
            return refuse("low-rank update of", path, "only the linear maps of layers can carry one");
        }
        if let Some(path) = adapter.peft.embeddings.keys().find(|p| *p != names.embed) {
            return refuse("low-rank update of", path, "only the token embedding can carry one");
        }
        Ok(adapter)
    }

    /// A control of this adapter, placed on the same modules. `control.of` is not looked at.
    ///
    /// # Errors
    /// A change that is not low-rank, or nothing to shuffle.
    pub fn control(&self, name: &str, control: Control) -> Result<Self> {
        let parts = |path: &str| -> Vec<Range<usize>> {
            let own = self.low_rank.values().filter(|source| source.path == path);
            own.map(|source| source.outputs.clone()).collect()
        };
        let peft = self.peft.control(control.kind, control.seed, &parts).map_err(|source| {
            Error::Control { adapter: self.name.clone(), kind: control.kind.name(), source: Box::new(source) }
        })?;
        // Ranks move with the updates.
        let mut low_rank = self.low_rank.clone();
        for source in low_rank.values_mut() {
            source.rank = peft.low_rank.get(&source.path).map_or(source.rank, |update| update.rank);
        }
        Ok(Self { name: name.to_owned(), peft, control: Some(control), low_rank })
    }

    /// Rank of the update of a module; `None` where it has none.
    pub fn rank(&self, layer: usize, module: Module) -> Option<usize> {
        self.low_rank.get(&(layer, module)).map(|s| s.rank)
    }

    /// Layers and modules that carry an update, in order.
    pub fn adapted(&self) -> impl Iterator<Item = (usize, Module)> {
        self.low_rank.keys().copied()
    }

    /// The update of a module; `None` where it has none.
    pub fn update(&self, layer: usize, module: Module) -> Option<Update<'_>> {
        let (source, factors) = self.low_rank(layer, module)?;
        let (outputs, transposed) = (source.outputs.clone(), source.transposed);
        Some(Update { path: &source.path, outputs, transposed, factors })
    }

    /// The update's place and factors.
    pub(crate) fn low_rank(&self, layer: usize, module: Module) -> Option<(&LowRankSource, &LowRank)> {
        let source = self.low_rank.get(&(layer, module))?;
        Some((source, self.peft.low_rank.get(&source.path)?))
    }

    /// Changes the factors of a module; the path of the matrix that they update, `None` where there are none.
    pub(crate) fn change(
        &mut self,
        layer: usize,
        module: Module,
        change: impl FnOnce(&mut LowRank),
    ) -> Option<String> {
        let path = self.low_rank.get(&(layer, module))?.path.clone();
        change(self.peft.low_rank.get_mut(&path)?);
        Some(path)
    }

    /// The weight that replaces the base's at a module path.
    pub(crate) fn replaced_weight(&self, path: &str) -> Option<&StoredTensor> {
        self.peft.replaced_weights.get(path)
    }

    /// The bias that replaces the base's at a module path.
    pub(crate) fn replaced_bias(&self, path: &str) -> Option<&StoredTensor> {
        self.peft.replaced_biases.get(path)
    }

    /// The update of the token embedding.
    pub(crate) fn embedding(&self, path: &str) -> Option<&EmbeddingLowRank> {
        self.peft.embeddings.get(path)
    }
}

/// Every module of the base that holds parameters, as PEFT sees them.
pub(crate) fn base_modules(spec: &ModelSpec, names: &Names, base: &Checkpoint) -> Vec<BaseModule> {
    let mut modules = Vec::new();
    let mut add = |path: String, kind: ModuleKind| {
        if modules.iter().any(|m: &BaseModule| m.path == path) {
            return; // a fused matrix serves several modules
        }
        let weight = base.find(&format!("{path}.weight"));
        let head = path == names.unembed && weight.is_none();
        let shape = match weight {
            Some(w) => w.shape().to_vec(),
            // The head of a tied model is a module of its own to PEFT, with the embedding's shape.
            None if head => vec![spec.d_vocab, spec.d_model],
            None => return,
        };
        let has_bias = base.find(&format!("{path}.bias")).is_some();
        modules.push(BaseModule { path, kind, shape, has_bias });
    };
    add(names.embed.to_owned(), ModuleKind::Embedding);
    if let Some(position) = names.positions {
        add(position.to_owned(), ModuleKind::Embedding);
    }
    for layer in 0..spec.n_layers {
        for norm in norm_paths(names) {
            add(crate::families::in_layer(norm, layer), ModuleKind::Norm);
        }
        for source in spec.modules().filter_map(names.linear) {
            let kind = if source.transposed { ModuleKind::Conv1d } else { ModuleKind::Linear };
            add(source.path(layer), kind);
        }
    }
    add(names.final_norm.to_owned(), ModuleKind::Norm);
    add(names.unembed.to_owned(), ModuleKind::Linear);
    modules
}

/// Patterns of all norms of a layer.
fn norm_paths(names: &Names) -> Vec<&'static str> {
    let pairs = [names.post_norms, names.qk_norms];
    let pairs = pairs.into_iter().flatten().flat_map(|(a, b)| [a, b]);
    [names.norm_1, names.norm_2].into_iter().chain(pairs).collect()
}
