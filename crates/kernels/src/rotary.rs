//! Rotary position embedding (Su et al. 2021), in the half-split layout that Hugging Face checkpoints use.

use crate::Real;

vectorised! {
    /// Rotates every head of a row: pairs `(x[i], x[i + half])` turn by the angle whose cosine and sine are given.
    /// `row` holds heads of `2 · cos.len()` elements one after another.
    pub fn rotate_half<R: Real>(row: &mut [R], cos: &[R], sin: &[R]) {
        let half = cos.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let (x, y) = (*a, *b);
                *a = x * c - y * s;
                *b = y * c + x * s;
            }
        }
    }
}

vectorised! {
    /// Turns every head of a row back: undoes [`rotate_half`], and takes gradients back through it.
    pub fn rotate_half_back<R: Real>(row: &mut [R], cos: &[R], sin: &[R]) {
        let half = cos.len();
        for head in row.chunks_exact_mut(2 * half) {
            let (first, second) = head.split_at_mut(half);
            for (((a, b), &c), &s) in first.iter_mut().zip(second).zip(cos).zip(sin) {
                let (x, y) = (*a, *b);
                *a = x * c + y * s;
                *b = y * c - x * s;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quarter_turn_swaps_the_halves() {
        let mut row = [1.0f64, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0];
        rotate_half(&mut row, &[0.0, 0.0], &[1.0, 1.0]);
        assert_eq!(row, [-3.0, -4.0, 1.0, 2.0, -7.0, -8.0, 5.0, 6.0]);
        rotate_half_back(&mut row, &[0.0, 0.0], &[1.0, 1.0]);
        assert_eq!(row, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    }
}
