//! Weights in the form in which the forward pass multiplies by them, made from their stored type when needed.
//!
//! A layer's matrices are packed into panels once and kept where everything fits into the memory that the user
//! allows; otherwise they are packed anew, layer by layer, in every sweep, so that a model larger than memory still
//! runs, slower, with the same result bit for bit.

use crate::adapter::Adapter;
use crate::batch::ModelId;
use crate::error::{Error, Result};
use crate::families::{LinearSource, Names, in_layer};
use crate::module::Module;
use crate::number::Number;
use crate::passing::Passing;
use crate::spec::{ModelSpec, NormKind};
use lorascope_checkpoint::{Checkpoint, StoredTensor};
use lorascope_kernels::{MatRef, PANEL, Packed, Write, all_finite, matmul};
use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

/// A norm's parameters, with the unit offset of the family already added.
#[derive(Clone, Debug)]
pub(crate) struct NormWeights<R> {
    pub weight: Vec<R>,
    /// Empty for RMSNorm.
    pub bias: Vec<R>,
}

/// Something that every model has and that an adapter may replace.
#[derive(Clone, Debug)]
pub(crate) struct PerModel<T> {
    base: T,
    replaced: Vec<Option<T>>,
}

impl<T> PerModel<T> {
    /// What `model` uses.
    pub fn of(&self, model: ModelId) -> &T {
        model.checked_sub(1).and_then(|i| self.replaced.get(i)).and_then(Option::as_ref).unwrap_or(&self.base)
    }
    /// Whether `model` uses something of its own.
    pub fn is_replaced(&self, model: ModelId) -> bool {
        model.checked_sub(1).and_then(|i| self.replaced.get(i)).is_some_and(Option::is_some)
    }
}

/// A low-rank update, ready to multiply.
#[derive(Clone, Debug)]
pub(crate) struct LowRankWeights<R> {
    /// `[rank, in]`.
    pub a: Packed<R>,
    /// `[out, rank]`.
    pub b: Packed<R>,
    pub scale: R,
    /// Bias of B, already scaled.
    pub bias: Option<Vec<R>>,
    /// DoRA: magnitude over the norm of the updated weight's row.
    pub gain: Option<Vec<R>>,
}

/// A linear map with everything that adapters do to it.
#[derive(Clone, Debug)]
pub(crate) struct LinearWeights<R> {
    pub weight: PerModel<Packed<R>>,
    pub bias: PerModel<Option<Vec<R>>>,
    /// Indexed by adapter (model − 1), muted ones included.
    low_rank: Vec<Option<LowRankWeights<R>>>,
    /// Adapters (model − 1) whose update is switched off.
    muted: Vec<usize>,
}

impl<R> LinearWeights<R> {
    /// The model's low-rank update; none where it is muted.
    pub fn low_rank(&self, model: ModelId) -> Option<&LowRankWeights<R>> {
        model
            .checked_sub(1)
            .filter(|i| !self.muted.contains(i))
            .and_then(|i| self.low_rank.get(i))
            .and_then(Option::as_ref)
    }
}

/// Norms after attention and after the MLP, or of queries and keys.
type NormPair<R> = (PerModel<NormWeights<R>>, PerModel<NormWeights<R>>);

/// Everything that one layer multiplies by.
#[derive(Debug)]
pub(crate) struct LayerWeights<R> {
    pub norm_1: PerModel<NormWeights<R>>,
    pub norm_2: PerModel<NormWeights<R>>,
    pub post_norms: Option<NormPair<R>>,
    pub qk_norms: Option<NormPair<R>>,
    linears: [Option<LinearWeights<R>>; 7],
}

impl<R> LayerWeights<R> {
    /// A module's weights; every module of [`ModelSpec::modules`] has them.
    pub fn linear(&self, module: Module) -> &LinearWeights<R> {
        match &self.linears[module.index()] {
            Some(w) => w,
            None => unreachable!("the forward pass asks only for modules that the model has"),
        }
    }
}

