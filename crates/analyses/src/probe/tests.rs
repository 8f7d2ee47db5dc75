//! Probes on rows that are made up: a direction in one place, no information, and information about templates only.

use super::fit::{Labels, Outcome, fold_outcomes};
use super::folds::Folds;
use super::settings::Settings;
use super::summary::Predictions;
use crate::statistics::Design;
use lorascope_engine::Mat;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Prompts of templates, a number of each.
struct World {
    groups: Vec<String>,
    rng: ChaCha8Rng,
}

impl World {
    fn new(templates: usize, each: usize, seed: u64) -> Self {
        let groups = (0..templates * each).map(|i| format!("t{:03}", i / each)).collect();
        Self { groups, rng: ChaCha8Rng::seed_from_u64(seed) }
    }

    fn n(&self) -> usize {
        self.groups.len()
    }

    fn names(&self) -> Vec<&str> {
        self.groups.iter().map(String::as_str).collect()
    }

    /// About normal: the sum of twelve uniform numbers.
    fn noise(&mut self) -> f64 {
        (0..12).map(|_| self.rng.random_range(-0.5..0.5)).sum()
    }

    fn rows(&mut self, d: usize) -> Mat<f32> {
        let data = (0..self.n() * d).map(|_| self.noise() as f32).collect();
        Mat { data, rows: self.n(), cols: d }
    }

    /// Labels by a coin for each prompt.
    fn coins(&mut self) -> Vec<f64> {
        (0..self.n()).map(|_| f64::from(self.rng.random_range(0..=1))).collect()
    }

    /// Probes of several targets on some rows; fewer folds and strengths than by default where many are tried.
    fn probe(&self, rows: &Mat<f32>, targets: &[Labels], settings: &Settings) -> Vec<Predictions> {
        let names = self.names();
        let folds = Folds::of(&names, (0..self.n()).collect(), settings, 9);
        let mut all: Vec<Vec<Outcome>> = vec![Vec::new(); targets.len()];
        for f in 0..folds.folds.len() {
            let found = fold_outcomes(rows, &folds, f, targets, settings);
            all.iter_mut().zip(found).for_each(|(all, found)| all.extend(found.expect("a fit")));
        }
        all.into_iter().map(predictions).collect()
    }
}

fn predictions(mut outcomes: Vec<Outcome>) -> Predictions {
    outcomes.sort_by_key(|o| o.prompt);
    let of = |f: fn(&Outcome) -> f64| outcomes.iter().map(f).collect();
    Predictions {
        fold: outcomes.iter().map(|o| o.fold).collect(),
        truth: of(|o| o.truth),
        score: of(|o| o.score),
        result: of(|o| o.result),
        baseline: of(|o| o.baseline),
        control: of(|o| o.control),
        control_baseline: of(|o| o.control_baseline),
    }
}

