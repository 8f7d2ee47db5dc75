//! Trainable arrays of a model: their names, their gradients, their values.

use super::attention::add_transposed_product;
use crate::adapter::Adapter;
use crate::batch::{Batch, ModelId};
use crate::error::{Error, Result};
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::model::Model;
use crate::module::Module;
use crate::number::Number;
use crate::spec::ModelSpec;
use lorascope_checkpoint::StoredTensor;
use lorascope_kernels::{MatMut, MatRef};
use std::collections::HashMap;
use std::fmt;
use std::ops::Range;

/// An array of a model that training may change.
///
/// Modules that share a matrix in the files (GPT-2's `c_attn`) share its update: each of them names the whole of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Parameter {
    /// Factor A of an adapter at a layer and module, `[rank, in]`.
    LoraA(usize, Module),
    /// Factor B, `[out, rank]`.
    LoraB(usize, Module),
    /// The base's own matrix, `[out, in]`; only where no other module shares it.
    Weight(usize, Module),
    /// The base's weight of a norm over the residual stream, named by the hook point of its scale, `[1, d_model]`; as stored, so
    /// without the offset of Gemma.
    Norm(HookPoint),
    /// The base's token embedding, `[V, d_model]`, as it enters the residual stream. Where it is the output matrix too, what the
    /// output contributes is the caller's to add ([`Model::log_probs_backward_to_output`]).
    Embedding,
}

impl Parameter {
    /// The place in the pass from which on its gradient is needed; `None` for the very beginning.
    pub(super) fn point(self) -> Option<HookPoint> {
        match self {
            Parameter::LoraA(layer, _) | Parameter::LoraB(layer, _) | Parameter::Weight(layer, _) => {
                Some(HookPoint::Layer(layer, Site::ResidPre))
            }
            Parameter::Norm(point) => Some(point),
            Parameter::Embedding => None,
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Parameter::LoraA(layer, module) => write!(f, "blocks.{layer}.{module}.lora_a"),
            Parameter::LoraB(layer, module) => write!(f, "blocks.{layer}.{module}.lora_b"),
            Parameter::Weight(layer, module) => write!(f, "blocks.{layer}.{module}.weight"),
            Parameter::Norm(point) => write!(f, "{point}'s norm"),
            Parameter::Embedding => write!(f, "embed"),
        }
    }
}

/// Where the gradient of a module's factors goes.
#[derive(Debug, Default)]
struct Factors {
    a: Option<usize>,
    b: Option<usize>,
    /// Rows of B that are the module's.
    outputs: Range<usize>,
}

/// Gradients of parameters while they are summed over rows.
#[derive(Debug)]
pub(super) struct Collected<R> {
    /// For each one that was asked for, the sum that it is.
    order: Vec<usize>,
    kinds: Vec<(ModelId, Parameter)>,
    /// Those of B are kept as `[rank, out]`.
    sums: Vec<Mat<R>>,
    factors: HashMap<(ModelId, usize, Module), Factors>,
    weights: HashMap<(usize, Module), usize>,
    norms: HashMap<HookPoint, usize>,
    embedding: Option<usize>,
}

impl<R: Number> Collected<R> {
    /// Checks that every parameter exists and can be trained.
    pub fn new(model: &Model<R>, wanted: &[(ModelId, Parameter)]) -> Result<Self> {
        let mut this = Self {
            order: Vec::new(),
            kinds: Vec::new(),
            sums: Vec::new(),
            factors: HashMap::new(),
            weights: HashMap::new(),
            norms: HashMap::new(),
            embedding: None,
        };
        for &(id, parameter) in wanted {
            let (rows, cols) = model.parameter_shape(id, parameter)?;
            let kind = (id, model.canonical(parameter));
            let at = this.kinds.iter().position(|k| *k == kind).unwrap_or(this.kinds.len());
            this.order.push(at);
            if at < this.kinds.len() {
                continue;
            }
            this.kinds.push(kind);
            let turned = matches!(parameter, Parameter::LoraB(..));
            this.sums.push(if turned { Mat::zeros(cols, rows) } else { Mat::zeros(rows, cols) });
            match kind.1 {
                Parameter::LoraA(layer, module) | Parameter::LoraB(layer, module) => {
                    for (sharer, outputs) in model.sharers(id, layer, module) {
                        let factors = this.factors.entry((id, layer, sharer)).or_default();
                        factors.outputs = outputs;
                        let place = if turned { &mut factors.b } else { &mut factors.a };
                        *place = Some(at);
                    }
                }
                Parameter::Weight(layer, module) => {
                    this.weights.insert((layer, module), at);
                }
                Parameter::Norm(point) => {
                    this.norms.insert(point, at);
                }
                Parameter::Embedding => this.embedding = Some(at),
            }
        }
        Ok(this)
    }

