//! The blocks that an adapter is cut into.

use super::settings::Size;
use crate::error::Result;
use crate::low_rank::LowRankSvd;
use crate::mixtures::is_mlp;
use crate::subject::Subject;
use lorascope_engine::{Adapter, Module};

/// `auto` takes the finest blocks of which there are at most so many.
const MANY: usize = 32;

/// What an adapter adds at some modules of a layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Block {
    pub layer: usize,
    /// The module's name; `attention`, `mlp` or `layer` where it is more than one.
    pub name: &'static str,
    /// Its modules, with the ranks of their updates.
    pub modules: Vec<(Module, usize)>,
    /// Numbers in their factors.
    pub parameters: usize,
    /// `sqrt(Σ ‖ΔW‖_F²)`.
    pub norm: f64,
}

impl Block {
    /// `L3 attn.q_proj`.
    pub fn label(&self) -> String {
        if self.name == "layer" {
            format!("L{}", self.layer)
        } else {
            format!("L{} {}", self.layer, self.name)
        }
    }
}

/// Name of the block of this size to which a module belongs.
fn name(size: Size, module: Module) -> &'static str {
    match size {
        Size::Module => module.name(),
        Size::Kind if is_mlp(module) => "mlp",
        Size::Kind => "attention",
        Size::Layer | Size::Auto => "layer",
    }
}

/// The size that `auto` stands for: the same for all adapters, so that their blocks can be compared.
pub(super) fn resolve(size: Size, subject: &Subject, adapters: &[usize]) -> Size {
    let count = |size: Size, adapter: &Adapter| {
        let mut places: Vec<_> = adapter.adapted().map(|(layer, m)| (layer, name(size, m))).collect();
        places.dedup();
        places.len()
    };
    let few = |size: Size| adapters.iter().all(|&a| count(size, &subject.model.adapters()[a - 1]) <= MANY);
    match size {
        Size::Auto => [Size::Module, Size::Kind].into_iter().find(|s| few(*s)).unwrap_or(Size::Layer),
        given => given,
    }
}

/// The blocks of an adapter, layer by layer, modules in the order in which a layer uses them.
pub(super) fn blocks(size: Size, adapter: &Adapter) -> Result<Vec<Block>> {
    let mut blocks: Vec<Block> = Vec::new();
    for (layer, module) in adapter.adapted() {
        let Some(update) = adapter.update(layer, module) else { continue };
        let (rank, n_in) = (update.factors.rank, update.factors.a.n_cols());
        let parameters = rank * (n_in + update.outputs.len());
        let square = LowRankSvd::of(&update)?.square();
        let name = name(size, module);
        match blocks.last_mut().filter(|b| (b.layer, b.name) == (layer, name)) {
            Some(block) => {
                block.modules.push((module, rank));
                block.parameters += parameters;
                block.norm = block.norm.hypot(square.sqrt());
            }
            None => {
                let modules = vec![(module, rank)];
                blocks.push(Block { layer, name, modules, parameters, norm: square.sqrt() });
            }
        }
    }
    Ok(blocks)
}
