//! Calibration by construction and its planted absence, variance components by hand and in simulation.

use super::calibration::{Counted, NULLS, fit};
use super::draws::{Outcome, outcome};
use super::sensitivity::{Components, Nested};
use crate::answer_tree::log_sum_exp;
use crate::answers::{Answers, Pair};
use crate::sampler::{Asked, sample};
use crate::tuned_lens::testing::tiny;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn coins(rng: &mut ChaCha8Rng, n: u64, p: f64) -> u64 {
    (0..n).map(|_| u64::from(rng.random_range(0.0..1.0) < p)).sum()
}

#[test]
fn under_the_null_calibration_rejects_at_its_level() {
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    // Probabilities near the ends too, and prompts of which hardly any draw counts.
    let prompts: Vec<(f64, u64)> =
        (0..20).map(|i| (0.5f64.powi(i), [100, 3, 0, 40][i as usize % 4])).collect();
    let mut p = Vec::new();
    for trial in 0..1000 {
        let counts: Vec<Counted> =
            prompts.iter().map(|&(p, n)| Counted::new(coins(&mut rng, n, p), n, p)).collect();
        p.push(fit(&counts, trial, 199).p);
    }
    for level in [0.05, 0.25, 0.5] {
        let share = p.iter().filter(|p| **p <= level).count() as f64 / 1000.0;
        let allowed = 4.0 * (level * (1.0 - level) / 1000.0f64).sqrt();
        assert!((share - level).abs() < allowed, "{share} of p-values are below {level}");
    }
}

#[test]
fn the_deviance_is_that_of_the_books_and_wrong_probabilities_are_found() {
    // 2(30 ln(30/50) + 70 ln(70/50)).
    let one = fit(&[Counted::new(30, 100, 0.5)], 0, NULLS);
    assert!((one.deviance - 16.4574).abs() < 1e-3, "{}", one.deviance);
    assert_eq!(fit(&[Counted::new(50, 100, 0.5)], 0, NULLS).p, 1.0);
    // Its null is about χ² with one degree of freedom: P(binomial(100, ½) is 20 or more off) = 7.9e-5.
    assert!(one.p < 0.002, "{}", one.p);
    // Off by a twelfth everywhere, in both directions so that the mean does not show it.
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let counts: Vec<Counted> = (0..64)
        .map(|i| {
            let p = 0.3 + 0.4 * f64::from(i) / 63.0;
            Counted::new(coins(&mut rng, 100, p + if i % 2 == 0 { 0.085 } else { -0.085 }), 100, p)
        })
        .collect();
    assert!(fit(&counts, 0, NULLS).p < 0.001);
    // One answer that is next to impossible, once.
    let rare = [Counted::new(1, 100, 1e-9), Counted::new(50, 100, 0.5)];
    assert!(fit(&rare, 0, NULLS).p < 0.001);
    assert_eq!(fit(&[], 0, NULLS).p, 1.0);
}

/// Draws of a model agree with its own probabilities, and not with those of its base.
#[test]
fn drawn_answers_are_calibrated_and_those_of_another_model_are_not() {
    let model = tiny::<f32>("llama");
    let vocabulary = model.spec().d_vocab as u32;
    let prompts: Vec<Vec<u32>> =
        (0..12u32).map(|i| (0..6).map(|t| (1 + 7 * i + 3 * t * t) % vocabulary).collect()).collect();
    let (a, b) = (vec![5u32, 9], vec![5u32, 11]);
    let goes_on = |_: usize, said: &[u32]| said == [5];
    let ask = |which: usize| -> Vec<Asked> {
        let asked = |(i, prompt)| Asked { model: which, prompt, seed: i as u64, scored: vec![&a, &b] };
        prompts.iter().map(Vec::as_slice).enumerate().map(asked).collect()
    };
    let mut counts: Vec<Vec<Counted>> = Vec::new();
    for which in 0..2 {
        let sampled = sample(&model, &ask(which), 200_000, 4, &goes_on).expect("a tiny model");
        assert!(sampled.iter().all(|s| s.answers.values().sum::<usize>() == 200_000));
        let legal = |s: &crate::sampler::Sampled| {
            let of = |answer: &[u32]| s.answers.get(answer).copied().unwrap_or(0) as u64;
            (of(&a) + of(&b), 200_000, log_sum_exp(&s.log_probs).exp())
        };
        counts.push(sampled.iter().map(legal).map(|(k, n, p)| Counted::new(k, n, p)).collect());
    }
    let own: Vec<f64> = counts.iter().map(|c| fit(c, 0, 999).p).collect();
    assert!(own.iter().all(|p| *p > 0.01), "{own:?}");
    let crossed: Vec<Counted> = counts[1]
        .iter()
        .zip(&counts[0])
        .map(|(tuned, base)| Counted::new(tuned.k, tuned.n, base.p))
        .collect();
    assert!(fit(&crossed, 0, 999).p <= 0.001, "the adapter's answers pass for the base's");

    // One prompt alone, whole or after kept keys and values: the same draws and the same probabilities.
    let alone = sample(&model, &ask(1)[3..4], 1000, 4, &goes_on).expect("a tiny model");
    let together = sample(&model, &ask(1), 1000, 4, &goes_on).expect("a tiny model");
    assert_eq!(alone[0], together[3]);
    let mut one_token = ask(1)[3..4].to_vec();
    one_token.push(Asked { prompt: &prompts[0][..1], ..one_token[0].clone() });
    let whole = sample(&model, &one_token, 1000, 4, &goes_on).expect("a tiny model");
    assert_eq!(alone[0], whole[0]);
}

