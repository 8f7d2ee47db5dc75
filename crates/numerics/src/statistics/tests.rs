//! Small cases by hand, and levels under the null.

use super::*;
use crate::bootstrap::mean_interval;

fn names(clusters: &[usize]) -> Vec<String> {
    clusters.iter().map(|c| format!("t{c:03}")).collect()
}

fn design(clusters: &[usize], seed: u64) -> Design {
    let names = names(clusters);
    Design::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), seed)
}

#[test]
fn what_is_called_detectable_is_found_four_times_in_five() {
    let normal = statrs::distribution::Normal::new(0.0, 1.0).unwrap();
    let clusters: Vec<usize> = (0..24).map(|i| i / 2).collect();
    let design = design(&clusters, 0);
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    // Twelve clusters of two values that agree: a standard error of 1/√12.
    let shift = detectable(12).unwrap() / 12f64.sqrt();
    let t = StudentsT::new(0.0, 1.0, 11.0).unwrap().inverse_cdf(0.975);
    let found = (0..4000).filter(|_| {
        let values: Vec<f64> = (0..12)
            .flat_map(|_| {
                let value = normal.inverse_cdf(rng.random_range(f64::EPSILON..1.0));
                [value + shift; 2]
            })
            .collect();
        let mean = values.iter().sum::<f64>() / 24.0;
        mean / design.standard_error(&values).unwrap() > t
    });
    let power = found.count() as f64 / 4000.0;
    // Three standard errors, and what the approximation is off by.
    assert!((power - 0.8).abs() < 0.03, "{power}");
    assert_eq!(detectable(1), None);
    let needed = clusters_for(shift, 1.0 / 12f64.sqrt(), 12).unwrap();
    assert_eq!(needed, 12);
    assert!(clusters_for(shift / 2.0, 1.0 / 12f64.sqrt(), 12).unwrap() > 36);
    assert_eq!(clusters_for(0.0, 1.0, 12), None);
}

#[test]
fn small_cases_by_hand() {
    let each: Vec<usize> = (0..5).collect();
    let all_positive = design(&each, 0).compare(&[1.0, 2.0, 3.0, 4.0, 5.0]);
    assert_eq!(all_positive.p, 2.0 / 32.0, "only all plus and all minus are as extreme");
    assert!((all_positive.effect.unwrap() - 3.0 / 2.5f64.sqrt()).abs() < 1e-15);
    // |±1±2±3| reaches 1·2·3's 2 with signs (−,−,+)… : 0, 2, 4, 6 each twice; 2 or more in 6 of 8.
    assert_eq!(design(&[0, 1, 2], 0).compare(&[1.0, -2.0, 3.0]).p, 0.75);
    // Two prompts of one cluster change sign together: clusters sum to 3, −1, 4 → |sum| 6, of 8 patterns 8, 6, 2, 0.
    assert_eq!(design(&[0, 1, 0, 2], 0).compare(&[1.0, -1.0, 2.0, 4.0]).p, 0.5);
    let nothing = design(&each, 0).compare(&[0.0; 5]);
    assert_eq!((nothing.p, nothing.effect, nothing.mean.mean), (1.0, None, 0.0));
    assert_eq!(design(&[0, 0, 0], 0).compare(&[1.0, 2.0, 3.0]).p, 1.0, "one cluster shows nothing");
    let constant = design(&each, 0).compare(&[0.1 + 0.2; 5]);
    assert_eq!((constant.effect, constant.p), (None, 1.0 / 16.0));
}

