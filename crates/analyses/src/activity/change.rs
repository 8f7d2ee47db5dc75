//! A weight that an adapter changes, from whatever it has to say about it, to norms and sums.
//!
//! `ΔW = g ⊙ (W* + s·B·A) − W` with the base's W; W* is the adapter's own weight where it replaces the base's, else W; g is
//! 1, or with DoRA magnitude / ‖row of W* + s·B·A‖. Read and summed a few rows at a time.

use super::bf16::Sums;
use super::{ChangeKind, ChangedWeight};
use crate::error::Result;
use lorascope_checkpoint::StoredTensor;
use lorascope_engine::{Model, Module, Update};
use lorascope_kernels::{MatMut, MatRef, Packed, Write, matmul};
use lorascope_peft::EmbeddingLowRank;
use std::ops::Range;

/// Numbers of a weight that are looked at together: few enough for the caches, and for reading them on one thread.
const BLOCK: usize = 1 << 16;

/// Something that an adapter's file changes.
pub(crate) enum Place<'a> {
    /// A linear map of a layer, by factors, with or without a weight of its own below them.
    Linear(usize, Module, Update<'a>),
    /// The bias of B of such a map.
    LowRankBias(usize, Module, Update<'a>, &'a StoredTensor),
    /// An embedding, by factors.
    Embedding(&'a str, &'a EmbeddingLowRank),
    /// A weight as a whole.
    Weight(&'a str, &'a StoredTensor),
    /// A bias as a whole.
    Bias(&'a str, &'a StoredTensor),
}

/// What was found out about one place.
pub(crate) struct Measured {
    pub weight: ChangedWeight,
    pub(super) sums: Sums,
    /// Why nothing changes there, where nothing does.
    pub(super) inert: Option<&'static str>,
}

/// All places that an adapter changes: the layers' maps in order, then everything else by path.
pub(crate) fn places(adapter: &lorascope_engine::Adapter) -> Vec<Place<'_>> {
    let mut places = Vec::new();
    for (layer, module) in adapter.adapted() {
        let Some(update) = adapter.update(layer, module) else { continue };
        places.push(Place::Linear(layer, module, update.clone()));
        if let Some(bias) = &update.factors.bias {
            places.push(Place::LowRankBias(layer, module, update, bias));
        }
    }
    let peft = &adapter.peft;
    places.extend(peft.embeddings.iter().map(|(path, update)| Place::Embedding(path, update)));
    let whole = |path: &&String| !peft.low_rank.contains_key(*path) && !peft.embeddings.contains_key(*path);
    let weights = peft.replaced_weights.keys().filter(whole);
    places.extend(weights.map(|path| Place::Weight(path, &peft.replaced_weights[path])));
    places.extend(peft.replaced_biases.iter().map(|(path, bias)| Place::Bias(path, bias)));
    places
}

/// How the low-rank update of a map changes it.
pub(crate) fn kind_of(adapter: &lorascope_engine::Adapter, update: &Update) -> ChangeKind {
    match (adapter.peft.replaced_weights.get(update.path), &update.factors.magnitude) {
        (_, Some(_)) => ChangeKind::Dora,
        (Some(_), None) => ChangeKind::ReplacedWithLowRank,
        (None, None) => ChangeKind::LowRank,
    }
}

