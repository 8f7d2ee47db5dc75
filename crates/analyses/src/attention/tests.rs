//! The measurements against the forward pass itself, on the tiny model of every family: what heads write, how long values become, and
//! the parts of changed scores.

use super::changes;
use super::layout::{Layout, Measure, WRITE_PARTS};
use super::measure::{self, Read, Setup};
use super::spans::Spans;
use crate::subject::Subject;
use crate::testing::{FAMILIES, subject};
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Site};

/// Calls `f` with the measured chunk of all prompts of every family.
fn each_family(f: impl Fn(&str, &Subject, &measure::Chunk)) {
    for family in FAMILIES {
        let Some(subject) = subject(family) else { return };
        let spans = Spans::new(&subject, &[]);
        let layout = Layout::new(subject.model.spec(), 2, spans.n(), false);
        let primary = vec![0; subject.prompts.len()];
        let setup = Setup::new(&subject, &primary, &layout, &spans, &|_| {}).expect("weights");
        let chunk = measure::run(&setup, &[0, 1, 2], &|_| {}).expect("a run");
        f(family, &subject, &chunk);
    }
}

/// What the forward pass has at a point at the row of a position of each sequence.
fn captured(subject: &Subject, point: HookPoint, position: impl Fn(usize) -> usize) -> Vec<Vec<f32>> {
    let ids = |s: usize| &subject.prompts[s % 3].tokens.ids[..];
    let sequences: Vec<(usize, &[u32])> = (0..6).map(|s| (s / 3, ids(s))).collect();
    let batch = Batch::new(subject.model.spec(), &sequences).expect("a batch");
    let rows: Vec<usize> = (0..6).map(|s| batch.row_of(s, position(ids(s).len())).expect("a row")).collect();
    let mut wanted = rows.clone();
    wanted.sort_unstable();
    wanted.dedup();
    let captures = vec![Capture { point, rows: wanted.clone() }];
    let run = subject.model.run(&batch, &Hooks { captures, edits: Vec::new() }, &[]).expect("a run");
    let place = |row: &usize| wanted.iter().position(|w| w == row).expect("captured");
    rows.iter().map(|row| run.captures[0][place(row)].clone()).collect()
}

#[test]
fn every_token_counts_for_its_innermost_span() {
    let Some(subject) = subject("llama") else { return };
    let spans = Spans::new(&subject, &[]);
    assert_eq!(spans.names, ["outer", "inner", "late", "other", "first_token"]);
    let of: Vec<&str> = (0..24).map(|t| spans.names[spans.at(0, t)].as_str()).collect();
    assert_eq!(
        (of[0], of[1], of[3], of[5], of[6], of[7]),
        ("first_token", "other", "outer", "inner", "inner", "outer")
    );
    assert_eq!((of[9], of[18], of[21], of[22]), ("other", "late", "late", "other"));
    assert_eq!(spans.names[spans.at(0, 1000)], "other", "tokens of the answer");
    let some = Spans::new(&subject, &["outer".to_owned()]);
    assert_eq!(some.names, ["outer", "other", "first_token"]);
    assert_eq!(some.at(0, 5), 0, "what is not asked for does not take tokens away");
}

/// The share of each head of the difference of the two logits, from its result as the forward pass adds it.
#[test]
fn writes_are_what_heads_add_along_the_decision_direction() {
    each_family(|family, subject, chunk| {
        let (spec, layout) = (subject.model.spec(), chunk.setup.layout);
        let numbers = measure::chunk(chunk.setup, &[0, 1, 2], &|_| {}).expect("numbers");
        let scales = captured(subject, HookPoint::FinalScale, |n| n - 1);
        for layer in 0..spec.n_layers {
            let results = captured(subject, HookPoint::Layer(layer, Site::Result), |n| n - 1);
            for s in 0..6 {
                let pair = &subject.prompts[s % 3].answers.pairs[0];
                let read = subject
                    .model
                    .readout_directions(&[(s / 3, pair.token_a, pair.token_b)])
                    .expect("directions");
                let of_prompt = &numbers[s % 3 * layout.per_prompt()..(s % 3 + 1) * layout.per_prompt()];
                for head in 0..spec.n_heads {
                    let result = &results[s][head * spec.d_model..(head + 1) * spec.d_model];
                    let dot: f64 =
                        read.directions.row(0).iter().zip(result).map(|(u, &r)| u * f64::from(r)).sum();
                    let expected = dot / f64::from(scales[s][0]);
                    let sum = |m: Measure| -> f64 {
                        let at = |span| layout.measure(s / 3, (layer, head), span, m);
                        (0..layout.n_spans).map(|span| f64::from(of_prompt[at(span)])).sum()
                    };
                    let what = format!("{family} {layer}.{head} of {s}");
                    assert!(
                        (sum(Measure::Write) - expected).abs() < 1e-5 * expected.abs().max(1.0),
                        "{what}: write"
                    );
                    assert!((sum(Measure::Mass) - 1.0).abs() < 1e-5, "{what}: mass");
                    assert!((sum(Measure::Norm) - 1.0).abs() < 1e-5, "{what}: norm");
                }
            }
        }
    });
}