#[test]
fn random_patterns_agree_with_all_patterns_and_never_give_zero() {
    let values: Vec<f64> = (0..16).map(|i| (f64::from(i) * 1.7).sin() + 0.4).collect();
    let clusters: Vec<usize> = (0..16).collect();
    let exact = design(&clusters, 0).compare(&values).p;
    // A seventeenth cluster without a difference changes no sum.
    let sampled = design(&(0..17).collect::<Vec<_>>(), 3).compare(&[&values[..], &[0.0]].concat()).p;
    let error = (exact * (1.0 - exact) / FLIPS as f64).sqrt();
    assert!((exact - sampled).abs() < 4.0 * error, "{exact} and {sampled}, ±{error}");
    let certain = design(&(0..60).collect::<Vec<_>>(), 0).compare(&[1.0; 60]);
    assert_eq!(certain.p, 1.0 / (FLIPS + 1) as f64);
}

#[test]
fn under_the_null_p_is_uniform_even_where_prompts_of_a_cluster_agree() {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    for n_clusters in [10, 24] {
        let clusters: Vec<usize> = (0..4 * n_clusters).map(|i| i / 4).collect();
        let design = design(&clusters, 1);
        let trial = |rng: &mut ChaCha8Rng| {
            let own: Vec<f64> = (0..n_clusters).map(|_| rng.random_range(-1.0..1.0)).collect();
            let values: Vec<f64> = clusters.iter().map(|&c| own[c] + rng.random_range(-0.1..0.1)).collect();
            design.compare(&values).p
        };
        let p: Vec<f64> = (0..1000).map(|_| trial(&mut rng)).collect();
        for level in [0.05, 0.25, 0.5, 0.75] {
            let share = p.iter().filter(|p| **p <= level).count() as f64 / 1000.0;
            // Four standard errors of a share of 1000.
            let allowed = 4.0 * (level * (1.0 - level) / 1000.0f64).sqrt();
            assert!((share - level).abs() < allowed, "{n_clusters}: {share} of p-values are below {level}");
        }
    }
}

#[test]
fn the_mean_is_that_of_the_interval_elsewhere_bit_for_bit() {
    let clusters: Vec<usize> = (0..30).map(|i| i % 7).collect();
    let values: Vec<f64> = (0..30).map(|i| (f64::from(i) * 0.3).cos()).collect();
    let names = names(&clusters);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let design = Design::new(&names, 11);
    assert_eq!(design.mean(&values), mean_interval(&values, &names, 11));
    assert_eq!(design.compare(&values), Design::new(&names, 11).compare(&values));
    assert_eq!((design.n(), design.n_clusters()), (30, 7));
}

#[test]
fn equivalence_is_that_of_two_t_tests() {
    let each: Vec<usize> = (0..5).collect();
    // Mean 0.02, standard error √(0.025 / 5) / … by hand: deviations −0.1 … 0.1 have variance 0.00625, error 0.0353553.
    let values = [-0.08, -0.03, 0.02, 0.07, 0.12];
    let p = design(&each, 0).equivalence(&values, 0.1).unwrap();
    // t = (0.02 − 0.1) / 0.0353553 = −2.2627 with 4 degrees of freedom.
    assert!((p - 0.043_212).abs() < 2e-5, "{p}");
    assert!(
        design(&each, 0).equivalence(&values, 0.02).unwrap() >= 0.5,
        "a mean on the margin is not within"
    );
    assert_eq!(design(&each, 0).equivalence(&[0.0; 5], 0.1), Some(0.0));
    assert_eq!(design(&each, 0).equivalence(&[0.2; 5], 0.1), Some(1.0));
    assert_eq!(design(&[0, 0, 0], 0).equivalence(&[0.0; 3], 0.1), None);
    // Prompts of one cluster count once: doubling every prompt changes nothing.
    let twice: Vec<usize> = (0..10).map(|i| i / 2).collect();
    let doubled: Vec<f64> = values.iter().flat_map(|&v| [v, v]).collect();
    assert!((design(&twice, 0).equivalence(&doubled, 0.1).unwrap() - p).abs() < 1e-12);
}

