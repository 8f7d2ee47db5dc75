//! Teaching whole models: a text is learnt, the same way every time, and the file holds what was learnt.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod common;

use common::tiny;
use lorascope_checkpoint::{Checkpoint, StoredTensor};
use lorascope_engine::{Batch, DEFAULT_MEMORY, Hooks, Model, States};
use lorascope_train::{Lesson, OptimizerSettings, Pupil};
use std::path::Path;

fn model(folder: &Path) -> Model<f32> {
    Model::load(Checkpoint::open(folder).unwrap(), &[], DEFAULT_MEMORY).unwrap()
}

/// Two texts that begin alike and go on differently, and one token that may be followed by either of two.
fn lessons() -> Vec<Lesson> {
    let text =
        |ids: [u32; 6]| Lesson { wanted: (0..5).map(|i| (i, ids[i + 1], 1.0)).collect(), ids: ids.to_vec() };
    let mut fork = text([2, 9, 17, 33, 60, 71]);
    fork.wanted.extend([(5, 80, 0.25), (5, 81, 0.75)]);
    vec![fork, text([2, 9, 17, 90, 91, 92])]
}

fn log_prob(model: &Model<f32>, ids: &[u32], next: u32) -> f64 {
    let batch = Batch::new(model.spec(), &[(0, ids)]).unwrap();
    let run = model.run(&batch, &Hooks::default(), &[ids.len() - 1]).unwrap();
    let tokens = vec![vec![next]];
    let states = States { model: 0, normalized: run.readout, tokens, reference: Vec::new(), top: 0 };
    model.next_tokens(&states).unwrap()[0].log_prob(0)
}

fn taught(folder: &Path, steps: usize) -> (Pupil, Vec<f64>) {
    let mut pupil = Pupil::new(model(folder), DEFAULT_MEMORY).unwrap();
    let settings = OptimizerSettings::default();
    let losses = (0..steps).map(|_| pupil.step(&lessons(), &settings, 3e-3).unwrap().loss).collect();
    (pupil, losses)
}

#[test]
fn a_text_is_learnt() {
    let Some(folder) = tiny("gemma2") else { return };
    let (pupil, losses) = taught(&folder, 60);
    // What is left is the fork (0.56 nat, one weight in eleven), and the token after which the texts part (ln 2, two of them).
    let entropy = (-0.25f64 * 0.25f64.ln() - 0.75 * 0.75f64.ln() + 2.0 * 2f64.ln()) / 11.0;
    assert!(losses[0] > 3.0 && losses[59] < entropy + 0.05 && losses[59] > entropy - 1e-6, "{losses:?}");
    let p = log_prob(pupil.model(), &[2, 9, 17, 33, 60, 71], 81).exp();
    assert!((p - 0.75).abs() < 0.1, "{p}");
    let parted = log_prob(pupil.model(), &[2, 9, 17], 90).exp();
    assert!((parted - 0.5).abs() < 0.1, "{parted}");
}

/// The loss is the mean of what single log-probabilities say, whatever rows the texts share.
#[test]
fn the_loss_is_that_of_the_tokens_one_by_one() {
    let Some(folder) = tiny("gemma2") else { return };
    let (_, losses) = taught(&folder, 1);
    let untaught = model(&folder);
    let (mut sum, mut total) = (0.0, 0.0);
    for lesson in lessons() {
        for (at, token, weight) in lesson.wanted {
            sum -= weight * log_prob(&untaught, &lesson.ids[..=at], token);
            total += weight;
        }
    }
    // Log-probabilities of a few nats in f32.
    assert!((losses[0] - sum / total).abs() < 1e-5, "{} {}", losses[0], sum / total);
}

#[test]
fn it_is_the_same_every_time_and_the_file_holds_it() {
    let Some(folder) = tiny("gemma2") else { return };
    let ((mut pupil, losses), (mut again, same)) = (taught(&folder, 4), taught(&folder, 4));
    assert_eq!(losses, same);
    pupil.round().unwrap();
    again.round().unwrap();
    assert_eq!(pupil.to_safetensors().unwrap(), again.to_safetensors().unwrap());
    let copy = tempfile::tempdir().unwrap();
    std::fs::copy(folder.join("config.json"), copy.path().join("config.json")).unwrap();
    std::fs::write(copy.path().join("model.safetensors"), pupil.to_safetensors().unwrap()).unwrap();
    let (from_file, before) = (model(copy.path()), model(&folder));
    let ids = [2, 9, 17, 33];
    assert_eq!(log_prob(&from_file, &ids, 60), log_prob(pupil.model(), &ids, 60), "rounding comes first");
    assert_ne!(log_prob(&before, &ids, 60), log_prob(pupil.model(), &ids, 60));
    let (of_file, original) = (Checkpoint::open(copy.path()).unwrap(), Checkpoint::open(&folder).unwrap());
    let shapes = |c: &Checkpoint| -> Vec<(String, Vec<usize>)> {
        let of = |t: &StoredTensor| (t.name().to_owned(), t.shape().to_vec());
        let mut all: Vec<_> = c.names().map(|n| of(c.tensor(n).unwrap())).collect();
        all.sort();
        all
    };
    assert_eq!(shapes(&of_file), shapes(&original), "every array is there, in its shape");
}

#[test]
fn what_cannot_be_taught_is_refused() {
    for (family, expected) in [("qwen3", "tied embeddings and without norms"), ("llama", "tied embeddings")] {
        let Some(folder) = tiny(family) else { return };
        let said = Pupil::new(model(&folder), DEFAULT_MEMORY).unwrap_err().to_string();
        assert!(said.contains(expected), "{family}: {said}");
    }
    let Some(folder) = tiny("gemma2") else { return };
    let mut pupil = Pupil::new(model(&folder), DEFAULT_MEMORY).unwrap();
    let settings = OptimizerSettings::default();
    let mut step = |wanted: Vec<(usize, u32, f64)>| {
        let lesson = Lesson { ids: vec![2, 9], wanted };
        pupil.step(&[lesson], &settings, 1e-3).unwrap_err().to_string()
    };
    assert!(step(vec![(2, 9, 1.0)]).contains("a lesson of 2 tokens with one after token 2"));
    assert!(step(vec![(0, 9, f64::NAN)]).contains("add up to NaN"));
    assert!(step(Vec::new()).contains("add up to 0"));
    assert!(step(vec![(1, 1 << 20, 1.0)]).contains("1048576"));
}
