//! The linear models against scikit-learn (`scripts/probe_fixtures.py`), and features against their definition.

use super::logistic::mean_log_loss;
use super::*;
use lorascope_engine::Mat;
use serde::Deserialize;

/// Both minima are exact to rounding; coordinates in the span of the rows lose half of the digits of a tiny singular value.
const TOLERANCE: f64 = 1e-9;

#[derive(Deserialize)]
struct Fixture {
    cases: Vec<Case>,
    ties: Ties,
}

#[derive(Deserialize)]
struct Case {
    name: String,
    rows: Vec<Vec<f32>>,
    labels: Vec<bool>,
    numbers: Vec<f64>,
    fit: Vec<usize>,
    predict: Vec<usize>,
    penalties: Vec<f64>,
    logistic: Vec<Vec<f64>>,
    ridge: Vec<Vec<f64>>,
    ridge_classifier: Vec<Vec<f64>>,
    log_loss: f64,
    auc: f64,
    r2: f64,
}

#[derive(Deserialize)]
struct Ties {
    scores: Vec<f64>,
    labels: Vec<bool>,
    auc: f64,
}

fn fixture() -> Fixture {
    serde_json::from_str(include_str!("../../tests/data/probe.json")).expect("the fixture is well-formed")
}

fn features(case: &Case) -> Features {
    let rows = Mat { data: case.rows.concat(), rows: case.rows.len(), cols: case.rows[0].len() };
    Features::new(&rows, &case.fit, &case.predict)
}

fn assert_near(found: &[f64], expected: &[f64], what: &str) {
    assert_eq!(found.len(), expected.len());
    for (f, e) in found.iter().zip(expected) {
        assert!((f - e).abs() <= TOLERANCE * e.abs().max(1.0), "{what}: {f} and not {e}");
    }
}

fn take<T: Copy>(values: &[T], which: &[usize]) -> Vec<T> {
    which.iter().map(|&i| values[i]).collect()
}

#[test]
fn predictions_are_those_of_scikit_learn() {
    for case in fixture().cases {
        let features = features(&case);
        let labels = take(&case.labels, &case.fit);
        let logistic = Logistic::fit(&features.fit, &labels, &case.penalties).expect("two classes");
        let ridges = Ridges::new(&features.fit, &case.penalties).expect("solvable");
        let numbers = take(&case.numbers, &case.fit);
        let signs: Vec<f64> = labels.iter().map(|&l| if l { 1.0 } else { -1.0 }).collect();
        for (i, penalty) in case.penalties.iter().enumerate() {
            let what = |kind: &str| format!("{}, {kind}, penalty {penalty}", case.name);
            assert_near(&logistic[i].scores(&features.predict), &case.logistic[i], &what("logistic"));
            assert_near(&ridges.predict(i, &numbers, &features.predict), &case.ridge[i], &what("ridge"));
            let classes = ridges.predict(i, &signs, &features.predict);
            assert_near(&classes, &case.ridge_classifier[i], &what("ridge classifier"));
        }
        let truth = take(&case.labels, &case.predict);
        let scores = logistic[1].scores(&features.predict);
        assert_near(&[mean_log_loss(&scores, &truth)], &[case.log_loss], "log loss");
        let items: Vec<_> = (0..truth.len()).map(|i| (0, i, scores[i], truth[i])).collect();
        let auc = Concordance::new(&items).interval(&[]).expect("both classes");
        assert_near(&[auc.mean], &[case.auc], "AUC");
        let targets = take(&case.numbers, &case.predict);
        let predicted = ridges.predict(1, &numbers, &features.predict);
        let middle = targets.iter().sum::<f64>() / targets.len() as f64;
        let squares = |of: &dyn Fn(usize) -> f64| (0..targets.len()).map(|i| of(i).powi(2)).sum::<f64>();
        let r2 = 1.0 - squares(&|i| targets[i] - predicted[i]) / squares(&|i| targets[i] - middle);
        assert_near(&[r2], &[case.r2], "R²");
    }
}

#[test]
fn ties_count_half() {
    let ties = fixture().ties;
    let items: Vec<_> = (0..ties.scores.len()).map(|i| (0, i, ties.scores[i], ties.labels[i])).collect();
    let auc = Concordance::new(&items).interval(&[]).expect("both classes");
    assert_near(&[auc.mean], &[ties.auc], "AUC");
    // Pairs of two folds are not compared: each fold by itself is in order here, all together are not.
    let two = [(0, 0, 1.0, false), (0, 1, 2.0, true), (1, 2, 11.0, false), (1, 3, 12.0, true)];
    let area = Concordance::new(&two).interval(&[]).expect("both classes").mean;
    assert_eq!(area, 1.0);
    assert_eq!(Concordance::new(&two[..1]).interval(&[]), None);
}

/// A fit in the span of the rows is the fit in all coordinates.
#[test]
fn the_span_changes_no_inner_product() {
    for case in fixture().cases {
        let rows = Mat { data: case.rows.concat(), rows: case.rows.len(), cols: case.rows[0].len() };
        let features = features(&case);
        let d = rows.cols;
        let of =
            |which: &[usize], k: usize| which.iter().map(|&i| f64::from(rows.row(i)[k])).collect::<Vec<_>>();
        let standard = |i: usize| -> Vec<f64> {
            let one = |k: usize| {
                let column = of(&case.fit, k);
                let n = column.len() as f64;
                let mean = column.iter().sum::<f64>() / n;
                let deviation = (column.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / n).sqrt();
                if deviation < 1e-9 { 0.0 } else { (f64::from(rows.row(i)[k]) - mean) / deviation }
            };
            (0..d).map(one).collect()
        };
        for (a, &i) in case.fit.iter().enumerate() {
            for (b, &j) in case.predict.iter().enumerate() {
                let expected: f64 = standard(i).iter().zip(standard(j)).map(|(x, y)| x * y).sum();
                let found = dot(features.fit.row(a), features.predict.row(b));
                assert!((expected - found).abs() < 1e-9, "{}: {expected} {found}", case.name);
            }
        }
    }
}

#[test]
fn one_class_has_no_fit_and_no_coordinates_give_the_odds() {
    let z = Mat::zeros(4, 0);
    assert_eq!(Logistic::fit(&z, &[true; 4], &[1.0]), None);
    let fits = Logistic::fit(&z, &[true, false, true, true], &[1.0]).expect("two classes");
    assert!(fits[0].scores(&z).iter().all(|s| (s - 3f64.ln()).abs() < 1e-12));
    let ridges = Ridges::new(&z, &[1.0]).expect("solvable");
    assert_eq!(ridges.predict(0, &[1.0, 2.0, 3.0, 6.0], &z), [3.0; 4]);
}

/// Rows that a small penalty separates with huge weights.
#[test]
fn separable_classes_come_to_an_end() {
    let data: Vec<f64> = (0..20).map(|i| f64::from(i) - 9.5).collect();
    let z = Mat { data, rows: 20, cols: 1 };
    let labels: Vec<bool> = (0..20).map(|i| i >= 10).collect();
    let fits = Logistic::fit(&z, &labels, &[1e-9, 1.0, 1e9]).expect("fits");
    let scores = fits[0].scores(&z);
    assert!(scores.iter().zip(&labels).all(|(s, l)| (*s > 0.0) == *l));
    assert!(scores[19] > 50.0 && fits[2].scores(&z)[19].abs() < 1e-6);
}
