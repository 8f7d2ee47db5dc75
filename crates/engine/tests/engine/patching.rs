//! Patched runs in mixed batches equal patched runs alone, bit for bit: what every patching analysis rests on.
//!
//! Random sequences that share prefixes, of all models of a comparison, go through together with random edits on one of
//! them; the same sequence alone, with the same values put in as numbers, must give the same bits at every position.

use crate::support::{ablation, all_rows, capture, each_family, llama_with_many, points_of, slice, states};
use lorascope_engine::{Batch, Edit, EditOp, Model, Width};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

/// A sequence: its model (modulo the number of models), the stem it begins like, how much of it, and what follows.
type Sketch = (usize, usize, usize, Vec<u32>);

/// Which edit: sequence, position, point, head, source sequence and position, kind (all modulo what there is).
type Choice = (usize, usize, usize, usize, usize, usize, usize);

fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    prop::collection::vec((0usize..8, 0usize..2, 0usize..24, prop::collection::vec(3u32..512, 1..8)), 3..9)
}

fn choices() -> impl Strategy<Value = Vec<Choice>> {
    let n = 0usize..1 << 20;
    prop::collection::vec((n.clone(), n.clone(), n.clone(), n.clone(), n.clone(), n, 0usize..4), 1..5)
}

fn sequences(model: &Model<f64>, sketches: &[Sketch]) -> Vec<(usize, Vec<u32>)> {
    let stems = [crate::support::tokens(11, 24), crate::support::tokens(12, 24)];
    let one = |(which, stem, n, tail): &Sketch| {
        (which % model.n_models(), stems[*stem][..*n].iter().chain(tail).copied().collect())
    };
    sketches.iter().map(one).collect()
}

fn batch_of(model: &Model<f64>, sequences: &[(usize, Vec<u32>)]) -> Batch {
    let borrowed: Vec<(usize, &[u32])> = sequences.iter().map(|(m, t)| (*m, t.as_slice())).collect();
    Batch::new(model.spec(), &borrowed).unwrap()
}

/// The edits on the target sequence, once for the mixed batch and once for the sequence alone.
struct Patches {
    together: Vec<Edit<f64>>,
    alone: Vec<Edit<f64>>,
}

fn patches(
    model: &Model<f64>,
    seqs: &[(usize, Vec<u32>)],
    target: usize,
    batch: &Batch,
    choices: &[Choice],
) -> Patches {
    let mut patches = Patches { together: Vec::new(), alone: Vec::new() };
    let which = seqs[target].0;
    let points = points_of(model, which);
    for &(_, position, point, head, source, source_position, kind) in choices {
        let point = points[point % points.len()];
        let position = position % seqs[target].1.len();
        let has = |s: usize| points_of(model, seqs[s].0).contains(&point);
        let source = (0..seqs.len()).map(|i| (source + i) % seqs.len()).find(|&s| has(s)).unwrap();
        let per_key = matches!(point.width(model.spec()), Ok(Width::PerKey(_)));
        let source_position = if per_key { position } else { source_position } % seqs[source].1.len();
        if per_key && source_position != position {
            continue; // the source is too short for the same number of keys
        }
        // The source's values, from a run of its sequence alone.
        let own = batch_of(model, &seqs[source..=source]);
        let values = capture(model, &own, &[point], &[source_position]).remove(0).remove(0);
        let (row, from) =
            (batch.row_of(target, position).unwrap(), batch.row_of(source, source_position).unwrap());
        let mine = capture(model, batch, &[point], &[row, from]).remove(0);
        assert_eq!(mine[1], values, "a capture does not depend on company");
        if mine[0].len() != values.len() {
            continue; // adapters of other ranks
        }
        let units = slice(model, point, values.len(), head);
        let set = || EditOp::Set(values[units.clone()].to_vec());
        // Another edit could change the source.
        let copies = from < row && choices.len() == 1;
        let (op, alone_op) = match kind {
            0 if copies => (EditOp::CopyFrom(from), set()),
            1 => (EditOp::Scale(ablation(point)), EditOp::Scale(ablation(point))),
            2 => (EditOp::Add(values[units.clone()].to_vec()), EditOp::Add(values[units.clone()].to_vec())),
            _ => (set(), set()),
        };
        patches.together.push(Edit { point, row, units: units.clone(), op });
        patches.alone.push(Edit { point, row: position, units, op: alone_op });
    }
    patches
}

fn company_does_not_matter(model: &Model<f64>, cases: u32) {
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The same cases everywhere: a failure can be run again.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let case = |(sketches, choices): (Vec<Sketch>, Vec<Choice>)| {
        let seqs = sequences(model, &sketches);
        let batch = batch_of(model, &seqs);
        let target = choices[0].0 % seqs.len();
        let patches = patches(model, &seqs, target, &batch, &choices);
        let touched: Vec<usize> = patches.together.iter().map(|e| e.row).collect();
        let what = format!("{:?}", patches.together.iter().map(|e| (e.point, e.row)).collect::<Vec<_>>());

        let plain = states(model, &batch, Vec::new());
        let together = states(model, &batch, patches.together);
        let own = batch_of(model, &seqs[target..=target]);
        let alone = states(model, &own, patches.alone);
        for p in 0..seqs[target].1.len() {
            let row = batch.row_of(target, p).unwrap();
            prop_assert_eq!(together.row(row), alone.row(p), "position {} under {}", p, &what);
        }
        // Rows that see none of the edited ones are as without any edit.
        for row in all_rows(&batch) {
            let sees = batch.keys_of(row).into_iter().flatten().any(|r| touched.contains(&r));
            prop_assert!(sees || together.row(row) == plain.row(row), "row {} under {}", row, &what);
        }
        Ok(())
    };
    if let Err(e) = runner.run(&(sketches(), choices()), case) {
        panic!("{}: {e}", model.spec().family);
    }
}

#[test]
fn a_patched_sequence_in_a_mixed_batch_is_the_patched_sequence_alone() {
    each_family::<f64>(|_, model| company_does_not_matter(model, 24));
}

#[test]
fn the_same_beside_adapters_of_every_kind() {
    if let Some(model) = llama_with_many() {
        company_does_not_matter(&model, 60);
    }
}

#[test]
fn the_same_beside_an_adapter_whose_scale_is_no_power_of_two() {
    // With s = 7 / 4 it matters in which order s·B·A·x is rounded and added.
    let Some(model) = crate::support::llama_scaled::<f64>(7) else { return };
    company_does_not_matter(&model, 40);
}