#[test]
fn answers_are_known_by_their_tokens_and_by_their_text() {
    // Tokens are letters; 1000 is a space, 1001 the letters `ke` in one, 1002 has no text.
    let decode = |ids: &[u32]| -> Option<String> {
        ids.iter()
            .map(|&id| match id {
                1000 => Some(" ".to_owned()),
                1001 => Some("ke".to_owned()),
                1002 => None,
                letter => char::from_u32(letter).map(|c| c.to_string()),
            })
            .collect()
    };
    let ids = |text: &str| text.chars().map(|c| c as u32).collect::<Vec<u32>>();
    let answers = Answers {
        text_a: "keep".into(),
        text_b: "ken".into(),
        a: vec![ids("keep")],
        b: vec![ids("ken")],
        pairs: vec![Pair {
            a: 0,
            b: 0,
            shared: ids("ke"),
            token_a: u32::from(b'e'),
            token_b: u32::from(b'n'),
            spaced: false,
        }],
    };
    let of = |said: &[u32]| outcome(&answers, &decode, said);
    assert_eq!(of(&ids("ke")), None);
    assert_eq!(of(&ids("keep")), Some(Outcome::A));
    assert_eq!(of(&ids("keeper")), Some(Outcome::A));
    assert_eq!(of(&ids("ken")), Some(Outcome::B));
    assert_eq!(of(&[1001]), None, "may become either as text");
    assert_eq!(of(&[1001, u32::from(b'n')]), Some(Outcome::OtherB));
    assert_eq!(of(&[1000, 1000]), None);
    assert_eq!(of(&[&[1000], &ids("keep")[..]].concat()), Some(Outcome::OtherA));
    assert_eq!(of(&ids("no")), Some(Outcome::Neither));
    assert_eq!(of(&[1001, 1002]), Some(Outcome::Neither));
    assert_eq!(
        of(&ids("ke\u{FFFD}")),
        Some(Outcome::Neither),
        "part of a character that no answer has there"
    );
}

fn nested(scenarios: usize, templates: usize, prompts: usize) -> (Nested, Vec<usize>, Vec<usize>) {
    let n = scenarios * templates * prompts;
    let scenario: Vec<usize> = (0..n).map(|i| i / (templates * prompts)).collect();
    let template: Vec<usize> = (0..n).map(|i| i / prompts).collect();
    let names: Vec<String> = template.iter().map(|t| format!("t{t:03}")).collect();
    let clusters: Vec<&str> = names.iter().map(String::as_str).collect();
    (Nested::new(scenario.clone(), &clusters, 0), scenario, template)
}

#[test]
fn variance_components_by_hand() {
    // Two scenarios of two templates of two prompts: means 1, 3 | 9, 11, deviations ±1.
    let (design, ..) = nested(2, 2, 2);
    let y = [0.0, 2.0, 2.0, 4.0, 8.0, 10.0, 10.0, 12.0];
    // MS: prompts 8 / 4 = 2; templates 2·4·1 / 2 = 4; scenarios 8·16 / 1 = 128.
    let found = design.components(&y);
    let expected = Components { scenario: Some(31.0), template: Some(1.0), prompt: Some(2.0) };
    let close = |a: Option<f64>, b: Option<f64>| (a.unwrap() - b.unwrap()).abs() < 1e-12;
    assert!(close(found.scenario, expected.scenario), "{found:?}");
    assert!(close(found.template, expected.template) && close(found.prompt, expected.prompt), "{found:?}");
    // One prompt a template: what is within a template can't be told from it.
    let (design, ..) = nested(2, 2, 1);
    let found = design.components(&[0.0, 2.0, 8.0, 10.0]);
    assert_eq!(found.prompt, None);
    assert!(close(found.template, Some(2.0)) && close(found.scenario, Some((64.0 - 2.0) / 2.0)), "{found:?}");
    let (design, ..) = nested(1, 1, 3);
    assert_eq!(
        design.components(&[1.0, 2.0, 3.0]),
        Components { scenario: None, template: None, prompt: Some(1.0) }
    );
}

#[test]
fn variance_components_are_right_on_average_even_where_groups_differ_in_size() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    // Uniform numbers of variance 1.
    let mut noise = |size: f64| size * 3.0f64.sqrt() * rng.random_range(-1.0..1.0);
    let scenario: Vec<usize> = (0..45).map(|i| [0, 0, 0, 0, 1, 1, 2, 2, 3][i % 9]).collect();
    let template: Vec<usize> =
        (0..45).map(|i| 10 * scenario[i] + (i * i + i / 9) % (2 + scenario[i])).collect();
    let names: Vec<String> = template.iter().map(|t| format!("t{t:03}")).collect();
    let clusters: Vec<&str> = names.iter().map(String::as_str).collect();
    let design = Nested::new(scenario.clone(), &clusters, 0);
    let mut sums = [0.0; 3];
    for _ in 0..4000 {
        let of_scenario: Vec<f64> = (0..4).map(|_| noise(1.0)).collect();
        let of_template: Vec<f64> = (0..50).map(|_| noise(2.0)).collect();
        let y: Vec<f64> =
            (0..45).map(|i| 5.0 + of_scenario[scenario[i]] + of_template[template[i]] + noise(0.5)).collect();
        let found = design.components(&y);
        let each = [found.scenario, found.template, found.prompt];
        sums.iter_mut().zip(each).for_each(|(s, v)| *s += v.unwrap() / 4000.0);
    }
    for (found, expected) in sums.into_iter().zip([1.0, 4.0, 0.25]) {
        assert!((found - expected).abs() < 0.15 * f64::max(expected, 1.0), "{sums:?}");
    }
}
