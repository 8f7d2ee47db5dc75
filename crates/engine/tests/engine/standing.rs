//! Edits that stand are the same edits asked for row by row; muted blocks are not there; remembered sequences change no bit.

use crate::branches::branches_are_whole_runs;
use crate::support::{FAMILIES, all_rows, capture, llama_with_many, noise, points_of, states, tiny, tokens};
use lorascope_engine::{
    Batch, Capture, Edit, EditOp, Error, HookPoint, Hooks, Mat, Mixture, Model, Module, Number, Parameter,
    Run, Site, Standing, StandingEdit, StandingOp, StandingRows, Wanted, Width,
};
use std::collections::{BTreeMap, BTreeSet};

/// Every family's tiny model, the Llama once more with adapters of every kind.
fn models<R: Number>() -> impl Iterator<Item = Model<R>> {
    FAMILIES.into_iter().filter_map(tiny).chain(llama_with_many())
}

/// Two prompts on every model, the first with two endings.
fn sequences<R: Number>(model: &Model<R>) -> Vec<(usize, Vec<u32>)> {
    let stem = tokens(31, 18);
    let endings = [[&stem[..], &[40, 41]].concat(), [&stem[..], &[50]].concat(), tokens(32, 9)];
    (0..model.n_models()).flat_map(|m| endings.clone().map(|e| (m, e))).collect()
}

fn batch<R: Number>(model: &Model<R>, sequences: &[(usize, Vec<u32>)]) -> Batch {
    let borrowed: Vec<(usize, &[u32])> = sequences.iter().map(|(m, t)| (*m, t.as_slice())).collect();
    Batch::new(model.spec(), &borrowed).unwrap()
}

/// An edit at every place with a fixed width, of one kind after the other, on some of the models.
fn everywhere<R: Number>(model: &Model<R>) -> Vec<StandingEdit<R>> {
    let points = points_of(model, 0).into_iter().filter(|p| matches!(p, HookPoint::Layer(..)));
    let fixed = points.filter_map(|p| match p.width(model.spec()) {
        Ok(Width::Fixed(n)) if n > 1 => Some((p, n)),
        _ => None,
    });
    let edit = |(i, (point, width)): (usize, (HookPoint, usize))| {
        let units = i % width..(i % width + 3).min(width);
        let values = noise(i as u64, units.len());
        let op = match i % 3 {
            0 => StandingOp::Scale(R::from_f64(0.5)),
            1 => StandingOp::Add(values),
            _ => StandingOp::Set(values),
        };
        let models = (0..model.n_models()).filter(|m| i % 5 > 0 || m % 2 == 1).collect();
        StandingEdit { models, point, units, rows: StandingRows::All, op }
    };
    fixed.enumerate().map(edit).collect()
}

fn stand<R: Number>(model: &mut Model<R>, edits: Vec<StandingEdit<R>>) {
    model.stand(Standing { edits, muted: BTreeSet::new() }).unwrap();
}

/// The same edits as hooks of a batch.
fn as_hooks<R: Number>(batch: &Batch, standing: &[StandingEdit<R>]) -> Vec<Edit<R>> {
    let op = |op: &StandingOp<R>| match op {
        StandingOp::Scale(f) => EditOp::Scale(*f),
        StandingOp::Add(v) => EditOp::Add(v.clone()),
        StandingOp::Set(v) => EditOp::Set(v.clone()),
        StandingOp::SetByRow(_) => unreachable!("these tests have none"),
    };
    let of_row = |row: usize| {
        let own = standing.iter().filter(move |e| e.models.contains(&batch.row(row).model));
        own.map(move |e| Edit { point: e.point, row, units: e.units.clone(), op: op(&e.op) })
    };
    (0..batch.n_rows()).flat_map(of_row).collect()
}

fn equal_hooks<R: Number>(mut model: Model<R>) {
    let batch = batch(&model, &sequences(&model));
    let edits = everywhere(&model);
    let plain = states(&model, &batch, Vec::new());
    let hooked = states(&model, &batch, as_hooks(&batch, &edits));
    stand(&mut model, edits);
    assert_eq!(states(&model, &batch, Vec::new()), hooked, "{}", model.spec().family);
    assert_ne!(plain, hooked);
    model.stand(Standing::default()).unwrap();
    assert_eq!(states(&model, &batch, Vec::new()), plain, "{}", model.spec().family);
}

#[test]
fn standing_edits_are_edits_of_every_row() {
    models::<f64>().for_each(equal_hooks);
    models::<f32>().for_each(equal_hooks);
}

