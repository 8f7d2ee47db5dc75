//! Rounding full-precision weights to NF4, as `Linear4bit` does when a model is loaded with `load_in_4bit`: blocks of 64
//! along the row-major order, nearest value of the table (bitsandbytes `backends/default/ops.py`, `quantize_4bit` and
//! `quantize_blockwise`, which its CPU build runs for the weights).
//!
//! With double quantisation two things can differ from a given build of bitsandbytes in the last bit: the mean of the
//! scales (rounded once here; torch adds in f32 in an order of its own), and scales that lie within rounding of the
//! middle between two codes (its C++ kernel decides those by a coarser table).

use super::{FourBit, NF4, Output, Scales};
use crate::bytes::Bytes;
use crate::dtype::DType;
use rayon::prelude::*;
use std::sync::Arc;

/// Block sizes of `Linear4bit`.
const BLOCKSIZE: usize = 64;
const NESTED_BLOCKSIZE: usize = 256;

/// Blocks that one thread takes at a time.
const PIECE: usize = 1024;

/// bitsandbytes keeps scales from being divided into by this.
const LEAST: f32 = 1e-38;

/// The 8-bit map of the scales: `bitsandbytes.functional.create_dynamic_map()`, 256 f32, ascending, little-endian.
static DYNAMIC_MAP: &[u8; 1024] = include_bytes!("dynamic_map.f32");

/// Type that the weights have in memory when bitsandbytes quantises them (`dtype=` of `from_pretrained`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum RoundFrom {
    /// The type in the file (f32 for types that torch lacks): `dtype="auto"`.
    #[default]
    AsStored,
    /// f32.
    F32,
    /// f16, which transformers 4 takes when no dtype is given.
    F16,
    /// bf16.
    BF16,
}

/// How to round a model through NF4.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Nf4Rounding {
    /// Whether the scales are quantised too (`bnb_4bit_use_double_quant`).
    pub double_quantisation: bool,
    /// Type of the weights before; the rounded values have it too.
    pub from: RoundFrom,
}

/// [`Nf4Rounding`], decided for one tensor.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) output: Output,
    pub(crate) double_quantisation: bool,
}

impl Nf4Rounding {
    pub(crate) fn plan(self, stored: DType) -> Plan {
        let output = match (self.from, stored) {
            (RoundFrom::F16, _) | (RoundFrom::AsStored, DType::F16) => Output::F16,
            (RoundFrom::BF16, _) | (RoundFrom::AsStored, DType::BF16) => Output::BF16,
            _ => Output::F32,
        };
        Plan { output, double_quantisation: self.double_quantisation }
    }
}

/// Quantises `values` (finite; row-major order of the linear map, `[out, in]`).
pub(crate) fn quantise(values: &[f32], plan: Plan) -> FourBit {
    let mut codes = vec![0u8; values.len().div_ceil(2)];
    let mut scales = vec![0.0; values.len().div_ceil(BLOCKSIZE)];
    let pieces = values.par_chunks(PIECE * BLOCKSIZE).zip(codes.par_chunks_mut(PIECE * BLOCKSIZE / 2));
    pieces.zip(scales.par_chunks_mut(PIECE)).for_each(|((values, codes), scales)| {
        let blocks = values.chunks(BLOCKSIZE).zip(codes.chunks_mut(BLOCKSIZE / 2));
        for ((values, codes), scale) in blocks.zip(scales) {
            *scale = quantise_block(values, codes, plan.output);
        }
    });
    let scales = if plan.double_quantisation { nest(&scales) } else { Scales::Plain(Arc::new(scales)) };
    FourBit {
        dtype: DType::Nf4,
        codes: Bytes::owned(codes),
        scales,
        blocksize: BLOCKSIZE,
        output: plan.output,
    }
}

/// Fills the codes of a block and gives its scale.
fn quantise_block(values: &[f32], codes: &mut [u8], output: Output) -> f32 {
    let bounds: [f32; 15] = std::array::from_fn(|i| (NF4[i] + NF4[i + 1]) / 2.0);
    // Number of bounds below: the code of the nearest value, the lower one on a tie.
    let nearest = |x: f32| bounds.iter().map(|bound| u8::from(*bound < x)).sum::<u8>();
    let mut block = [0.0; BLOCKSIZE];
    let block = &mut block[..values.len()];
    for (rounded, x) in block.iter_mut().zip(values) {
        *rounded = output.round(*x);
    }
    let scale = scale_to_one(block, values.len() == BLOCKSIZE);
    for (code, pair) in codes.iter_mut().zip(block.chunks(2)) {
        let second = pair.get(1).copied().unwrap_or(0.0);
        *code = (nearest(pair[0]) << 4) | nearest(second);
    }
    scale
}

/// Divides `block` by its largest magnitude, which it returns. A last, shorter block is divided where whole ones are
/// multiplied with the inverse, and its scale is never 0: both as bitsandbytes does.
fn scale_to_one(block: &mut [f32], whole: bool) -> f32 {
    let peak = block.iter().fold(0.0f32, |peak, x| peak.max(x.abs()));
    let divisor = peak.max(LEAST);
    let inverse = 1.0 / divisor;
    for x in block {
        *x = if whole { *x * inverse } else { *x / divisor }.clamp(-1.0, 1.0);
    }
    if whole { peak } else { divisor }
}

fn nest(scales: &[f32]) -> Scales {
    let map: Vec<f32> = DYNAMIC_MAP.as_chunks::<4>().0.iter().map(|raw| f32::from_le_bytes(*raw)).collect();
    let bounds: Vec<f32> = map.windows(2).map(|pair| (pair[0] + pair[1]) / 2.0).collect();
    let sum: f64 = scales.iter().map(|scale| f64::from(*scale)).sum();
    let offset = (sum / scales.len().max(1) as f64) as f32;
    let mut codes = Vec::with_capacity(scales.len());
    let mut absmax = Vec::with_capacity(scales.len().div_ceil(NESTED_BLOCKSIZE));
    for block in scales.chunks(NESTED_BLOCKSIZE) {
        let mut centred: Vec<f32> = block.iter().map(|scale| scale - offset).collect();
        absmax.push(scale_to_one(&mut centred, true));
        codes.extend(centred.iter().map(|x| bounds.partition_point(|bound| bound < x) as u8));
    }
    Scales::Nested {
        codes: Bytes::owned(codes),
        map: Arc::new(map),
        absmax: Arc::new(absmax),
        blocksize: NESTED_BLOCKSIZE,
        offset,
    }
}
