//! What needs no prompts; masked runs are tested through the program.

use super::export;
use super::masks::Mask;
use super::search::{Search, by_size, random_orders, sizes};
use super::settings::{Groups, Settings};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{Batch, Control, ControlKind, DEFAULT_MEMORY, Hooks, Mixture, Model, Part};
use std::path::Path;

#[test]
fn no_two_masks_have_the_same_text() {
    assert_eq!(Mask::only(9, &[7, 0, 2, 1]).text(), "0-2 7");
    assert_eq!(Mask::without(3, 1).text(), "0 2");
    assert_eq!(Mask::only(3, &[]).text(), "none");
    assert_eq!(Mask::only(3, &[2, 1, 0]).text(), "all");
    assert_eq!(Mask::uniform(3, 0.5).text(), "all * 0.5");
    assert_eq!(Mask::without(1, 0).text(), "none");
    assert_eq!((Mask::without(3, 1).n_on(), Mask::uniform(3, 0.5).n_on()), (2, 3));
}

#[test]
fn orders_are_complete_and_sizes_end_with_all() {
    assert_eq!(sizes(30, 6), [5, 10, 15, 20, 25, 30]);
    assert_eq!(sizes(3, 6), [1, 2, 3]);
    assert_eq!(sizes(7, 1), [7]);
    assert_eq!(by_size(&[0.0, 2.0, 1.0, 2.0]), [1, 3, 2, 0]);
    let orders = random_orders(10, 20, 4);
    assert_eq!(orders, random_orders(10, 20, 4));
    for order in &orders {
        let mut sorted = order.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (0..10).collect::<Vec<_>>());
    }
    assert!(orders.iter().any(|order| *order != orders[0]));
}

/// Sets grown and pruned where `recovers` says what a set recovers; with the number of sets that were measured.
fn searched(n: usize, share: f64, recovers: impl Fn(&[usize]) -> f64) -> (Vec<usize>, Vec<usize>, usize) {
    let mut measured = 0;
    let mut points = |_: &str, sets: &[Vec<usize>]| {
        measured += sets.len();
        Ok(sets.iter().map(|set| recovers(set)).collect())
    };
    let alone: Vec<f64> = (0..n).map(|b| recovers(&[b])).collect();
    let mut search = Search { points: &mut points, n, share };
    let grown = search.greedy(&alone, 6).expect("a set");
    let pruned = search.prune(&grown).expect("a set");
    assert_eq!(grown.sizes.last(), Some(&grown.order.len()));
    (grown.order, pruned, measured)
}

#[test]
fn few_blocks_that_do_everything_are_found() {
    // Blocks 3 and 17 of 30 carry 60% and 35%, the others share the rest.
    let share_of = |b: usize| match b {
        3 => 0.6,
        17 => 0.35,
        _ => 0.05 / 28.0,
    };
    let (_, pruned, _) = searched(30, 0.9, |set| set.iter().map(|&b| share_of(b)).sum());
    assert_eq!(pruned, [3, 17]);
    // Two that do the same are both good alone; only one stays.
    let twins = |set: &[usize]| {
        0.8 * f64::from(u8::from(set.contains(&4) || set.contains(&5)))
            + 0.2 * f64::from(u8::from(set.contains(&9)))
    };
    let (_, pruned, _) = searched(12, 0.95, twins);
    assert_eq!((pruned.len(), pruned[1]), (2, 9));
    assert!([4, 5].contains(&pruned[0]));
    // Blocks that work against the rest are not taken.
    let (order, pruned, _) =
        searched(10, 0.89, |set| set.iter().map(|&b| if b % 2 == 0 { 0.3 } else { -0.1 }).sum());
    assert!(order.iter().all(|b| b % 2 == 0), "{order:?}");
    assert_eq!(pruned.len(), 3);
}

#[test]
fn many_small_blocks_take_few_steps() {
    let (order, pruned, measured) = searched(30, 0.9, |set| set.len() as f64 / 30.0);
    assert_eq!((order.len(), pruned.len()), (27, 27));
    assert!(measured < 100, "{measured} sets");
}

/// A tiny model with its adapter and a random control of it; `None` (said aloud) without reference data.
fn with_two(family: &str) -> Option<Model<f32>> {
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
        let files = export::adapter(model.adapters(), &mixture).expect("an adapter");
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

#[test]
fn groups_cover_every_module_once() {
    let Some(model) = with_two("llama") else { return };
    let adapters: Vec<_> = model.adapters().iter().collect();
    let of = |groups: Groups, spans: usize| {
        let settings = Settings { transplants: groups, spans, ..Settings::default() };
        super::transplants::groups(&settings, &adapters, model.spec().n_layers)
    };
    let all: Vec<_> = model.adapters()[0].adapted().collect();
    for groups in [Groups::Module, Groups::Kind, Groups::Layer, Groups::Auto] {
        let mut places: Vec<_> = of(groups, 6).into_iter().flat_map(|g| g.places).collect();
        places.sort_unstable();
        assert_eq!(places, all, "{groups:?}");
    }
    let labels: Vec<String> = of(Groups::Span, 2).iter().map(super::transplants::Group::label).collect();
    assert_eq!(labels, ["L0-1", "L2-3", "L0-3 attention", "L0-3 mlp"]);
    let labels: Vec<String> = of(Groups::Kind, 2).iter().map(super::transplants::Group::label).collect();
    assert_eq!(labels[..3], ["L0 attention", "L0 mlp", "L1 attention"]);
}