/// Makes weights from stored tensors, for a base and its adapters.
#[derive(Debug)]
pub(crate) struct WeightStore<R> {
    pub base: Checkpoint,
    pub adapters: Vec<Adapter>,
    names: &'static Names,
    layers: Vec<OnceLock<Arc<LayerWeights<R>>>>,
    resident: bool,
    /// Where layers are not kept: the one that was made last, which gives its room to the next.
    passing: Passing<usize, LayerWeights<R>>,
    muted: BTreeSet<(ModelId, usize, Module)>,
}

impl<R: Number> WeightStore<R> {
    /// Checks that the checkpoint has every tensor of the model in the right shape, and no other.
    pub fn new(
        spec: &ModelSpec,
        names: &'static Names,
        base: Checkpoint,
        adapters: Vec<Adapter>,
        memory: usize,
    ) -> Result<Self> {
        check_tensors(spec, names, &base)?;
        let store = Self {
            base,
            adapters,
            names,
            layers: (0..spec.n_layers).map(|_| OnceLock::new()).collect(),
            resident: false,
            passing: Passing::default(),
            muted: BTreeSet::new(),
        };
        let resident = store.panel_bytes(spec) <= memory;
        Ok(Self { resident, ..store })
    }

    /// Bytes of all layers' panels, adapters included.
    pub fn panel_bytes(&self, spec: &ModelSpec) -> usize {
        let linears: usize =
            spec.modules().map(|m| spec.module_shape(m)).map(|(o, i)| o.div_ceil(PANEL) * PANEL * i).sum();
        let factors: usize = self.adapters.iter().map(|a| a.peft.report.parameters).sum();
        (spec.n_layers * linears + factors) * size_of::<R>()
    }

    /// Whether the packed weights stay in memory between sweeps.
    pub fn is_resident(&self) -> bool {
        self.resident
    }

    /// The weights of a layer.
    pub fn layer(&self, spec: &ModelSpec, layer: usize) -> Result<Arc<LayerWeights<R>>> {
        if let Some(ready) = self.layers[layer].get() {
            return Ok(ready.clone());
        }
        if self.resident {
            let made = Arc::new(R::make_layer(self, spec, layer, None)?);
            return Ok(self.layers[layer].get_or_init(|| made).clone());
        }
        self.passing.get_or_make(layer, |spent| R::make_layer(self, spec, layer, spent))
    }

    /// A layer that will be wanted next: where layers are made anew in every sweep, the system reads its weights from the disk
    /// while the one before is computed.
    pub fn expect(&self, spec: &ModelSpec, layer: usize) {
        if self.resident {
            return;
        }
        for source in spec.modules().filter_map(self.names.linear) {
            if let Some(weight) = self.base.find(&format!("{}.weight", source.path(layer))) {
                weight.expect_rows(0..weight.n_rows());
            }
        }
    }

    /// Switches these updates off, and all others on. No number is touched.
    pub fn mute(&mut self, muted: &BTreeSet<(ModelId, usize, Module)>) {
        self.muted.clone_from(muted);
        self.passing.forget();
        for (layer, ready) in self.layers.iter_mut().enumerate() {
            let Some(weights) = ready.get_mut() else { continue };
            // A layer that somebody still holds is made anew for whoever asks next.
            let Some(weights) = Arc::get_mut(weights) else {
                *ready = OnceLock::new();
                continue;
            };
            for (module, linear) in Module::ALL.into_iter().zip(&mut weights.linears) {
                if let Some(linear) = linear {
                    linear.muted = muted_at(muted, layer, module);
                }
            }
        }
    }

    /// Replaces one of the base's tensors, which belongs to a layer.
    pub fn replace_in_layer(&mut self, layer: usize, new: StoredTensor) {
        self.base.replace(new);
        self.layers[layer] = OnceLock::new();
        self.passing.forget();
    }

