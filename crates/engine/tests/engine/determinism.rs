//! One run, one result: whatever the threads, whatever the memory, whatever else is in the batch.

use crate::support::{FAMILIES, all_rows, each_family, llama_with_many, shared, tokens};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{
    Batch, Capture, HookPoint, Hooks, Mat, Model, NextToken, Number, Parameter, Site, Standing, States, check,
};

/// Readout, per-head results and next tokens of a batch of all models.
fn everything<R: Number>(model: &Model<R>) -> (Vec<R>, Vec<Vec<Vec<R>>>, Vec<NextToken>) {
    let tokens = tokens(5, 40);
    let mut sequences: Vec<(usize, &[u32])> = (0..model.n_models()).map(|m| (m, &tokens[..])).collect();
    sequences.push((0, &tokens[..7]));
    let batch = Batch::new(model.spec(), &sequences).unwrap();
    let rows = all_rows(&batch);
    let captures = vec![
        Capture { point: HookPoint::Layer(1, Site::Result), rows: rows.clone() },
        Capture { point: HookPoint::Layer(2, Site::Pattern), rows: rows.clone() },
    ];
    let run = model.run(&batch, &Hooks { captures, edits: Vec::new() }, &rows).unwrap();
    let normalized = run.readout.gather(&(0..40).collect::<Vec<_>>());
    let states = States {
        model: 0,
        tokens: vec![vec![1, 5]; 40],
        reference: (0..40).rev().collect(),
        top: 5,
        normalized,
    };
    (run.readout.data, run.captures, model.next_tokens(&states).unwrap())
}

fn with_threads<T: Send>(n: usize, f: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(n).build().unwrap().install(f)
}

fn threads_do_not_matter<R: Number>(name: &str, model: &Model<R>) {
    let one = with_threads(1, || everything(model));
    for n in [2, 4] {
        assert!(with_threads(n, || everything(model)) == one, "{name}: {n} threads");
    }
}

#[test]
fn any_number_of_threads_gives_the_same_bits() {
    each_family::<f32>(threads_do_not_matter);
    each_family::<f64>(threads_do_not_matter);
    if let Some(model) = llama_with_many::<f32>() {
        threads_do_not_matter("llama with many adapters", &model);
    }
}

#[test]
fn weights_that_are_packed_anew_in_every_sweep_give_the_same_bits() {
    let Some(shared) = shared() else { return };
    for family in FAMILIES {
        let dir = shared.join("tiny").join(family);
        let load = |memory: usize| {
            let adapters = [("lora".to_owned(), dir.join("adapter"))];
            Model::<f32>::load(Checkpoint::open(&dir.join("model")).unwrap(), &adapters, memory).unwrap()
        };
        let (kept, anew) = (load(usize::MAX), load(0));
        assert!(kept.is_resident() && !anew.is_resident());
        assert!(everything(&kept) == everything(&anew), "{family}");
        // With room for the layers but not for the output matrix.
        let layers_only = load(kept.panel_bytes());
        assert!(layers_only.is_resident());
        assert!(everything(&kept) == everything(&layers_only), "{family}");
    }
}

#[test]
fn a_layer_that_has_changed_since_it_passed_by_is_made_anew() {
    let Some(shared) = shared() else { return };
    let dir = shared.join("tiny/llama");
    let adapters = [("lora".to_owned(), dir.join("adapter"))];
    let mut model: Model<f32> =
        Model::load(Checkpoint::open(&dir.join("model")).unwrap(), &adapters, 0).unwrap();
    let last = model.spec().n_layers - 1;
    let (layer, module) = model.adapters()[0].adapted().filter(|place| place.0 == last).min().unwrap();
    let dense = |model: &Model<f32>, which: usize| model.dense_weight(which, layer, module).unwrap();
    // The layer that passed by last is the one that is asked for.
    let (base, own) = (dense(&model, 0), dense(&model, 1));
    assert_ne!(base, own);
    let muted = Standing { edits: Vec::new(), muted: [(1, layer, module)].into() };
    model.stand(muted).unwrap();
    assert_eq!(dense(&model, 1), base);
    model.stand(Standing::default()).unwrap();
    assert_eq!(dense(&model, 1), own);
    let factor = Parameter::LoraB(layer, module);
    let b = model.parameter(1, factor).unwrap();
    model.set_parameter(1, factor, &Mat::zeros(b.rows, b.cols)).unwrap();
    assert_eq!(dense(&model, 1), base);
    model.set_parameter(1, factor, &b).unwrap();
    assert_eq!(dense(&model, 1), own);
    let weight = Parameter::Weight(layer, module);
    model.set_parameter(0, weight, &Mat::zeros(base.rows, base.cols)).unwrap();
    assert_eq!(dense(&model, 0), Mat::zeros(base.rows, base.cols));
}

fn identities_hold<R: Number>(name: &str, model: &Model<R>) {
    for which in 0..model.n_models() {
        for n in [1, 2, 33] {
            let checks = check(model, which, &tokens(6, n)).unwrap();
            assert_eq!(checks.len(), 7);
            for check in checks {
                assert_eq!(check.model, model.name(which));
                assert!(check.holds(), "{name}, {n} tokens: {check:?}");
                let exact = check.identity.contains("window") || check.identity.contains("bit for bit");
                assert_eq!(check.tolerance == 0.0, exact, "{check:?}");
            }
        }
    }
}

#[test]
fn the_identities_hold_on_every_model_in_both_precisions() {
    each_family::<f32>(identities_hold);
    each_family::<f64>(identities_hold);
    if let Some(model) = llama_with_many::<f32>() {
        identities_hold("llama with many adapters", &model);
    }
    if let Some(model) = llama_with_many::<f64>() {
        identities_hold("llama with many adapters", &model);
    }
}
