//! Super-blocks of 256 numbers: groups of 32 (Q4_K, Q5_K) or 16 (Q6_K) with integer scales, and f16 scales of the
//! scales.

use super::half_at;

const N: usize = 256;

/// Scale and minimum of group `j` (0..8), 6 bits each, unpacked from 12 bytes: groups 0..4 lie in the low 6 bits of
/// bytes 0..8; groups 4..8 have their low 4 bits in bytes 8..12 and their upper 2 in the top of bytes 0..8.
fn scale_and_min(packed: &[u8], j: usize) -> (f32, f32) {
    let (scale, min) = if j < 4 {
        (packed[j] & 63, packed[j + 4] & 63)
    } else {
        let upper = |k: usize| (packed[k] >> 6) << 4;
        ((packed[j + 4] & 0x0f) | upper(j - 4), (packed[j + 4] >> 4) | upper(j))
    };
    (f32::from(scale), f32::from(min))
}

/// `x = (d * scale) * q - (dmin * min)`, q of 4 bits. Layout: d, dmin, 12 bytes of scales, 128 code bytes; every 32
/// code bytes hold a group in their low nibbles and the next group in their high nibbles.
pub(crate) fn q4_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<144>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let (scales, codes) = (&block[4..16], &block[16..]);
        for (pair, (codes, out)) in codes.chunks(32).zip(out.chunks_mut(64)).enumerate() {
            let (low, high) = out.split_at_mut(32);
            let (scale, min) = scale_and_min(scales, 2 * pair);
            let (a, b) = (d * scale, dmin * min);
            for (code, x) in codes.iter().zip(low) {
                *x = a * f32::from(code & 0x0f) - b;
            }
            let (scale, min) = scale_and_min(scales, 2 * pair + 1);
            let (a, b) = (d * scale, dmin * min);
            for (code, x) in codes.iter().zip(high) {
                *x = a * f32::from(code >> 4) - b;
            }
        }
    }
}

/// As [`q4_k`] with a fifth bit: 32 bytes after the scales, bit `j` of byte `l` belongs to number `l` of group `j`.
pub(crate) fn q5_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<176>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        let (d, dmin) = (half_at(block, 0), half_at(block, 2));
        let (scales, fifth, codes) = (&block[4..16], &block[16..48], &block[48..]);
        for (pair, (codes, out)) in codes.chunks(32).zip(out.chunks_mut(64)).enumerate() {
            let (low, high) = out.split_at_mut(32);
            let (scale, min) = scale_and_min(scales, 2 * pair);
            let (a, b) = (d * scale, dmin * min);
            for ((code, bits), x) in codes.iter().zip(fifth).zip(low) {
                *x = a * f32::from((code & 0x0f) | (((bits >> (2 * pair)) & 1) << 4)) - b;
            }
            let (scale, min) = scale_and_min(scales, 2 * pair + 1);
            let (a, b) = (d * scale, dmin * min);
            for ((code, bits), x) in codes.iter().zip(fifth).zip(high) {
                *x = a * f32::from((code >> 4) | (((bits >> (2 * pair + 1)) & 1) << 4)) - b;
            }
        }
    }
}

/// `x = (d * scale) * (q - 32)`, q of 6 bits. Layout: 128 bytes of low nibbles, 64 bytes of upper bit pairs, 16 signed
/// scales, d. Each half (128 numbers) is four runs of 32: low and high nibbles of 64 bytes, with the bit pairs of 32
/// bytes.
pub(crate) fn q6_k(bytes: &[u8], out: &mut [f32]) {
    for (block, out) in bytes.as_chunks::<210>().0.iter().zip(out.as_chunks_mut::<N>().0) {
        let d = half_at(block, 208);
        for (half, out) in out.chunks_mut(128).enumerate() {
            let nibbles = &block[64 * half..64 * half + 64];
            let pairs = &block[128 + 32 * half..128 + 32 * half + 32];
            let scales = &block[192 + 8 * half..192 + 8 * half + 8];
            for (run, out) in out.chunks_mut(32).enumerate() {
                let nibbles = &nibbles[32 * (run % 2)..32 * (run % 2) + 32];
                let a = [2 * run, 2 * run + 1].map(|group| d * f32::from(scales[group].cast_signed()));
                for (l, x) in out.iter_mut().enumerate() {
                    let low = (nibbles[l] >> (4 * (run / 2))) & 0x0f;
                    let code = low | (((pairs[l] >> (2 * run)) & 3) << 4);
                    *x = a[l / 16] * f32::from(code as i8 - 32);
                }
            }
        }
    }
}
