//! What the tuned lens promises, on tiny models and random tokens.

use super::fit::{self, Fitted, LayerRows, Rows};
use super::readout::Readout;
use super::testing::{noise, tiny};
use super::*;
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Model, Site};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// `resid_post` of every layer at every position of a random text, for one of the models.
fn random_states(model: &Model<f32>, which: ModelId, n: usize, seed: u64) -> Vec<Mat<f32>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let spec = model.spec();
    let per_text = n.min(spec.n_ctx.min(32));
    let texts: Vec<Vec<u32>> = (0..n.div_ceil(per_text))
        .map(|_| (0..per_text).map(|_| rng.random_range(0..spec.d_vocab as u32)).collect())
        .collect();
    let sequences: Vec<(ModelId, &[u32])> = texts.iter().map(|t| (which, t.as_slice())).collect();
    let batch = Batch::new(spec, &sequences).expect("tokens of the vocabulary");
    let rows: Vec<usize> = (0..batch.n_rows()).collect();
    let capture = |l| Capture { point: HookPoint::Layer(l, Site::ResidPost), rows: rows.clone() };
    let hooks = Hooks { captures: (0..spec.n_layers).map(capture).collect(), edits: Vec::new() };
    let run = model.run(&batch, &hooks, &[]).expect("a run");
    let mat = |values: Vec<Vec<f32>>| Mat { rows: values.len(), cols: spec.d_model, data: values.concat() };
    run.captures.into_iter().map(mat).collect()
}

fn quick() -> Settings {
    Settings { steps: 12, batch: 32, check_every: 3, ..Settings::default() }
}

struct Tried {
    fitted: Fitted,
    plain: f64,
    tuned: f64,
}

/// Fits layer 0 of a tiny model and compares on texts that the fit has not seen.
fn try_layer(family: &str, settings: &Settings) -> Tried {
    let model = tiny::<f32>(family);
    let readout = Readout::of(&model).expect("readout");
    let [train, validation, heldout] =
        [(512, 1), (96, 2), (96, 3)].map(|(n, seed)| random_states(&model, 0, n, seed));
    let last = train.len() - 1;
    let targets = [&train, &validation, &heldout].map(|s| readout.targets(&s[last]));
    let rows = LayerRows {
        train: Rows { from: &train[0], targets: &targets[0] },
        train_finals: &train[last],
        validation: Rows { from: &validation[0], targets: &targets[1] },
    };
    let fitted = fit::fit(&readout, &rows, settings, 7).expect("a fit");
    let heldout = Rows { from: &heldout[0], targets: &targets[2] };
    let kl = |map| heldout.kl(&readout, map, usize::MAX);
    Tried { plain: kl(None), tuned: kl(Some(&fitted.map)), fitted }
}

#[test]
fn training_brings_unseen_texts_closer_to_the_final_distribution() {
    for family in ["llama", "gemma2", "gpt2"] {
        let alone = try_layer(family, &Settings { steps: 0, ..quick() });
        let tried = try_layer(family, &quick());
        assert!(alone.tuned < alone.plain, "{family}: closed form {} against {}", alone.tuned, alone.plain);
        assert!(tried.tuned < tried.plain, "{family}: {} against {}", tried.tuned, tried.plain);
        // Random weights leave little to learn: in gpt2 the closed form is the best on validation rows.
        assert!(family == "gpt2" || tried.tuned < alone.tuned, "{family}: no step helped");
    }
}

#[test]
fn the_same_seed_gives_the_same_bytes() {
    let (one, other) = (try_layer("llama", &quick()), try_layer("llama", &quick()));
    assert_eq!(one.fitted.map.to_bytes(), other.fitted.map.to_bytes());
    assert_eq!(one.tuned.to_bits(), other.tuned.to_bits());
    let back = Affine::from_bytes(&one.fitted.map.to_bytes(), one.fitted.map.in_scale.len());
    assert_eq!(back, Some(one.fitted.map));
    assert_eq!(Affine::from_bytes(&[0; 8], 4), None);
}

#[test]
fn an_infinite_penalty_is_the_plain_lens() {
    let model = tiny::<f32>("llama");
    let states = random_states(&model, 0, 64, 5);
    let last = states.len() - 1;
    let normal = affine::Normal::new(&states[0], &states[last]);
    let free = normal.solve(1e-6);
    assert_ne!(free.apply(&states[0]), states[0]);
    for map in [normal.solve(f64::INFINITY), normal.identity().clone()] {
        assert_eq!(map.apply(&states[0]), states[0]);
    }
    let which: Vec<usize> = (0..states[0].rows).collect();
    let readout = Readout::of(&model).expect("readout");
    let targets = readout.targets(&states[last]);
    let none = Settings { ridges: Vec::new(), steps: 0, ..quick() };
    let rows = Rows { from: &states[0], targets: &targets };
    let rows = LayerRows { train: rows, train_finals: &states[last], validation: rows };
    let fitted = fit::fit(&readout, &rows, &none, 0).expect("a fit");
    assert_eq!(fitted.ridge, f64::INFINITY);
    assert_eq!(
        readout.kl(&fitted.map.apply(&states[0]), &targets, &which),
        readout.kl(&states[0], &targets, &which)
    );
}

/// A map that is affine is found, up to what the penalty takes away.
#[test]
fn the_closed_form_finds_an_affine_map() {
    let from = noise::<f32>(400, 12, 1);
    let truth = Affine { theta: noise(12, 13, 2), in_scale: vec![0.7; 12], out_scale: vec![1.3; 12] };
    let to = truth.apply(&from);
    let found = affine::Normal::new(&from, &to).solve(1e-9);
    let fresh = noise::<f32>(50, 12, 3);
    let (a, b) = (found.apply(&fresh), truth.apply(&fresh));
    assert!(a.data.iter().zip(&b.data).all(|(a, b)| (a - b).abs() < 1e-4));
}

#[test]
fn the_last_layer_is_the_models_own_logit_difference_bit_for_bit() {
    for family in ["llama", "gemma2"] {
        let model = tiny::<f32>(family);
        for which in 0..model.n_models() {
            let states = random_states(&model, which, 8, 9);
            let d = model.spec().d_model;
            let mut maps: Vec<Option<Affine>> = states
                .iter()
                .map(|_| {
                    Some(Affine {
                        theta: noise(d, d + 1, 4),
                        in_scale: vec![1.0; d],
                        out_scale: vec![1.0; d],
                    })
                })
                .collect();
            let last = states.len() - 1;
            maps[last] = None;
            let tokens = vec![vec![3, 5]; states[0].rows];
            let readings = read(&model, which, &states, &maps, &tokens).expect("readings");
            let own = model.all_logits(which, &model.final_norm(which, &states[last])).expect("logits");
            for (i, reading) in readings[last * tokens.len()..].iter().enumerate() {
                let delta = f64::from(own.row(i)[5]) - f64::from(own.row(i)[3]);
                assert_eq!(delta.to_bits(), (reading.logits[1] - reading.logits[0]).to_bits());
                assert_eq!(reading.kl, 0.0);
            }
            assert!(readings[0].kl > 0.0);
        }
    }
}