#[test]
fn branches_of_edited_models_are_whole_runs() {
    for mut model in models::<f64>() {
        let edits = everywhere(&model);
        stand(&mut model, edits);
        branches_are_whole_runs(&model, 15);
    }
}

#[test]
fn rows_are_named_by_their_tokens() {
    for mut model in models::<f64>() {
        let (sequences, point) = (sequences(&model), HookPoint::Layer(1, Site::Z));
        let batch = batch(&model, &sequences);
        let width = model.spec().d_head;
        // The last of the stem, which both endings share, on the last model; and the first ending.
        let which = model.n_models() - 1;
        let of = &sequences[which * 3].1;
        let values: BTreeMap<Vec<u32>, Vec<f64>> =
            [18, 19].map(|n| (of[..n].to_vec(), noise(n as u64, width))).into();
        let rows = StandingRows::After(values.keys().cloned().collect());
        let edit = |position: usize| Edit {
            point,
            row: batch.row_of(which * 3, position).unwrap(),
            units: 0..width,
            op: EditOp::Set(noise(position as u64 + 1, width)),
        };
        let hooked = states(&model, &batch, vec![edit(17), edit(18)]);
        let op = StandingOp::SetByRow(values);
        let edit = StandingEdit { models: vec![which], point, units: 0..width, rows, op };
        stand(&mut model, vec![edit.clone()]);
        assert_eq!(states(&model, &batch, Vec::new()), hooked);
        // A row without values is no silent exception.
        stand(&mut model, vec![StandingEdit { rows: StandingRows::All, ..edit }]);
        let error = model.run(&batch, &Hooks::default(), &[]).unwrap_err().to_string();
        assert!(error.contains("has no values for this row's tokens"), "{error}");
    }
}

#[test]
fn a_muted_adapter_is_the_base_and_a_muted_block_is_an_update_of_zero() {
    for mut model in models::<f32>() {
        let all = |model: &Model<f32>, which: usize| -> BTreeSet<(usize, usize, Module)> {
            model.adapters()[which - 1].adapted().map(|(l, m)| (which, l, m)).collect()
        };
        let which = model.n_models() - 1;
        let of = |model: &Model<f32>, which: usize| {
            let two = [(which, tokens(8, 11)), (which, tokens(9, 17))];
            let batch = batch(model, &two);
            // All that is captured on the way, too.
            let points: Vec<HookPoint> = points_of(model, 0);
            capture(model, &batch, &points, &all_rows(&batch))
        };
        let (base, adapter) = (of(&model, 0), of(&model, which));
        assert_ne!(base, adapter);
        model.stand(Standing { edits: Vec::new(), muted: all(&model, which) }).unwrap();
        assert_eq!(of(&model, which), base, "{}", model.spec().family);
        assert_eq!(of(&model, 0), base);
        // Nothing goes back through it either.
        let one = model.adapters()[which - 1].adapted().next().unwrap();
        let Ok(Width::Fixed(n_out)) = HookPoint::Layer(one.0, Site::LoraOut(one.1)).width(model.spec())
        else {
            panic!("{one:?}")
        };
        let directions = Mat { data: noise(5, n_out), rows: 1, cols: n_out };
        let pulled = model.pull_back(one.0, one.1, &[which], &directions).unwrap();
        assert!(pulled.adapter.data.iter().chain(&pulled.adapter_bias).all(|v| *v == 0.0));

        model.stand(Standing::default()).unwrap();
        assert_eq!(of(&model, which), adapter);
        let one = all(&model, which).into_iter().next().unwrap();
        let two = batch(&model, &[(which, tokens(8, 11)), (which, tokens(9, 17))]);
        let point = HookPoint::Layer(one.1, Site::LoraOut(one.2));
        let Ok(Width::Fixed(width)) = point.width(model.spec()) else { panic!("{point}") };
        let zero = |row| Edit { point, row, units: 0..width, op: EditOp::Scale(0.0) };
        let hooked = states(&model, &two, all_rows(&two).into_iter().map(zero).collect());
        model.stand(Standing { edits: Vec::new(), muted: [one].into() }).unwrap();
        assert_eq!(states(&model, &two, Vec::new()), hooked);
        // Nobody reads the features of an update that is not there.
        let features = HookPoint::Layer(one.1, Site::LoraA(one.2));
        let hooks = Hooks { captures: vec![Capture { point: features, rows: vec![0] }], edits: Vec::new() };
        assert!(matches!(model.run(&two, &hooks, &[]), Err(Error::NoSuchHookPoint { .. })));
    }
}

