//! Whether the prediction came true. Every claim is made by its interval, and "not resolved" is an answer.

use lorascope_analyses::Interval;
use std::fmt;

/// A random set counts as as good as the set if the set recovers less than so much more than it.
pub(super) const MARGIN: f64 = 0.1;
/// With fewer clusters of prompts no interval decides anything.
pub(super) const FEWEST_CLUSTERS: usize = 5;

/// What became of a claim, or of the whole prediction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Confirmed,
    /// It does not hold.
    NotConfirmed,
    /// The data do not say.
    NotResolved,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Confirmed => "confirmed",
            Self::NotConfirmed => "not confirmed",
            Self::NotResolved => "not resolved",
        })
    }
}

/// Whether a recovery reaches what it has to.
pub(super) fn reached(recovery: Option<Interval>, needed: f64, n_clusters: usize) -> Verdict {
    match recovery {
        _ if n_clusters < FEWEST_CLUSTERS => Verdict::NotResolved,
        Some(i) if i.lo >= needed => Verdict::Confirmed,
        Some(i) if i.hi < needed => Verdict::NotConfirmed,
        _ => Verdict::NotResolved,
    }
}

/// Whether the set recovers more than another, from the difference: by more than two trainings of the same thing differ (`noise`),
/// which intervals over prompts do not know.
pub(super) fn above(difference: Option<Interval>, noise: f64, n_clusters: usize) -> Verdict {
    match difference {
        _ if n_clusters < FEWEST_CLUSTERS => Verdict::NotResolved,
        Some(i) if i.lo > noise => Verdict::Confirmed,
        Some(i) if i.hi < MARGIN => Verdict::NotConfirmed,
        _ => Verdict::NotResolved,
    }
}

/// All claims together: one that fails fails the whole, one that is open leaves it open. No random set to compare with leaves it open.
pub(super) fn all(reached: Verdict, above: &[Verdict]) -> Verdict {
    let claims = || above.iter().copied().chain([reached]);
    if claims().any(|c| c == Verdict::NotConfirmed) {
        Verdict::NotConfirmed
    } else if above.is_empty() || claims().any(|c| c == Verdict::NotResolved) {
        Verdict::NotResolved
    } else {
        Verdict::Confirmed
    }
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Confirmed, NotConfirmed, NotResolved};
    use super::*;

    fn interval(lo: f64, hi: f64) -> Option<Interval> {
        Some(Interval { mean: (lo + hi) / 2.0, lo, hi })
    }

    #[test]
    fn every_claim_is_made_by_its_interval() {
        assert_eq!(reached(interval(0.9, 1.0), 0.9, 20), Confirmed);
        assert_eq!(reached(interval(0.8, 0.95), 0.9, 20), NotResolved);
        assert_eq!(reached(interval(0.2, 0.8), 0.9, 20), NotConfirmed);
        assert_eq!(reached(interval(1.0, 1.0), 0.9, 1), NotResolved, "one cluster shows nothing");
        assert_eq!(reached(None, 0.9, 20), NotResolved);
        assert_eq!(above(interval(0.03, 0.3), 0.02, 20), Confirmed);
        assert_eq!(above(interval(0.03, 0.3), 0.05, 20), NotResolved, "another seed may do as much");
        assert_eq!(above(interval(0.01, 0.02), 0.05, 20), NotConfirmed, "as good, within the margin");
        assert_eq!(above(interval(-0.05, 0.05), 0.0, 20), NotConfirmed);
        assert_eq!(above(interval(-0.3, -0.1), 0.0, 20), NotConfirmed);
        assert_eq!(above(interval(-0.1, 0.2), 0.0, 20), NotResolved);
        assert_eq!(above(interval(0.1, 0.2), 0.0, 4), NotResolved);
        assert_eq!(above(None, 0.0, 20), NotResolved);
    }

    #[test]
    fn one_claim_that_fails_fails_the_whole() {
        assert_eq!(all(Confirmed, &[Confirmed, Confirmed]), Confirmed);
        assert_eq!(all(Confirmed, &[Confirmed, NotResolved]), NotResolved);
        assert_eq!(all(NotResolved, &[NotConfirmed, Confirmed]), NotConfirmed);
        assert_eq!(all(NotConfirmed, &[Confirmed]), NotConfirmed);
        assert_eq!(all(Confirmed, &[]), NotResolved, "nothing to be above of");
    }
}
