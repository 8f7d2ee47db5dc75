//! The block formats of ggml, bit for bit as ggml's reference code (`ggml-quants.c`, `dequantize_row_*`) and gguf-py
//! (`gguf/quants.py`) compute them: every product and sum rounded on its own in f32, nothing fused.
//!
//! Each function takes whole blocks and writes `out.len() / block length` of them. Which bytes of a file these are is
//! not known here.

mod k_quants;
mod legacy;

pub(crate) use k_quants::{q4_k, q5_k, q6_k};
pub(crate) use legacy::{q4_0, q4_1, q5_0, q5_1, q8_0};

/// Numbers in the longest block.
pub(crate) const MAX_BLOCK: usize = 256;

/// The f16 at byte `at` of a block.
fn half_at(block: &[u8], at: usize) -> f32 {
    half::f16::from_le_bytes([block[at], block[at + 1]]).to_f32()
}
