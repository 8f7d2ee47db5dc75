//! Change points against brute force and against curves without order; which adapters are a trajectory.

use super::behaviour::{Decided, Values};
use super::changes::shares;
use super::segments::{Costs, Curve, MOST, Orders, Share, curve};
use super::{CheckpointName, TrajectoryAnalysis, trajectories};
use crate::Analysis;
use crate::bootstrap::Resampler;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::json;

/// About normal: twelve uniform numbers.
fn noise(rng: &mut ChaCha8Rng) -> f64 {
    (0..12).map(|_| rng.random_range(0.0..1.0)).sum::<f64>() - 6.0
}

/// Sum of squares of a partition, from its definition.
fn squares(curve: &Curve, starts: &[usize]) -> f64 {
    let bounds = [&[0], starts, &[curve.n_steps()]].concat();
    let of_run = |x: &[f64]| {
        let mean = x.iter().sum::<f64>() / x.len() as f64;
        x.iter().map(|v| (v - mean).powi(2)).sum::<f64>()
    };
    let of = |x: &Vec<f64>| bounds.windows(2).map(|b| of_run(&x[b[0]..b[1]])).sum::<f64>();
    curve.values.iter().zip(&curve.weights).map(|(x, w)| w * of(x)).sum()
}

/// All partitions with at most [`MOST`] changes.
fn all_partitions(n: usize) -> Vec<Vec<usize>> {
    let subset = |bits: usize| (1..n).filter(|i| bits >> (i - 1) & 1 == 1).collect::<Vec<usize>>();
    (0..1usize << (n - 1)).map(subset).filter(|starts| starts.len() <= MOST).collect()
}

#[test]
fn the_fit_is_the_best_of_all_partitions() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for trial in 0..120 {
        let (n, dimensions) = (1 + trial % 10, 1 + trial % 3);
        let level = |t: usize| if t > n / 2 { 2.0 } else { 0.0 };
        let values = (0..dimensions).map(|_| (0..n).map(|t| level(t) + noise(&mut rng)).collect()).collect();
        let weights = (0..dimensions).map(|_| rng.random_range(0.1..1.0)).collect();
        let curve = Curve { values, weights };
        let costs = Costs::new(&curve);
        let all: Vec<(f64, Vec<usize>)> =
            all_partitions(n).into_iter().map(|s| (squares(&curve, &s), s)).collect();
        for (k, (rss, starts)) in costs.partitions().into_iter().enumerate() {
            let best = all.iter().filter(|(_, s)| s.len() == k).map(|(r, _)| *r).fold(f64::MAX, f64::min);
            assert!(
                (rss - best).abs() < 1e-9 && (squares(&curve, &starts) - best).abs() < 1e-9,
                "{k} of {n}"
            );
        }
        for penalty in [0.0, 0.3, 1.0, 3.0, 30.0] {
            let sum = |starts: &[usize]| squares(&curve, starts) + penalty * starts.len() as f64;
            let best = all.iter().map(|(_, s)| sum(s)).fold(f64::MAX, f64::min);
            assert!((sum(&costs.fit(penalty)) - best).abs() < 1e-9, "penalty {penalty}, {n} steps");
        }
        // The statistic is the penalty at which the last change goes.
        let t = costs.statistic();
        if t > 0.0 {
            assert!(!costs.fit(t * 0.999).is_empty() && costs.fit(t * 1.001).is_empty(), "{t}");
        }
    }
}

/// Clusters with levels of their own in two coordinates, and noise by step.
fn clusters(rng: &mut ChaCha8Rng, n_clusters: usize, n_steps: usize) -> Vec<Share> {
    let share = |rng: &mut ChaCha8Rng| {
        let row = |rng: &mut ChaCha8Rng| {
            let level = 5.0 * noise(rng);
            (0..n_steps).map(|_| level + noise(rng)).collect()
        };
        Share { sums: (0..2).map(|_| row(rng)).collect(), counts: vec![1.0, 2.0] }
    };
    (0..n_clusters).map(|_| share(rng)).collect()
}

/// With 5% of a thousand expected, 71 is three standard deviations more.
#[test]
fn curves_without_order_have_a_change_no_more_often_than_their_level() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    for (n_clusters, n_steps) in [(12, 10), (1, 12), (4, 8)] {
        let mut found = 0;
        for trial in 0..1000 {
            let shares = clusters(&mut rng, n_clusters, n_steps);
            let test = Orders::new(n_steps, n_clusters, 99, trial).test(&shares, 0.05);
            assert_eq!(test.p.is_some_and(|p| p <= 0.05), !test.starts.is_empty());
            found += usize::from(!test.starts.is_empty());
        }
        assert!(found <= 71, "{n_clusters} clusters: {found} of 1000");
        // A test that never finds anything would pass too.
        assert!(found >= 20, "{n_clusters} clusters: {found} of 1000");
    }
}

