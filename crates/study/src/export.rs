//! An adapter, or some of its blocks, as a PEFT folder for other programs.
//!
//! What is written is the simplest that PEFT can say: one rank, one whole alpha, no patterns. PEFT reads more, but servers of adapters
//! do not: vLLM takes `r` and `lora_alpha` for all modules, whatever patterns say. So lower ranks are filled up with zeros, and where
//! scales differ they go into B.

use anyhow::{Result, bail};
use lorascope_engine::Adapter;
use lorascope_peft::{LowRank, NewFolder, NewUpdate, folder};
use lorascope_train::{BlockName, Blocks};
use std::collections::BTreeMap;
use std::ops::Range;

/// The files of a folder with an adapter's updates: all, or those of some blocks, as surgery names them.
///
/// # Errors
/// An adapter that changes more than linear maps, by low rank (DoRA, biases, embeddings, replaced weights); a block that it does
/// not have; factors that can't be read.
pub fn peft_folder(adapter: &Adapter, blocks: Option<&Blocks>) -> Result<NewFolder> {
    refuse_more(adapter)?;
    let kept = kept(adapter, blocks)?;
    let of = |path: &str| adapter.peft.low_rank.get(path);
    let rank = kept.keys().filter_map(|path| of(path)).map(|u| u.rank).max().unwrap_or(1);
    let scales = kept.keys().filter_map(|path| of(path)).map(|u| u.scale);
    let scale = common_scale(scales, rank);
    let mut updates = Vec::new();
    for (path, outputs) in &kept {
        let Some(update) = of(path) else { continue };
        updates.push(widened(path, update, outputs, rank, scale)?);
    }
    Ok(folder(&updates, &adapter.peft.config)?)
}

/// The scale of all updates, where it is one with a whole alpha; else 1, and B takes each one's own.
fn common_scale(scales: impl Iterator<Item = f64>, rank: usize) -> Option<f64> {
    let scales: Vec<f64> = scales.collect();
    let first = *scales.first()?;
    let whole = (first * rank as f64).fract() == 0.0;
    (whole && scales.iter().all(|s| *s == first)).then_some(first)
}

fn refuse_more(adapter: &Adapter) -> Result<()> {
    let peft = &adapter.peft;
    let more = [
        ("DoRA magnitudes", peft.low_rank.values().any(|u| u.magnitude.is_some())),
        ("biases of B (`lora_bias`)", peft.low_rank.values().any(|u| u.bias.is_some())),
        ("an update of the embedding", !peft.embeddings.is_empty()),
        ("weights that replace the base's (`modules_to_save`)", !peft.replaced_weights.is_empty()),
        ("biases that replace the base's", !peft.replaced_biases.is_empty()),
    ];
    match more.iter().find(|(_, there)| *there) {
        Some((what, _)) => bail!(
            "adapter `{}` has {what}; only low-rank updates of linear maps can be exported",
            adapter.name
        ),
        None => Ok(()),
    }
}

/// Paths of matrices that stay, each with the outputs that do.
fn kept<'a>(adapter: &'a Adapter, blocks: Option<&Blocks>) -> Result<BTreeMap<&'a str, Vec<Range<usize>>>> {
    let mut kept: BTreeMap<&str, Vec<Range<usize>>> = BTreeMap::new();
    let mut found = vec![false; blocks.map_or(0, |b| b.0.len())];
    for (layer, module) in adapter.adapted() {
        let is_in = |block: &BlockName| block.layer == layer && block.part.has(module);
        let stays = blocks.is_none_or(|blocks| {
            found.iter_mut().zip(&blocks.0).for_each(|(found, block)| *found |= is_in(block));
            blocks.0.iter().any(is_in)
        });
        if let Some(update) = adapter.update(layer, module).filter(|_| stays) {
            kept.entry(update.path).or_default().push(update.outputs);
        }
    }
    let blocks = blocks.map_or(&[][..], |b| &b.0);
    if let Some((block, _)) = blocks.iter().zip(&found).find(|(_, found)| !**found) {
        bail!("adapter `{}` has no block `{block}`", adapter.name);
    }
    if kept.is_empty() {
        bail!("nothing is left of adapter `{}`: no block is named", adapter.name);
    }
    Ok(kept)
}

/// An update with the rank of all; outputs of a fused matrix that do not stay are zero rows of B.
fn widened(
    path: &str,
    update: &LowRank,
    outputs: &[Range<usize>],
    rank: usize,
    scale: Option<f64>,
) -> Result<NewUpdate> {
    let (mut a, own) = (update.a.to_f32()?, update.b.to_f32()?);
    a.resize(rank * update.a.n_cols(), 0.0);
    let mut b = vec![0.0; update.b.n_rows() * rank];
    let factor = if scale.is_some() { 1.0 } else { update.scale };
    for row in outputs.iter().cloned().flatten() {
        let from = &own[row * update.rank..(row + 1) * update.rank];
        for (to, &value) in b[row * rank..].iter_mut().zip(from) {
            *to = (f64::from(value) * factor) as f32;
        }
    }
    Ok(NewUpdate { path: path.to_owned(), rank, a, b, scale: scale.unwrap_or(1.0) })
}
