//! Directions taken back through weights: everything that attribution to components needs to know of them.
//!
//! A direction u in the output of a linear map `y = W x + b` reads `u·y = (Wᵀu)·x + u·b`: taken back, it reads the map's input
//! directly, so what each head, each neuron contributes to `u·y` is a product of two short vectors, and no component's output
//! has to be computed. Rows are directions, each belonging to one model; what the base's weight makes of them and what the
//! model's adapter adds to that (a low-rank term, DoRA's gain, a weight of its own: whatever differs) come apart.
//!
//! A norm divides by a scale that depends on its whole input. Frozen at the value that it had in a run (the `hook_scale` points),
//! the norm is linear too, and [`Model::pull_back_norm`] gives the direction to be divided by that scale.
//!
//! All in f64, from the stored weights, widened a block of rows at a time. Sums run in one order, so that results do not depend
//! on the number of threads or on the other rows.

mod place;

use crate::adapter::{Adapter, Update};
use crate::batch::ModelId;
use crate::error::{Error, Result};
use crate::families::{LinearSource, in_layer};
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::model::Model;
use crate::module::Module;
use crate::number::Number;
use crate::spec::NormKind;
use crate::weights::widen;
use place::Place;

/// Directions taken back through a linear map, one row each.
#[derive(Clone, Debug, PartialEq)]
pub struct PulledBack {
    /// Through the base's weight: `Wᵀu`, `[rows, inputs]`.
    pub base: Mat<f64>,
    /// Through what the row's model has and the base has not: `(W_model − W)ᵀu`, `[rows, inputs]`; zero without an update.
    pub adapter: Mat<f64>,
    /// `u·b` for the base's bias, one per row; zero where there is none.
    pub base_bias: Vec<f64>,
    /// `u·(b_model − b)`, the bias of a low-rank update included, one per row.
    pub adapter_bias: Vec<f64>,
}

/// Directions taken back through a norm, one row each.
#[derive(Clone, Debug, PartialEq)]
pub struct ThroughNorm {
    /// `u·norm(x) = (direction·x) / scale + bias`, scale being what the norm divided by: `[rows, width]`. For LayerNorm
    /// the direction is centred, which does what centring x does.
    pub directions: Mat<f64>,
    /// `u·b` for the base's bias (LayerNorm), one per row.
    pub base_bias: Vec<f64>,
    /// `u·(b_model − b)`, one per row.
    pub adapter_bias: Vec<f64>,
}

/// The embedding of a token or position, as it enters the residual stream, in two parts of width d.
#[derive(Clone, Debug, PartialEq)]
pub struct EmbeddingShares {
    /// What the base has there.
    pub base: Vec<f64>,
    /// What the model adds to it; zero unless an adapter changes embeddings.
    pub adapter: Vec<f64>,
}

impl<R: Number> Model<R> {
    /// Takes directions in the output of a module (`[rows, outputs]`, before any norm that follows) back to its input.
    /// `models` names the model of each row. The base's weight is read once for all rows.
    ///
    /// # Errors
    /// A layer, module or model that does not exist, a wrong width or number of models, weights that can't be read or are
    /// not finite.
    pub fn pull_back(
        &self,
        layer: usize,
        module: Module,
        models: &[ModelId],
        directions: &Mat<f64>,
    ) -> Result<PulledBack> {
        let (n_out, n_in) = self.spec().module_shape(module);
        let source = self.source(layer, module)?;
        self.check_directions(models, directions, n_out)?;
        let path = source.path(layer);
        let place = Place { transposed: source.transposed, outputs: source.part.outputs(n_out), n_in };
        let weight = self.stored_weight(&path)?;
        let base = place.through(weight, directions)?;
        let mut pulled = PulledBack {
            adapter: Mat::zeros(directions.rows, n_in),
            base_bias: self.bias_shares(&path, &place, directions)?,
            adapter_bias: vec![0.0; directions.rows],
            base,
        };
        for (i, adapter) in self.adapters().iter().enumerate() {
            let rows: Vec<usize> = (0..models.len()).filter(|&r| models[r] == i + 1).collect();
            if rows.is_empty() {
                continue;
            }
            let (own, base) = (directions.gather(&rows), pulled.base.gather(&rows));
            let added = self.through_adapter(layer, module, adapter, i + 1, &place, &own, &base)?;
            let update = self.standing_update(i + 1, layer, module);
            let bias = adapter_bias_shares(adapter, update, &path, &place, &own)?;
            let replaced = adapter.replaced_bias(&path).is_some();
            for (at, &row) in rows.iter().enumerate() {
                if let Some(added) = &added {
                    pulled.adapter.row_mut(row).copy_from_slice(added.row(at));
                }
                pulled.adapter_bias[row] = bias[at] - if replaced { pulled.base_bias[row] } else { 0.0 };
            }
        }
        Ok(pulled)
    }

