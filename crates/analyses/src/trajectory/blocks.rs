//! Updates by step, layer and module, from the factors alone.
//!
//! `⟨s·B·A, s'·B'·A'⟩ = s·s'·Σ (BᵀB')∘(AA'ᵀ)`. The difference of two checkpoints is low-rank too, and so that neighbours that hardly
//! differ lose nothing to rounding it is written as `(B' − B)·A' + B·(A' − A)`.

use super::Trajectory;
use super::tables::BLOCKS;
use crate::context::Context;
use crate::error::Result;
use crate::low_rank::factors;
use crate::weights::{Block, Held, Variant};
use lorascope_engine::{Module, Update};
use lorascope_record::{Table, row};
use nalgebra::DMatrix;
use rayon::prelude::*;
use std::collections::BTreeMap;

/// Name of all modules together.
pub(super) const ALL: &str = "all";

/// `B·Aᵀ` with the scale in B.
#[derive(Clone, Debug)]
struct Factors {
    b: DMatrix<f64>,
    at: DMatrix<f64>,
}

impl Factors {
    fn of(update: &Update) -> Result<Self> {
        let (b, at) = factors(update)?;
        Ok(Self { b: b * update.factors.scale, at })
    }

    /// No update at all.
    fn nothing(n_out: usize, n_in: usize) -> Self {
        Self { b: DMatrix::zeros(n_out, 0), at: DMatrix::zeros(n_in, 0) }
    }

    fn product(&self, other: &Self) -> f64 {
        self.b.tr_mul(&other.b).component_mul(&self.at.tr_mul(&other.at)).sum()
    }

    fn norm(&self) -> f64 {
        self.product(self).max(0.0).sqrt()
    }

    /// What has to be added to `before`.
    fn since(&self, before: &Self) -> Self {
        let beside = |left: &DMatrix<f64>, right: &DMatrix<f64>| {
            let mut both = left.clone().resize_horizontally(left.ncols() + right.ncols(), 0.0);
            both.columns_mut(left.ncols(), right.ncols()).copy_from(right);
            both
        };
        if self.b.ncols() == before.b.ncols() {
            let (b, at) = (&self.b - &before.b, &self.at - &before.at);
            return Self { b: beside(&b, &before.b), at: beside(&self.at, &at) };
        }
        Self { b: beside(&self.b, &-&before.b), at: beside(&self.at, &before.at) }
    }
}

/// Cosine of two updates, by their product and norms.
fn cosine(product: f64, one: f64, other: f64) -> Option<f64> {
    (one > 0.0 && other > 0.0).then(|| product / (one * other))
}

/// One row of the table.
#[derive(Clone, Debug, Default)]
pub(super) struct BlockRow {
    pub step: u64,
    /// `None`: all layers.
    pub layer: Option<usize>,
    pub module: String,
    pub norm: f64,
    pub weight_norm: f64,
    pub cosine_final: Option<f64>,
    pub increment_norm: Option<f64>,
    pub cosine_increment: Option<f64>,
    pub stable_rank: Option<f64>,
    pub effective_rank: Option<f64>,
}

impl BlockRow {
    pub fn ratio(&self) -> Option<f64> {
        (self.weight_norm > 0.0).then(|| self.norm / self.weight_norm)
    }
}

/// All blocks of a trajectory, then layers, modules and everything together.
pub(super) fn rows(context: &Context, trajectory: &Trajectory) -> Result<Vec<BlockRow>> {
    let model = &context.subject.model;
    let spec = model.spec();
    let adapters = model.adapters();
    let variants: Vec<Variant> = trajectory
        .models
        .iter()
        .map(|&m| Variant { model: m, control: None, adapter: Held::Loaded(&adapters[m - 1]) })
        .collect();
    let modules: Vec<Module> = spec.modules().collect();
    context.progress.begin("reading factors of checkpoints", spec.n_layers as u64);
    let name = |layer| format!("trajectory-{}-{layer:05}", trajectory.name);
    let names: Vec<String> = (0..spec.n_layers).map(name).collect();
    let table = context.parts(&names, &BLOCKS, |layer| {
        let one = |&module: &Module| match Block::new(model, &variants, layer, module)? {
            Some(block) => of_block(context, trajectory, &block),
            None => Ok(Vec::new()),
        };
        let mut of_layer = Table::new(&BLOCKS);
        for rows in modules.par_iter().map(one).collect::<Result<Vec<_>>>()? {
            push(&mut of_layer, trajectory, &rows)?;
        }
        context.progress.at(layer as u64 + 1);
        Ok(of_layer)
    })?;
    context.progress.end();
    let mut rows = read(&table)?;
    let together = together(trajectory, &rows);
    rows.extend(together);
    Ok(rows)
}