/// Measures one place.
pub(crate) fn measure(
    model: &Model<f32>,
    adapter: &lorascope_engine::Adapter,
    place: &Place,
) -> Result<Measured> {
    let own = |path: &str| adapter.peft.replaced_weights.get(path);
    match place {
        Place::Linear(layer, module, update) => {
            let f = update.factors;
            let (outputs, transposed) = (update.outputs.clone(), update.transposed);
            let part = |stored: &StoredTensor| -> Result<Vec<f32>> {
                Ok(Model::<f32>::widened(stored)?[outputs.clone()].to_vec())
            };
            let kind = kind_of(adapter, update);
            let b = Model::<f32>::widened(&f.b)?[outputs.start * f.rank..outputs.end * f.rank].to_vec();
            let a = Model::<f32>::widened(&f.a)?;
            let rows = |stored| Rows::of(stored, outputs.clone(), transposed);
            let change = Change {
                weight: rows(model.base_weight(update.path)?)?,
                own: own(update.path).map(rows).transpose()?,
                product: Some(Product::new(b, &a, f.rank, f.scale)),
                magnitude: f.magnitude.as_ref().map(part).transpose()?,
                n_rows: outputs.len(),
                n_cols: a.len() / f.rank,
            };
            change.measure(Some(*layer), module.name().to_owned(), kind)
        }
        Place::LowRankBias(layer, module, update, bias) => {
            let base = base_bias(model, update.path)?;
            let bias = Model::<f32>::widened(bias)?[update.outputs.clone()].to_vec();
            let base = base.map_or_else(|| vec![0.0; bias.len()], |b| b[update.outputs.clone()].to_vec());
            let mut change = Change::of_vector(base, None);
            change.product = Some(Product::new(vec![1.0], &bias, 1, update.factors.scale));
            change.measure(Some(*layer), format!("{}.bias", module.name()), ChangeKind::Bias)
        }
        Place::Embedding(path, update) => {
            let (a, b) = (Model::<f32>::widened(&update.a)?, Model::<f32>::widened(&update.b)?);
            let (n_rows, n_cols) = (a.len() / update.rank, b.len() / update.rank);
            // The change is a row per token, so the factors trade places: Aᵀ [V, rank] times Bᵀ [rank, d].
            let left = transpose(&a, update.rank, n_rows);
            let right = transpose(&b, n_cols, update.rank);
            let rows = |stored| Rows::of(stored, 0..n_rows, false);
            let change = Change {
                weight: rows(model.base_weight(path)?)?,
                own: own(path).map(rows).transpose()?,
                product: Some(Product::new(left, &right, update.rank, update.scale)),
                magnitude: None,
                n_rows,
                n_cols,
            };
            change.measure(None, (*path).to_owned(), ChangeKind::Embedding)
        }
        Place::Weight(path, own) => {
            let (n_rows, n_cols) = (own.n_rows(), own.n_cols());
            let rows = |stored| Rows::of(stored, 0..n_rows, false);
            let (weight, own) = (rows(model.base_weight(path)?)?, Some(rows(own)?));
            let change = Change { weight, own, product: None, magnitude: None, n_rows, n_cols };
            change.measure(None, (*path).to_owned(), ChangeKind::Replaced)
        }
        Place::Bias(path, own) => {
            let own = Model::<f32>::widened(own)?;
            let base = base_bias(model, path)?.unwrap_or_else(|| vec![0.0; own.len()]);
            let change = Change::of_vector(base, Some(own));
            change.measure(None, format!("{path}.bias"), ChangeKind::Bias)
        }
    }
}

fn base_bias(model: &Model<f32>, path: &str) -> Result<Option<Vec<f32>>> {
    let bias = model.checkpoint().find(&format!("{path}.bias"));
    Ok(bias.map(Model::<f32>::widened).transpose()?)
}

fn transpose(m: &[f32], rows: usize, cols: usize) -> Vec<f32> {
    (0..rows * cols).map(|i| m[i % rows * cols + i / rows]).collect()
}

/// Rows of a matrix, one per output.
pub(crate) enum Rows<'a> {
    /// As they are stored, from some row on.
    Stored(&'a StoredTensor, usize),
    /// In memory: small, or stored the other way round.
    Dense(Vec<f32>),
}

impl<'a> Rows<'a> {
    /// The outputs of a stored matrix, which may lie the other way round.
    pub fn of(stored: &'a StoredTensor, outputs: Range<usize>, transposed: bool) -> Result<Self> {
        if !transposed {
            return Ok(Rows::Stored(stored, outputs.start));
        }
        let (all, stride) = (Model::<f32>::widened(stored)?, stored.n_cols());
        let row = |o: usize| all.iter().skip(o).step_by(stride).copied();
        Ok(Rows::Dense(outputs.flat_map(row).collect()))
    }

    /// Some of them, row by row.
    pub fn read(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        match self {
            Rows::Stored(stored, first) => {
                let rows = first + rows.start..first + rows.end;
                stored.widen_rows(rows, out).map_err(lorascope_engine::Error::from)?;
            }
            Rows::Dense(all) => {
                let first = rows.start * out.len() / rows.len().max(1);
                out.copy_from_slice(&all[first..first + out.len()]);
            }
        }
        Ok(())
    }
}

/// `scale · left · right`, never held as a whole.
struct Product {
    /// `[rows, rank]`.
    left: Vec<f32>,
    /// `[rank, cols]`, ready to be multiplied by.
    right: Packed<f32>,
    rank: usize,
    scale: f64,
    norm: f64,
    why_zero: Option<&'static str>,
}

impl Product {
    fn new(left: Vec<f32>, right: &[f32], rank: usize, scale: f64) -> Self {
        let norm = scale.abs() * product_norm(&left, right, rank);
        let zero = |m: &[f32]| m.iter().all(|&v| v == 0.0);
        let why_zero = match (scale == 0.0, zero(&left), zero(right)) {
            (true, ..) => Some("the scale is 0"),
            (_, true, true) => Some("both factors are 0"),
            (_, true, _) | (_, _, true) => Some("one factor is 0"),
            _ => None,
        };
        let right = Packed::from_input_rows(MatRef::new(right, rank, right.len() / rank));
        Self { left, right, rank, scale, norm, why_zero }
    }

    /// Some rows of `left · right`, without the scale.
    fn rows(&self, rows: Range<usize>, out: &mut [f32]) {
        let left =
            MatRef::new(&self.left[rows.start * self.rank..rows.end * self.rank], rows.len(), self.rank);
        matmul(MatMut::new(out, rows.len(), self.right.n_out()), left, &self.right, Write::Set);
    }
}