    /// Takes directions in the output of a norm back to its input, but for the division by its scale. The norm is named by the
    /// hook point of its scale. Rows and models as in [`Model::pull_back`].
    ///
    /// # Errors
    /// As [`Model::pull_back`]; a hook point that is no norm's scale, or of a norm that the model does not have.
    pub fn pull_back_norm(
        &self,
        scale: HookPoint,
        models: &[ModelId],
        directions: &Mat<f64>,
    ) -> Result<ThroughNorm> {
        let spec = self.spec();
        self.check_directions(models, directions, spec.d_model)?;
        let norm = self.weights().norm(spec, &self.norm_path(scale)?)?;
        let mut through = ThroughNorm {
            directions: Mat::zeros(directions.rows, directions.cols),
            base_bias: Vec::with_capacity(directions.rows),
            adapter_bias: Vec::with_capacity(directions.rows),
        };
        for (row, &model) in models.iter().enumerate() {
            let (u, own, base) = (directions.row(row), norm.of(model), norm.of(0));
            let out = through.directions.row_mut(row);
            for ((o, u), g) in out.iter_mut().zip(u).zip(&own.weight) {
                *o = u * g.to_f64();
            }
            if let NormKind::Layer { .. } = spec.norm {
                let mean = out.iter().sum::<f64>() / out.len() as f64;
                out.iter_mut().for_each(|o| *o -= mean);
            }
            let share = |bias: &[R]| bias.iter().zip(u).map(|(b, u)| b.to_f64() * u).sum::<f64>();
            let base_share = share(&base.bias);
            through.base_bias.push(base_share);
            through.adapter_bias.push(share(&own.bias) - base_share);
        }
        Ok(through)
    }

    /// What the logit of `token_b` minus that of `token_a`, before any soft cap, reads of the final residual stream: with σ
    /// the final norm's scale, `u_b − u_a = (direction·resid) / σ + bias`. One row for each `(model, token_a, token_b)`.
    ///
    /// # Errors
    /// A model or token that does not exist, weights that can't be read or are not finite.
    pub fn readout_directions(&self, asked: &[(ModelId, u32, u32)]) -> Result<ThroughNorm> {
        let spec = self.spec();
        let models: Vec<ModelId> = asked.iter().map(|a| a.0).collect();
        let mut directions = Mat::zeros(asked.len(), spec.d_model);
        self.check_directions(&models, &directions, spec.d_model)?;
        let mut of_a = vec![0.0f64; spec.d_model];
        for (row, &(model, token_a, token_b)) in asked.iter().enumerate() {
            let table = self.output_table(model);
            let one = |token: u32, out: &mut [f64]| {
                self.check_token(token)?;
                widen(table, token as usize..token as usize + 1, out)
            };
            one(token_a, &mut of_a)?;
            one(token_b, directions.row_mut(row))?;
            directions.row_mut(row).iter_mut().zip(&of_a).for_each(|(b, a)| *b -= a);
        }
        self.pull_back_norm(HookPoint::FinalScale, &models, &directions)
    }

    /// What vectors add to every logit before the soft cap where they are added to the final residual stream and the final
    /// norm's scale is frozen: `[rows, V]`. Rows are vectors divided by that scale already; a bias of the norm is no part of it.
    ///
    /// # Errors
    /// A model that does not exist, rows of another width, weights that can't be read or are not finite.
    pub fn logit_changes(&self, model: ModelId, scaled: &Mat<R>) -> Result<Mat<R>> {
        self.check_models(&[model])?;
        if scaled.cols != self.spec().d_model {
            return bad(format!(
                "they have {} values, but the width is {}",
                scaled.cols,
                self.spec().d_model
            ));
        }
        let own = self.final_norm_weights().of(model);
        let mut normalized = scaled.clone();
        normalized.for_rows(|_, row| {
            if let NormKind::Layer { .. } = self.spec().norm {
                let mean = row.iter().map(|v| v.to_f64()).sum::<f64>() / row.len() as f64;
                row.iter_mut().for_each(|v| *v = R::from_f64(v.to_f64() - mean));
            }
            row.iter_mut().zip(&own.weight).for_each(|(v, &g)| *v *= g);
        });
        self.through_output(model, &normalized)
    }

