//! Held against scipy, statsmodels and scikit-learn (`scripts/statistics_reference.py`).

use super::*;
use crate::linear::{Concordance, Features, Logistic, Ridges};
use lorascope_engine::Mat;
use serde::Deserialize;

/// What is computed in closed form there and here.
const EXACT: f64 = 1e-12;
/// Incomplete beta functions of two libraries, and quantiles found by halving.
const SPECIAL: f64 = 1e-9;

#[derive(Deserialize)]
struct Fixture {
    adjusted: Vec<Adjusted>,
    shares: Vec<Share>,
    equivalence: Vec<Equivalence>,
    sign_flips: Vec<Flips>,
    bootstrap: Bootstrap,
    ranks: Ranks,
    probes: Probes,
}

#[derive(Deserialize)]
struct Adjusted {
    p: Vec<f64>,
    q: Vec<f64>,
}

#[derive(Deserialize)]
struct Share {
    k: usize,
    n: usize,
    lo: f64,
    hi: f64,
    bound: f64,
}

#[derive(Deserialize)]
struct Equivalence {
    differences: Vec<f64>,
    margin: f64,
    p: f64,
}

#[derive(Deserialize)]
struct Flips {
    differences: Vec<f64>,
    p: f64,
}

#[derive(Deserialize)]
struct Bootstrap {
    clusters: Vec<usize>,
    values: Vec<f64>,
    draws: Vec<Vec<usize>>,
    lo: f64,
    hi: f64,
}

#[derive(Deserialize)]
struct Ranks {
    a: Vec<f64>,
    b: Vec<f64>,
    spearman: f64,
}

#[derive(Deserialize)]
struct Probes {
    rows: Vec<Vec<f32>>,
    labels: Vec<bool>,
    numbers: Vec<f64>,
    fit: Vec<usize>,
    predict: Vec<usize>,
    penalty: f64,
    logistic: Vec<f64>,
    ridge: Vec<f64>,
    accuracy: f64,
    auc: f64,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../tests/data/statistics.json"))
        .expect("the fixture is well-formed")
}

fn near(found: f64, expected: f64, allowed: f64, what: &str) {
    assert!(
        (found - expected).abs() <= allowed * expected.abs().max(1.0),
        "{what}: {found} and not {expected}"
    );
}

/// One prompt a cluster.
fn each(n: usize) -> Design {
    let names: Vec<String> = (0..n).map(|i| format!("t{i:03}")).collect();
    Design::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), 0)
}

#[test]
fn adjusted_p_values_are_those_of_statsmodels() {
    for case in fixture().adjusted {
        for (q, expected) in benjamini_hochberg(&case.p).iter().zip(&case.q) {
            near(*q, *expected, EXACT, "q");
        }
    }
}

#[test]
fn intervals_of_shares_are_those_of_scipy() {
    for case in fixture().shares {
        let what = format!("{} of {}", case.k, case.n);
        let found = share_interval(case.k as u64, case.n as u64).expect("something was seen");
        near(found.lo, case.lo, SPECIAL, &what);
        near(found.hi, case.hi, SPECIAL, &what);
        near(share_bound(case.k, case.n), case.bound, SPECIAL, &what);
    }
}

#[test]
fn equivalence_is_that_of_statsmodels() {
    for case in fixture().equivalence {
        let p = each(case.differences.len()).equivalence(&case.differences, case.margin);
        near(p.expect("several clusters"), case.p, SPECIAL, &format!("{:?}", case.differences));
    }
}

#[test]
fn sign_flips_are_those_of_scipys_enumeration() {
    for case in fixture().sign_flips {
        let found = each(case.differences.len()).compare(&case.differences).p;
        near(found, case.p, EXACT, &format!("{:?}", case.differences));
    }
}

/// The same draws give numpy's percentiles; where the program cuts instead is [`crate::bootstrap`]'s to say.
#[test]
fn percentiles_of_given_draws_are_those_of_numpy() {
    let case = fixture().bootstrap;
    let n = case.clusters.iter().max().expect("clusters") + 1;
    let draws = case.draws.iter().map(|draw| {
        let mut times = vec![0; n];
        draw.iter().for_each(|&c| times[c] += 1);
        times
    });
    let resampler = Resampler::given(case.clusters, draws.collect(), 0.025);
    for found in [
        resampler.mean(&case.values),
        resampler
            .statistic(&[&case.values, &vec![1.0; case.values.len()]], |s| s[0] / s[1])
            .expect("defined"),
    ] {
        near(found.lo, case.lo, EXACT, "lower end");
        near(found.hi, case.hi, EXACT, "upper end");
    }
}

#[test]
fn rank_correlation_is_that_of_scipy() {
    let case = fixture().ranks;
    near(spearman(&case.a, &case.b).expect("both vary"), case.spearman, EXACT, "Spearman");
}

/// A coefficient is what a step of one along its coordinate adds.
#[test]
fn coefficients_accuracy_and_auc_of_probes_are_those_of_scikit_learn() {
    let case = fixture().probes;
    let d = case.rows[0].len();
    // Behind the rows: the first again, and the first with a step of 1024 along each coordinate, which f32 holds exactly enough.
    const STEP: f32 = 1024.0;
    let mut rows = case.rows.clone();
    let origin = rows.len();
    rows.push(vec![0.0; d]);
    for k in 0..d {
        let mut stepped = vec![0.0; d];
        stepped[k] = STEP;
        rows.push(stepped);
    }
    let mat = Mat { data: rows.concat(), rows: rows.len(), cols: d };
    let asked: Vec<usize> = case.predict.iter().copied().chain(origin..=origin + d).collect();
    let features = Features::new(&mat, &case.fit, &asked);
    let labels: Vec<bool> = case.fit.iter().map(|&i| case.labels[i]).collect();
    let numbers: Vec<f64> = case.fit.iter().map(|&i| case.numbers[i]).collect();
    let logistic = Logistic::fit(&features.fit, &labels, &[case.penalty]).expect("two classes");
    let scores = logistic[0].scores(&features.predict);
    let ridge = Ridges::new(&features.fit, &[case.penalty]).expect("solvable").predict(
        0,
        &numbers,
        &features.predict,
    );
    let n = case.predict.len();
    for k in 0..d {
        let step = |of: &[f64]| (of[n + 1 + k] - of[n]) / f64::from(STEP);
        near(step(&scores), case.logistic[k], 1e-9, &format!("logistic, coordinate {k}"));
        near(step(&ridge), case.ridge[k], 1e-9, &format!("ridge, coordinate {k}"));
    }
    let truth: Vec<bool> = case.predict.iter().map(|&i| case.labels[i]).collect();
    let right = truth.iter().zip(&scores).filter(|(t, s)| **t == (**s > 0.0)).count();
    near(right as f64 / n as f64, case.accuracy, EXACT, "accuracy");
    let items: Vec<_> = (0..n).map(|i| (0, i, scores[i], truth[i])).collect();
    near(Concordance::new(&items).interval(&[]).expect("both classes").mean, case.auc, EXACT, "AUC");
}
