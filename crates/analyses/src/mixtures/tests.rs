//! What is written is what ran.

use super::adapter;
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{Batch, Control, ControlKind, DEFAULT_MEMORY, Hooks, Mixture, Model, Part};
use std::path::Path;

/// A tiny model with its adapter and a random control of it; `None` (said aloud) without reference data.
pub(crate) fn with_two(family: &str) -> Option<Model<f32>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tiny").join(family);
    if !dir.is_dir() {
        let required = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|v| v == "1");
        assert!(!required, "{} is missing, and LORASCOPE_REQUIRE_SHARED=1 demands it", dir.display());
        println!("skipped: reference data not found at {}", dir.display());
        return None;
    }
    let base = Checkpoint::open(&dir.join("model")).expect("a checkpoint");
    let control = Control { of: "tuned".to_owned(), kind: ControlKind::Random, seed: 1 };
    let (adapters, controls) =
        ([("tuned".to_owned(), dir.join("adapter"))], [("random".to_owned(), control)]);
    Some(Model::load_with_controls(base, &adapters, &controls, DEFAULT_MEMORY).expect("a tiny model"))
}

/// Every third module from the control, the others from the adapter, one of these at half its strength.
fn mixed(model: &Model<f32>) -> Mixture {
    let mut mixture = Mixture::default();
    for (i, (layer, module)) in model.adapters()[0].adapted().enumerate() {
        let part = Part { model: 1 + usize::from(i % 3 == 1), factor: if i == 0 { 0.5 } else { 1.0 } };
        mixture.take(layer, module, part);
    }
    mixture
}

#[test]
fn a_written_mixture_is_the_mixture() {
    for family in ["llama", "gemma2", "gpt2"] {
        let Some(model) = with_two(family) else { return };
        let mixture = mixed(&model);
        let files = adapter(model.adapters(), &mixture).expect("an adapter");
        let folder = tempfile::tempdir().expect("a folder");
        let write =
            |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).expect("a file");
        write("adapter_config.json", files.config.as_bytes());
        write("adapter_model.safetensors", &files.weights);
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tiny").join(family);
        let base = Checkpoint::open(&dir.join("model")).expect("a checkpoint");
        let made = [("made".to_owned(), folder.path().to_owned())];
        let again = Model::<f32>::load(base, &made, DEFAULT_MEMORY).expect("a model");
        let tokens: Vec<u32> = (3..24).map(|t| t * 7 % 90 + 3).collect();
        let rows: Vec<usize> = (0..tokens.len()).collect();
        let batch = |which: usize| Batch::new(model.spec(), &[(which, &tokens[..])]).expect("a batch");
        let run = model.run_mixtures(&batch(0), &[mixture], &rows, &|_, _| {}).expect("a run");
        let loaded = again.run(&batch(1), &Hooks::default(), &rows).expect("a run").readout;
        if family == "gpt2" {
            // Queries, keys and values of one matrix have the ranks of both: sums of more numbers, some of them zeros.
            let far = run[0].data.iter().zip(&loaded.data).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(far < 1e-5, "{family}: {far}");
            let ranks = &again.adapters()[0].peft.report.ranks;
            assert!(ranks.len() > 1, "{ranks:?}");
        } else {
            assert_eq!(run[0], loaded, "{family}");
        }
        let plain = |which: usize| model.run(&batch(which), &Hooks::default(), &rows).expect("a run").readout;
        assert!(run[0] != plain(1) && run[0] != plain(2), "{family}");
    }
}