    /// `hook_embed` of a token.
    ///
    /// # Errors
    /// A model or token that does not exist, weights that can't be read or are not finite.
    pub fn embedding_shares(&self, model: ModelId, token: u32) -> Result<EmbeddingShares> {
        self.check_models(&[model])?;
        self.check_token(token)?;
        self.shares_of(model, |model, values| self.embeddings().token(model, token, values))
    }

    /// `hook_pos_embed` of a position; all zero where positions are rotary.
    ///
    /// # Errors
    /// A model or position that does not exist, weights that can't be read or are not finite.
    pub fn position_shares(&self, model: ModelId, position: usize) -> Result<EmbeddingShares> {
        self.check_models(&[model])?;
        let n_ctx = self.spec().n_ctx;
        if position >= n_ctx {
            return bad(format!("position {position} is outside the context of {n_ctx} tokens"));
        }
        self.shares_of(model, |model, values| self.embeddings().position(model, position, values))
    }

    /// Whether any model adds a bias at a module: the base's, or one that an adapter brings.
    pub fn has_bias(&self, layer: usize, module: Module) -> bool {
        let brings = |a: &Adapter| a.update(layer, module).is_some_and(|u| u.factors.bias.is_some());
        self.spec().has_bias(module) || self.adapters().iter().any(brings)
    }

    fn shares_of(
        &self,
        model: ModelId,
        read: impl Fn(ModelId, &mut [R]) -> Result<()>,
    ) -> Result<EmbeddingShares> {
        let (mut base, mut own) = (vec![R::ZERO; self.spec().d_model], vec![R::ZERO; self.spec().d_model]);
        read(0, &mut base)?;
        read(model, &mut own)?;
        let adapter = own.iter().zip(&base).map(|(o, b)| o.to_f64() - b.to_f64()).collect();
        Ok(EmbeddingShares { base: base.iter().map(|b| b.to_f64()).collect(), adapter })
    }

    /// `(W_model − W)ᵀu` for directions of one adapter; `None` where it changes nothing here.
    #[allow(clippy::too_many_arguments, reason = "the place of a weight and the rows that go through it")]
    fn through_adapter(
        &self,
        layer: usize,
        module: Module,
        adapter: &Adapter,
        model: ModelId,
        place: &Place,
        directions: &Mat<f64>,
        base: &Mat<f64>,
    ) -> Result<Option<Mat<f64>>> {
        let path = self.source(layer, module)?.path(layer);
        let (update, replaced) = (self.standing_update(model, layer, module), adapter.replaced_weight(&path));
        if update.is_none() && replaced.is_none() {
            return Ok(None);
        }
        // The gains are those that the forward pass multiplies by.
        let gain: Option<Vec<f64>> = match &update {
            Some(u) if u.factors.magnitude.is_some() => {
                let layer_weights = self.weights().layer(self.spec(), layer)?;
                let low_rank = layer_weights.linear(module).low_rank(model);
                low_rank.and_then(|w| w.gain.as_ref()).map(|g| g.iter().map(|v| v.to_f64()).collect())
            }
            _ => None,
        };
        let scaled = |shift: f64| -> Mat<f64> {
            let mut out = directions.clone();
            if let Some(gain) = &gain {
                out.for_rows(|_, row| row.iter_mut().zip(gain).for_each(|(v, g)| *v *= g - shift));
            }
            out
        };
        let gained = scaled(0.0);
        let mut added = Mat::zeros(directions.rows, place.n_in);
        if let Some(own) = replaced {
            added.add(&place.through(own, &gained)?);
            added.for_rows(|i, row| row.iter_mut().zip(base.row(i)).for_each(|(v, b)| *v -= b));
        } else if gain.is_some() {
            // Wᵀ((g − 1) ⊙ u): nothing cancels.
            added.add(&place.through(self.stored_weight(&path)?, &scaled(1.0))?);
        }
        if let Some(update) = update {
            let rank = update.factors.rank;
            let up = Place { transposed: false, outputs: update.outputs, n_in: rank };
            let mut features = up.through(&update.factors.b, &gained)?;
            features.for_rows(|_, row| row.iter_mut().for_each(|v| *v *= update.factors.scale));
            let down = Place { transposed: false, outputs: 0..rank, n_in: place.n_in };
            added.add(&down.through(&update.factors.a, &features)?);
        }
        Ok(Some(added))
    }

