//! 4-bit weights of bitsandbytes (NF4, FP4; scales plain or themselves quantised): read as bitsandbytes dequantises them
//! on the CPU, and made as its `Linear4bit` makes them.
//!
//! A weight is codes, two to a byte, the first in the high nibble, in row-major order; number `i` is
//! `table[code(i)] * scale(i / blocksize)` in f32, rounded to the type that the weight had before (`quant_state.dtype`).
//! With double quantisation the scale itself is `map[byte] * absmax(block / 256) + offset`, each step rounded in f32.
//! Not here: LLM.int8().

mod assemble;
mod round;

pub(crate) use assemble::{Assembled, assemble};
pub(crate) use round::quantise;
pub use round::{Nf4Rounding, RoundFrom};

use crate::bytes::Bytes;
use crate::dtype::DType;
use half::f16;
use std::sync::Arc;

/// The quantiles of NF4 (bitsandbytes `backends/utils.py`).
pub(crate) const NF4: [f32; 16] = [
    -1.0,
    -0.696_192_8,
    -0.525_073_05,
    -0.394_917_5,
    -0.284_441_38,
    -0.184_773_43,
    -0.091_050_036,
    0.0,
    0.079_580_3,
    0.160_930_2,
    0.246_112_3,
    0.337_915_24,
    0.440_709_83,
    0.562_617,
    0.722_956_84,
    1.0,
];

/// The values of FP4: twelfths, the smallest a sixteenth of one; upper half negative.
pub(crate) const FP4: [f32; 16] = [
    0.0,
    0.0625 / 12.0,
    8.0 / 12.0,
    1.0,
    4.0 / 12.0,
    6.0 / 12.0,
    2.0 / 12.0,
    3.0 / 12.0,
    0.0,
    -0.0625 / 12.0,
    -8.0 / 12.0,
    -1.0,
    -4.0 / 12.0,
    -6.0 / 12.0,
    -2.0 / 12.0,
    -3.0 / 12.0,
];

/// Type to which dequantised numbers are rounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Output {
    F32,
    F16,
    BF16,
}

impl Output {
    pub(crate) fn round(self, x: f32) -> f32 {
        match self {
            Self::F32 => x,
            Self::F16 => f16::from_f32(x).to_f32(),
            Self::BF16 => round_to_bf16(x),
        }
    }
}

/// The nearest bf16, the even one on a tie: `half`'s result (tested) in three integer operations that compilers can put
/// side by side. What is not finite stays.
fn round_to_bf16(x: f32) -> f32 {
    let bits = x.to_bits();
    let rounded = f32::from_bits(bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) & 0xffff_0000);
    if x.is_finite() { rounded } else { x }
}

/// Scales of a weight's blocks.
#[derive(Clone, Debug)]
pub(crate) enum Scales {
    Plain(Arc<Vec<f32>>),
    Nested { codes: Bytes, map: Arc<Vec<f32>>, absmax: Arc<Vec<f32>>, blocksize: usize, offset: f32 },
}

impl Scales {
    fn of(&self, block: usize) -> f32 {
        match self {
            Self::Plain(scales) => scales[block],
            Self::Nested { codes, map, absmax, blocksize, offset } => {
                map[usize::from(codes.as_slice()[block])] * absmax[block / blocksize] + offset
            }
        }
    }

    fn n_bytes(&self) -> usize {
        match self {
            Self::Plain(scales) => 4 * scales.len(),
            Self::Nested { codes, map, absmax, .. } => codes.len() + 4 * (map.len() + absmax.len()),
        }
    }
}

/// A weight in 4 bits. Made only by `assemble` and `quantise`, which check the lengths.
#[derive(Clone, Debug)]
pub(crate) struct FourBit {
    pub(crate) dtype: DType,
    pub(crate) codes: Bytes,
    pub(crate) scales: Scales,
    pub(crate) blocksize: usize,
    pub(crate) output: Output,
}

impl FourBit {
    /// Widens `out.len()` numbers from number `start` on.
    pub(crate) fn widen_from(&self, start: usize, out: &mut [f32]) {
        let table = if self.dtype == DType::Nf4 { &NF4 } else { &FP4 };
        let codes = self.codes.as_slice();
        let (mut at, mut rest) = (start, out);
        while !rest.is_empty() {
            let block = at / self.blocksize;
            let n = rest.len().min((block + 1) * self.blocksize - at);
            let (values, later) = rest.split_at_mut(n);
            let scale = self.scales.of(block);
            let scaled = table.map(|x| self.output.round(x * scale));
            let code = |i: usize, shift: u32| scaled[usize::from((codes[i / 2] >> shift) & 0x0f)];
            // An odd beginning (rows need not begin on a byte), then whole bytes, then an odd end.
            let (odd, even) = values.split_at_mut(at % 2);
            for value in odd {
                *value = code(at, 0);
            }
            let first = (at + at % 2) / 2;
            let (pairs, last) = even.as_chunks_mut::<2>();
            for (pair, byte) in pairs.iter_mut().zip(&codes[first..]) {
                *pair = [scaled[usize::from(byte >> 4)], scaled[usize::from(byte & 0x0f)]];
            }
            for value in last {
                *value = code(at + n - 1, 4);
            }
            (at, rest) = (at + n, later);
        }
    }

    pub(crate) fn n_bytes(&self) -> usize {
        self.codes.len() + self.scales.n_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::round_to_bf16;
    use half::bf16;

    #[test]
    fn rounding_to_bf16_is_that_of_half() {
        let special =
            [0.0, -0.0, f32::MAX, f32::MIN, f32::MIN_POSITIVE, 1e-42, f32::INFINITY, f32::NEG_INFINITY];
        let spread = (0..=u32::MAX).step_by(4099).map(f32::from_bits);
        let ties = (0..1u32 << 16).map(|upper| f32::from_bits(upper << 16 | 0x8000));
        for x in special.into_iter().chain(spread).chain(ties) {
            let (ours, theirs) = (round_to_bf16(x), bf16::from_f32(x).to_f32());
            assert!(ours.to_bits() == theirs.to_bits() || (x.is_nan() && ours.is_nan()), "{x:e}");
        }
    }
}