/// The first token sees itself alone: its result is its value's.
#[test]
fn lengths_are_those_of_value_results() {
    each_family(|family, subject, chunk| {
        let spec = subject.model.spec();
        for layer in 0..spec.n_layers {
            let read = Read::new(chunk, layer).expect("weights");
            let results = captured(subject, HookPoint::Layer(layer, Site::Result), |_| 0);
            let post = spec
                .post_norms
                .then(|| captured(subject, HookPoint::Layer(layer, Site::Ln1PostScale), |_| 0));
            for s in 0..6 {
                let scale = post.as_ref().map_or(1.0, |p| p[s][0]);
                for (head, result) in results[s].chunks_exact(spec.d_model).enumerate() {
                    let expected = result.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                    let found = f64::from(read.length(chunk.keys[s][0], head) / scale);
                    assert!(
                        (found - expected).abs() < 1e-4 * expected,
                        "{family} {layer}.{head}: {found} {expected}"
                    );
                }
            }
        }
    });
}

#[test]
fn parts_of_scores_add_up_to_the_difference_that_the_forward_pass_has() {
    each_family(|family, subject, chunk| {
        let spec = subject.model.spec();
        for layer in 0..spec.n_layers {
            let scores = captured(subject, HookPoint::Layer(layer, Site::AttnScores), |n| n - 1);
            let before_cap = |v: f32| match spec.attn_softcap {
                Some(cap) => cap * (f64::from(v) / cap).atanh(),
                None => f64::from(v),
            };
            for i in 0..3 {
                let (one, two) = (chunk.sequence(1, i), chunk.sequence(0, i));
                for head in 0..spec.n_heads {
                    let parts = changes::scores(chunk, layer, [one, two], head);
                    let n = parts.len();
                    for (t, parts) in parts.iter().enumerate() {
                        let [own, base] = [one, two].map(|s| scores[s][head * n + t]);
                        if !base.is_finite() {
                            continue; // outside the window
                        }
                        let difference = before_cap(own) - before_cap(base);
                        let sum: f64 = parts.iter().sum();
                        let what = format!("{family} {layer}.{head} key {t}: {sum} {difference}");
                        assert!((sum - difference).abs() < 1e-4 * difference.abs().max(1.0), "{what}");
                    }
                    // Inputs of the first layer are those of the base.
                    if layer == 0 && !spec.qk_norm {
                        assert!(
                            parts.iter().all(|p| p[1].abs() < 1e-4 && p[3].abs() < 1e-4),
                            "{family} {head}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn parts_of_writes_add_up_and_of_a_model_with_itself_are_zero() {
    each_family(|family, subject, chunk| {
        let spec = subject.model.spec();
        for layer in 0..spec.n_layers {
            let read = Read::new(chunk, layer).expect("weights");
            for i in 0..3 {
                let (one, two) = (chunk.sequence(1, i), chunk.sequence(0, i));
                for head in 0..spec.n_heads {
                    let parts: [f64; WRITE_PARTS.len()] = changes::writes(chunk, &read, [one, two], head);
                    let back = changes::writes(chunk, &read, [two, one], head);
                    let what = format!("{family} {layer}.{head}");
                    let (there, again): (f64, f64) = (parts.iter().sum(), back.iter().sum());
                    assert!((there + again).abs() < 1e-5 * there.abs().max(1.0), "{what}: {there} {again}");
                    assert!(there.abs() > 1e-7, "{what}: the adapter changes something");
                    let nothing = changes::writes(chunk, &read, [two, two], head);
                    assert!(nothing.iter().all(|p| p.abs() < 1e-6), "{what}: {nothing:?}");
                    let scores = changes::scores(chunk, layer, [two, two], head);
                    assert!(scores.iter().flatten().all(|p| *p == 0.0), "{what}");
                }
            }
        }
    });
}