    /// `u·bias` of the base.
    fn bias_shares(&self, path: &str, place: &Place, directions: &Mat<f64>) -> Result<Vec<f64>> {
        match self.checkpoint().find(&format!("{path}.bias")) {
            Some(bias) => place.through_bias(bias, directions),
            None => Ok(vec![0.0; directions.rows]),
        }
    }

    fn source(&self, layer: usize, module: Module) -> Result<LinearSource> {
        let spec = self.spec();
        if layer >= spec.n_layers {
            return bad(format!("layer {layer} of a model with {} layers", spec.n_layers));
        }
        let has = spec.modules().any(|m| m == module);
        match (self.tensor_names().linear)(module) {
            Some(source) if has => Ok(source),
            _ => bad(format!("a {} model has no {module}", spec.family)),
        }
    }

    /// Module path of the norm that a scale belongs to.
    pub(crate) fn norm_path(&self, scale: HookPoint) -> Result<String> {
        scale.width(self.spec())?;
        let names = self.tensor_names();
        let pattern = match scale {
            HookPoint::FinalScale => return Ok(names.final_norm.to_owned()),
            HookPoint::Layer(_, Site::Ln1Scale) => Some(names.norm_1),
            HookPoint::Layer(_, Site::Ln2Scale) => Some(names.norm_2),
            HookPoint::Layer(_, Site::Ln1PostScale) => names.post_norms.map(|n| n.0),
            HookPoint::Layer(_, Site::Ln2PostScale) => names.post_norms.map(|n| n.1),
            _ => None,
        };
        match (pattern, scale) {
            (Some(pattern), HookPoint::Layer(layer, _)) => Ok(in_layer(pattern, layer)),
            _ => bad(format!("`{scale}` is not the scale of a norm over the residual stream")),
        }
    }

    pub(crate) fn check_models(&self, models: &[ModelId]) -> Result<()> {
        let n_models = self.n_models();
        match models.iter().find(|&&m| m >= n_models) {
            Some(&model) => Err(Error::NoSuchModel { model, n_models }),
            None => Ok(()),
        }
    }

    fn check_token(&self, token: u32) -> Result<()> {
        let d_vocab = self.spec().d_vocab;
        if token as usize >= d_vocab {
            return bad(format!("token {token} is outside the vocabulary of {d_vocab} tokens"));
        }
        Ok(())
    }

    fn check_directions(&self, models: &[ModelId], directions: &Mat<f64>, width: usize) -> Result<()> {
        self.check_models(models)?;
        if models.len() != directions.rows {
            return bad(format!("{} models for {} rows", models.len(), directions.rows));
        }
        if directions.cols != width {
            return bad(format!("they have {} values, but there are {width} outputs", directions.cols));
        }
        Ok(())
    }
}

fn bad<T>(why: String) -> Result<T> {
    Err(Error::BadDirections { why })
}

/// `u·bias` of what an adapter brings to a module: its own bias in place of the base's, and the scaled bias of B.
fn adapter_bias_shares(
    adapter: &Adapter,
    update: Option<Update>,
    path: &str,
    place: &Place,
    directions: &Mat<f64>,
) -> Result<Vec<f64>> {
    let mut shares = match adapter.replaced_bias(path) {
        Some(bias) => place.through_bias(bias, directions)?,
        None => vec![0.0; directions.rows],
    };
    if let Some(update) = update
        && let Some(bias) = &update.factors.bias
    {
        let of_b = place.through_bias(bias, directions)?;
        shares.iter_mut().zip(of_b).for_each(|(s, b)| *s += update.factors.scale * b);
    }
    Ok(shares)
}
