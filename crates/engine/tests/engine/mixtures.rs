//! Mixtures of adapters: all parts are the adapter and none the base, many together are each alone, and a part that is off is the
//! adapter with that part multiplied by zero; all bit for bit.

use crate::support::{FAMILIES, all_rows, llama_with_many, shared, states, tokens};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{
    Batch, Control, ControlKind, DEFAULT_MEMORY, Edit, EditOp, HookPoint, Mat, Mixture, MixtureRuns, Model,
    Number, Part, Site,
};

/// The tiny model of every family with two adapters: its own, and a random control of it.
fn each_with_two<R: Number>(f: impl Fn(&str, &Model<R>)) {
    let Some(shared) = shared() else { return };
    for family in FAMILIES {
        let dir = shared.join("tiny").join(family);
        let base = Checkpoint::open(&dir.join("model")).unwrap();
        let adapters = [("lora".to_owned(), dir.join("adapter"))];
        let control = Control { of: "lora".to_owned(), kind: ControlKind::Random, seed: 3 };
        let controls = [("random".to_owned(), control)];
        f(family, &Model::load_with_controls(base, &adapters, &controls, DEFAULT_MEMORY).unwrap());
    }
}

/// Two prompts that begin alike, the first with two endings, on one model.
fn batch<R: Number>(model: &Model<R>, which: usize) -> Batch {
    let one = tokens(21, 19);
    let sequences =
        [[&one[..], &[40, 41]].concat(), [&one[..], &[50]].concat(), [&one[..6], &tokens(22, 14)].concat()];
    let sequences: Vec<(usize, &[u32])> = sequences.iter().map(|s| (which, &s[..])).collect();
    Batch::new(model.spec(), &sequences).unwrap()
}

/// All parts of an adapter.
fn whole<R: Number>(model: &Model<R>, which: usize) -> Mixture {
    some(model, which, |_| Some(1.0))
}

/// Parts of an adapter, by their number.
fn some<R: Number>(model: &Model<R>, which: usize, factor: impl Fn(usize) -> Option<f64>) -> Mixture {
    let mut mixture = Mixture::default();
    for (i, (layer, module)) in model.adapters()[which - 1].adapted().enumerate() {
        if let Some(factor) = factor(i) {
            mixture.take(layer, module, Part { model: which, factor });
        }
    }
    mixture
}

fn run<R: Number>(model: &Model<R>, mixtures: &[Mixture]) -> Vec<Mat<R>> {
    let batch = batch(model, 0);
    model.run_mixtures(&batch, mixtures, &all_rows(&batch), &|_, _| {}).unwrap()
}

fn all_parts_are_the_adapter<R: Number>(name: &str, model: &Model<R>) {
    let plain = |which: usize| states(model, &batch(model, which), Vec::new());
    let found = run(model, &[whole(model, 1), Mixture::default(), whole(model, 2), whole(model, 1)]);
    assert_eq!(found, [plain(1), plain(0), plain(2), plain(1)], "{name}");
    assert!(found[0] != found[1] && found[0] != found[2], "{name}");
}

#[test]
fn all_parts_are_the_adapter_and_none_are_the_base() {
    each_with_two::<f32>(all_parts_are_the_adapter);
    each_with_two::<f64>(all_parts_are_the_adapter);
}

#[test]
fn parts_with_biases_and_other_ranks_are_the_adapters() {
    let Some(model) = llama_with_many::<f32>() else { return };
    for which in [3, 4] {
        let plain = states(&model, &batch(&model, which), Vec::new());
        assert_eq!(run(&model, &[whole(&model, which)]), [plain], "{}", model.name(which));
    }
}

/// Sets of parts that differ early, late, in little, in much; scaled ones; parts of one adapter in the other.
fn various<R: Number>(model: &Model<R>) -> Vec<Mixture> {
    let n = model.adapters()[0].adapted().count();
    let mut all = vec![Mixture::default(), whole(model, 1), whole(model, 2)];
    for i in (0..n).step_by(3) {
        all.push(some(model, 1, |part| (part == i).then_some(1.0)));
        all.push(some(model, 1, |part| (part != i).then_some(1.0)));
        all.push(some(model, 1, |part| ((part * 7 + i) % 5 < 2).then_some(1.0)));
        let mut transplanted = whole(model, 2);
        let (place, _) = whole(model, 1).parts().nth(i).unwrap();
        transplanted.take(place.0, place.1, Part { model: 1, factor: 1.0 });
        all.push(transplanted);
    }
    all.extend([0.5, 1.5, -1.0].map(|factor| some(model, 1, |_| Some(factor))));
    all
}

