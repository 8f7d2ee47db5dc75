//! How large changes are: norms, spectra, and heads' slices.

use super::variants::{Block, Change, Variant};
use crate::activity::change::{Place, kind_of, measure, places};
use crate::activity::{ChangeKind, ChangedWeight};
use crate::error::Result;
use crate::low_rank::LowRankSvd;
use crate::subject::Subject;
use lorascope_engine::{Model, ModelSpec, Module};
use lorascope_record::{Table, row};

/// A row of the table of weights, but for what needs all others.
pub(super) struct Size {
    pub model: usize,
    pub weight: ChangedWeight,
    /// Spectral numbers; `None` without factors of a linear map.
    pub spectral: Option<Spectral>,
}

/// What the singular values of a low-rank part say.
pub(super) struct Spectral {
    rank: usize,
    parameters: usize,
    numerical_rank: usize,
    factor_norm: f64,
    largest: f64,
    stable_rank: Option<f64>,
    effective_rank: Option<f64>,
}

impl Spectral {
    fn new(change: &Change, n_out: usize, n_in: usize) -> Self {
        let svd = &change.svd;
        let rank = change.update.factors.rank;
        Self {
            rank,
            parameters: rank * (n_out + n_in),
            numerical_rank: if svd.square() > 0.0 { svd.rank() } else { 0 },
            factor_norm: svd.square().sqrt(),
            largest: svd.values.first().copied().unwrap_or(0.0),
            stable_rank: svd.stable_rank(),
            effective_rank: svd.effective_rank(),
        }
    }
}

/// Sizes of one block in every adapter, and the rows of spectra and heads.
pub(super) fn of_block(
    model: &Model<f32>,
    variants: &[Variant],
    block: &Block,
    spectra: &mut Table,
    heads: &mut Table,
) -> Result<Vec<Size>> {
    let (of_rows, of_cols) = block.weight_squares(model)?;
    let weight_norm = of_rows.iter().sum::<f64>().sqrt();
    let mut sizes = Vec::new();
    for change in block.changes.iter().filter(|c| variants[c.variant].control.is_none()) {
        let variant = &variants[change.variant];
        let (adapter, name) = (&*variant.adapter, model.name(variant.model));
        let spectral = Spectral::new(change, block.n_out, block.n_in);
        let kind = kind_of(adapter, &change.update);
        let weight = if kind == ChangeKind::LowRank {
            let delta_norm = spectral.factor_norm;
            ChangedWeight {
                layer: Some(block.layer),
                module: block.module.name().to_owned(),
                kind,
                rank: Some(spectral.rank),
                scale: Some(change.update.factors.scale),
                factor_norm: Some(delta_norm),
                delta_norm,
                weight_norm,
                ratio: (weight_norm > 0.0).then_some(delta_norm / weight_norm),
                merge: None,
            }
        } else {
            // The whole change is not low-rank: it is summed weight by weight.
            let place = Place::Linear(block.layer, block.module, change.update.clone());
            measure(model, adapter, &place)?.weight
        };
        sizes.push(Size { model: variant.model, weight, spectral: Some(spectral) });
        let shares = change.svd.shares();
        for (component, value) in change.svd.values.iter().enumerate() {
            let share = shares.get(component).copied();
            spectra.push(&row![name, block.layer, block.module.name(), component, *value, share])?;
        }
        for head in slices(model.spec(), block.module, &change.svd, &of_rows, &of_cols) {
            heads.push(&row![
                name,
                block.layer,
                block.module.name(),
                head.index,
                head.n,
                head.norm,
                head.weight_norm,
                (head.weight_norm > 0.0).then_some(head.norm / head.weight_norm),
                head.share
            ])?;
        }
    }
    Ok(sizes)
}

/// Everything else that an adapter changes: biases, and weights outside the linear maps of layers.
pub(super) fn elsewhere(subject: &Subject) -> Result<Vec<Size>> {
    let mut sizes = Vec::new();
    for (i, adapter) in subject.model.adapters().iter().enumerate() {
        for place in places(adapter) {
            if !matches!(place, Place::Linear(..)) {
                let weight = measure(&subject.model, adapter, &place)?.weight;
                sizes.push(Size { model: i + 1, weight, spectral: None });
            }
        }
    }
    Ok(sizes)
}

/// The table of weights.
pub(super) fn table(subject: &Subject, sizes: &[Size]) -> Result<Table> {
    let mut all = vec![0.0; subject.model.n_models()];
    sizes.iter().for_each(|s| all[s.model] += s.weight.delta_norm.powi(2));
    let mut table = Table::new(&super::tables::WEIGHTS);
    for Size { model, weight, spectral } in sizes {
        let of = |f: fn(&Spectral) -> f64| spectral.as_ref().map(f);
        let count = |f: fn(&Spectral) -> usize| spectral.as_ref().map(f);
        let total = all[*model];
        table.push(&row![
            subject.model.name(*model),
            weight.layer,
            weight.module.as_str(),
            weight.kind.label(),
            weight.rank,
            count(|s| s.parameters),
            count(|s| s.numerical_rank),
            weight.scale,
            weight.delta_norm,
            weight.weight_norm,
            weight.ratio,
            (total > 0.0).then_some(weight.delta_norm.powi(2) / total),
            of(|s| s.factor_norm).or(weight.factor_norm),
            of(|s| s.largest),
            spectral.as_ref().and_then(|s| s.stable_rank),
            spectral.as_ref().and_then(|s| s.effective_rank)
        ])?;
    }
    table.sort_by_keys();
    Ok(table)
}

struct Slice {
    index: usize,
    n: usize,
    norm: f64,
    weight_norm: f64,
    share: Option<f64>,
}

/// Heads' slices: rows of query, key and value projections, columns of the output projection. Keys and values belong to groups of
/// query heads.
fn slices(
    spec: &ModelSpec,
    module: Module,
    svd: &LowRankSvd,
    of_rows: &[f64],
    of_cols: &[f64],
) -> Vec<Slice> {
    let (n, vectors, weights) = match module {
        Module::Q => (spec.n_heads, &svd.u, of_rows),
        Module::K | Module::V => (spec.n_kv_heads, &svd.u, of_rows),
        Module::O => (spec.n_heads, &svd.v, of_cols),
        Module::Gate | Module::Up | Module::Down => return Vec::new(),
    };
    let all = svd.square();
    let slice = |index: usize| {
        let span = index * spec.d_head..(index + 1) * spec.d_head;
        let one =
            |i: usize| svd.values.iter().enumerate().map(|(k, s)| (vectors[(i, k)] * s).powi(2)).sum::<f64>();
        let square: f64 = span.clone().map(one).sum();
        Slice {
            index,
            n,
            norm: square.sqrt(),
            weight_norm: weights[span].iter().sum::<f64>().sqrt(),
            share: (all > 0.0).then_some(square / all),
        }
    };
    (0..n).map(slice).collect()
}