    /// Changes the factors of an adapter's module, and of those that share its update.
    pub fn set_factor(
        &mut self,
        spec: &ModelSpec,
        model: ModelId,
        layer: usize,
        module: Module,
        change: impl FnOnce(&mut lorascope_peft::LowRank),
    ) -> Result<()> {
        let i = model - 1;
        let Some(path) = self.adapters[i].change(layer, module, change) else { return Ok(()) };
        self.passing.forget();
        // A layer that somebody still holds is made anew for whoever asks next.
        let Some(ready) = self.layers[layer].get_mut() else { return Ok(()) };
        let Some(weights) = Arc::get_mut(ready) else {
            self.layers[layer] = OnceLock::new();
            return Ok(());
        };
        for sharer in spec.modules() {
            let Some((place, update)) = self.adapters[i].low_rank(layer, sharer) else { continue };
            if place.path != path {
                continue;
            }
            if let Some(linear) = &mut weights.linears[sharer.index()] {
                linear.low_rank[i] = Some(low_rank(update, place.outputs.clone(), linear.weight.of(model))?);
            }
        }
        Ok(())
    }

    /// What [`WeightStore::layer`] keeps, if possible in the room of a layer that is spent.
    pub fn make_layer(
        &self,
        spec: &ModelSpec,
        layer: usize,
        mut spent: Option<LayerWeights<R>>,
    ) -> Result<LayerWeights<R>> {
        let names = self.names;
        let norm = |pattern: &str| self.norm(spec, &in_layer(pattern, layer));
        let pair = |patterns: Option<(&str, &str)>| -> Result<Option<_>> {
            patterns.map(|(a, b)| Ok((norm(a)?, norm(b)?))).transpose()
        };
        let mut linears = [const { None }; 7];
        for module in spec.modules() {
            let Some(source) = (names.linear)(module) else { continue };
            let spent = spent.as_mut().and_then(|layer| layer.linears[module.index()].take());
            linears[module.index()] = Some(self.linear(spec, layer, module, source, spent)?);
        }
        Ok(LayerWeights {
            norm_1: norm(names.norm_1)?,
            norm_2: norm(names.norm_2)?,
            post_norms: pair(names.post_norms)?,
            qk_norms: pair(names.qk_norms)?,
            linears,
        })
    }

    /// A norm by module path.
    pub fn norm(&self, spec: &ModelSpec, path: &str) -> Result<PerModel<NormWeights<R>>> {
        let (name, bias_name) = (format!("{path}.weight"), format!("{path}.bias"));
        let make = |weight: &StoredTensor, bias: Option<&StoredTensor>| -> Result<NormWeights<R>> {
            let offset = match spec.norm {
                NormKind::Rms { unit_offset: true, .. } => R::ONE,
                _ => R::ZERO,
            };
            let weight = vector::<R>(weight)?.into_iter().map(|w| offset + w).collect();
            Ok(NormWeights { weight, bias: bias.map(vector).transpose()?.unwrap_or_default() })
        };
        let (weight, bias) = (self.base.tensor(&name)?, self.base.find(&bias_name));
        let replaced = self.adapters.iter().map(|a| {
            let (own_weight, own_bias) = (a.replaced_weight(path), a.replaced_bias(path));
            if own_weight.is_none() && own_bias.is_none() {
                return Ok(None);
            }
            make(own_weight.unwrap_or(weight), own_bias.or(bias)).map(Some)
        });
        Ok(PerModel { base: make(weight, bias)?, replaced: replaced.collect::<Result<_>>()? })
    }

    fn linear(
        &self,
        spec: &ModelSpec,
        layer: usize,
        module: Module,
        source: LinearSource,
        spent: Option<LinearWeights<R>>,
    ) -> Result<LinearWeights<R>> {
        let path = source.path(layer);
        let (n_out, n_in) = spec.module_shape(module);
        let outputs = source.part.outputs(n_out);
        let matrix =
            |stored: &StoredTensor, spent| R::pack(stored, source.transposed, outputs.clone(), n_in, spent);
        let weight = self.base.tensor(&format!("{path}.weight"))?;
        let bias = self.base.find(&format!("{path}.bias"));
        let part = |stored: &StoredTensor| Ok(vector::<R>(stored)?[outputs.clone()].to_vec());
        let weight = PerModel {
            base: matrix(weight, spent.map(|linear| linear.weight.base))?,
            replaced: self
                .adapters
                .iter()
                .map(|a| a.replaced_weight(&path).map(|own| matrix(own, None)).transpose())
                .collect::<Result<_>>()?,
        };
        let own_bias = |a: &Adapter| a.replaced_bias(&path).map(|b| part(b).map(Some)).transpose();
        let bias = PerModel {
            base: bias.map(part).transpose()?,
            replaced: self.adapters.iter().map(own_bias).collect::<Result<_>>()?,
        };
        let low_rank = self.adapters.iter().enumerate().map(|(i, a)| {
            a.low_rank(layer, module)
                .map(|(place, update)| low_rank(update, place.outputs.clone(), weight.of(i + 1)))
                .transpose()
        });
        let (low_rank, muted) = (low_rank.collect::<Result<_>>()?, muted_at(&self.muted, layer, module));
        Ok(LinearWeights { low_rank, muted, weight, bias })
    }
}

