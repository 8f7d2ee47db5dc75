//! Small operations on rows.

use crate::Real;
use crate::norm::lane_sum;

vectorised! {
    /// `x += y`.
    pub fn add_assign<R: Real>(x: &mut [R], y: &[R]) {
        for (a, &b) in x.iter_mut().zip(y) {
            *a += b;
        }
    }
}

vectorised! {
    /// `x *= s`.
    pub fn scale_assign<R: Real>(x: &mut [R], s: R) {
        for a in x {
            *a *= s;
        }
    }
}

vectorised! {
    /// `x += s · y`, in one rounding each.
    pub fn add_scaled_assign<R: Real>(x: &mut [R], s: R, y: &[R]) {
        for (a, &b) in x.iter_mut().zip(y) {
            *a = s.mul_add(b, *a);
        }
    }
}

vectorised! {
    /// Adds `row` (a bias) to every row of `x`.
    pub fn add_row<R: Real>(x: &mut [R], row: &[R]) {
        for r in x.chunks_exact_mut(row.len().max(1)) {
            for (a, &b) in r.iter_mut().zip(row) {
                *a += b;
            }
        }
    }
}

vectorised! {
    /// Multiplies every row of `x` by `row`, element by element.
    pub fn hadamard_rows<R: Real>(x: &mut [R], row: &[R]) {
        for r in x.chunks_exact_mut(row.len().max(1)) {
            for (a, &b) in r.iter_mut().zip(row) {
                *a *= b;
            }
        }
    }
}

vectorised! {
    /// Dot product, in f64 for either type: it serves norms and metrics, not the forward pass.
    pub fn dot<R: Real>(x: &[R], y: &[R]) -> f64 {
        let products: f64 = x.iter().zip(y).map(|(a, b)| a.to_f64() * b.to_f64()).sum();
        products
    }
}

vectorised! {
    /// Whether every element is finite.
    pub fn all_finite<R: Real>(x: &[R]) -> bool {
        // 0 · x is 0 for finite numbers and NaN for all others; a sum needs no branch.
        lane_sum(x, |v| v * R::ZERO) == R::ZERO
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finiteness_sees_every_position() {
        for at in 0..40 {
            for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
                let mut x = vec![1.0f32; 40];
                assert!(all_finite(&x));
                x[at] = bad;
                assert!(!all_finite(&x), "{bad} at {at}");
            }
        }
    }

    #[test]
    fn rows_are_added_and_multiplied() {
        let mut x = [1.0f64, 2.0, 3.0, 4.0];
        add_row(&mut x, &[10.0, 20.0]);
        hadamard_rows(&mut x, &[2.0, 1.0]);
        add_assign(&mut x, &[1.0, 1.0, 1.0, 1.0]);
        scale_assign(&mut x, 0.5);
        assert_eq!(x, [11.5, 11.5, 13.5, 12.5]);
        assert_eq!(dot(&[1.0f32, 2.0], &[3.0, 4.0]), 11.0);
    }
}
