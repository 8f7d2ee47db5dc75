//! How far updates write along the direction that the decision reads.
//!
//! For a module that writes into the residual stream, `‖ΔWᵀw‖² / (‖ΔW‖²·‖w‖²)` is the share of ΔW's squared norm along w. For a
//! uniformly random w of width d its expectation is 1/d, and its distribution is that of `Σ pᵢ gᵢ² / Σ g²` with p the shares of
//! ΔW's singular components and g normal; random directions are drawn once and serve all updates.

use super::tables::{ALIGNMENT, ALIGNMENT_SUMMARY};
use super::variants::{Block, Variant};
use crate::bootstrap::mean_interval;
use crate::error::Result;
use crate::statistics::benjamini_hochberg;
use crate::subject::Subject;
use lorascope_engine::{ControlKind, HookPoint, Mat, Module, Site};
use lorascope_record::{Table, row};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// Random directions of the null.
const DRAWS: usize = 999;
/// Below this adjusted p-value an alignment counts.
const LEVEL: f64 = 0.05;

/// Two tokens that decide, in the roles that they have in the first prompt of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TokenPair {
    pub a: u32,
    pub b: u32,
    pub n_prompts: usize,
}

/// The most frequent pairs of deciding tokens, whichever is the answer's A. The models are run only where spellings of a
/// prompt's answers differ in other tokens, so that it takes the base to say which spelling is the primary one.
pub(super) fn token_pairs(subject: &Subject, most: usize) -> Result<Vec<TokenPair>> {
    let clear = subject.prompts.iter().all(|p| {
        let first = &p.answers.pairs[0];
        p.answers.pairs.iter().all(|q| (q.token_a, q.token_b) == (first.token_a, first.token_b))
    });
    let primary = if clear { vec![0; subject.prompts.len()] } else { subject.primary_pairs()? };
    let mut found: Vec<TokenPair> = Vec::new();
    for (prompt, &pair) in subject.prompts.iter().zip(&primary) {
        let (a, b) = (prompt.answers.pairs[pair].token_a, prompt.answers.pairs[pair].token_b);
        match found.iter_mut().find(|t| (t.a, t.b) == (a, b) || (t.a, t.b) == (b, a)) {
            Some(known) => known.n_prompts += 1,
            None => found.push(TokenPair { a, b, n_prompts: 1 }),
        }
    }
    found.sort_by_key(|t| std::cmp::Reverse(t.n_prompts));
    found.truncate(most);
    Ok(found)
}

/// The decision directions of every model in the residual stream, one row a pair of tokens: `[model]`.
pub(super) fn readouts(subject: &Subject, pairs: &[TokenPair]) -> Result<Vec<Mat<f64>>> {
    let of_model = |model: usize| {
        let asked: Vec<_> = pairs.iter().map(|p| (model, p.a, p.b)).collect();
        Ok(subject.model.readout_directions(&asked)?.directions)
    };
    (0..subject.model.n_models()).map(of_model).collect()
}

/// The scale of the norm after a module that writes into the residual stream, where the family has one.
pub(super) fn norm_after(subject: &Subject, layer: usize, module: Module) -> Option<HookPoint> {
    let site = match module {
        Module::O => Site::Ln1PostScale,
        Module::Down => Site::Ln2PostScale,
        _ => return None,
    };
    subject.model.spec().post_norms.then_some(HookPoint::Layer(layer, site))
}

/// Whether a module writes into the residual stream.
pub(super) fn writes(module: Module) -> bool {
    matches!(module, Module::O | Module::Down)
}

/// Decision directions before the norm after a module.
pub(super) fn before_norm(
    subject: &Subject,
    block: &Block,
    model: usize,
    readouts: &[Mat<f64>],
) -> Result<Mat<f64>> {
    let own = &readouts[model];
    match norm_after(subject, block.layer, block.module) {
        None => Ok(own.clone()),
        Some(norm) => Ok(subject.model.pull_back_norm(norm, &vec![model; own.rows], own)?.directions),
    }
}

/// Squares of random directions: the first few entries, and the sum of all.
pub(super) struct Null {
    first: Vec<Vec<f64>>,
    sums: Vec<f64>,
}

impl Null {
    /// Directions of this width, of which up to `most` entries are looked at.
    pub fn new(width: usize, most: usize, seed: u64) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        // Another stream than those of resampling.
        rng.set_stream(2);
        let mut square = || {
            // Box and Muller: the square of a standard normal number.
            let (u, v): (f64, f64) = (rng.random_range(0.0..1.0), rng.random_range(0.0..1.0));
            -2.0 * (1.0 - u).ln() * (std::f64::consts::TAU * v).cos().powi(2)
        };
        let (mut first, mut sums) = (Vec::new(), Vec::new());
        for _ in 0..DRAWS {
            let own: Vec<f64> = (0..most.min(width)).map(|_| square()).collect();
            sums.push(own.iter().sum::<f64>() + (own.len()..width).map(|_| square()).sum::<f64>());
            first.push(own);
        }
        Self { first, sums }
    }

    /// Alignments of an update with these shares, in order of size.
    fn alignments(&self, shares: &[f64]) -> Vec<f64> {
        let one =
            |(own, sum): (&Vec<f64>, &f64)| own.iter().zip(shares).map(|(g, p)| g * p).sum::<f64>() / sum;
        let mut found: Vec<f64> = self.first.iter().zip(&self.sums).map(one).collect();
        found.sort_by(f64::total_cmp);
        found
    }
}