/// Adapters (model − 1) that are muted at a module of a layer.
fn muted_at(muted: &BTreeSet<(ModelId, usize, Module)>, layer: usize, module: Module) -> Vec<usize> {
    muted.iter().filter(|m| (m.1, m.2) == (layer, module)).map(|m| m.0 - 1).collect()
}

/// Packs the factors of one module, and the gain of DoRA.
fn low_rank<R: Number>(
    update: &lorascope_peft::LowRank,
    outputs: std::ops::Range<usize>,
    weight: &Packed<R>,
) -> Result<LowRankWeights<R>> {
    let rank = update.rank;
    let a = R::pack(&update.a, false, 0..rank, update.a.n_cols(), None)?;
    let b = R::pack(&update.b, false, outputs.clone(), rank, None)?;
    let part = |stored: &StoredTensor| Ok::<_, Error>(vector::<R>(stored)?[outputs.clone()].to_vec());
    let scale = R::from_f64(update.scale);
    let bias = update.bias.as_ref().map(part).transpose()?;
    let bias = bias.map(|b: Vec<R>| b.into_iter().map(|v| scale * v).collect());
    let magnitude = update.magnitude.as_ref().map(part).transpose()?;
    let gain = magnitude.map(|m: Vec<R>| {
        let norms = updated_row_norms(weight, &a, &b, update.scale);
        m.into_iter().zip(norms).map(|(m, n)| R::from_f64(m.to_f64() / n)).collect()
    });
    Ok(LowRankWeights { a, b, scale, bias, gain })
}

/// ‖row o of W + s·B·A‖ for every output o, in f64.
fn updated_row_norms<R: Number>(w: &Packed<R>, a: &Packed<R>, b: &Packed<R>, scale: f64) -> Vec<f64> {
    let (n_out, n_in, rank) = (w.n_out(), w.n_in(), a.n_out());
    // Row o of B·A is (row o of B) times Aᵀ packed the other way round.
    let at: Vec<R> = (0..rank * n_in).map(|i| a.at(i / n_in, i % n_in)).collect();
    let at = Packed::from_input_rows(MatRef::new(&at, rank, n_in));
    let bs: Vec<R> = (0..n_out * rank).map(|i| b.at(i / rank, i % rank)).collect();
    let mut delta = crate::mat::Mat::zeros(n_out, n_in);
    matmul(delta.view_mut(), MatRef::new(&bs, n_out, rank), &at, Write::Set);
    let row_norm = |o: usize| {
        let squares = delta.row(o).iter().enumerate().map(|(i, d)| w.at(o, i).to_f64() + scale * d.to_f64());
        squares.map(|v| v * v).sum::<f64>().sqrt()
    };
    (0..n_out).map(row_norm).collect()
}

/// Packs outputs `outputs` of a stored matrix, if possible into the room of one that is spent; called as `R::pack`.
pub(crate) fn pack<R: Number>(
    stored: &StoredTensor,
    transposed: bool,
    outputs: std::ops::Range<usize>,
    n_in: usize,
    spent: Option<Packed<R>>,
) -> Result<Packed<R>> {
    let packed = if transposed {
        let (all, stride) = (vector::<R>(stored)?, stored.n_cols());
        let columns = MatRef::strided(&all[outputs.start..], n_in, outputs.len(), stride);
        Packed::from_input_rows(columns)
    } else {
        Packed::from_stored(outputs.len(), n_in, spent, |rows, out: &mut [R]| {
            let first = outputs.start + rows.start;
            widen(stored, first..first + rows.len(), out)
        })?
    };
    // The panels stand in for the file's pages, which would otherwise count as memory of this process.
    stored.release_pages();
    Ok(packed.on_device())
}