/// `‖L·R‖_F` from the factors alone: `‖LR‖² = tr((LᵀL)(RRᵀ))`; L is `[rows, rank]`, R `[rank, cols]`.
pub(super) fn product_norm(left: &[f32], right: &[f32], rank: usize) -> f64 {
    let cols = right.len() / rank;
    let mut gram = vec![0.0f64; rank * rank];
    for row in left.chunks_exact(rank) {
        for (i, &a) in row.iter().enumerate() {
            for (g, &b) in gram[i * rank..].iter_mut().zip(row) {
                *g += f64::from(a) * f64::from(b);
            }
        }
    }
    let row = |k: usize| &right[k * cols..(k + 1) * cols];
    let trace = (0..rank * rank).map(|ij| gram[ij] * lorascope_kernels::dot(row(ij / rank), row(ij % rank)));
    // Rounding can make the sum of a product that cancels a hair negative.
    trace.sum::<f64>().max(0.0).sqrt()
}

/// A change with everything that it is made of; see the module's description.
struct Change<'a> {
    weight: Rows<'a>,
    own: Option<Rows<'a>>,
    product: Option<Product>,
    magnitude: Option<Vec<f32>>,
    n_rows: usize,
    n_cols: usize,
}

impl Change<'_> {
    fn of_vector(weight: Vec<f32>, own: Option<Vec<f32>>) -> Self {
        let (n_rows, n_cols) = (1, weight.len());
        let own = own.map(Rows::Dense);
        Self { weight: Rows::Dense(weight), own, product: None, magnitude: None, n_rows, n_cols }
    }

    fn measure(&self, layer: Option<usize>, module: String, kind: ChangeKind) -> Result<Measured> {
        let sums = self.sums()?;
        let (delta_norm, weight_norm) = (sums.delta.sqrt(), sums.weight.sqrt());
        let product = self.product.as_ref();
        let weight = ChangedWeight {
            layer,
            module,
            kind,
            rank: product.filter(|_| kind != ChangeKind::Bias).map(|p| p.rank),
            scale: product.map(|p| p.scale),
            factor_norm: product.map(|p| p.norm),
            delta_norm,
            weight_norm,
            ratio: (weight_norm > 0.0).then_some(delta_norm / weight_norm),
            merge: sums.merge(),
        };
        let why = product.and_then(|p| p.why_zero).unwrap_or("what it puts in is equal to the base's");
        Ok(Measured { weight, sums, inert: (sums.delta == 0.0).then_some(why) })
    }

    fn sums(&self) -> Result<Sums> {
        let mut sums = Sums::default();
        let (cols, each) = (self.n_cols, (BLOCK / self.n_cols.max(1)).max(1));
        let room = each.min(self.n_rows) * cols;
        let (mut weight, mut own, mut update) = (vec![0.0; room], vec![0.0; room], vec![0.0; room]);
        let mut delta = vec![0.0f64; cols];
        for first in (0..self.n_rows).step_by(each) {
            let rows = first..self.n_rows.min(first + each);
            let n = rows.len() * cols;
            self.weight.read(rows.clone(), &mut weight[..n])?;
            match &self.own {
                Some(rows_of_own) => rows_of_own.read(rows.clone(), &mut own[..n])?,
                None => own[..n].copy_from_slice(&weight[..n]),
            }
            if let Some(product) = &self.product {
                product.rows(rows.clone(), &mut update[..n]);
            }
            for (i, row) in rows.enumerate() {
                let span = i * cols..(i + 1) * cols;
                self.row_delta(
                    row,
                    &weight[span.clone()],
                    &own[span.clone()],
                    &update[span.clone()],
                    &mut delta,
                );
                sums.add_row(&weight[span], &delta);
            }
        }
        Ok(sums)
    }

    /// ΔW of one row, exactly as far as its parts are exact.
    fn row_delta(&self, row: usize, weight: &[f32], own: &[f32], update: &[f32], delta: &mut [f64]) {
        let scale = self.product.as_ref().map_or(0.0, |p| p.scale);
        for (((d, &w), &o), &u) in delta.iter_mut().zip(weight).zip(own).zip(update) {
            *d = (f64::from(o) - f64::from(w)) + scale * f64::from(u);
        }
        let Some(magnitude) = &self.magnitude else { return };
        let updated = |(d, &w): (&f64, &f32)| d + f64::from(w);
        let norm = delta.iter().zip(weight).map(updated).map(|v| v * v).sum::<f64>().sqrt();
        // The engine multiplies by the gain in f32; a gain of 1 + 1e-9 is exactly 1 there.
        let gain = f64::from((f64::from(magnitude[row]) / norm) as f32);
        for (d, &w) in delta.iter_mut().zip(weight) {
            *d = gain * *d + (gain - 1.0) * f64::from(w);
        }
    }
}
