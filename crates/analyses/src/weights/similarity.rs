//! How alike the updates of two models are, beside controls.
//!
//! With `ΔW = U·S·Vᵀ` of both, `⟨ΔW₁, ΔW₂⟩ = Σ_ij s₁ᵢ s₂ⱼ (U₁ᵀU₂)_ij (V₁ᵀV₂)_ij`. The cosines of the principal angles between two
//! spaces are the singular values of `U₁ᵀU₂` (Björck & Golub 1973), so the mean of their squares over the smaller space is
//! `‖U₁ᵀU₂‖_F² / min(k₁, k₂)`; for random spaces its expectation is `max(k₁, k₂) / d`.

use super::tables::{SIMILARITY, SIMILARITY_SUMMARY};
use super::variants::{Block, Change, Variant};
use crate::bootstrap::Resampler;
use crate::error::Result;
use crate::statistics::{Comparison, Design, benjamini_hochberg};
use crate::subject::Subject;
use lorascope_engine::{ControlKind, Module};
use lorascope_record::{Table, row};
use std::collections::BTreeMap;

/// Name of all modules together.
pub(super) const ALL_MODULES: &str = "all";

/// Two updates of one module.
#[derive(Clone, Debug)]
pub(super) struct Likeness {
    pub pair: PairKey,
    pub layer: usize,
    pub module: Module,
    components: [usize; 2],
    pub cosine: Option<f64>,
    cosine_sd: f64,
    pub overlap_out: Option<f64>,
    pub chance_out: Option<f64>,
    pub overlap_in: Option<f64>,
    pub chance_in: Option<f64>,
    product: f64,
    norms: [f64; 2],
}

/// A model, another one, and which control of the other is compared.
pub(super) type PairKey = (usize, usize, Option<ControlKind>);

/// All comparisons of one block.
pub(super) fn of_block(variants: &[Variant], block: &Block) -> Vec<Likeness> {
    let mut found = Vec::new();
    for one in block.changes.iter().filter(|c| variants[c.variant].control.is_none()) {
        for other in &block.changes {
            let (a, b) = (&variants[one.variant], &variants[other.variant]);
            let compared = if b.control.is_none() { a.model < b.model } else { a.model <= b.model };
            if compared {
                found.push(likeness((a.model, b.model, b.control), block, one, other));
            }
        }
    }
    found
}

fn likeness(pair: PairKey, block: &Block, one: &Change, other: &Change) -> Likeness {
    let (a, b) = (&one.svd, &other.svd);
    let norms = [a.square().sqrt(), b.square().sqrt()];
    let defined = norms[0] > 0.0 && norms[1] > 0.0;
    let components = if defined { [a.rank(), b.rank()] } else { [0, 0] };
    let (out, inner) = a.overlaps(b);
    let mut product = 0.0;
    for (i, s) in a.values.iter().enumerate() {
        for (j, t) in b.values.iter().enumerate() {
            product += s * t * out[(i, j)] * inner[(i, j)];
        }
    }
    let [k, l] = components;
    let overlap =
        |m: &nalgebra::DMatrix<f64>| defined.then(|| m.view((0, 0), (k, l)).norm_squared() / k.min(l) as f64);
    let chance = |d: usize| defined.then(|| k.max(l) as f64 / d as f64);
    Likeness {
        pair,
        layer: block.layer,
        module: block.module,
        components,
        cosine: defined.then(|| product / (norms[0] * norms[1])),
        cosine_sd: 1.0 / ((block.n_out * block.n_in) as f64).sqrt(),
        overlap_out: overlap(&out),
        chance_out: chance(block.n_out),
        overlap_in: overlap(&inner),
        chance_in: chance(block.n_in),
        product,
        norms,
    }
}

/// The table of all blocks.
pub(super) fn table(subject: &Subject, found: &[Likeness]) -> Result<Table> {
    let mut table = Table::new(&SIMILARITY);
    for l in found {
        let (model, other, control) = l.pair;
        table.push(&row![
            subject.model.name(model),
            subject.model.name(other),
            control.map(ControlKind::name),
            l.layer,
            l.module.name(),
            l.components[0],
            l.components[1],
            l.cosine,
            l.cosine_sd,
            l.overlap_out,
            l.chance_out,
            l.overlap_in,
            l.chance_in,
            l.product,
            l.norms[0],
            l.norms[1]
        ])?;
    }
    table.sort_by_keys();
    Ok(table)
}

