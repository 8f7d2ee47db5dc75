//! The number types that lorascope computes in.

use crate::device::Device;
use crate::matmul::{self, Write};
use crate::{MatMut, MatRef, Packed};
use std::fmt::Debug;
use std::iter::Sum;
use std::ops::{Add, AddAssign, Div, DivAssign, Mul, MulAssign, Neg, Range, Sub, SubAssign};

/// f32 for work, f64 for checks (finite differences, parity without rounding noise).
pub trait Real:
    Copy
    + Send
    + Sync
    + Default
    + Debug
    + PartialOrd
    + Add<Output = Self>
    + Sub<Output = Self>
    + Mul<Output = Self>
    + Div<Output = Self>
    + Neg<Output = Self>
    + AddAssign
    + SubAssign
    + MulAssign
    + DivAssign
    + Sum
    + 'static
{
    /// Zero.
    const ZERO: Self;
    /// One.
    const ONE: Self;
    /// Minus infinity: the logarithm of probability zero, the maximum of nothing.
    const NEG_INFINITY: Self;
    /// Rounds an f32 (exact for both types).
    fn from_f32(x: f32) -> Self;
    /// Rounds an f64.
    fn from_f64(x: f64) -> Self;
    /// Widens to f64.
    fn to_f64(self) -> f64;
    /// Rounds to f32.
    fn to_f32(self) -> f32;
    /// `self * a + b`, rounded once where the machine can.
    fn mul_add(self, a: Self, b: Self) -> Self;
    /// Square root.
    fn sqrt(self) -> Self;
    /// Exponential; within 2 units in the last place, 0 for minus infinity, NaN for NaN.
    fn exp(self) -> Self;
    /// Hyperbolic tangent; within 4 units in the last place.
    fn tanh(self) -> Self;
    /// Neither infinite nor NaN.
    fn is_finite(self) -> bool;
    /// The device that large products of this type go to.
    fn device() -> Option<&'static dyn Device<Self>> {
        None
    }
    /// [`crate::matmul_inner`]. A method, so that its loops are compiled in this crate, and not in every crate that calls it.
    #[doc(hidden)]
    fn matmul_inner(
        out: MatMut<Self>,
        x: MatRef<Self>,
        w: &Packed<Self>,
        inner: Range<usize>,
        write: Write<Self>,
    );
    /// [`crate::matmul_transposed`], for the same reason.
    #[doc(hidden)]
    fn matmul_transposed(out: MatMut<Self>, dy: MatRef<Self>, w: &Packed<Self>, write: Write<Self>);
}

macro_rules! products {
    () => {
        fn matmul_inner(
            out: MatMut<Self>,
            x: MatRef<Self>,
            w: &Packed<Self>,
            inner: Range<usize>,
            write: Write<Self>,
        ) {
            matmul::product(out, x, w, inner, write);
        }
        fn matmul_transposed(out: MatMut<Self>, dy: MatRef<Self>, w: &Packed<Self>, write: Write<Self>) {
            matmul::transposed_product(out, dy, w, write);
        }
    };
}

