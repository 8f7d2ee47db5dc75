//! Prompts block by block: each block's tables are parts of the run, kept when it is cut off.

use crate::context::Context;
use crate::error::Result;
use lorascope_record::{Table, TableSpec};

/// Prompts that are patched together, with how far this is, as in `(2 of 5)`.
pub(crate) struct Block {
    pub prompts: Vec<usize>,
    pub so_far: String,
}

/// Carries out work on all prompts in blocks of `size`, those that begin alike together: the tables of all of them. What a block gives
/// is kept as the parts `NAME-00001`.
pub(crate) fn by_blocks<const N: usize>(
    context: &Context,
    names: [&str; N],
    specs: [&'static TableSpec; N],
    size: usize,
    mut work: impl FnMut(&Block) -> Result<[Table; N]>,
) -> Result<[Table; N]> {
    let order: Vec<usize> = context.subject.blocks().into_iter().flatten().collect();
    let blocks: Vec<&[usize]> = order.chunks(size).collect();
    let names: Vec<[String; N]> =
        (0..blocks.len()).map(|b| names.map(|name| format!("{name}-{b:05}"))).collect();
    context.parts_together(&names, specs, |b| {
        let so_far = format!("({} of {})", b + 1, blocks.len());
        work(&Block { prompts: blocks[b].to_vec(), so_far })
    })
}