/// Value of a measure and its expectation for random directions, in one block.
type Measure = (&'static str, fn(&Likeness) -> Option<(f64, f64)>);

const MEASURES: [Measure; 3] = [
    ("cosine", |l| Some((l.cosine?, 0.0))),
    ("overlap_out", |l| Some((l.overlap_out?, l.chance_out?))),
    ("overlap_in", |l| Some((l.overlap_in?, l.chance_in?))),
];

/// A row of the summary before correction for the number of tests.
struct Summary {
    pair: PairKey,
    module: String,
    measure: &'static str,
    n: usize,
    n_layers: usize,
    mean: crate::bootstrap::Interval,
    chance: f64,
    excess: Option<Comparison>,
}

/// Means over blocks, and of each control how far it stays behind the models themselves.
pub(super) fn summary(subject: &Subject, found: &[Likeness], seed: u64) -> Result<Table> {
    let mut by_pair: BTreeMap<PairKey, Vec<&Likeness>> = BTreeMap::new();
    for l in found {
        by_pair.entry(l.pair).or_default().push(l);
    }
    let mut summaries = Vec::new();
    for (pair, of_pair) in &by_pair {
        let (model, other, control) = *pair;
        let own = (control.is_some() && model != other).then(|| by_pair.get(&(model, other, None))).flatten();
        let own: BTreeMap<(usize, Module), &Likeness> =
            own.into_iter().flatten().map(|l| ((l.layer, l.module), *l)).collect();
        for module in Module::ALL.into_iter().map(Some).chain([None]) {
            let blocks: Vec<&Likeness> =
                of_pair.iter().copied().filter(|l| module.is_none_or(|m| l.module == m)).collect();
            let name = module.map_or(ALL_MODULES, Module::name);
            summaries.extend(whole(*pair, name, &blocks, seed));
            for measure in MEASURES {
                summaries.extend(mean(*pair, name, measure, &blocks, &own, seed));
            }
        }
    }
    push(subject, &summaries)
}

fn layers(blocks: &[&Likeness]) -> Vec<String> {
    blocks.iter().map(|l| format!("{:05}", l.layer)).collect()
}

/// The cosine of all blocks as one vector.
fn whole(pair: PairKey, module: &str, blocks: &[&Likeness], seed: u64) -> Option<Summary> {
    let names = layers(blocks);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let resampler = Resampler::new(&names, seed);
    let of = |f: &dyn Fn(&Likeness) -> f64| blocks.iter().map(|l| f(l)).collect::<Vec<f64>>();
    let values = [of(&|l| l.product), of(&|l| l.norms[0].powi(2)), of(&|l| l.norms[1].powi(2))];
    let values: Vec<&[f64]> = values.iter().map(Vec::as_slice).collect();
    let cosine = |sums: &[f64]| {
        let size = sums[1] * sums[2];
        if size > 0.0 { sums[0] / size.sqrt() } else { f64::NAN }
    };
    let mean = resampler.statistic(&values, cosine)?;
    let n_layers = resampler.n_clusters();
    let (module, measure, n) = (module.to_owned(), "cosine_whole", blocks.len());
    Some(Summary { pair, module, measure, n, n_layers, mean, chance: 0.0, excess: None })
}

fn mean(
    pair: PairKey,
    module: &str,
    (measure, of): Measure,
    blocks: &[&Likeness],
    own: &BTreeMap<(usize, Module), &Likeness>,
    seed: u64,
) -> Option<Summary> {
    let defined: Vec<(&Likeness, (f64, f64))> = blocks.iter().filter_map(|l| Some((*l, of(l)?))).collect();
    if defined.is_empty() {
        return None;
    }
    let design = |of: &[&Likeness]| {
        let names = layers(of);
        Design::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), seed)
    };
    let all: Vec<&Likeness> = defined.iter().map(|d| d.0).collect();
    let whole = design(&all);
    let paired = defined.iter().filter_map(|(l, (control, _))| {
        let (value, _) = of(own.get(&(l.layer, l.module))?)?;
        Some((*l, value - control))
    });
    let (paired, differences): (Vec<&Likeness>, Vec<f64>) = paired.unzip();
    let values: Vec<f64> = defined.iter().map(|d| d.1.0).collect();
    Some(Summary {
        pair,
        module: module.to_owned(),
        measure,
        n: defined.len(),
        n_layers: whole.n_clusters(),
        mean: whole.mean(&values),
        chance: defined.iter().map(|d| d.1.1).sum::<f64>() / defined.len() as f64,
        excess: (!paired.is_empty()).then(|| design(&paired).compare(&differences)),
    })
}

fn push(subject: &Subject, summaries: &[Summary]) -> Result<Table> {
    let p: Vec<f64> = summaries.iter().filter_map(|s| s.excess.map(|e| e.p)).collect();
    let mut q = benjamini_hochberg(&p).into_iter();
    let mut table = Table::new(&SIMILARITY_SUMMARY);
    for s in summaries {
        let (model, other, control) = s.pair;
        let q = s.excess.and_then(|_| q.next());
        table.push(&row![
            subject.model.name(model),
            subject.model.name(other),
            control.map(ControlKind::name),
            s.module.as_str(),
            s.measure,
            s.n,
            s.n_layers,
            p.len(),
            s.mean.mean,
            s.mean.lo,
            s.mean.hi,
            s.chance,
            s.excess.map(|e| e.mean.mean),
            s.excess.map(|e| e.mean.lo),
            s.excess.map(|e| e.mean.hi),
            s.excess.map(|e| e.p),
            q,
            s.excess.and_then(|e| e.effect)
        ])?;
    }
    table.sort_by_keys();
    Ok(table)
}