impl Real for f32 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f32::NEG_INFINITY;
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x as f32
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(self)
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f32::mul_add(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f32::sqrt(self)
    }
    /// Cody-Waite reduction to [-ln2/2, ln2/2] and a degree-6 polynomial, without branches, so that loops over
    /// it vectorise (the library function is a call per element).
    #[inline(always)]
    fn exp(self) -> Self {
        const ROUND: f32 = 12_582_912.0; // 1.5 * 2^23: adding it leaves the rounded integer in the low bits
        let x = self.clamp(-87.33, 88.72); // keeps NaN
        let shifted = f32::mul_add(x, std::f32::consts::LOG2_E, ROUND);
        let n = shifted - ROUND;
        let r = f32::mul_add(n, -0.693_359_4, x);
        let r = f32::mul_add(n, 2.121_944_4e-4, r);
        let p = f32::mul_add(1.987_569_1e-4, r, 1.398_199_9e-3);
        let p = f32::mul_add(p, r, 8.333_452e-3);
        let p = f32::mul_add(p, r, 4.166_579_6e-2);
        let p = f32::mul_add(p, r, 1.666_666_5e-1);
        let p = f32::mul_add(p, r, 5e-1);
        let e = f32::mul_add(p, r * r, r + 1.0);
        // 2^n in two factors: n reaches 128, whose own exponent field would overflow.
        let bits = shifted.to_bits().wrapping_sub(ROUND.to_bits()) as i32;
        let half = bits >> 1;
        let two_to_half = f32::from_bits(((half + 127) << 23) as u32);
        let two_to_rest = f32::from_bits(((bits - half + 127) << 23) as u32);
        let value = e * two_to_half * two_to_rest;
        if self < -87.33 {
            0.0
        } else if self > 88.72 {
            f32::INFINITY
        } else {
            value
        }
    }
    /// Odd polynomial near zero, where `1 - 2/(e^2x + 1)` would cancel; the exponential elsewhere.
    #[inline(always)]
    fn tanh(self) -> Self {
        let z = self * self;
        let p = f32::mul_add(-5.704_988_7e-3, z, 2.063_909e-2);
        let p = f32::mul_add(p, z, -5.373_971_6e-2);
        let p = f32::mul_add(p, z, 1.333_144_2e-1);
        let p = f32::mul_add(p, z, -3.333_328_4e-1);
        let small = f32::mul_add(p * z, self, self);
        let magnitude = 1.0 - 2.0 / (Real::exp(2.0 * self.abs()) + 1.0);
        let large = f32::copysign(magnitude, self);
        if self.abs() < 0.625 { small } else { large }
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f32::is_finite(self)
    }
    fn device() -> Option<&'static dyn Device<Self>> {
        crate::device::device()
    }
    products!();
}

impl Real for f64 {
    const ZERO: Self = 0.0;
    const ONE: Self = 1.0;
    const NEG_INFINITY: Self = f64::NEG_INFINITY;
    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        f64::from(x)
    }
    #[inline(always)]
    fn from_f64(x: f64) -> Self {
        x
    }
    #[inline(always)]
    fn to_f64(self) -> f64 {
        self
    }
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self as f32
    }
    #[inline(always)]
    fn mul_add(self, a: Self, b: Self) -> Self {
        f64::mul_add(self, a, b)
    }
    #[inline(always)]
    fn sqrt(self) -> Self {
        f64::sqrt(self)
    }
    #[inline(always)]
    fn exp(self) -> Self {
        f64::exp(self)
    }
    #[inline(always)]
    fn tanh(self) -> Self {
        f64::tanh(self)
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        f64::is_finite(self)
    }
    products!();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Distance in representable numbers; signs equal in these tests.
    fn ulps(a: f32, b: f32) -> u32 {
        a.to_bits().abs_diff(b.to_bits())
    }

    #[test]
    fn exp_and_tanh_stay_within_their_stated_error() {
        for i in -87_000..88_700 {
            let x = i as f32 * 1e-3;
            let exact = f64::exp(f64::from(x)) as f32;
            assert!(ulps(Real::exp(x), exact) <= 2, "exp({x}) = {} against {exact}", Real::exp(x));
            let t = x * 0.1;
            let exact = f64::tanh(f64::from(t)) as f32;
            assert!(ulps(Real::tanh(t), exact) <= 4, "tanh({t}) = {} against {exact}", Real::tanh(t));
        }
    }

    #[test]
    fn exp_and_tanh_at_the_ends() {
        assert_eq!(Real::exp(f32::NEG_INFINITY), 0.0);
        assert_eq!(Real::exp(0.0f32), 1.0);
        assert_eq!(Real::exp(f32::INFINITY), f32::INFINITY);
        assert!(Real::exp(f32::NAN).is_nan() && Real::tanh(f32::NAN).is_nan());
        assert_eq!(Real::tanh(100.0f32), 1.0);
        assert_eq!(Real::tanh(-100.0f32), -1.0);
    }
}
