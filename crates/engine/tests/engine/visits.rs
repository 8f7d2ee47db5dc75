//! Visits: code that a run calls with the values of a place.

use crate::support::{all_rows, capture, each_family, noise, points_of, states, tiny, tokens};
use lorascope_engine::{
    Batch, Birth, Branch, Edit, EditOp, HookPoint, Hooks, Model, Number, Site, Stage, Stop, Visit, Visitor,
};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

/// What a visitor does to the values of its rows.
type Change<R> = Box<dyn Fn(&mut [&mut [R]]) + Send + Sync>;

/// Notes what it sees, then changes it.
struct Notes<R> {
    seen: Mutex<Vec<Vec<Vec<R>>>>,
    change: Change<R>,
}

impl<R: Number> Visitor<R> for Notes<R> {
    fn visit(&self, visit: &Visit<R>, values: &mut [&mut [R]]) -> Result<(), String> {
        assert_eq!(values.len(), visit.rows.len());
        self.seen.lock().unwrap().push(values.iter().map(|row| row.to_vec()).collect());
        (self.change)(values);
        Ok(())
    }
}

fn notes<R: Number>(change: impl Fn(&mut [&mut [R]]) + Send + Sync + 'static) -> Arc<Notes<R>> {
    Arc::new(Notes { seen: Mutex::new(Vec::new()), change: Box::new(change) })
}

fn run<R: Number>(model: &Model<R>, batch: &Batch, visits: &[Visit<R>]) -> Vec<R> {
    let run = model.run_visited(batch, &Hooks::default(), visits, &all_rows(batch), &|_, _| {});
    run.unwrap().readout.data
}

/// Two prompts of each model, apart, so that each one's rows follow one another.
fn apart<R: Number>(model: &Model<R>, n: usize) -> Batch {
    let (one, two) = (tokens(1, n), tokens(2, n - 3));
    let sequences: Vec<(usize, usize, &[u32])> =
        vec![(0, 0, &one[..]), (0, 1, &two[..]), (1, 0, &one[..]), (1, 1, &two[..])];
    Batch::apart(model.spec(), &sequences).unwrap()
}

fn rows_of(batch: &Batch, sequence: usize, n: usize) -> std::ops::Range<usize> {
    let first = batch.row_of(sequence, 0).unwrap();
    first..first + n
}

#[test]
fn a_visitor_sees_at_every_place_what_a_capture_sees_and_changes_no_bit() {
    each_family::<f32>(|family, model| {
        let batch = apart(model, 21);
        let plain = states(model, &batch, Vec::new()).data;
        for (which, sequence) in [(0, 0), (1, 2)] {
            let rows = rows_of(&batch, sequence, 21);
            let points = points_of(model, which);
            let expected = capture(model, &batch, &points, &rows.clone().collect::<Vec<_>>());
            let visitors: Vec<_> = points.iter().map(|_| notes::<f32>(|_| {})).collect();
            let visit = |(&point, visitor): (&HookPoint, &Arc<Notes<f32>>)| Visit {
                point,
                rows: rows.clone(),
                visitor: visitor.clone(),
            };
            let visits: Vec<Visit<f32>> = points.iter().zip(&visitors).map(visit).collect();
            assert!(run(model, &batch, &visits) == plain, "{family}");
            for ((point, visitor), values) in points.iter().zip(visitors).zip(expected) {
                let seen = visitor.seen.lock().unwrap();
                assert_eq!(seen.len(), 1, "{family}, {point}: called once");
                assert!(seen[0] == values, "{family}, {point}");
            }
        }
    });
}

#[test]
fn what_a_visitor_sets_has_the_bits_of_an_edit_and_leaves_other_sequences_alone() {
    each_family::<f32>(|family, model| {
        let batch = apart(model, 21);
        let plain = states(model, &batch, Vec::new()).data;
        let rows = rows_of(&batch, 2, 21);
        for point in points_of(model, 1) {
            let widths = capture(model, &batch, &[point], &rows.clone().collect::<Vec<_>>()).remove(0);
            let new: Vec<Vec<f32>> =
                widths.iter().enumerate().map(|(i, row)| noise(i as u64 + 1, row.len())).collect();
            // Scales must stay positive.
            let new: Vec<Vec<f32>> = match point.to_string().ends_with("hook_scale") {
                true => new.iter().map(|row| row.iter().map(|v| v.abs() + 0.5).collect()).collect(),
                false => new,
            };
            let edits = rows.clone().zip(&new).map(|(row, values)| Edit {
                point,
                row,
                units: 0..values.len(),
                op: EditOp::Set(values.clone()),
            });
            let edited = states(model, &batch, edits.collect()).data;
            let put = new.clone();
            let visitor = notes::<f32>(move |values| {
                values.iter_mut().zip(&put).for_each(|(row, new)| row.copy_from_slice(new));
            });
            let visited = run(model, &batch, &[Visit { point, rows: rows.clone(), visitor }]);
            assert!(visited == edited, "{family}, {point}");
            assert!(visited != plain, "{family}, {point}: it changes something");
            let d = model.spec().d_model;
            assert!(visited[..rows.start * d] == plain[..rows.start * d], "{family}, {point}");
            assert!(visited[rows.end * d..] == plain[rows.end * d..], "{family}, {point}");
        }
    });
}