#[test]
fn many_together_are_each_alone() {
    let check = |name: &str, model: &Model<f32>| {
        let all = various(model);
        let together = run(model, &all);
        for (i, mixture) in all.iter().enumerate() {
            assert_eq!(
                run(model, std::slice::from_ref(mixture)),
                [together[i].clone()],
                "{name}, mixture {i}"
            );
        }
        let backwards: Vec<Mixture> = all.iter().rev().cloned().collect();
        let again: Vec<Mat<f32>> = run(model, &backwards).into_iter().rev().collect();
        assert_eq!(again, together, "{name}");
    };
    each_with_two(check);
}

#[test]
fn runs_that_begin_where_earlier_ones_left_off_have_the_bits_of_whole_runs() {
    each_with_two::<f32>(|name, model| {
        let (all, batch) = (various(model), batch(model, 0));
        let whole = run(model, &all);
        let stream = batch.n_rows() * model.spec().d_model * size_of::<f32>();
        for memory in [0, stream, 3 * stream, 1 << 30] {
            let mut runs = MixtureRuns::new(model, &batch, memory).unwrap();
            // There and back, so that much comes again after other things, and in portions of any size.
            for size in [1, 4, 2] {
                for (mixtures, whole) in all.chunks(size).zip(whole.chunks(size)) {
                    let found = runs.run(mixtures, &all_rows(&batch), &|_, _| {}).unwrap();
                    assert_eq!(found, whole, "{name}, {memory} bytes");
                }
                for (mixture, whole) in all.iter().zip(&whole).rev() {
                    let found = runs.run(std::slice::from_ref(mixture), &[3], &|_, _| {}).unwrap();
                    assert_eq!(found[0].row(0), whole.row(3), "{name}, {memory} bytes");
                }
            }
        }
    });
}

#[test]
fn a_part_times_a_factor_is_what_an_edit_makes_of_it() {
    each_with_two::<f32>(|name, model| {
        let n = model.adapters()[0].adapted().count();
        for factor in [0.0, 0.5] {
            let odd = |part: usize| part % 2 == 1 || part == n - 1;
            let mixture = some(model, 1, |part| match odd(part) {
                true if factor == 0.0 => None,
                true => Some(factor),
                false => Some(1.0),
            });
            let plain = batch(model, 1);
            let mut edits = Vec::new();
            for (layer, module) in
                model.adapters()[0].adapted().enumerate().filter(|(i, _)| odd(*i)).map(|(_, p)| p)
            {
                let rank = model.adapters()[0].rank(layer, module).unwrap();
                let point = HookPoint::Layer(layer, Site::LoraA(module));
                let op = || EditOp::Scale(factor as f32);
                edits.extend((0..plain.n_rows()).map(|row| Edit { point, row, units: 0..rank, op: op() }));
            }
            assert_eq!(run(model, &[mixture]), [states(model, &plain, edits)], "{name}, {factor}");
        }
    });
}

#[test]
fn what_can_not_be_mixed_is_refused() {
    let Some(model) = llama_with_many::<f32>() else { return };
    let refused = |batch: &Batch, mixture: Mixture| {
        model.run_mixtures(batch, &[Mixture::default(), mixture], &[0], &|_, _| {}).unwrap_err().to_string()
    };
    let base = batch(&model, 0);
    let (layer, module) = model.adapters()[0].adapted().next().unwrap();
    let of = |layer: usize, model: usize, factor: f64| {
        let mut mixture = Mixture::default();
        mixture.take(layer, module, Part { model, factor });
        mixture
    };
    assert_eq!(refused(&base, of(layer, 5, 1.0)), "mixture 1: model 5 is no adapter");
    assert_eq!(refused(&base, of(layer, 0, 1.0)), "mixture 1: model 0 is no adapter");
    assert!(refused(&base, of(77, 1, 1.0)).contains("has no update"));
    assert!(refused(&base, of(layer, 1, f64::NAN)).contains("has the factor NaN"));
    assert!(refused(&base, whole(&model, 2)).contains("(DoRA)"));
    assert!(refused(&batch(&model, 1), whole(&model, 1)).contains("whole sequences of the base"));
    assert!(model.run_mixtures(&base, &[], &[0], &|_, _| {}).unwrap().is_empty());
}
