//! Prompts block by block: each block's tables are parts of the run, kept when it is cut off.

use crate::context::Context;
use crate::error::Result;
use crate::subject::Subject;
use lorascope_record::Table;

/// Prompts that are patched together.
pub(crate) struct Block {
    pub prompts: Vec<usize>,
    index: usize,
    n_blocks: usize,
}

/// All prompts in blocks of `size`; those that begin alike stand together.
pub(crate) fn blocks(subject: &Subject, size: usize) -> Vec<Block> {
    let order: Vec<usize> = subject.blocks().into_iter().flatten().collect();
    let n_blocks = order.len().div_ceil(size);
    let block = |(index, prompts): (usize, &[usize])| Block { prompts: prompts.to_vec(), index, n_blocks };
    order.chunks(size).enumerate().map(block).collect()
}

impl Block {
    /// Adds what `work` finds of this block to a table; it is told how far this is, as in `(2 of 5)`. Kept as the part
    /// `NAME-00001`.
    pub fn append(
        &self,
        context: &Context,
        name: &str,
        table: &mut Table,
        work: impl FnOnce(&str) -> Result<Table>,
    ) -> Result<()> {
        let so_far = format!("({} of {})", self.index + 1, self.n_blocks);
        let part = context.part(&format!("{name}-{:05}", self.index), table.spec(), || work(&so_far))?;
        Ok(table.append(part)?)
    }
}
