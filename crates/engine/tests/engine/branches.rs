//! Patched runs as branches equal patched runs of whole sequences, bit for bit.
//!
//! Random branches of random sequences of all models go through in one batch, each with random edits at random places; the
//! branch's sequence alone, computed whole and from the embedding on under the same edits with the same values put in as
//! numbers, must give the same bits at every position from the patched one on.

use crate::support::{ablation, capture, each_family, llama_with_many, points_of, slice, states, tokens};
use lorascope_engine::{
    Batch, Birth, Branch, Edit, EditOp, HookPoint, Hooks, Mat, Model, Number, Shift, Site, Width,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use std::sync::Arc;

/// One edit: position, point, head, source sequence, kind (all modulo what there is).
type Choice = (usize, usize, usize, usize, usize);
/// A branch: its sequence and its edits.
type Sketch = (usize, Vec<Choice>);

fn sketches() -> impl Strategy<Value = Vec<Sketch>> {
    let n = 0usize..1 << 20;
    let choice = (n.clone(), n.clone(), n.clone(), n.clone(), 0usize..5);
    prop::collection::vec((n, prop::collection::vec(choice, 1..4)), 1..9)
}

/// Two prompts of equal length on every model; the first with two endings.
fn sequences<R: Number>(model: &Model<R>) -> Vec<(usize, Vec<u32>)> {
    let (one, other) = (tokens(11, 21), [&tokens(11, 6)[..], &tokens(12, 15)].concat());
    let endings = [[&one[..], &[40, 41]].concat(), [&one[..], &[50]].concat(), other];
    (0..model.n_models()).flat_map(|m| endings.clone().map(|e| (m, e))).collect()
}

/// An edit of the batch, and the same for the sequence alone.
struct Patch<R> {
    point: HookPoint,
    position: usize,
    together: (std::ops::Range<usize>, EditOp<R>),
    alone: EditOp<R>,
}

fn patch<R: Number>(
    model: &Model<R>,
    seqs: &[(usize, Vec<u32>)],
    trunk: &Batch,
    target: usize,
    choice: Choice,
) -> Option<Patch<R>> {
    let (position, point, head, source, kind) = choice;
    let position = position % seqs[target].1.len();
    let points: Vec<_> = points_of(model, seqs[target].0);
    let points: Vec<_> = points.into_iter().filter(|p| Birth::before(*p).is_some()).collect();
    let point = points[point % points.len()];
    let source = source % seqs.len();
    if position >= seqs[source].1.len() || !points_of(model, seqs[source].0).contains(&point) {
        return None;
    }
    let (row, from) = (trunk.row_of(target, position)?, trunk.row_of(source, position)?);
    let values = capture(model, trunk, &[point], &[row, from]).remove(0);
    if values[0].len() != values[1].len() {
        return None; // adapters of other ranks
    }
    let units = slice(model, point, values[0].len(), head);
    let (old, new) = (&values[0][units.clone()], &values[1][units.clone()]);
    let fixed = matches!(point.width(model.spec()), Ok(Width::Fixed(_)));
    let (op, alone) = match kind {
        0 => (EditOp::CopyFrom(from), EditOp::Set(new.to_vec())),
        1 => (EditOp::Scale(ablation(point)), EditOp::Scale(ablation(point))),
        2 if fixed && from != row => {
            let shift = Shift { point, units: units.clone(), plus: from, minus: row };
            let difference = new.iter().zip(old).map(|(&n, &o)| n - o).collect();
            (EditOp::Shift(shift), EditOp::Add(difference))
        }
        // Scores outside a window are infinite, and their differences are no numbers.
        3 if values.iter().flatten().all(|v| v.is_finite()) => {
            let mut basis = Mat::zeros(1, units.len());
            basis.row_mut(0)[0] = R::ONE;
            let op = EditOp::CopyAlong { source: from, basis: Arc::new(basis) };
            // Along the first coordinate only.
            let mut values = vec![R::ZERO; units.len()];
            values[0] = R::from_f64((new[0] - old[0]).to_f64());
            (op, EditOp::Add(values))
        }
        _ => (EditOp::Set(new.to_vec()), EditOp::Set(new.to_vec())),
    };
    Some(Patch { point, position, together: (units, op), alone })
}

pub fn branches_are_whole_runs<R: Number>(model: &Model<R>, cases: u32) {
    let seqs = sequences(model);
    let borrowed: Vec<(usize, &[u32])> = seqs.iter().map(|(m, t)| (*m, t.as_slice())).collect();
    let trunk = Batch::new(model.spec(), &borrowed).unwrap();
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    // The same cases everywhere: a failure can be run again.
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let case = |sketches: Vec<Sketch>| {
        let mut branches = Vec::new();
        let mut patches = Vec::new();
        for (target, choices) in &sketches {
            let target = target % seqs.len();
            // One edit for each place, so that no edit meets what another one made.
            let mut of_branch: Vec<Patch<R>> = Vec::new();
            for &choice in choices {
                let Some(new) = patch(model, &seqs, &trunk, target, choice) else { continue };
                if of_branch.is_empty()
                    || !of_branch.iter().any(|p| {
                        matches!(new.together.1, EditOp::CopyAlong { .. })
                            || matches!(p.together.1, EditOp::CopyAlong { .. })
                            || p.point == new.point
                    })
                {
                    of_branch.push(new);
                }
            }
            let (Some(from), Some(birth)) = (
                of_branch.iter().map(|p| p.position).min(),
                of_branch.iter().filter_map(|p| Birth::before(p.point)).min(),
            ) else {
                continue;
            };
            branches.push(Branch { sequences: vec![target], from, birth });
            patches.push((target, of_branch));
        }
        let batch = Batch::with_branches(model.spec(), &borrowed, &branches).unwrap();
        let mut edits = Vec::new();
        for (b, (target, of_branch)) in patches.iter().enumerate() {
            for p in of_branch {
                let row = batch.branch_row(b, *target, p.position).unwrap();
                let (units, op) = p.together.clone();
                edits.push(Edit { point: p.point, row, units, op });
            }
        }
        let together = states(model, &batch, edits);
        let untouched = states(model, &trunk, Vec::new());
        for row in 0..trunk.n_rows() {
            prop_assert_eq!(together.row(row), untouched.row(row), "row {} of a sequence", row);
        }
        for (b, (target, of_branch)) in patches.into_iter().enumerate() {
            let what: Vec<_> = of_branch.iter().map(|p| (p.point.to_string(), p.position)).collect();
            let from = branches[b].from;
            let whole = Batch::new(model.spec(), &[borrowed[target]]).unwrap();
            let edit =
                |p: Patch<R>| Edit { point: p.point, row: p.position, units: p.together.0, op: p.alone };
            let alone = states(model, &whole, of_branch.into_iter().map(edit).collect());
            prop_assert_eq!(batch.branch_row(b, target, from.wrapping_sub(1)), None);
            for position in from..seqs[target].1.len() {
                let row = batch.branch_row(b, target, position).unwrap();
                prop_assert_eq!(
                    together.row(row),
                    alone.row(position),
                    "position {} under {:?}",
                    position,
                    &what
                );
            }
        }
        Ok(())
    };
    if let Err(e) = runner.run(&sketches(), case) {
        panic!("{}: {e}", model.spec().family);
    }
}

#[test]
fn branches_of_every_family() {
    each_family::<f64>(|_, model| branches_are_whole_runs(model, 40));
    each_family::<f32>(|_, model| branches_are_whole_runs(model, 10));
}

#[test]
fn branches_beside_adapters_of_every_kind() {
    if let Some(model) = llama_with_many::<f64>() {
        branches_are_whole_runs(&model, 60);
    }
}

/// A branch of two sequences copies what they share once and then both endings.
#[test]
fn a_branch_follows_all_endings_of_a_prompt() {
    each_family::<f64>(|family, model| {
        let stem = tokens(3, 12);
        let endings = [[&stem[..], &[20, 21]].concat(), [&stem[..], &[30]].concat()];
        let borrowed: Vec<(usize, &[u32])> = endings.iter().map(|e| (1, e.as_slice())).collect();
        let birth = Birth::before(HookPoint::Layer(1, Site::Z)).unwrap();
        let branch = Branch { sequences: vec![0, 1], from: 9, birth };
        let batch = Batch::with_branches(model.spec(), &borrowed, &[branch]).unwrap();
        let trunk = batch.row_of(0, 13).unwrap().max(batch.row_of(1, 12).unwrap()) + 1;
        assert_eq!(trunk, 15, "{family}");
        assert_eq!(batch.n_rows(), trunk + 3 + 3);
        assert_eq!(batch.branch_row(0, 0, 11), batch.branch_row(0, 1, 11));
        let (width, row) = (model.spec().d_head, batch.branch_row(0, 0, 9).unwrap());
        let point = HookPoint::Layer(1, Site::Z);
        let edit = |row| vec![Edit { point, row, units: 0..width, op: EditOp::Scale(0.0) }];
        let together = states(model, &batch, edit(row));
        for (s, ending) in endings.iter().enumerate() {
            let whole = Batch::new(model.spec(), &[(1, ending)]).unwrap();
            let alone = states(model, &whole, edit(9));
            for position in 9..ending.len() {
                let row = batch.branch_row(0, s, position).unwrap();
                assert_eq!(
                    together.row(row),
                    alone.row(position),
                    "{family}, ending {s}, position {position}"
                );
            }
        }
    });
}

/// What one model's adapter adds, put into the base, which has none.
#[test]
fn an_adapters_output_can_be_put_into_the_base_and_taken_out_again() {
    each_family::<f64>(|family, model| {
        let prompt = tokens(5, 10);
        let sequences = [(0, &prompt[..]), (1, &prompt[..])];
        let trunk = Batch::new(model.spec(), &sequences).unwrap();
        for &(layer, module) in &[(0, lorascope_engine::Module::O), (1, lorascope_engine::Module::Down)] {
            let point = HookPoint::Layer(layer, Site::LoraOut(module));
            let birth = Birth::before(point).unwrap();
            let branch = |target: usize| Branch { sequences: vec![target], from: 9, birth };
            let batch = Batch::with_branches(model.spec(), &sequences, &[branch(0), branch(1)]).unwrap();
            let (into, out) = (batch.branch_row(0, 0, 9).unwrap(), batch.branch_row(1, 1, 9).unwrap());
            let (base, own) = (batch.row_of(0, 9).unwrap(), batch.row_of(1, 9).unwrap());
            let units = 0..model.spec().module_shape(module).0;
            let copy = |row, source| Edit { point, row, units: units.clone(), op: EditOp::CopyFrom(source) };
            let state = states(model, &batch, vec![copy(into, own), copy(out, base)]);
            let zero = Edit { point, row: 9, units: units.clone(), op: EditOp::Scale(0.0) };
            let ablated = states(model, &Batch::new(model.spec(), &sequences[1..]).unwrap(), vec![zero]);
            assert_eq!(state.row(out), ablated.row(9), "{family}: the base's adapter adds nothing");
            let captured = capture(model, &trunk, &[point], &[base, own]).remove(0);
            assert!(captured[0].iter().all(|&v| v == 0.0) && captured[1].iter().any(|&v| v != 0.0));
            assert_ne!(state.row(into), state.row(base), "{family}: what was put in changes something");
        }
    });
}

/// Path patching: with every other component frozen, a change of one component reaches one reader only.
#[test]
fn a_shift_at_one_reader_is_what_the_residual_stream_would_bring_it() {
    each_family::<f64>(|family, model| {
        let spec = model.spec();
        let (prompt, d) = (tokens(6, 8), spec.d_model);
        let sequences = [(0, &prompt[..]), (1, &prompt[..])];
        let (sender, reader) = (HookPoint::Layer(1, Site::MlpOut), HookPoint::Layer(2, Site::QInput));
        let birth = Birth::before(reader).unwrap();
        let branch = Branch { sequences: vec![0], from: 7, birth };
        let batch = Batch::with_branches(spec, &sequences, &[branch]).unwrap();
        let row = batch.branch_row(0, 0, 7).unwrap();
        let (target, source) = (batch.row_of(0, 7).unwrap(), batch.row_of(1, 7).unwrap());
        let head = 1;
        let shift = Shift { point: sender, units: 0..d, plus: source, minus: target };
        let units = head * d..(head + 1) * d;
        let edits = vec![Edit { point: reader, row, units, op: EditOp::Shift(shift) }];
        let at = |site| HookPoint::Layer(2, site);
        let captures = [
            (sender, source),
            (sender, target),
            (at(Site::ResidPre), target),
            (at(Site::Q), row),
            (at(Site::Q), target),
        ]
        .map(|(point, row)| lorascope_engine::Capture { point, rows: vec![row] });
        let run = model.run(&batch, &Hooks { captures: captures.to_vec(), edits }, &[]).unwrap();
        let value = |i: usize| &run.captures[i][0];
        // The same queries from a run in which the residual stream itself is what the reader saw.
        let shifted: Vec<f64> = (0..d).map(|i| value(2)[i] + (value(0)[i] - value(1)[i])).collect();
        let whole = Batch::new(spec, &sequences[..1]).unwrap();
        let set = Edit { point: at(Site::ResidPre), row: 7, units: 0..d, op: EditOp::Set(shifted) };
        let hooks = Hooks {
            captures: vec![lorascope_engine::Capture { point: at(Site::Q), rows: vec![7] }],
            edits: vec![set],
        };
        let expected = model.run(&whole, &hooks, &[]).unwrap().captures.remove(0).remove(0);
        let dh = spec.d_head;
        for h in 0..spec.n_heads {
            let part = h * dh..(h + 1) * dh;
            let expected = if h == head { &expected[part.clone()] } else { &value(4)[part.clone()] };
            assert_eq!(&value(3)[part], expected, "{family}, head {h}");
        }
    });
}

/// Sequences that go on kept ones have the bits of whole sequences, branches and copies between models included.
#[test]
fn what_follows_kept_sequences_is_as_in_whole_ones() {
    let check = |model: &Model<f32>| {
        let (stem, other) = (tokens(8, 19), [&tokens(8, 7)[..], &tokens(9, 14)].concat());
        let n_models = model.n_models();
        let kept: Vec<(usize, &[u32])> =
            (0..n_models).flat_map(|m| [(m, &stem[..]), (m, &other[..])]).collect();
        let memory = model.keep(&kept, &|_, _| {}).unwrap();
        // Two endings of the first, one of the second.
        let tails: [(usize, &[u32]); 3] = [(0, &[30, 31]), (0, &[30, 40]), (1, &[50])];
        let ends: Vec<(usize, &[u32])> =
            (0..n_models).flat_map(|m| tails.map(|(of, tail)| (2 * m + of, tail))).collect();
        let wholes: Vec<(usize, Vec<u32>)> =
            ends.iter().map(|(of, tail)| (kept[*of].0, [kept[*of].1, tail].concat())).collect();
        let wholes: Vec<(usize, &[u32])> = wholes.iter().map(|(m, t)| (*m, t.as_slice())).collect();
        let point = HookPoint::Layer(1, Site::Z);
        let branch = Branch { sequences: vec![3, 4], from: 19, birth: Birth::before(point).unwrap() };
        let after = memory.batch(model, &ends, std::slice::from_ref(&branch)).unwrap();
        let whole = Batch::with_branches(model.spec(), &wholes, &[branch]).unwrap();
        let run = |batch: &Batch, memory: Option<&lorascope_engine::Kept<f32>>| {
            let (row, source) = (batch.branch_row(0, 3, 19).unwrap(), batch.row_of(0, 19).unwrap());
            let units = 0..model.spec().d_head;
            let edit = Edit { point, row, units, op: EditOp::CopyFrom(source) };
            let hooks = Hooks { captures: Vec::new(), edits: vec![edit] };
            let mut rows: Vec<usize> = (0..ends.len())
                .flat_map(|s| (19 + s % 3 / 2 * 2..wholes[s].1.len()).map(move |p| (s, p)))
                .map(|(s, p)| batch.row_of(s, p).unwrap())
                .collect();
            rows.extend([(3, 19), (3, 20), (4, 20)].map(|(s, p)| batch.branch_row(0, s, p).unwrap()));
            match memory {
                None => model.run(batch, &hooks, &rows).unwrap().readout,
                Some(memory) => model.run_after(memory, batch, &hooks, &rows, &|_, _| {}).unwrap().readout,
            }
        };
        assert_eq!(run(&after, Some(&memory)), run(&whole, None), "{}", model.spec().family);
        // What was kept is not there to be read, changed or copied, nor can it be left out.
        let refused = |hooks: Hooks<f32>, rows: &[usize]| {
            model.run_after(&memory, &after, &hooks, rows, &|_, _| {}).unwrap_err().to_string()
        };
        let capture = lorascope_engine::Capture { point, rows: vec![3] };
        let hooks = Hooks { captures: vec![capture], edits: Vec::new() };
        assert_eq!(
            refused(hooks, &[]),
            "capture at `blocks.1.attn.hook_z`, row 3: its keys and values were kept; it is not computed again"
        );
        assert!(refused(Hooks::default(), &[2]).contains("the readout names row 2"));
        assert!(model.run(&after, &Hooks::default(), &[]).is_err());
        assert!(model.run_after(&memory, &whole, &Hooks::default(), &[], &|_, _| {}).is_err());
        let early = Branch { sequences: vec![0], from: 18, birth: Birth::before(point).unwrap() };
        let message = memory.batch(model, &ends, &[early]).unwrap_err().to_string();
        assert_eq!(message, "branch 0: position 18 of sequence 0 was kept and is not computed");
    };
    each_family::<f32>(|_, model| check(model));
    if let Some(model) = llama_with_many::<f32>() {
        check(&model);
    }
}