fn metric(
    measured: &[(&'static str, Option<crate::Interval>, Option<f64>)],
    name: &str,
) -> (crate::Interval, Option<f64>) {
    let (_, value, p) = measured.iter().find(|m| m.0 == name).expect("the metric is there");
    (value.expect("it is defined"), *p)
}

#[test]
fn a_planted_direction_is_found_where_it_is_and_nowhere_else() {
    let mut world = World::new(16, 5, 1);
    let labels = world.coins();
    let numbers: Vec<f64> = labels.iter().map(|l| 3.0 * l + world.noise()).collect();
    let design = Design::new(&world.names(), 0);
    let mut found = Vec::new();
    for layer in 0..4 {
        let mut rows = world.rows(96);
        if layer == 2 {
            // Two standard deviations apart along one direction of all 96 coordinates.
            for (i, label) in labels.iter().enumerate() {
                rows.row_mut(i).iter_mut().for_each(|v| *v += (0.6 * (label - 0.5)) as f32);
            }
        }
        let targets =
            [Labels { classes: true, values: &labels }, Labels { classes: false, values: &numbers }];
        let probes = world.probe(&rows, &targets, &Settings::default());
        let (classes, numbers) = (probes[0].class_metrics(&design), probes[1].number_metrics(&design));
        let (selectivity, p) = metric(&classes, "selectivity");
        let (explained, p_number) = (metric(&numbers, "r2").0, metric(&numbers, "selectivity").1);
        if layer == 2 {
            assert!(selectivity.lo > 0.2 && p < Some(0.001), "{classes:?}");
            assert!(
                metric(&classes, "accuracy").0.mean > 0.85 && metric(&classes, "auc").0.mean > 0.9,
                "{classes:?}"
            );
            assert!(explained.lo > 0.2 && p_number < Some(0.001), "{numbers:?}");
            assert!(metric(&numbers, "correlation").0.mean > 0.5, "{numbers:?}");
        } else {
            assert!(selectivity.lo < 0.0 && metric(&classes, "accuracy").0.mean < 0.65, "{classes:?}");
            assert!(explained.lo < 0.0 && explained.mean < 0.1, "{numbers:?}");
        }
        let (auc, control) = (metric(&classes, "auc").0, metric(&classes, "control").0);
        assert!(auc.lo <= auc.mean && auc.mean <= auc.hi);
        // Four standard errors of a share of 80, had its five shuffles been one.
        assert!((control.mean - 0.5).abs() < 4.0 * (0.25f64 / 80.0).sqrt(), "{control:?}");
        found.push(selectivity.mean);
    }
    assert!(found.iter().enumerate().all(|(l, s)| l == 2 || found[2] - s > 0.2), "{found:?}");
}

/// Labels that say nothing: the test rejects as often as it says, and accuracy is above the baseline's interval no more often.
#[test]
fn random_labels_are_read_no_more_often_than_chance() {
    let (trials, mut rejected, mut above, mut sum, mut control) = (400, 0, 0, 0.0, 0.0);
    let settings = Settings { folds: 4, strengths: vec![0.1, 10.0], controls: 3, ..Settings::default() };
    let mut world = World::new(20, 4, 2);
    let design = Design::new(&world.names(), 0);
    for _ in 0..trials {
        let rows = world.rows(24);
        let labels = world.coins();
        let probe = world.probe(&rows, &[Labels { classes: true, values: &labels }], &settings).remove(0);
        let measured = probe.class_metrics(&design);
        let (selectivity, p) = metric(&measured, "selectivity");
        rejected += usize::from(p <= Some(0.05));
        above += usize::from(selectivity.lo > 0.0);
        sum += metric(&measured, "accuracy").0.mean;
        control += metric(&measured, "control").0.mean;
    }
    let n = f64::from(trials);
    let share = |k: usize| k as f64 / n;
    println!(
        "rejected {}, above {}, accuracy {}, control {}",
        share(rejected),
        share(above),
        sum / n,
        control / n
    );
    // Three standard errors of a share of 400 beside the levels.
    let bound = |level: f64| level + 3.0 * (level * (1.0 - level) / n).sqrt();
    assert!(share(rejected) <= bound(0.05), "{rejected} of {trials} tests reject");
    assert!(share(above) <= bound(0.05), "{above} of {trials} intervals lie above the control");
    // Accuracy of 80 coins has a standard error of 0.056; the mean over 400 trials, of 0.003.
    assert!(
        (sum / n - 0.5).abs() < 0.012 && (control / n - 0.5).abs() < 0.012,
        "{} {}",
        sum / n,
        control / n
    );
}

/// Activations that name the template and nothing else, and labels that the template settles: a split by prompts would read them
/// perfectly, one by templates can't.
#[test]
fn what_only_the_template_settles_is_at_chance() {
    let mut world = World::new(24, 4, 3);
    let of_template: Vec<f64> = (0..24).map(|t| f64::from(t % 2)).collect();
    let labels: Vec<f64> = (0..world.n()).map(|i| of_template[i / 4]).collect();
    let names: Vec<Vec<f32>> = (0..24).map(|_| (0..64).map(|_| world.noise() as f32).collect()).collect();
    let mut rows = world.rows(64);
    for i in 0..world.n() {
        rows.row_mut(i).iter_mut().zip(&names[i / 4]).for_each(|(v, n)| *v = 0.05 * *v + n);
    }
    let targets = [Labels { classes: true, values: &labels }];
    let design = Design::new(&world.names(), 0);
    let grouped = world.probe(&rows, &targets, &Settings::default()).remove(0).class_metrics(&design);
    assert!(metric(&grouped, "accuracy").0.mean < 0.65, "{grouped:?}");
    assert!(metric(&grouped, "selectivity").1 > Some(0.05), "{grouped:?}");
    // The same rows, every prompt a template of its own.
    world.groups = (0..96).map(|i| format!("p{i:03}")).collect();
    let alone = world.probe(&rows, &targets, &Settings::default()).remove(0).class_metrics(&design);
    assert!(metric(&alone, "accuracy").0.mean > 0.95, "{alone:?}");
}

#[test]
fn the_same_inputs_give_the_same_bits() {
    let mut world = World::new(8, 3, 4);
    let (rows, labels) = (world.rows(40), world.coins());
    let targets = [Labels { classes: true, values: &labels }, Labels { classes: false, values: &labels }];
    let [one, two] = [0, 1].map(|_| world.probe(&rows, &targets, &Settings::default()));
    for (one, two) in one.iter().zip(&two) {
        assert_eq!((&one.score, &one.control), (&two.score, &two.control));
    }
}

/// Rows that do not vary, as those of the first embedding at one and the same token.
#[test]
fn equal_rows_predict_the_larger_class_and_the_mean() {
    let world = World::new(6, 5, 5);
    let rows = Mat { data: vec![0.3; world.n() * 16], rows: world.n(), cols: 16 };
    let labels: Vec<f64> = (0..world.n()).map(|i| f64::from(u8::from(i % 5 < 3))).collect();
    let targets = [Labels { classes: true, values: &labels }, Labels { classes: false, values: &labels }];
    let design = Design::new(&world.names(), 0);
    let probes = world.probe(&rows, &targets, &Settings::default());
    let classes = probes[0].class_metrics(&design);
    assert_eq!(metric(&classes, "accuracy").0.mean, 0.6);
    assert_eq!(metric(&classes, "accuracy"), metric(&classes, "majority"));
    assert_eq!(metric(&classes, "auc").0.mean, 0.5);
    let numbers = probes[1].number_metrics(&design);
    assert!(metric(&numbers, "r2").0.mean.abs() < 1e-12);
    assert!(numbers.iter().any(|m| m.0 == "correlation" && m.1.is_none()), "{numbers:?}");
}

/// One class where a fold is fitted is said, not guessed.
#[test]
fn labels_that_can_not_be_judged_say_why() {
    use super::targets::testing::classes;
    let world = World::new(6, 5, 5);
    let folds = Folds::of(&world.names(), (0..30).collect(), &Settings::default(), 0);
    let one_template = classes((0..30).map(|i| i < 5).collect());
    let problem = folds.problem(&one_template, 0).expect("one fold is fitted without it");
    assert!(problem.ends_with("would be fitted to one class only"), "{problem}");
    assert_eq!(folds.problem(&classes((0..30).map(|i| i % 2 == 0).collect()), 0), None);
    let few = World::new(2, 5, 5);
    let folds = Folds::of(&few.names(), (0..10).collect(), &Settings::default(), 0);
    let problem = folds.problem(&classes((0..10).map(|i| i % 2 == 0).collect()), 0).expect("too few");
    assert!(problem.starts_with("too few templates: 2"), "{problem}");
}
