//! How much memory will the analyses of so many prompts take? An estimate from shapes, made before anything runs.
//!
//! Bytes, for f32 arithmetic, N layers, d = width, q = heads · d_head, kv = key/value heads · d_head, V = vocabulary:
//!
//! * *files*: what is read of the base and the adapters. They are memory-mapped: the system counts what has been read as used,
//!   but takes it back when memory is short.
//! * *packed*: the panels of all layers, factors padded to 16 rows; one layer where the packed weights do not stay in memory.
//! * *output*: the packed output matrix, 4·V·d, where it stays in memory, else one block of 4096 tokens.
//! * *rows*: the residual stream and one layer's keys and values of all rows that run together, 4·(d + 2·kv) each. Rows are
//!   tokens of up to [`PROMPT_BLOCK`] prompts on every model; prefixes that prompts share make them fewer.
//! * *work*: what up to 512 rows need at a time within a layer, 4·(6·d + 3·q + 2·kv + 3·d_mlp) each, and attention scores of
//!   128 queries per thread and head.
//! * *program*: the tokenizer's tables, about 800 bytes per token of the vocabulary, and 16 MiB for everything else.
//!
//! Analyses that ask for captures or results of heads need more; they say so themselves.

use crate::subject::PROMPT_BLOCK;
use lorascope_engine::{Adapter, Model};
use lorascope_kernels::PANEL;
use serde::Serialize;

/// Rows that the engine works on together within a layer.
const BLOCK: usize = 512;
/// Queries whose attention scores exist at a time.
const QUERIES: usize = 128;
/// Tokens of a block of the output matrix.
const OUTPUT_BLOCK: usize = 4096;

/// Bytes that a run is expected to take; see the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct MemoryEstimate {
    /// Mapped files of base and adapters, which the system can take back.
    pub files: usize,
    /// Packed weights of layers.
    pub packed: usize,
    /// Packed output matrix.
    pub output: usize,
    /// States of all rows.
    pub rows: usize,
    /// Intermediate values of a block of rows.
    pub work: usize,
    /// Tokenizer and program.
    pub program: usize,
    /// Whether packed weights stay in memory between sweeps.
    pub resident: bool,
}

impl MemoryEstimate {
    /// All of it: the largest resident size to expect.
    pub fn total(&self) -> usize {
        self.files + self.needed()
    }
    /// Without the mapped files: what must be free.
    pub fn needed(&self) -> usize {
        self.packed + self.output + self.rows + self.work + self.program
    }
}

/// Estimates the memory that scoring `n_prompts` prompts of `tokens_per_prompt` tokens takes on all models.
pub fn memory_estimate(model: &Model<f32>, n_prompts: usize, tokens_per_prompt: usize) -> MemoryEstimate {
    let spec = model.spec();
    let (d, q, kv) = (spec.d_model, spec.n_heads * spec.d_head, spec.n_kv_heads * spec.d_head);
    let resident = model.is_resident();
    let linears: usize = spec.modules().map(|m| spec.module_shape(m)).map(|(o, i)| padded(o) * i).sum();
    let layers = if resident { spec.n_layers } else { 1 };
    let factors: usize = model.adapters().iter().map(factor_panels).sum();
    let output = if resident { padded(spec.d_vocab) } else { OUTPUT_BLOCK } * d;
    let n_rows = n_prompts.min(PROMPT_BLOCK) * tokens_per_prompt * model.n_models();
    let work = BLOCK.min(n_rows) * (6 * d + 3 * q + 2 * kv + 3 * spec.d_mlp);
    let scores = QUERIES * tokens_per_prompt * spec.n_heads * threads();
    let adapter_files: usize = model.adapters().iter().map(|a| 4 * a.peft.report.parameters).sum();
    MemoryEstimate {
        files: file_bytes(model) + adapter_files,
        packed: 4 * (layers * linears + factors * layers / spec.n_layers.max(1)),
        output: 4 * output,
        rows: 4 * n_rows * (d + 2 * kv),
        work: 4 * (work + scores),
        program: 800 * spec.d_vocab + (16 << 20),
        resident,
    }
}

/// Numbers in the packed factors of an adapter.
fn factor_panels(adapter: &Adapter) -> usize {
    let update = |(layer, module)| {
        let Some(update) = adapter.update(layer, module) else { return 0 };
        let rank = update.factors.rank;
        padded(rank) * update.factors.a.n_cols() + padded(update.outputs.len()) * rank
    };
    adapter.adapted().map(update).sum()
}

fn padded(outputs: usize) -> usize {
    outputs.div_ceil(PANEL) * PANEL
}

fn threads() -> usize {
    rayon::current_num_threads()
}

fn file_bytes(model: &Model<f32>) -> usize {
    let tensors = model.checkpoint().names().filter_map(|name| model.checkpoint().find(name));
    tensors.map(lorascope_checkpoint::StoredTensor::n_bytes).sum()
}
