//! A set of blocks as a PEFT adapter of its own.

use super::blocks::Block;
use crate::error::Result;
use lorascope_engine::{Adapter, Model};
use lorascope_peft::{NewFolder, NewUpdate, folder};
use std::collections::BTreeMap;

/// The folder of an adapter that has only these blocks. Where modules share a fused matrix, the rows of B of those that are
/// left out are zero.
pub(super) fn adapter(adapter: &Adapter, blocks: &[&Block]) -> Result<NewFolder> {
    let mut updates: BTreeMap<&str, NewUpdate> = BTreeMap::new();
    let mut order = Vec::new();
    for block in blocks {
        for &(module, rank) in &block.modules {
            let Some(update) = adapter.update(block.layer, module) else { continue };
            let b = Model::<f32>::widened(&update.factors.b)?;
            if !updates.contains_key(update.path) {
                let a = Model::<f32>::widened(&update.factors.a)?;
                let new = NewUpdate {
                    path: update.path.to_owned(),
                    rank,
                    a,
                    b: vec![0.0; b.len()],
                    scale: update.factors.scale,
                };
                updates.insert(update.path, new);
                order.push(update.path);
            }
            let rows = update.outputs.start * rank..update.outputs.end * rank;
            if let Some(new) = updates.get_mut(update.path) {
                new.b[rows.clone()].copy_from_slice(&b[rows]);
            }
        }
    }
    let updates: Vec<NewUpdate> = order.iter().filter_map(|path| updates.remove(path)).collect();
    Ok(folder(&updates, &adapter.peft.config)?)
}

/// Where it goes in the run folder.
pub(super) fn place(name: &str, model: usize) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let name = if name.chars().all(plain) { name.to_owned() } else { format!("adapter{model}") };
    format!("adapters/{name}_smallest")
}