#[test]
fn muted_layers_that_somebody_holds_and_layers_that_are_not_kept() {
    // With no memory for packed weights, layers are made anew in every sweep.
    let Some(shared) = crate::support::shared() else { return };
    let dir = shared.join("tiny/llama");
    let load = |memory| {
        let base = lorascope_checkpoint::Checkpoint::open(&dir.join("model")).unwrap();
        Model::<f32>::load(base, &[("lora".to_owned(), dir.join("adapter"))], memory).unwrap()
    };
    let (mut kept, mut anew) = (load(1 << 30), load(0));
    for model in [&mut kept, &mut anew] {
        let two = batch(model, &[(1, tokens(8, 11)), (0, tokens(8, 11))]);
        let _ = states(model, &two, Vec::new());
        let muted = model.adapters()[0].adapted().map(|(l, m)| (1, l, m)).collect();
        model.stand(Standing { edits: Vec::new(), muted }).unwrap();
        let found = states(model, &two, Vec::new());
        for position in 0..11 {
            let rows = [0, 1].map(|s| two.row_of(s, position).unwrap());
            assert_eq!(found.row(rows[0]), found.row(rows[1]));
        }
    }
}

#[test]
fn gradients_go_back_through_standing_edits() {
    for mut model in models::<f64>() {
        let batch = batch(&model, &[(1, tokens(8, 11)), (1, tokens(9, 6))]);
        // Places whose edits have a way back.
        let no_way = [Site::Result, Site::LoraResult, Site::QInput, Site::KInput, Site::VInput];
        let mut edits = everywhere(&model);
        edits.retain(|e| !matches!(e.point, HookPoint::Layer(_, site) if no_way.contains(&site)));
        let readout = [10, 16];
        let points = [Site::ResidPre, Site::Z, Site::MlpPost, Site::ResidPost];
        let captures = points.map(|s| Capture { point: HookPoint::Layer(0, s), rows: all_rows(&batch) });
        let parameters = vec![(1, Parameter::LoraB(0, model.adapters()[0].adapted().next().unwrap().1))];
        let wanted = Wanted { captures: captures.to_vec(), parameters, ..Wanted::default() };
        let loss = |run: &Run<f64>| {
            let (rows, cols) = (run.readout.rows, run.readout.cols);
            Ok::<_, Error>(Mat { data: noise(3, rows * cols), rows, cols })
        };
        let of = |model: &Model<f64>, edits: Vec<Edit<f64>>, memory| {
            let hooks = Hooks { captures: Vec::new(), edits };
            let (run, found) = model.gradients(&batch, &hooks, &readout, &wanted, memory, loss).unwrap();
            (run.readout, found.captures, found.parameters)
        };
        let hooked = of(&model, as_hooks(&batch, &edits), 1 << 30);
        stand(&mut model, edits);
        assert_eq!(of(&model, Vec::new(), 1 << 30), hooked, "{}", model.spec().family);
        // Also where layers are computed again on the way back.
        assert_eq!(of(&model, Vec::new(), 0), hooked, "{}", model.spec().family);
    }
}

#[test]
fn remembered_sequences_change_no_bit() {
    for mut model in models::<f32>() {
        let edits = everywhere(&model);
        for edits in [Vec::new(), edits] {
            stand(&mut model, edits);
            let sequences = sequences(&model);
            let batch = batch(&model, &sequences);
            let ends: Vec<usize> = sequences
                .iter()
                .enumerate()
                .map(|(s, (_, t))| batch.row_of(s, t.len() - 1).unwrap())
                .collect();
            let points: Vec<HookPoint> = points_of(&model, 0);
            let all = |rows: &[usize]| {
                let captures = points.iter().map(|&point| Capture { point, rows: rows.to_vec() }).collect();
                Hooks { captures, edits: Vec::new() }
            };
            let plain = model.run(&batch, &all(&ends), &ends).unwrap();
            let within = model.run(&batch, &all(&[0, ends[1]]), &ends).unwrap();
            let stems: Vec<(usize, Vec<u32>)> =
                sequences.iter().map(|(m, t)| (*m, t[..t.len().min(18) - 1].to_vec())).collect();
            let stems: Vec<(usize, &[u32])> = stems.iter().map(|(m, t)| (*m, t.as_slice())).collect();
            let layers = std::sync::atomic::AtomicUsize::new(0);
            model.remember(&stems, &|_, _| {}).unwrap();
            let count = |_: usize, _: usize| {
                layers.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            };
            let found = model.run_with_progress(&batch, &all(&ends), &ends, &count).unwrap();
            assert_eq!(found.captures, plain.captures, "{}", model.spec().family);
            assert_eq!(found.readout, plain.readout);
            assert_eq!(layers.into_inner(), model.spec().n_layers + 1, "one pass");
            // What lies within is computed as it would be without.
            let found = model.run(&batch, &all(&[0, ends[1]]), &ends).unwrap();
            assert_eq!(found.captures, within.captures);
            model.forget();
        }
    }
}