/// The alignment of one update.
pub(super) struct Aligned {
    pub model: usize,
    pub control: Option<ControlKind>,
    pub layer: usize,
    pub module: Module,
    pub pair: TokenPair,
    alignment: Option<f64>,
    width: usize,
    ratio_95: Option<f64>,
    gain: f64,
    p: Option<f64>,
}

/// All alignments of one block; none where it does not write into the residual stream.
pub(super) fn of_block(
    subject: &Subject,
    variants: &[Variant],
    block: &Block,
    pairs: &[TokenPair],
    readouts: &[Mat<f64>],
    null: &Null,
) -> Result<Vec<Aligned>> {
    let mut found = Vec::new();
    if !writes(block.module) {
        return Ok(found);
    }
    for change in &block.changes {
        let variant = &variants[change.variant];
        // Without a norm after the module, in another layer an update writes as it does in its own.
        if variant.control == Some(ControlKind::Shuffled) {
            continue;
        }
        let directions = before_norm(subject, block, variant.model, readouts)?;
        let (shares, width) = (change.svd.shares(), block.n_out);
        let random = if shares.is_empty() { Vec::new() } else { null.alignments(&shares) };
        for (i, pair) in pairs.iter().enumerate() {
            let w = directions.row(i);
            let size: f64 = w.iter().map(|v| v * v).sum();
            let along = |k: usize| change.svd.output(k).iter().zip(w).map(|(u, w)| u * w).sum::<f64>();
            let square: f64 = change.svd.values.iter().enumerate().map(|(k, s)| (s * along(k)).powi(2)).sum();
            let all = change.svd.square() * size;
            let alignment = (all > 0.0).then(|| square / all);
            let p = alignment.map(|own| {
                let larger = DRAWS - random.partition_point(|r| *r < own);
                (larger + 1) as f64 / (DRAWS + 1) as f64
            });
            found.push(Aligned {
                model: variant.model,
                control: variant.control,
                layer: block.layer,
                module: block.module,
                pair: *pair,
                alignment,
                width,
                ratio_95: random.get(DRAWS * 95 / 100).map(|r| r * width as f64),
                gain: square.sqrt(),
                p,
            });
        }
    }
    Ok(found)
}

/// The tables of updates and of means over layers.
pub(super) fn tables(subject: &Subject, found: &[Aligned], seed: u64) -> Result<(Table, Table)> {
    let tested = |a: &Aligned| a.control.is_none() && a.p.is_some();
    let p: Vec<f64> = found.iter().filter(|a| tested(a)).filter_map(|a| a.p).collect();
    let mut q = benjamini_hochberg(&p).into_iter();
    let q: Vec<Option<f64>> = found.iter().map(|a| if tested(a) { q.next() } else { None }).collect();
    let text = |token: u32| subject.tokenizer.token_text(token);
    let mut table = Table::new(&ALIGNMENT);
    for (a, q) in found.iter().zip(&q) {
        let chance = 1.0 / a.width as f64;
        table.push(&row![
            subject.model.name(a.model),
            a.control.map(ControlKind::name),
            a.layer,
            a.module.name(),
            text(a.pair.a),
            text(a.pair.b),
            a.pair.n_prompts,
            a.alignment,
            chance,
            a.alignment.map(|own| own / chance),
            a.ratio_95,
            a.gain,
            a.p,
            *q
        ])?;
    }
    table.sort_by_keys();
    type Group<'f> = Vec<(&'f Aligned, Option<f64>)>;
    let mut groups: BTreeMap<(usize, Option<ControlKind>, u32, u32, &str), Group> = BTreeMap::new();
    for (a, q) in found.iter().zip(&q).filter(|(a, _)| a.alignment.is_some()) {
        for module in [a.module.name(), super::similarity::ALL_MODULES] {
            groups.entry((a.model, a.control, a.pair.a, a.pair.b, module)).or_default().push((a, *q));
        }
    }
    let mut summary = Table::new(&ALIGNMENT_SUMMARY);
    for ((model, control, token_a, token_b, module), group) in &groups {
        let layers: Vec<String> = group.iter().map(|(a, _)| format!("{:05}", a.layer)).collect();
        let names: Vec<&str> = layers.iter().map(String::as_str).collect();
        let ratios: Vec<f64> =
            group.iter().filter_map(|(a, _)| Some(a.alignment? * a.width as f64)).collect();
        let mean = mean_interval(&ratios, &names, seed);
        let n_layers = names.iter().collect::<std::collections::BTreeSet<_>>().len();
        let above = group.iter().filter(|(_, q)| q.is_some_and(|q| q <= LEVEL)).count();
        summary.push(&row![
            subject.model.name(*model),
            control.map(ControlKind::name),
            *module,
            text(*token_a),
            text(*token_b),
            group.len(),
            n_layers,
            control.is_none().then_some(above),
            mean.mean,
            mean.lo,
            mean.hi
        ])?;
    }
    summary.sort_by_keys();
    Ok((table, summary))
}
