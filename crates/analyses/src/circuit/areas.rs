//! A faithfulness curve in two numbers (Mueller et al. 2025, arXiv 2504.13151).

/// The areas under a curve of faithfulness f over the fraction of components, trapezoids between its points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Areas {
    /// The area under f: how soon the behaviour arrives.
    pub cpr: f64,
    /// The area under |1 − f|: how far the circuits are from the model, below or above.
    pub cmd: f64,
}

/// Areas under the curve through these points, (fraction, f) with ascending fractions. `None` where f is undefined somewhere.
pub(super) fn areas(points: &[(f64, Option<f64>)]) -> Option<Areas> {
    let points: Vec<(f64, f64)> = points.iter().map(|(x, f)| f.map(|f| (*x, f))).collect::<Option<_>>()?;
    let area = |value: &dyn Fn(f64) -> f64| {
        let trapezoid = |w: &[(f64, f64)]| (w[1].0 - w[0].0) * (value(w[0].1) + value(w[1].1)) / 2.0;
        points.windows(2).map(trapezoid).sum::<f64>()
    };
    Some(Areas { cpr: area(&|f| f), cmd: area(&|f| (1.0 - f).abs()) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn by_hand() {
        let found = areas(&[(0.0, Some(0.0)), (0.25, Some(0.8)), (1.0, Some(1.0))]).unwrap();
        assert!((found.cpr - (0.25 * 0.4 + 0.75 * 0.9)).abs() < 1e-12);
        assert!((found.cmd - (0.25 * 0.6 + 0.75 * 0.1)).abs() < 1e-12);
    }

    #[test]
    fn a_curve_that_is_undefined_has_none() {
        assert_eq!(areas(&[(0.0, None), (1.0, None)]), None);
        assert_eq!(areas(&[(0.0, Some(0.0)), (0.5, None), (1.0, Some(1.0))]), None);
    }

    /// The definition in plain loops: f is read off the straight line between neighbouring points, |1 − f| too; both are
    /// summed as thin slices by their middles, which is exact on straight lines.
    fn by_slices(points: &[(f64, f64)]) -> (f64, f64) {
        const SLICES: usize = 64;
        let (mut cpr, mut cmd) = (0.0, 0.0);
        for i in 1..points.len() {
            let ((x0, f0), (x1, f1)) = (points[i - 1], points[i]);
            let (mut sum_f, mut sum_distance) = (0.0, 0.0);
            for slice in 0..SLICES {
                let t = (slice as f64 + 0.5) / SLICES as f64;
                sum_f += f0 + t * (f1 - f0);
                let (d0, d1) = ((1.0 - f0).abs(), (1.0 - f1).abs());
                sum_distance += d0 + t * (d1 - d0);
            }
            cpr += (x1 - x0) * sum_f / SLICES as f64;
            cmd += (x1 - x0) * sum_distance / SLICES as f64;
        }
        (cpr, cmd)
    }

    /// Fractions from 0 to 1 with a value at each.
    fn curve(values: impl Strategy<Value = f64>) -> impl Strategy<Value = Vec<(f64, f64)>> {
        prop::collection::vec((0.0..1.0f64, values), 2..30).prop_map(|mut points| {
            points.sort_by(|a, b| a.0.total_cmp(&b.0));
            let last = points.len() - 1;
            (points[0].0, points[last].0) = (0.0, 1.0);
            points
        })
    }

    fn of(points: &[(f64, f64)]) -> Areas {
        areas(&points.iter().map(|&(x, f)| (x, Some(f))).collect::<Vec<_>>()).unwrap()
    }

    /// Sums of at most 30 × 64 terms of size 3 in f64.
    const ROUNDING: f64 = 1e-11;

    proptest! {
        #[test]
        fn as_defined(points in curve(-3.0..3.0)) {
            let (found, (cpr, cmd)) = (of(&points), by_slices(&points));
            prop_assert!((found.cpr - cpr).abs() < ROUNDING, "{found:?}, {cpr}");
            prop_assert!((found.cmd - cmd).abs() < ROUNDING, "{found:?}, {cmd}");
        }

        /// Both lie between the extremes of what they are means of, and no curve is nearer to 1 than its mean is.
        #[test]
        fn within_bounds(points in curve(-3.0..3.0)) {
            let found = of(&points);
            let f = || points.iter().map(|p| p.1);
            let (least, most) = (f().fold(f64::INFINITY, f64::min), f().fold(f64::NEG_INFINITY, f64::max));
            prop_assert!(least - ROUNDING <= found.cpr && found.cpr <= most + ROUNDING);
            let farthest = f().map(|f| (1.0 - f).abs()).fold(0.0, f64::max);
            prop_assert!((1.0 - found.cpr).abs() - ROUNDING <= found.cmd && found.cmd <= farthest + ROUNDING);
        }

        /// Where no circuit does more than the model, the two say the same.
        #[test]
        fn they_add_up_below_one(points in curve(-3.0..=1.0)) {
            let found = of(&points);
            prop_assert!((found.cpr + found.cmd - 1.0).abs() < ROUNDING, "{found:?}");
        }

        /// What is more faithful everywhere has more area under it, and, below 1, less distance.
        #[test]
        fn more_is_more(points in curve(-3.0..=1.0), share in prop::collection::vec(0.0..1.0f64, 30)) {
            let nearer: Vec<(f64, f64)> =
                points.iter().zip(&share).map(|(&(x, f), s)| (x, f + s * (1.0 - f))).collect();
            let (far, near) = (of(&points), of(&nearer));
            prop_assert!(near.cpr >= far.cpr - ROUNDING && near.cmd <= far.cmd + ROUNDING);
        }

        /// Reading a curve at one more place of its own changes nothing, unless it crosses 1 in between.
        #[test]
        fn a_point_on_the_line_changes_nothing(points in curve(-3.0..=1.0), at in 0.0..1.0f64) {
            let next = points.iter().position(|p| p.0 > at).unwrap();
            let ((x0, f0), (x1, f1)) = (points[next - 1], points[next]);
            let between = (at, f0 + (at - x0) / (x1 - x0) * (f1 - f0));
            let finer = [&points[..next], &[between], &points[next..]].concat();
            let (plain, fine) = (of(&points), of(&finer));
            prop_assert!((plain.cpr - fine.cpr).abs() < ROUNDING && (plain.cmd - fine.cmd).abs() < ROUNDING);
        }
    }

    #[test]
    fn what_arrives_at_once_or_never() {
        let found = |f: &dyn Fn(f64) -> f64| {
            let points: Vec<(f64, f64)> =
                (0..=100).map(|i| f64::from(i) / 100.0).map(|x| (x, f(x))).collect();
            of(&points)
        };
        let near = |a: Areas, cpr: f64, cmd: f64| (a.cpr - cpr).abs() < 1e-12 && (a.cmd - cmd).abs() < 1e-12;
        assert!(near(found(&|_| 1.0), 1.0, 0.0), "everything at once");
        assert!(near(found(&|_| 0.0), 0.0, 1.0), "nothing ever");
        assert!(near(found(&|x| x), 0.5, 0.5), "evenly");
        assert!(near(found(&|_| 1.5), 1.5, 0.5), "too much is not faithful");
    }
}
