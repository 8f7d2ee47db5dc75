//! What the tuned lens promises, on tiny models and random tokens.

use super::judge::{Judge, mean};
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

struct Tried {
    fitted: fit::Fitted,
    plain: f64,
    closed: f64,
    tuned: f64,
}

/// Fits a layer of a tiny model and compares on texts that the fit has not seen.
fn try_layer(model: &Model<f32>, layer: usize, settings: &Settings) -> Tried {
    let [train, validation, heldout] =
        [(512, 1), (96, 2), (96, 3)].map(|(n, seed)| random_states(model, 0, n, seed));
    let last = train.len() - 1;
    let judge = |states: &[Mat<f32>]| Judge::new(model, states[last].clone());
    let rows = fit::LayerRows {
        train: &train[layer],
        finals: &train[last],
        validation: &validation[layer],
        judge: &judge(&validation),
    };
    let fitted = fit::fit(&Readout::of(model).expect("readout"), &rows, settings).expect("a fit");
    let readings = [&fitted.closed, &fitted.map].map(|map| map.apply(&heldout[layer]));
    let kl = judge(&heldout).kl(&[&heldout[layer], &readings[0], &readings[1]]).expect("divergences");
    Tried { plain: mean(&kl[0]), closed: mean(&kl[1]), tuned: mean(&kl[2]), fitted }
}

#[test]
fn unseen_texts_come_closer_to_the_final_distribution_in_every_layer() {
    for family in ["llama", "gemma2", "gpt2"] {
        let model = tiny::<f32>(family);
        for layer in 0..model.spec().n_layers - 1 {
            let tried = try_layer(&model, layer, &Settings::default());
            let Tried { plain, closed, tuned, .. } = tried;
            assert!(closed < plain, "{family}, layer {layer}: closed form {closed} against {plain}");
            assert!(tuned < plain, "{family}, layer {layer}: {tuned} against {plain}");
        }
    }
}

/// Random weights leave little that carries over to other texts; what steps promise is to descend on their own rows.
#[test]
fn steps_bring_the_divergence_down() {
    for family in ["llama", "gemma2", "gpt2"] {
        let model = tiny::<f32>(family);
        let states = random_states(&model, 0, 512, 1);
        let (from, to) = (&states[0], &states[states.len() - 1]);
        let closed = affine::Normal::new(from, to).solve(1e-2);
        let readout = Readout::of(&model).expect("readout");
        let moved = descent::descend(&closed, from, to, &readout, &Settings::default());
        let kl = Judge::new(&model, to.clone()).kl(&[&closed.apply(from), &moved.apply(from)]);
        let kl = kl.expect("divergences");
        assert!(mean(&kl[1]) < mean(&kl[0]), "{family}: {} against {}", mean(&kl[1]), mean(&kl[0]));
    }
}

#[test]
fn the_same_rows_give_the_same_bytes() {
    let model = tiny::<f32>("llama");
    let [one, other] = [(); 2].map(|()| try_layer(&model, 0, &Settings::default()));
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
    let normal = affine::Normal::new(&states[0], &states[states.len() - 1]);
    assert_ne!(normal.solve(1e-6).apply(&states[0]), states[0]);
    for map in [normal.solve(f64::INFINITY), normal.identity().clone()] {
        assert_eq!(map.apply(&states[0]), states[0]);
    }
    // With no other choice the plain lens remains.
    let tried = try_layer(&model, 0, &Settings { ridges: Vec::new(), steps: 0, ..Settings::default() });
    assert_eq!(tried.fitted.ridge, f64::INFINITY);
    assert_eq!(tried.tuned.to_bits(), tried.plain.to_bits());
}

/// The last layer is the model's own final state already: nothing is left for a fit to explain.
#[test]
fn a_fit_of_the_last_layer_is_the_identity() {
    let model = tiny::<f32>("gemma2");
    let last = model.spec().n_layers - 1;
    let tried = try_layer(&model, last, &Settings::default());
    assert!(tried.fitted.map.theta.data.iter().all(|&v| v == 0.0), "{:?}", tried.fitted.steps);
    assert_eq!((tried.plain, tried.tuned), (0.0, 0.0));
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

/// One batch of all readings says what each reading says by itself.
#[test]
fn the_divergence_is_the_engines() {
    let model = tiny::<f32>("gemma2");
    let states = random_states(&model, 0, 32, 6);
    let (first, last) = (&states[0], &states[states.len() - 1]);
    let kl = Judge::new(&model, last.clone()).kl(&[last, first]).expect("divergences");
    let maps = vec![None; states.len()];
    let alone = read(&model, 0, &states, &maps, &vec![Vec::new(); 32]).expect("readings");
    assert!(kl[0].iter().all(|&kl| kl == 0.0));
    assert!(kl[1].iter().zip(&alone).all(|(kl, reading)| kl.to_bits() == reading.kl.to_bits()));
    assert!(kl[1].iter().all(|&kl| kl > 0.0));
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
