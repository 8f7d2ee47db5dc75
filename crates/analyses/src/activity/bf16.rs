//! What a merge in bf16 makes of an update, in exact arithmetic; how updates are read is not known here.
//!
//! The merge meant is the usual one: the base is held in bf16, the update ΔW is added in higher precision, and the sum
//! is rounded to bf16 once. (PEFT also rounds ΔW to bf16 before it adds it, which is a little worse.) With
//! `R = bf16(bf16(W) + ΔW) − bf16(W)`, the update that survives:
//!
//! * retained = ⟨R, ΔW⟩ / ‖ΔW‖²: 1 where all of it survives, 0 where nothing does;
//! * error = ‖bf16(bf16(W) + ΔW) − (W + ΔW)‖ / ‖ΔW‖: 1 is as wrong as leaving the adapter out. Where the base is stored
//!   in more than bf16, this contains what rounding the base alone costs, ‖bf16(W) − W‖ / ‖ΔW‖, which is given too.

use serde::Serialize;

/// What is left of an update after a merge in bf16; see the module's description.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Bf16Merge {
    /// Projection of the surviving update on the true one, relative to the true one.
    pub retained: f64,
    /// Distance of the merged weight from the true one, relative to the norm of the update.
    pub error: f64,
    /// The part of it that rounding the base alone costs: 0 where the base is stored in bf16.
    pub base_error: f64,
    /// Of the weights that the update changes, the share that is the same after the merge as without the adapter.
    pub unchanged: f64,
}

/// Sums over weights from which norms and merges follow; sums of several matrices add up.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Sums {
    /// Σ ΔW².
    pub delta: f64,
    /// Σ W².
    pub weight: f64,
    /// Σ R·ΔW.
    survived: f64,
    /// Σ (merged − (W + ΔW))².
    error: f64,
    /// Σ (bf16(W) − W)².
    base_error: f64,
    /// Weights with ΔW ≠ 0.
    changed: u64,
    /// Of these, weights with R = 0.
    unchanged: u64,
}

impl Sums {
    /// Adds weights with their exact updates.
    pub fn add_row(&mut self, weight: &[f32], delta: &[f64]) {
        for (&w, &d) in weight.iter().zip(delta) {
            let w = f64::from(w);
            let base = round_to_bf16(w);
            let merged = round_to_bf16(base + d);
            let (survived, off) = (merged - base, merged - (w + d));
            self.delta += d * d;
            self.weight += w * w;
            self.survived += survived * d;
            self.error += off * off;
            self.base_error += (base - w) * (base - w);
            self.changed += u64::from(d != 0.0);
            self.unchanged += u64::from(d != 0.0 && survived == 0.0);
        }
    }

    /// Adds the sums of other weights.
    pub fn add(&mut self, other: &Self) {
        self.delta += other.delta;
        self.weight += other.weight;
        self.survived += other.survived;
        self.error += other.error;
        self.base_error += other.base_error;
        self.changed += other.changed;
        self.unchanged += other.unchanged;
    }

    /// What a merge leaves of the update; `None` where there is none.
    pub fn merge(&self) -> Option<Bf16Merge> {
        (self.delta > 0.0).then(|| Bf16Merge {
            retained: self.survived / self.delta,
            error: (self.error / self.delta).sqrt(),
            base_error: (self.base_error / self.delta).sqrt(),
            unchanged: self.unchanged as f64 / self.changed.max(1) as f64,
        })
    }
}

/// The nearest number with bf16's 8 significant bits, ties to even.
///
/// Exponents are f64's: numbers outside bf16's range (below 1e-38, above 3e38) are not treated as bf16 would treat them.
/// Weights that lie there do not occur, and would weigh nothing in the sums.
fn round_to_bf16(x: f64) -> f64 {
    /// Bits of an f64's fraction that bf16 does not have.
    const DROPPED: u64 = 52 - 7;
    let bits = x.to_bits();
    let odd = (bits >> DROPPED) & 1;
    let below_half = (1u64 << (DROPPED - 1)) - 1;
    f64::from_bits((bits + below_half + odd) & !((1 << DROPPED) - 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounding_is_to_nearest_even() {
        let ulp = 2f64.powi(-7); // between 1 and 2
        assert_eq!(round_to_bf16(1.0), 1.0);
        assert_eq!(round_to_bf16(1.0 + 0.5 * ulp), 1.0);
        assert_eq!(round_to_bf16(1.0 + 0.5000001 * ulp), 1.0 + ulp);
        assert_eq!(round_to_bf16(1.0 + 1.5 * ulp), 1.0 + 2.0 * ulp);
        assert_eq!(round_to_bf16(-1.0 - 0.49 * ulp), -1.0);
        assert_eq!(round_to_bf16(2.0 - 0.1 * ulp), 2.0);
        assert_eq!(round_to_bf16(0.0), 0.0);
    }

    #[test]
    fn rounding_is_that_of_the_stored_type() {
        // Every bf16 number of ordinary size stays; a number just beyond the middle goes up.
        for high in (0x0100u32..0x7f00).step_by(7) {
            let (x, next) = (f32::from_bits(high << 16), f32::from_bits((high + 1) << 16));
            assert_eq!(round_to_bf16(f64::from(x)), f64::from(x));
            let middle = f64::midpoint(f64::from(x), f64::from(next));
            assert_eq!(round_to_bf16(middle * (1.0 + 1e-12)), f64::from(next));
            assert_eq!(round_to_bf16(middle * (1.0 - 1e-12)), f64::from(x));
        }
    }

    #[test]
    fn what_survives_is_counted() {
        let mut sums = Sums::default();
        // ulp of 1.0 is 2^-7: the first update survives whole, the second is lost whole.
        let small = 2f64.powi(-10);
        sums.add_row(&[1.0, 1.0], &[2f64.powi(-7), small]);
        let merge = sums.merge().unwrap();
        let (big, all) = (2f64.powi(-14), 2f64.powi(-14) + small * small);
        assert!((merge.retained - big / all).abs() < 1e-12);
        assert!((merge.error - (small * small / all).sqrt()).abs() < 1e-12);
        assert_eq!((merge.base_error, merge.unchanged), (0.0, 0.5));
        assert_eq!(Sums::default().merge(), None);
    }
}