#[test]
fn a_planted_change_is_found_where_it_is() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let (n_clusters, n_steps) = (12, 12);
    let mut shares = clusters(&mut rng, n_clusters, n_steps);
    let orders = Orders::new(n_steps, n_clusters, 199, 1);
    for share in &mut shares {
        // Opposite in the two coordinates (of which the second has two prompts): their mean does not change.
        share.sums[0][8..].iter_mut().for_each(|v| *v += 6.0);
        share.sums[1][8..].iter_mut().for_each(|v| *v -= 6.0);
    }
    let test = orders.test(&shares, 0.05);
    assert_eq!(test.starts, [8], "{test:?}");
    assert_eq!(test.p, Some(1.0 / 200.0));
    // One change at the first step, which the permutations of a single curve could not tell.
    for share in &mut shares {
        share.sums.iter_mut().for_each(|x| x[8..].iter_mut().for_each(|v| *v = 0.0));
        share.sums.iter_mut().for_each(|x| x[..8].iter_mut().for_each(|v| *v = 0.0));
        share.sums[0][0] = 9.0 + noise(&mut rng);
    }
    assert_eq!(orders.test(&shares, 0.05).starts, [1]);
    let whole = curve(&shares, None);
    let single = [Share { sums: whole.values.clone(), counts: vec![1.0, 2.0] }];
    assert!(Orders::new(n_steps, 1, 199, 1).test(&single, 0.05).p.unwrap() > 0.05);
}

#[test]
fn flat_curves_are_not_tested() {
    let flat = [Share { sums: vec![vec![0.1 + 0.2; 9], vec![0.0; 9]], counts: vec![3.0, 1.0] }];
    let test = Orders::new(9, 1, 99, 0).test(&flat, 0.05);
    assert_eq!((test.p, test.penalty, test.starts), (None, None, vec![]));
}

#[test]
fn clusters_add_up_to_the_mean_of_prompts() {
    let value = |delta: Vec<f64>| Values { p_b: delta.clone(), legal_mass: delta.clone(), delta };
    let decided = Decided {
        base: value(vec![0.0; 4]),
        steps: vec![value(vec![1.0, 2.0, 3.0, 4.0]), value(vec![5.0, 7.0, 11.0, 13.0])],
    };
    let resampler = Resampler::new(&["a", "b", "a"], 1);
    // Prompt 1 is of another group; 0 and 2 are of one scenario.
    let shares = shares(&[0, 2, 3], &[vec![0, 2], vec![3]], &resampler, &decided);
    assert_eq!(shares.len(), 2);
    let whole = curve(&shares, None);
    assert_eq!(whole.values, [[2.0, 8.0], [4.0, 13.0]]);
    assert_eq!(whole.weights, [2.0 / 3.0, 1.0 / 3.0]);
    // Only the second cluster, twice: one prompt of the first scenario, none of the other.
    let drawn = curve(&shares, Some(&[0, 2]));
    assert_eq!((&drawn.values[0], drawn.weights[1]), (&vec![3.0, 11.0], 0.0));
}

#[test]
fn three_checkpoints_are_a_trajectory() {
    let names = ["s@20", "other", "t@1", "s@0", "s@100", "t@2", "s@20.random"];
    let found = trajectories(names.into_iter().enumerate());
    assert_eq!(found.len(), 1);
    assert_eq!(
        (found[0].name.as_str(), &found[0].steps, &found[0].models),
        ("s", &vec![0, 20, 100], &vec![3, 0, 4])
    );
    assert!(TrajectoryAnalysis.applies(&names));
    assert!(!TrajectoryAnalysis.applies(&["s@0", "s@1", "moral"]) && !TrajectoryAnalysis.applies(&[]));
    assert_eq!(CheckpointName::parse("s@20").unwrap().step, 20);
}

#[test]
fn settings_that_can_not_be_are_refused() {
    for (wrong, says) in [
        (json!({"level": 0.0}), "level is 0"),
        (json!({"floor": -1.0}), "floor is -1"),
        (json!({"permutations": 10}), "must be at least 19"),
    ] {
        let message = TrajectoryAnalysis.settings(&wrong).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
    }
    assert!(TrajectoryAnalysis.settings(&json!({"permutations": 19})).is_ok());
}