#[test]
fn rows_of_a_long_sequence_come_together() {
    // More rows than a block has, and more queries than are worked on together.
    let Some(model) = tiny::<f32>("llama") else { return };
    let n = model.spec().n_ctx.min(700);
    let sequences: Vec<Vec<u32>> = (0..3).map(|i| tokens(i + 1, n)).collect();
    let all: Vec<(usize, usize, &[u32])> =
        sequences.iter().enumerate().map(|(i, s)| (1, i, &s[..])).collect();
    let batch = Batch::apart(model.spec(), &all).unwrap();
    let plain = states(&model, &batch, Vec::new()).data;
    let visitor = notes::<f32>(|_| {});
    let places = [Site::ResidPre, Site::AttnScores, Site::Pattern, Site::Result, Site::QInput, Site::MlpPost];
    let visits: Vec<Visit<f32>> = (0..3)
        .flat_map(|s| places.map(|site| (s, HookPoint::Layer(1, site))))
        .map(|(s, point)| Visit { point, rows: rows_of(&batch, s, n), visitor: visitor.clone() })
        .collect();
    assert!(run(&model, &batch, &visits) == plain);
    assert_eq!(visitor.seen.lock().unwrap().len(), visits.len());
}

#[test]
fn visits_come_after_edits_and_before_captures_in_the_order_given() {
    let Some(model) = tiny::<f64>("llama") else { return };
    let batch = apart(&model, 9);
    let point = HookPoint::Layer(1, Site::MlpOut);
    let rows = rows_of(&batch, 0, 9);
    let d = model.spec().d_model;
    let edit = Edit { point, row: rows.start, units: 0..d, op: EditOp::Set(vec![1.0; d]) };
    let first = notes::<f64>(|values| values[0].iter_mut().for_each(|v| *v += 1.0));
    let second = notes::<f64>(|values| values[0].iter_mut().for_each(|v| *v *= 3.0));
    let visits = [first.clone(), second.clone()].map(|visitor| Visit { point, rows: rows.clone(), visitor });
    let captures = vec![lorascope_engine::Capture { point, rows: vec![rows.start] }];
    let hooks = Hooks { captures, edits: vec![edit] };
    let found = model.run_visited(&batch, &hooks, &visits, &[], &|_, _| {}).unwrap();
    assert_eq!(first.seen.lock().unwrap()[0][0], vec![1.0; d]);
    assert_eq!(second.seen.lock().unwrap()[0][0], vec![2.0; d]);
    assert_eq!(found.captures[0][0], vec![6.0; d]);
}

struct Refuses;

impl Visitor<f64> for Refuses {
    fn visit(&self, _visit: &Visit<f64>, _values: &mut [&mut [f64]]) -> Result<(), String> {
        Err("no further".to_owned())
    }
}

#[test]
fn what_cannot_be_visited_is_refused() {
    let Some(model) = tiny::<f64>("llama") else { return };
    let batch = apart(&model, 9);
    let (point, visitor) = (HookPoint::Layer(1, Site::MlpOut), notes::<f64>(|_| {}));
    let why = |batch: &Batch, hooks: &Hooks<f64>, visit: Visit<f64>| {
        model.run_visited(batch, hooks, &[visit], &[], &|_, _| {}).unwrap_err().to_string()
    };
    let none = Hooks::default();
    let at = |point, rows| Visit { point, rows, visitor: visitor.clone() };
    assert!(why(&batch, &none, at(point, 3..3)).contains("it names no rows"));
    assert!(why(&batch, &none, at(point, 0..1000)).contains("no sequence of the batch has"));
    assert!(why(&batch, &none, at(HookPoint::Layer(99, Site::MlpOut), 0..3)).contains("4 layers"));
    let lora = HookPoint::Layer(0, Site::LoraA(lorascope_engine::Module::Q));
    assert!(why(&batch, &none, at(lora, 0..3)).contains("has no adapter there"));
    let copy = Edit { point, row: 5, units: 0..2, op: EditOp::CopyFrom(1) };
    let hooks = Hooks { captures: Vec::new(), edits: vec![copy] };
    assert!(why(&batch, &hooks, at(point, 0..3)).contains("source row 1 is visited"));
    let one = tokens(1, 9);
    let branch = Branch { sequences: vec![0], from: 4, birth: Birth { layer: 1, stage: Stage::Layer } };
    let branched = Batch::with_branches(model.spec(), &[(0, &one[..])], &[branch]).unwrap();
    assert!(why(&branched, &none, at(point, 9..10)).contains("no sequence of the batch has"));
    let refuses = Visit { point, rows: 0..3, visitor: Arc::new(Refuses) };
    assert_eq!(why(&batch, &none, refuses), "visit of `blocks.1.hook_mlp_out`: no further");
}

#[test]
fn a_run_ends_between_layers_where_somebody_wants_that() {
    let Some(mut model) = tiny::<f32>("llama") else { return };
    // It is asked between the blocks of rows of a layer too, so how often says nothing.
    let reached = Arc::new(AtomicUsize::new(0));
    let seen = reached.clone();
    model.stop_when(Some(Stop(Arc::new(move || seen.load(Ordering::Relaxed) == 2))));
    let batch = apart(&model, 9);
    let layers = Mutex::new(Vec::new());
    let run = model.run_with_progress(&batch, &Hooks::default(), &[], &|layer, _| {
        reached.store(layer, Ordering::Relaxed);
        layers.lock().unwrap().push(layer);
    });
    assert_eq!(run.unwrap_err().to_string(), "stopped");
    assert_eq!(*layers.lock().unwrap(), [0, 1, 2], "the third layer was not computed");
}
