//! What is remembered saves rows and changes no bit, whatever is edited, in texts and in models; and who may say stop is heard.

use crate::support::{FAMILIES, llama_with_many, noise, tiny, tokens};
use lorascope_engine::{
    Batch, Capture, Error, HookPoint, Hooks, Model, Number, Site, Standing, StandingEdit, StandingOp,
    StandingRows, Stop,
};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

fn models<R: Number>() -> impl Iterator<Item = Model<R>> {
    FAMILIES.into_iter().filter_map(tiny).chain(llama_with_many())
}

/// One text on every model.
fn on_all<'t, R: Number>(model: &Model<R>, text: &'t [u32]) -> Vec<(usize, &'t [u32])> {
    (0..model.n_models()).map(|m| (m, text)).collect()
}

fn remember(model: &mut Model<f32>, text: &[u32]) -> usize {
    let sequences = on_all(model, text);
    model.remember(&sequences, &|_, _| {}).unwrap()
}

/// Everything that a question after a text gives: states at the end and on the way.
fn asked(model: &Model<f32>, text: &[u32]) -> (Vec<f32>, Vec<Vec<Vec<f32>>>) {
    let longer = [text, &[7, 9]].concat();
    let batch = Batch::new(model.spec(), &on_all(model, &longer)).unwrap();
    let ends: Vec<usize> = (0..model.n_models()).map(|s| batch.row_of(s, text.len()).unwrap()).collect();
    let points = [Site::ResidPre, Site::Z, Site::MlpPost, Site::ResidPost].map(|s| HookPoint::Layer(1, s));
    let captures = points.into_iter().map(|point| Capture { point, rows: ends.clone() }).collect();
    let run = model.run(&batch, &Hooks { captures, edits: Vec::new() }, &ends).unwrap();
    (run.readout.data, run.captures)
}

/// The same without memory.
fn plainly(model: &mut Model<f32>, text: &[u32]) -> (Vec<f32>, Vec<Vec<Vec<f32>>>) {
    model.forget();
    asked(model, text)
}

fn head_off(models: Vec<usize>, rows: StandingRows) -> Standing<f32> {
    let point = HookPoint::Layer(1, Site::Z);
    let edit = StandingEdit { models, point, units: 0..2, rows, op: StandingOp::Scale(0.0) };
    Standing { edits: vec![edit], muted: BTreeSet::new() }
}

#[test]
fn a_text_that_begins_alike_costs_what_is_new() {
    for mut model in models() {
        let n = model.n_models();
        let stem = tokens(31, 15);
        let texts = [
            stem.clone(),
            [&stem[..], &[40]].concat(),                  // something at the end
            [&stem[..9], &[41, 42], &stem[9..]].concat(), // something in between
            stem[..11].to_vec(),                          // an end cut off
            [&[43], &stem[..]].concat(),                  // something before
            stem.clone(),
        ];
        let standings = [Standing::default(), head_off((0..n).collect(), StandingRows::All)];
        for standing in standings {
            model.stand(standing).unwrap();
            model.forget();
            let costs: Vec<usize> = texts.iter().map(|text| remember(&mut model, text)).collect();
            assert_eq!(costs, [15, 1, 8, 0, 16, 0].map(|rows| rows * n), "{}", model.spec().family);
            for text in &texts {
                remember(&mut model, text);
                let found = asked(&model, text);
                let sequences = on_all(&model, text);
                assert_eq!(model.remember(&sequences, &|_, _| {}).unwrap(), 0);
                assert_eq!(found, asked(&model, text));
            }
            // Against what nothing is remembered of.
            for text in &texts {
                let remembered = {
                    remember(&mut model, &texts[0]);
                    remember(&mut model, text);
                    asked(&model, text)
                };
                assert_eq!(remembered, plainly(&mut model, text), "{}", model.spec().family);
            }
        }
    }
}

#[test]
fn edits_cost_the_rows_that_they_change() {
    for mut model in models::<f32>() {
        let (n, text) = (model.n_models(), tokens(33, 14));
        let last = n - 1;
        let after = |n: usize| StandingRows::After([text[..n].to_vec()].into());
        let width = model.spec().d_head;
        let point = HookPoint::Layer(1, Site::Z);
        let by_row: BTreeMap<Vec<u32>, Vec<f32>> =
            (1..=14).map(|n| (text[..n].to_vec(), noise(n as u64, width))).collect();
        let mut other_at_nine = by_row.clone();
        other_at_nine.insert(text[..9].to_vec(), noise(99, width));
        let patch = |values: &BTreeMap<Vec<u32>, Vec<f32>>| {
            let op = StandingOp::SetByRow(values.clone());
            let edit = StandingEdit { models: vec![0], point, units: 0..width, rows: StandingRows::All, op };
            Standing { edits: vec![edit], muted: BTreeSet::new() }
        };
        let muted = Standing {
            edits: Vec::new(),
            muted: model.adapters()[last - 1].adapted().map(|(l, m)| (last, l, m)).collect(),
        };
        let steps = [
            (Standing::default(), 14 * n),
            (head_off(vec![last], StandingRows::All), 14),
            (head_off(vec![last], after(10)), 5), // all rows from the tenth on
            (Standing::default(), 0),
            (head_off(vec![0, last], after(14)), 2),
            (head_off(vec![last], StandingRows::All), 0),
            (muted, 14),
            (patch(&by_row), 14),
            (patch(&other_at_nine), 6),
            (Standing::default(), 0),
        ];
        let mut found = Vec::new();
        for (standing, cost) in &steps {
            model.stand(standing.clone()).unwrap();
            assert_eq!(remember(&mut model, &text), *cost, "{}: {standing:?}", model.spec().family);
            // A patch has values for the rows of the text alone.
            let whole = standing.edits.iter().all(|e| !matches!(e.op, StandingOp::SetByRow(_)));
            found.push(whole.then(|| asked(&model, &text)));
        }
        for ((standing, _), found) in steps.iter().zip(found) {
            model.stand(standing.clone()).unwrap();
            if let Some(found) = found {
                assert_eq!(found, plainly(&mut model, &text), "{}: {standing:?}", model.spec().family);
            }
        }
    }
}

#[test]
fn who_may_stop_a_run_is_heard_between_layers() {
    for mut model in models::<f32>() {
        let (text, other) = (tokens(35, 12), tokens(36, 12));
        let switch = Arc::new(AtomicBool::new(false));
        let asked_to_stop = switch.clone();
        model.stop_when(Some(Stop(Arc::new(move || asked_to_stop.load(Ordering::Relaxed)))));
        remember(&mut model, &text);
        let before = asked(&model, &text);
        let begun = AtomicUsize::new(0);
        let stop_in_second = |layer: usize, _: usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            switch.store(layer == 0, Ordering::Relaxed);
        };
        let sequences = on_all(&model, &other);
        let stopped = model.remember(&sequences, &stop_in_second);
        assert!(matches!(stopped, Err(Error::Stopped)), "{stopped:?}");
        assert_eq!(begun.into_inner(), 1, "one layer and no more");
        let batch = Batch::new(model.spec(), &on_all(&model, &text)).unwrap();
        assert!(matches!(model.run(&batch, &Hooks::default(), &[0]), Err(Error::Stopped)));
        // What was remembered is not lost by it.
        switch.store(false, Ordering::Relaxed);
        assert_eq!(remember(&mut model, &text), 0);
        assert_eq!(asked(&model, &text), before);
        switch.store(true, Ordering::Relaxed);
        model.stop_when(None);
        assert_eq!(asked(&model, &text), before);
    }
}
