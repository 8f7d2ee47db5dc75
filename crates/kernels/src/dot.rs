//! Single elements of a matrix product, for whoever needs few of them and the very bits of the product.

use crate::Real;
use crate::matmul::{BLOCK_K, PARTIAL_K};

/// Running sums of a block: independent, so that they can be worked on side by side.
const PARTIALS: usize = BLOCK_K / PARTIAL_K;

vectorised! {
    /// One output element, `Σ_k x[k] · w[k]`, bit for bit what [`crate::matmul`] computes for it with
    /// [`crate::Write::Set`]: running fused multiply-adds over 32 indices each, added up first within and then over blocks of 256.
    /// Panics when the lengths differ.
    pub fn dot_ordered<R: Real>(x: &[R], w: &[R]) -> R {
        assert_eq!(x.len(), w.len(), "lengths of the factors of a product");
        let mut out = R::ZERO;
        for (b, (x, w)) in x.chunks(BLOCK_K).zip(w.chunks(BLOCK_K)).enumerate() {
            let total = match (x.as_array::<BLOCK_K>(), w.as_array::<BLOCK_K>()) {
                (Some(x), Some(w)) => whole_block(x, w),
                _ => block(x, w),
            };
            // As the product does: the first block is written, the others are added.
            out = if b == 0 { total } else { R::ONE.mul_add(total, out) };
        }
        out
    }
}

#[inline(always)]
fn block<R: Real>(x: &[R], w: &[R]) -> R {
    let mut total = R::ZERO;
    for (x, w) in x.chunks(PARTIAL_K).zip(w.chunks(PARTIAL_K)) {
        total += x.iter().zip(w).fold(R::ZERO, |sum, (&a, &b)| a.mul_add(b, sum));
    }
    total
}

/// [`block`] with its running sums side by side: one alone waits for each of its additions.
#[inline(always)]
fn whole_block<R: Real>(x: &[R; BLOCK_K], w: &[R; BLOCK_K]) -> R {
    let mut sums = [R::ZERO; PARTIALS];
    for k in 0..PARTIAL_K {
        for (p, sum) in sums.iter_mut().enumerate() {
            *sum = x[p * PARTIAL_K + k].mul_add(w[p * PARTIAL_K + k], *sum);
        }
    }
    sums.into_iter().fold(R::ZERO, |total, sum| total + sum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MatMut, MatRef, Packed, Write, matmul};

    #[test]
    fn an_element_has_the_bits_that_the_product_gives_it() {
        for n in 0..600 {
            let x: Vec<f32> = (0..n).map(|i| (i as f32 * 0.71).sin() * 3.0).collect();
            let w: Vec<f32> = (0..n).map(|i| (i as f32 * 1.37).cos()).collect();
            let packed = Packed::from_output_rows(MatRef::new(&w, 1, n));
            let mut out = [f32::NAN];
            matmul(MatMut::new(&mut out, 1, 1), MatRef::new(&x, 1, n), &packed, Write::Set);
            assert_eq!(dot_ordered(&x, &w).to_bits(), out[0].to_bits(), "length {n}");
            let exact: f64 = x.iter().zip(&w).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
            assert!((f64::from(out[0]) - exact).abs() < 1e-3, "length {n}");
        }
    }
}