    /// Modules of a layer whose inputs are needed, by [`Module::index`].
    pub fn trained(&self, layer: usize) -> [bool; 7] {
        let mut trained = [false; 7];
        self.factors.keys().filter(|k| k.1 == layer).for_each(|k| trained[k.2.index()] = true);
        self.weights.keys().filter(|k| k.0 == layer).for_each(|k| trained[k.1.index()] = true);
        trained
    }

    /// `x` is the module's input, `of_features` the gradient of A·x.
    pub fn lora_a(
        &mut self,
        model: ModelId,
        layer: usize,
        module: Module,
        x: MatRef<R>,
        of_features: MatRef<R>,
    ) {
        if let Some(at) = self.factors.get(&(model, layer, module)).and_then(|f| f.a) {
            add_transposed_product(self.sums[at].view_mut(), of_features, x);
        }
    }

    /// `added` is the gradient of what B adds, `features` the scaled A·x.
    pub fn lora_b(
        &mut self,
        model: ModelId,
        layer: usize,
        module: Module,
        added: MatRef<R>,
        features: MatRef<R>,
    ) {
        let Some(factors) = self.factors.get(&(model, layer, module)) else { return };
        let (Some(at), outputs) = (factors.b, &factors.outputs) else { return };
        let sum = &mut self.sums[at];
        let (rank, stride) = (sum.rows, sum.cols);
        let part = MatMut::strided(&mut sum.data[outputs.start..], rank, outputs.len(), stride);
        add_transposed_product(part, features, added);
    }

    /// The base's matrix: `x` is the input, `dy` the gradient of the output. Models with an update use the base's matrix too.
    pub fn weight(&mut self, model: ModelId, layer: usize, module: Module, x: MatRef<R>, dy: MatRef<R>) {
        if let (Some(&at), 0) = (self.weights.get(&(layer, module)), model) {
            add_transposed_product(self.sums[at].view_mut(), dy, x);
        }
    }

    /// A norm's weight, from its input and the gradient of its output.
    #[allow(clippy::too_many_arguments, reason = "a norm, its rows, its input and its gradient")]
    pub fn norm(
        &mut self,
        point: HookPoint,
        batch: &Batch,
        first_row: usize,
        centred: bool,
        input: &Mat<R>,
        scales: &[R],
        dy: &Mat<R>,
    ) {
        let Some(&at) = self.norms.get(&point) else { return };
        for i in (0..input.rows).filter(|&i| batch.row(first_row + i).model == 0) {
            let x = input.row(i);
            let n = R::from_f64(x.len() as f64);
            let mean = if centred { x.iter().copied().sum::<R>() / n } else { R::ZERO };
            let sums = self.sums[at].data.iter_mut().zip(x).zip(dy.row(i));
            sums.for_each(|((s, &x), &d)| *s += d * (x - mean) / scales[i]);
        }
    }

    /// The token embedding, from the gradient of `hook_embed`.
    pub fn embedding(&mut self, batch: &Batch, spec: &ModelSpec, stream: &Mat<R>) {
        let Some(at) = self.embedding else { return };
        let scale = R::from_f64(spec.embed_scale);
        for row in (0..stream.rows).filter(|&row| batch.row(row).model == 0) {
            let sums = self.sums[at].row_mut(batch.row(row).token as usize).iter_mut();
            sums.zip(stream.row(row)).for_each(|(s, &g)| *s += scale * g);
        }
    }