fn of_block(context: &Context, trajectory: &Trajectory, block: &Block) -> Result<Vec<BlockRow>> {
    let (of_rows, _) = block.weight_squares(&context.subject.model)?;
    let weight_norm = of_rows.iter().sum::<f64>().sqrt();
    let change = |step: usize| block.changes.iter().find(|c| c.variant == step);
    let updates = (0..trajectory.steps.len()).map(|step| {
        change(step).map_or_else(|| Ok(Factors::nothing(block.n_out, block.n_in)), |c| Factors::of(&c.update))
    });
    let updates = updates.collect::<Result<Vec<Factors>>>()?;
    let norms: Vec<f64> = updates.iter().map(Factors::norm).collect();
    let increments: Vec<Factors> = updates.windows(2).map(|pair| pair[1].since(&pair[0])).collect();
    let lengths: Vec<f64> = increments.iter().map(Factors::norm).collect();
    let last = updates.len() - 1;
    let row = |step: usize| {
        let svd = change(step).map(|c| &c.svd);
        let along = |i: usize| cosine(increments[i].product(&increments[i - 1]), lengths[i], lengths[i - 1]);
        BlockRow {
            step: trajectory.steps[step],
            layer: Some(block.layer),
            module: block.module.name().to_owned(),
            norm: svd.map_or(0.0, |svd| svd.square().sqrt()),
            weight_norm,
            cosine_final: cosine(updates[step].product(&updates[last]), norms[step], norms[last]),
            increment_norm: step.checked_sub(1).map(|i| lengths[i]),
            cosine_increment: step.checked_sub(1).filter(|i| *i > 0).and_then(along),
            stable_rank: svd.and_then(|svd| svd.stable_rank()),
            effective_rank: svd.and_then(|svd| svd.effective_rank()),
        }
    };
    Ok((0..=last).map(row).collect())
}

/// Layers, modules, and everything, each as one vector.
fn together(trajectory: &Trajectory, rows: &[BlockRow]) -> Vec<BlockRow> {
    let mut groups: BTreeMap<(Option<usize>, &str), Vec<&BlockRow>> = BTreeMap::new();
    for row in rows {
        for key in [(row.layer, ALL), (None, row.module.as_str()), (None, ALL)] {
            groups.entry(key).or_default().push(row);
        }
    }
    let mut found = Vec::new();
    for ((layer, module), of_group) in groups {
        let at = |step: u64| of_group.iter().copied().filter(move |r| r.step == step);
        let last = trajectory.steps.last().copied().unwrap_or_default();
        let norm_of = |step: u64| at(step).map(|r| r.norm.powi(2)).sum::<f64>().sqrt();
        // Blocks stand in the same order at every step.
        let product = |step: u64,
                       other: u64,
                       cosine: fn(&BlockRow) -> Option<f64>,
                       norm: fn(&BlockRow) -> f64| {
            at(step).zip(at(other)).map(|(r, o)| cosine(r).unwrap_or(0.0) * norm(r) * norm(o)).sum::<f64>()
        };
        let moved = |r: &BlockRow| r.increment_norm.unwrap_or(0.0);
        let moved_of = |step: u64| at(step).map(|r| moved(r).powi(2)).sum::<f64>().sqrt();
        for (i, &step) in trajectory.steps.iter().enumerate() {
            let before = (i > 1).then(|| trajectory.steps[i - 1]);
            found.push(BlockRow {
                step,
                layer,
                module: module.to_owned(),
                norm: norm_of(step),
                weight_norm: at(step).map(|r| r.weight_norm.powi(2)).sum::<f64>().sqrt(),
                cosine_final: cosine(
                    product(step, last, |r| r.cosine_final, |r| r.norm),
                    norm_of(step),
                    norm_of(last),
                ),
                increment_norm: (i > 0).then(|| moved_of(step)),
                cosine_increment: before.and_then(|before| {
                    let product = product(step, before, |r| r.cosine_increment, moved);
                    cosine(product, moved_of(step), moved_of(before))
                }),
                ..BlockRow::default()
            });
        }
    }
    found
}

/// Adds rows to the table.
pub(super) fn push(table: &mut Table, trajectory: &Trajectory, rows: &[BlockRow]) -> Result<()> {
    for r in rows {
        table.push(&row![
            trajectory.name.as_str(),
            r.step,
            r.layer,
            r.module.as_str(),
            r.norm,
            r.weight_norm,
            r.ratio(),
            r.cosine_final,
            r.increment_norm,
            r.cosine_increment,
            r.stable_rank,
            r.effective_rank
        ])?;
    }
    Ok(())
}

fn read(table: &Table) -> Result<Vec<BlockRow>> {
    let (steps, layers) = (table.ints("step")?, table.ints_or_null("layer")?);
    let (modules, norms) = (table.texts("module")?, table.floats("norm")?);
    let weights = table.floats("weight_norm")?;
    let float = |name: &str| table.floats_or_null(name);
    let (finals, lengths) = (float("cosine_final")?, float("increment_norm")?);
    let (turns, stable) = (float("cosine_increment")?, float("stable_rank")?);
    let effective = float("effective_rank")?;
    let row = |i: usize| BlockRow {
        step: steps[i].unsigned_abs(),
        layer: layers[i].and_then(|l| usize::try_from(l).ok()),
        module: modules[i].to_owned(),
        norm: norms[i],
        weight_norm: weights[i],
        cosine_final: finals[i],
        increment_norm: lengths[i],
        cosine_increment: turns[i],
        stable_rank: stable[i],
        effective_rank: effective[i],
    };
    Ok((0..table.n_rows()).map(row).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Products and differences are those of the matrices multiplied out, for equal and for different ranks; what does not change
    /// has no increment at all.
    #[test]
    fn factors_give_what_dense_matrices_give() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let mut matrix = |rows, cols| DMatrix::from_fn(rows, cols, |_, _| rng.random_range(-1.0..1.0));
        let mut factors = |rank| Factors { b: matrix(9, rank), at: matrix(7, rank) };
        let all = [factors(3), factors(3), factors(2), Factors::nothing(9, 7), factors(1)];
        let dense = |f: &Factors| &f.b * f.at.transpose();
        for one in &all {
            for other in &all {
                let exact = dense(one).dot(&dense(other));
                assert!((one.product(other) - exact).abs() < 1e-12);
                let since = dense(&one.since(other));
                assert!((since - (dense(one) - dense(other))).norm() < 1e-12);
            }
            assert_eq!(one.since(one).norm(), 0.0);
        }
    }
}