/// Rows of a stored matrix as numbers of the engine; an error where one is not finite.
pub(crate) fn widen<R: Number>(
    stored: &StoredTensor,
    rows: std::ops::Range<usize>,
    out: &mut [R],
) -> Result<()> {
    let mut wide = vec![0.0f32; out.len()];
    stored.widen_rows(rows.clone(), &mut wide)?;
    if !all_finite(&wide) {
        let at = wide.iter().position(|v| !v.is_finite()).unwrap_or(0);
        let index = rows.start * stored.n_cols() + at;
        return Err(Error::NonFiniteWeight { name: stored.name().to_owned(), index });
    }
    out.iter_mut().zip(&wide).for_each(|(o, &v)| *o = R::from_f32(v));
    Ok(())
}

/// A whole stored tensor as numbers of the engine.
pub(crate) fn vector<R: Number>(stored: &StoredTensor) -> Result<Vec<R>> {
    let mut out = vec![R::ZERO; stored.n_rows() * stored.n_cols()];
    widen(stored, 0..stored.n_rows(), &mut out)?;
    Ok(out)
}

/// Holds the checkpoint against what the family says it must contain.
fn check_tensors(spec: &ModelSpec, names: &Names, base: &Checkpoint) -> Result<()> {
    let mut expected: Vec<(String, Vec<usize>, bool)> = Vec::new();
    let d = spec.d_model;
    let has_bias = matches!(spec.norm, NormKind::Layer { .. });
    expected.push((format!("{}.weight", names.embed), vec![spec.d_vocab, d], true));
    if let Some(positions) = names.positions {
        expected.push((format!("{positions}.weight"), vec![spec.n_ctx, d], true));
    }
    let mut norm = |path: String, width: usize| {
        expected.push((format!("{path}.weight"), vec![width], true));
        if has_bias {
            expected.push((format!("{path}.bias"), vec![width], true));
        }
    };
    norm(names.final_norm.to_owned(), d);
    for l in 0..spec.n_layers {
        norm(in_layer(names.norm_1, l), d);
        norm(in_layer(names.norm_2, l), d);
        if let Some((a, b)) = names.post_norms {
            norm(in_layer(a, l), d);
            norm(in_layer(b, l), d);
        }
        if let Some((q, k)) = names.qk_norms {
            norm(in_layer(q, l), spec.d_head);
            norm(in_layer(k, l), spec.d_head);
        }
    }
    for l in 0..spec.n_layers {
        for module in spec.modules() {
            let Some(source) = (names.linear)(module) else { continue };
            let (n_out, n_in) = spec.module_shape(module);
            let stored_out = source.part.stored_outputs(n_out);
            let shape = if source.transposed { vec![n_in, stored_out] } else { vec![stored_out, n_in] };
            let path = source.path(l);
            expected.push((format!("{path}.weight"), shape, true));
            if spec.has_bias(module) {
                expected.push((format!("{path}.bias"), vec![stored_out], true));
            }
        }
    }
    // A tied model's file may repeat the embedding under the head's name.
    expected.push((format!("{}.weight", names.unembed), vec![spec.d_vocab, d], !spec.tied_embeddings));
    for (name, shape, required) in &expected {
        let tensor = if *required { Some(base.tensor(name)?) } else { base.find(name) };
        if let Some(tensor) = tensor
            && tensor.shape() != shape
        {
            let (name, found) = (name.clone(), tensor.shape().to_vec());
            return Err(Error::TensorShape { name, found, expected: shape.clone() });
        }
    }
    let known: std::collections::HashSet<&str> = expected.iter().map(|(n, ..)| n.as_str()).collect();
    let ignored = |n: &str| names.ignored.iter().any(|suffix| n.ends_with(suffix));
    let surplus = base.names().filter(|n| !known.contains(n) && !ignored(n));
    let names: Vec<String> = surplus.take(5).map(str::to_owned).collect();
    if names.is_empty() { Ok(()) } else { Err(Error::SurplusTensors { family: spec.family, names }) }
}