    /// The gradients in the order in which they were asked for.
    pub fn finish(self) -> Vec<Mat<R>> {
        let whole = |at: &usize| match self.kinds[*at].1 {
            Parameter::LoraB(..) => transposed(&self.sums[*at]),
            _ => self.sums[*at].clone(),
        };
        self.order.iter().map(whole).collect()
    }
}

fn transposed<R: Number>(m: &Mat<R>) -> Mat<R> {
    let mut out = Mat::zeros(m.cols, m.rows);
    for i in 0..m.rows {
        m.row(i).iter().enumerate().for_each(|(j, &v)| out.data[j * m.rows + i] = v);
    }
    out
}

impl<R: Number> Model<R> {
    /// Shape of a parameter.
    ///
    /// # Errors
    /// A parameter that the model does not have, or that can't be trained.
    pub fn parameter_shape(&self, model: ModelId, parameter: Parameter) -> Result<(usize, usize)> {
        let stored = self.stored_parameter(model, parameter)?;
        Ok((stored.n_rows(), stored.n_cols()))
    }

    /// Name of a parameter's tensor in the files.
    ///
    /// # Errors
    /// As [`Model::parameter_shape`].
    pub fn parameter_name(&self, model: ModelId, parameter: Parameter) -> Result<&str> {
        Ok(self.stored_parameter(model, parameter)?.name())
    }

    /// All arrays of the base that can be trained: the embedding, each layer's norms and matrices, and the last norm. Norms of queries
    /// and keys and a separate output matrix are not among them.
    ///
    /// # Errors
    /// A matrix that the files store together with others.
    pub fn base_parameters(&self) -> Result<Vec<Parameter>> {
        let spec = self.spec();
        let norms = [Site::Ln1Scale, Site::Ln1PostScale, Site::Ln2Scale, Site::Ln2PostScale];
        let mut all = vec![Parameter::Embedding];
        for layer in 0..spec.n_layers {
            let points = norms.iter().map(|&site| HookPoint::Layer(layer, site));
            all.extend(points.filter(|p| p.width(spec).is_ok()).map(Parameter::Norm));
            all.extend(spec.modules().map(|module| Parameter::Weight(layer, module)));
        }
        all.push(Parameter::Norm(HookPoint::FinalScale));
        all.iter().try_for_each(|&p| self.parameter_shape(0, p).map(|_| ()))?;
        Ok(all)
    }

    /// The present value of a parameter.
    ///
    /// # Errors
    /// As [`Model::parameter_shape`]; values that can't be read or are not finite.
    pub fn parameter(&self, model: ModelId, parameter: Parameter) -> Result<Mat<R>> {
        let stored = self.stored_parameter(model, parameter)?;
        Ok(Mat { data: crate::weights::vector(stored)?, rows: stored.n_rows(), cols: stored.n_cols() })
    }

    /// Replaces the value of a parameter, rounded to f32; runs from now on use it.
    ///
    /// # Errors
    /// As [`Model::parameter_shape`]; another shape; values that are not finite.
    pub fn set_parameter(&mut self, model: ModelId, parameter: Parameter, value: &Mat<R>) -> Result<()> {
        let stored = self.stored_parameter(model, parameter)?;
        let (rows, cols) = (stored.n_rows(), stored.n_cols());
        let refuse = |why: String| Err(Error::Untrainable { parameter: parameter.to_string(), why });
        if (value.rows, value.cols) != (rows, cols) {
            return refuse(format!("a value of {} x {} for {rows} x {cols}", value.rows, value.cols));
        }
        let values: Vec<f32> = value.data.iter().map(|v| v.to_f32()).collect();
        if !lorascope_kernels::all_finite(&values) {
            return refuse("the value is not finite".to_owned());
        }
        let new = StoredTensor::from_f32(stored.name(), stored.shape(), values);
        match parameter {
            Parameter::LoraA(layer, module) => self.set_factor(model, layer, module, |f| f.a = new),
            Parameter::LoraB(layer, module) => self.set_factor(model, layer, module, |f| f.b = new),
            Parameter::Weight(layer, _) | Parameter::Norm(HookPoint::Layer(layer, _)) => {
                self.weights_mut().replace_in_layer(layer, new);
                Ok(())
            }
            Parameter::Norm(_) | Parameter::Embedding => self.replace_outside_layers(new),
        }
    }

