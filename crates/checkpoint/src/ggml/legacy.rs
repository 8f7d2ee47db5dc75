//! Blocks of 32 numbers with one f16 scale `d`, and for the `_1` kinds an f16 minimum `m`. The low nibbles of the 16
//! code bytes are numbers 0..16, the high nibbles numbers 16..32.

use super::half_at;

const N: usize = 32;

/// `x = d * (q - 8)`, q of 4 bits.
pub(crate) fn q4_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<18>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        let d = half_at(block, 0);
        let (low, high) = out.split_at_mut(N / 2);
        for ((code, low), high) in block[2..].iter().zip(low).zip(high) {
            *low = d * f32::from((code & 0x0f) as i8 - 8);
            *high = d * f32::from((code >> 4) as i8 - 8);
        }
    }
}

/// `x = d * q + m`, q of 4 bits.
pub(crate) fn q4_1(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<20>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        let (low, high) = out.split_at_mut(N / 2);
        for ((code, low), high) in block[4..].iter().zip(low).zip(high) {
            *low = d * f32::from(code & 0x0f) + m;
            *high = d * f32::from(code >> 4) + m;
        }
    }
}

/// The fifth bits of number `j` and number `j + 16`, each at position 4.
fn fifth_bits(bits: u32, j: usize) -> (u8, u8) {
    ((((bits >> j) & 1) << 4) as u8, (((bits >> (j + 16)) & 1) << 4) as u8)
}

/// `x = d * (q - 16)`, q of 5 bits: the fifth bits of all 32 numbers come first, as one u32.
pub(crate) fn q5_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<22>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        let d = half_at(block, 0);
        let bits = u32::from_le_bytes([block[2], block[3], block[4], block[5]]);
        for (j, code) in block[6..].iter().enumerate() {
            let (low, high) = fifth_bits(bits, j);
            out[j] = d * f32::from(((code & 0x0f) | low) as i8 - 16);
            out[j + N / 2] = d * f32::from(((code >> 4) | high) as i8 - 16);
        }
    }
}

/// `x = d * q + m`, q of 5 bits.
pub(crate) fn q5_1(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<24>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        let (d, m) = (half_at(block, 0), half_at(block, 2));
        let bits = u32::from_le_bytes([block[4], block[5], block[6], block[7]]);
        for (j, code) in block[8..].iter().enumerate() {
            let (low, high) = fifth_bits(bits, j);
            out[j] = d * f32::from((code & 0x0f) | low) + m;
            out[j + N / 2] = d * f32::from((code >> 4) | high) + m;
        }
    }
}

/// `x = d * q`, q a signed byte.
pub(crate) fn q8_0(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<34>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        let d = half_at(block, 0);
        for (code, x) in block[2..].iter().zip(out) {
            *x = d * f32::from(code.cast_signed());
        }
    }
}