#[test]
fn only_models_that_changed_are_run_again() {
    for mut model in models::<f32>() {
        let sequences = sequences(&model);
        let batch = batch(&model, &sequences);
        let ends: Vec<usize> =
            sequences.iter().enumerate().map(|(s, (_, t))| batch.row_of(s, t.len() - 1).unwrap()).collect();
        let hooks = Hooks::default();
        let stems: Vec<(usize, Vec<u32>)> =
            sequences.iter().map(|(m, t)| (*m, t[..t.len().min(18) - 1].to_vec())).collect();
        let stems: Vec<(usize, &[u32])> = stems.iter().map(|(m, t)| (*m, t.as_slice())).collect();
        model.remember(&stems, &|_, _| {}).unwrap();
        let last = model.n_models() - 1;
        let edits = |models: Vec<usize>| {
            let mut edits = everywhere(&model);
            edits.iter_mut().for_each(|e| e.models.clone_from(&models));
            edits
        };
        let muted = model.adapters()[last - 1].adapted().map(|(l, m)| (last, l, m)).collect();
        let standings = [
            Standing { edits: edits(vec![last]), muted: BTreeSet::new() },
            Standing { edits: edits(vec![0]), muted: BTreeSet::new() },
            Standing { edits: Vec::new(), muted },
            Standing::default(),
        ];
        for standing in standings {
            model.stand(standing.clone()).unwrap();
            // Before the changed models are run again nothing of them is taken for remembered.
            let at_once = model.run(&batch, &hooks, &ends).unwrap().readout;
            model.remember(&stems, &|_, _| {}).unwrap();
            let remembered = model.run(&batch, &hooks, &ends).unwrap().readout;
            model.forget();
            assert_eq!(remembered, model.run(&batch, &hooks, &ends).unwrap().readout);
            assert_eq!(remembered, at_once);
            model.remember(&stems, &|_, _| {}).unwrap();
        }
    }
}

#[test]
fn what_the_models_do_not_have_is_refused_and_changes_nothing() {
    let Some(mut model) = tiny::<f64>("llama") else { return };
    let batch = batch(&model, &[(1, tokens(8, 11))]);
    let plain = states(&model, &batch, Vec::new());
    let good = StandingEdit {
        models: vec![1],
        point: HookPoint::Layer(0, Site::Z),
        units: 0..2,
        rows: StandingRows::All,
        op: StandingOp::Scale(0.0),
    };
    let bad = [
        StandingEdit { models: vec![2], ..good.clone() },
        StandingEdit { point: HookPoint::Layer(99, Site::Z), ..good.clone() },
        StandingEdit { point: HookPoint::Embed, ..good.clone() },
        StandingEdit { point: HookPoint::Layer(0, Site::Pattern), ..good.clone() },
        StandingEdit { units: 0..100_000, ..good.clone() },
        StandingEdit { units: 3..3, ..good.clone() },
        StandingEdit { op: StandingOp::Scale(f64::NAN), ..good.clone() },
        StandingEdit { op: StandingOp::Add(vec![1.0]), ..good.clone() },
    ];
    for edit in bad {
        let standing = Standing { edits: vec![good.clone(), edit], muted: BTreeSet::new() };
        assert!(model.stand(standing).is_err());
    }
    for muted in [(0, 0, Module::Q), (1, 99, Module::Q), (2, 0, Module::Q)] {
        assert!(model.stand(Standing { edits: Vec::new(), muted: [muted].into() }).is_err());
    }
    assert_eq!(states(&model, &batch, Vec::new()), plain);
    stand(&mut model, vec![good]);
    let base = Batch::new(model.spec(), &[(0, &tokens(8, 11)[..])]).unwrap();
    let error = model.run_mixtures(&base, &[Mixture::default()], &[0], &|_, _| {}).unwrap_err();
    assert!(error.to_string().contains("edits stand"), "{error}");
}