    fn stored_parameter(&self, model: ModelId, parameter: Parameter) -> Result<&StoredTensor> {
        self.check_models(&[model])?;
        let refuse =
            |why: &str| Err(Error::Untrainable { parameter: parameter.to_string(), why: why.to_owned() });
        let spec = self.spec();
        let adapter = model.checked_sub(1).and_then(|i| self.adapters().get(i));
        if adapter.is_none() && matches!(parameter, Parameter::LoraA(..) | Parameter::LoraB(..)) {
            return refuse("the base has no adapter");
        }
        if adapter.is_some() && !matches!(parameter, Parameter::LoraA(..) | Parameter::LoraB(..)) {
            return refuse("only the base's own arrays can be trained so; name model 0");
        }
        match parameter {
            Parameter::LoraA(layer, module) | Parameter::LoraB(layer, module) => {
                let update = adapter.and_then(|a: &Adapter| a.low_rank(layer, module));
                let Some((_, factors)) = update else { return refuse("the adapter has no update there") };
                if self.standing().muted.contains(&(model, layer, module)) {
                    return refuse("the adapter's update there is muted");
                }
                if factors.magnitude.is_some() {
                    return refuse("the update is a DoRA, whose norms would have to be trained with it");
                }
                Ok(if matches!(parameter, Parameter::LoraA(..)) { &factors.a } else { &factors.b })
            }
            Parameter::Weight(layer, module) => {
                let source = (self.tensor_names().linear)(module).filter(|_| layer < spec.n_layers);
                let Some(source) = source else { return refuse("the model has no such module") };
                let stored = self.stored_weight(&source.path(layer))?;
                let (n_out, n_in) = spec.module_shape(module);
                if source.transposed || (stored.n_rows(), stored.n_cols()) != (n_out, n_in) {
                    return refuse("the files store it together with others");
                }
                Ok(stored)
            }
            Parameter::Norm(point) => self.stored_weight(&self.norm_path(point)?),
            Parameter::Embedding => Ok(self.embeddings().table(0)),
        }
    }

    /// The same parameter by the first module that shares its matrix.
    fn canonical(&self, parameter: Parameter) -> Parameter {
        let first = |layer: usize, module: Module| {
            let path = |m: Module| (self.tensor_names().linear)(m).map(|source| source.path(layer));
            self.spec().modules().find(|&m| path(m) == path(module)).unwrap_or(module)
        };
        match parameter {
            Parameter::LoraA(layer, module) => Parameter::LoraA(layer, first(layer, module)),
            Parameter::LoraB(layer, module) => Parameter::LoraB(layer, first(layer, module)),
            other => other,
        }
    }

    /// Modules that share an update, with the rows of B that are theirs.
    fn sharers(&self, model: ModelId, layer: usize, module: Module) -> Vec<(Module, Range<usize>)> {
        let adapter = model.checked_sub(1).and_then(|i| self.adapters().get(i));
        let place = |m: Module| adapter.and_then(|a| a.low_rank(layer, m)).map(|(source, _)| source);
        let Some(own) = place(module) else { return Vec::new() };
        let modules = self.spec().modules();
        modules
            .filter_map(|m| Some((m, place(m)?)))
            .filter(|(_, source)| source.path == own.path)
            .map(|(m, source)| (m, source.outputs.clone()))
            .collect()
    }
}
