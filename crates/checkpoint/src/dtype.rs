//! Stored number types and how a run of stored numbers becomes f32. Not here: the arithmetic of the block formats
//! (`ggml`), nor which rows of a tensor are wanted (`tensor`).

use crate::ggml;
use half::f16;
use half::slice::HalfFloatSliceExt;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[allow(non_camel_case_types, reason = "the block formats keep the names that ggml gives them")]
pub enum DType {
    /// IEEE double precision; widened rows are rounded to the nearest f32.
    F64,
    /// IEEE single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// The upper half of an f32.
    BF16,
    /// ggml: 32 numbers of 4 bits, one scale.
    Q4_0,
    /// ggml: 32 numbers of 4 bits, scale and minimum.
    Q4_1,
    /// ggml: 32 numbers of 5 bits, one scale.
    Q5_0,
    /// ggml: 32 numbers of 5 bits, scale and minimum.
    Q5_1,
    /// ggml: 32 numbers of 8 bits, one scale.
    Q8_0,
    /// ggml: 256 numbers of 4 bits in 8 groups with 6-bit scales and minima.
    Q4_K,
    /// ggml: 256 numbers of 5 bits in 8 groups with 6-bit scales and minima.
    Q5_K,
    /// ggml: 256 numbers of 6 bits in 16 groups with 8-bit scales.
    Q6_K,
    /// bitsandbytes: 4-bit codes of a normal-quantile table, one scale per block.
    Nf4,
    /// bitsandbytes: 4-bit floating-point codes, one scale per block.
    Fp4,
}

/// How many numbers a tensor of `shape` has; `None` if that, or the product of some of its dimensions, overflows.
pub(crate) fn n_values(shape: &[usize]) -> Option<usize> {
    let nonzero = shape.iter().try_fold(1usize, |product, n| product.checked_mul((*n).max(1)))?;
    Some(if shape.contains(&0) { 0 } else { nonzero })
}

/// A type whose numbers come in blocks of fixed length, each block on its own. (`Nf4` and `Fp4` are not: their scales
/// live in other tensors.)
#[derive(Clone, Copy, Debug)]
pub(crate) struct Blocked {
    pub(crate) dtype: DType,
    /// Numbers in a block.
    pub(crate) n_values: usize,
    /// Bytes of a block.
    pub(crate) n_bytes: usize,
    widen: Widen,
}

/// Widens whole blocks.
type Widen = fn(&[u8], &mut [f32]);

impl Blocked {
    /// The layout of `dtype`; `None` for the bitsandbytes types.
    pub(crate) fn new(dtype: DType) -> Option<Self> {
        let (n_values, n_bytes, widen): (usize, usize, Widen) = match dtype {
            DType::F64 => (1, 8, widen_f64),
            DType::F32 => (1, 4, widen_f32),
            DType::F16 => (1, 2, widen_f16),
            DType::BF16 => (1, 2, widen_bf16),
            DType::Q4_0 => (32, 18, ggml::q4_0),
            DType::Q4_1 => (32, 20, ggml::q4_1),
            DType::Q5_0 => (32, 22, ggml::q5_0),
            DType::Q5_1 => (32, 24, ggml::q5_1),
            DType::Q8_0 => (32, 34, ggml::q8_0),
            DType::Q4_K => (256, 144, ggml::q4_k),
            DType::Q5_K => (256, 176, ggml::q5_k),
            DType::Q6_K => (256, 210, ggml::q6_k),
            DType::Nf4 | DType::Fp4 => return None,
        };
        Some(Self { dtype, n_values, n_bytes, widen })
    }

    /// Bytes that `n_values` numbers take; `None` if they do not fill whole blocks, or on overflow.
    pub(crate) fn bytes_for(&self, n_values: usize) -> Option<usize> {
        if n_values.is_multiple_of(self.n_values) {
            (n_values / self.n_values).checked_mul(self.n_bytes)
        } else {
            None
        }
    }

    /// Widens `out.len()` numbers from number `start` on. `bytes` must hold them (checked by slicing).
    pub(crate) fn widen_from(&self, bytes: &[u8], start: usize, out: &mut [f32]) {
        let (mut block, offset) = (start / self.n_values, start % self.n_values);
        let mut done = 0;
        if offset != 0 {
            done = out.len().min(self.n_values - offset);
            self.widen_inside(bytes, block, offset, &mut out[..done]);
            block += 1;
        }
        let whole = (out.len() - done) / self.n_values;
        let (body, tail) = out[done..].split_at_mut(whole * self.n_values);
        (self.widen)(&bytes[block * self.n_bytes..(block + whole) * self.n_bytes], body);
        if !tail.is_empty() {
            self.widen_inside(bytes, block + whole, 0, tail);
        }
    }

    /// Widens a part of one block.
    fn widen_inside(&self, bytes: &[u8], block: usize, offset: usize, out: &mut [f32]) {
        let mut whole = [0.0; ggml::MAX_BLOCK];
        let whole = &mut whole[..self.n_values];
        (self.widen)(&bytes[block * self.n_bytes..(block + 1) * self.n_bytes], whole);
        out.copy_from_slice(&whole[offset..offset + out.len()]);
    }
}

fn widen_f64(bytes: &[u8], out: &mut [f32]) {
    for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *value = f64::from_le_bytes(*raw) as f32;
    }
}

fn widen_f32(bytes: &[u8], out: &mut [f32]) {
    for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<4>().0) {
        *value = f32::from_le_bytes(*raw);
    }
}

fn widen_bf16(bytes: &[u8], out: &mut [f32]) {
    for (value, raw) in out.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *value = f32::from_bits(u32::from(u16::from_le_bytes(*raw)) << 16);
    }
}

/// In pieces through a small aligned buffer, because mapped data may lie at odd addresses and `half` converts whole
/// slices with the processor's own instruction where it has one.
fn widen_f16(bytes: &[u8], out: &mut [f32]) {
    const PIECE: usize = 256;
    let mut piece = [f16::ZERO; PIECE];
    for (values, raw) in out.chunks_mut(PIECE).zip(bytes.chunks(2 * PIECE)) {
        for (half, raw) in piece.iter_mut().zip(raw.as_chunks::<2>().0) {
            *half = f16::from_bits(u16::from_le_bytes(*raw));
        }
        piece[..values.len()].convert_to_f32_slice(values);
    }
}