#[test]
fn on_the_margin_equivalence_is_claimed_no_more_often_than_its_level() {
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let clusters: Vec<usize> = (0..24).map(|i| i / 3).collect();
    let design = design(&clusters, 1);
    let trial = |rng: &mut ChaCha8Rng| {
        let own: Vec<f64> = (0..8).map(|_| rng.random_range(-0.1..0.1)).collect();
        let values: Vec<f64> = clusters.iter().map(|&c| 0.1 + own[c] + rng.random_range(-0.1..0.1)).collect();
        design.equivalence(&values, 0.1).unwrap() <= 0.05
    };
    let claimed = (0..2000).filter(|_| trial(&mut rng)).count();
    // 100 expected; four standard errors.
    assert!((60..=140).contains(&claimed), "{claimed} of 2000");
}

/// The fifteen p-values of Benjamini & Hochberg (1995), section 4.1.
#[test]
fn adjusted_p_values_of_the_paper() {
    let p = [
        0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344, 0.0459, 0.3240, 0.4262, 0.5719,
        0.6528, 0.7590, 1.0,
    ];
    let q = benjamini_hochberg(&p);
    let expected =
        [0.0015, 0.003, 0.0095, 0.035625, 0.0603, 0.0298 * 15.0 / 7.0, 0.0298 * 15.0 / 7.0, 0.0645];
    for (q, e) in q.iter().zip(expected) {
        assert!((q - e).abs() < 1e-12, "{q} {e}");
    }
    assert_eq!(q.iter().filter(|q| **q <= 0.05).count(), 4, "the paper rejects four at 0.05");
    let mut turned: Vec<f64> = p.iter().rev().copied().collect();
    turned = benjamini_hochberg(&turned);
    turned.reverse();
    assert_eq!(turned, q, "whatever the order");
    assert!(benjamini_hochberg(&[]).is_empty());
    assert_eq!(benjamini_hochberg(&[0.5, 0.5]), [0.5, 0.5]);
}

#[test]
fn rank_correlation_is_that_of_ranks() {
    assert_eq!(spearman(&[1.0, 2.0, 3.0, 4.0], &[10.0, 100.0, 1000.0, 1e4]), Some(1.0));
    assert_eq!(spearman(&[1.0, 2.0, 3.0], &[3.0, 2.0, 1.0]), Some(-1.0));
    assert_eq!(spearman(&[1.0, 1.0], &[3.0, 2.0]), None);
    // By hand: ranks 1, 2.5, 2.5, 4 and 1, 2, 3, 4.
    let found = spearman(&[1.0, 2.0, 2.0, 5.0], &[1.0, 2.0, 3.0, 4.0]).unwrap();
    assert!((found - 4.5 / (4.5f64 * 5.0).sqrt()).abs() < 1e-12);
}

#[test]
fn the_bound_on_a_share_is_that_of_the_books() {
    // 1 − 0.05^(1/n) where none was seen.
    assert!((share_bound(0, 20) - (1.0 - 0.05f64.powf(0.05))).abs() < 1e-9);
    assert!((share_bound(1, 10) - 0.394_163).abs() < 1e-5);
    assert_eq!(share_bound(3, 3), 1.0);
}

#[test]
fn the_interval_of_a_share_is_that_of_clopper_and_pearson() {
    let of = |k, n| share_interval(k, n).unwrap();
    // 1 − 0.025^(1/10), and R's binom.test(1, 10) and binom.test(40, 100).
    assert!((of(0, 10).hi - 0.308_497).abs() < 1e-6 && of(0, 10).lo == 0.0);
    assert!((of(10, 10).lo - 0.691_503).abs() < 1e-6 && of(10, 10).hi == 1.0);
    assert!((of(1, 10).lo - 0.002_529).abs() < 1e-6 && (of(1, 10).hi - 0.445_016).abs() < 1e-6);
    assert!((of(40, 100).lo - 0.303_295).abs() < 1e-6 && (of(40, 100).hi - 0.502_791).abs() < 1e-6);
    assert_eq!(share_interval(0, 0), None);
}
