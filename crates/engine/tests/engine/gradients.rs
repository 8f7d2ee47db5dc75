//! Gradients against finite differences in f64: at every hook point of every family, under edits, for every kind of parameter.

use crate::support::{each_family, llama_with_many, noise, points_of, tokens};
use lorascope_engine::{
    Batch, Capture, Edit, EditOp, Error, Gradients, HookPoint, Hooks, Mat, Model, Module, Parameter, Rules,
    Run, Site, SoftmaxRule, States, Wanted,
};
use lorascope_kernels::dot;

/// Positions; more than the tiny models' windows of 16.
const N: usize = 20;
/// Enough for all tapes.
const PLENTY: usize = 1 << 30;

/// Two sequences of a model that share a beginning, and one of the base; the readout looks at an end, the other end and a
/// row in between.
fn batch_of(model: &Model<f64>, which: usize) -> (Batch, Vec<usize>) {
    let long = tokens(3, N);
    let other = [&long[..N / 2], &tokens(5, 1)[..]].concat();
    let sequences: Vec<(usize, &[u32])> = vec![(which, &long), (which, &other), (0, &long[..4])];
    let batch = Batch::new(model.spec(), &sequences).unwrap();
    let ends = [(0, N - 1), (1, N / 2), (0, N - 3), (2, 3)];
    let readout = ends.iter().map(|&(s, p)| batch.row_of(s, p).unwrap()).collect();
    (batch, readout)
}

/// The scalar: the readout times fixed numbers.
fn weights(readout: &Mat<f64>) -> Mat<f64> {
    Mat { data: noise(11, readout.data.len()), rows: readout.rows, cols: readout.cols }
}

fn value(model: &Model<f64>, batch: &Batch, edits: &[Edit<f64>], readout: &[usize]) -> f64 {
    let hooks = Hooks { captures: Vec::new(), edits: edits.to_vec() };
    let run = model.run(batch, &hooks, readout).unwrap();
    dot(&run.readout.data, &weights(&run.readout).data)
}

fn gradients(
    model: &Model<f64>,
    batch: &Batch,
    edits: &[Edit<f64>],
    readout: &[usize],
    wanted: &Wanted,
    memory: usize,
) -> (Run<f64>, Gradients<f64>) {
    let hooks = Hooks { captures: Vec::new(), edits: edits.to_vec() };
    let loss = |run: &Run<f64>| Ok::<_, Error>(weights(&run.readout));
    model.gradients(batch, &hooks, readout, wanted, memory, loss).unwrap()
}

/// Compares the gradient at a row of a point, along a direction, with the difference that adding it makes.
fn check_direction(
    what: &str,
    model: &Model<f64>,
    batch: &Batch,
    readout: &[usize],
    edits: &[Edit<f64>],
    (point, row): (HookPoint, usize),
    gradient: &[f64],
) {
    const STEP: f64 = 1e-5;
    let direction: Vec<f64> = noise(row as u64 + 17, gradient.len());
    let at = |step: f64| {
        let op = EditOp::Add(direction.iter().map(|d| d * step).collect());
        let mut edits = edits.to_vec();
        edits.push(Edit { point, row, units: 0..gradient.len(), op });
        value(model, batch, &edits, readout)
    };
    let (got, want) = (dot(gradient, &direction), (at(STEP) - at(-STEP)) / (2.0 * STEP));
    let tolerance = 1e-6 * (1.0 + want.abs());
    assert!((got - want).abs() < tolerance, "{what}: {point} at row {row}: {got} against {want}");
}

fn every_point_of(name: &str, model: &Model<f64>, which: usize, edits: &[Edit<f64>]) {
    let (batch, readout) = batch_of(model, which);
    // A row that several sequences share, one late in the first, and one of the other model.
    let rows = [2, N - 4].map(|p| batch.row_of(0, p).unwrap());
    let points = points_of(model, which);
    let captures: Vec<Capture> = points.iter().map(|&point| Capture { point, rows: rows.to_vec() }).collect();
    let wanted = Wanted { captures, ..Wanted::default() };
    let (_, found) = gradients(model, &batch, edits, &readout, &wanted, PLENTY);
    let (_, again) = gradients(model, &batch, edits, &readout, &wanted, 0);
    assert_eq!(found.captures, again.captures, "{name}: layers computed again give the same bits");
    let mut n_felt = 0;
    for (&point, captured) in points.iter().zip(&found.captures) {
        for (&row, gradient) in rows.iter().zip(captured) {
            n_felt += usize::from(gradient.iter().any(|g| *g != 0.0));
            check_direction(name, model, &batch, &readout, edits, (point, row), gradient);
        }
    }
    assert!(n_felt > points.len(), "{name}: most places matter: {n_felt} of {}", 2 * points.len());
}

#[test]
fn at_every_hook_point_the_gradient_is_that_of_finite_differences() {
    each_family::<f64>(|name, model| {
        every_point_of(name, model, 0, &[]);
        every_point_of(name, model, 1, &[]);
    });
}

#[test]
fn adapters_of_every_kind_let_gradients_through() {
    let Some(model) = llama_with_many::<f64>() else { return };
    for which in 1..model.n_models() {
        every_point_of(model.name(which), &model, which, &[]);
    }
}

#[test]
fn gradients_go_back_through_edits() {
    each_family::<f64>(|name, model| {
        let (batch, _) = batch_of(model, 1);
        let (d, heads) = (model.spec().d_model, model.spec().n_heads);
        let row = |p| batch.row_of(0, p).unwrap();
        let at = |layer, site| HookPoint::Layer(layer, site);
        let edit = |point, p, units, op| Edit { point, row: row(p), units, op };
        let n_keys = N - 6;
        let basis = Mat { data: (0..d).map(|i| if i == 3 { 1.0 } else { 0.0 }).collect(), rows: 1, cols: d };
        let edits = vec![
            edit(HookPoint::Embed, 5, 0..d, EditOp::Scale(0.7)),
            edit(at(0, Site::Z), N - 2, 1..model.spec().d_head, EditOp::Scale(0.5)),
            edit(at(0, Site::MlpOut), N - 5, 0..d / 2, EditOp::Set(noise(3, d / 2))),
            edit(at(0, Site::LoraOut(Module::Down)), N - 2, 0..d, EditOp::Scale(0.25)),
            edit(at(0, Site::Ln2Scale), N - 4, 0..1, EditOp::Scale(1.25)),
            edit(at(1, Site::Ln1Scale), N - 2, 0..1, EditOp::Set(vec![2.0])),
            edit(at(1, Site::Pattern), N - 7, 0..n_keys, EditOp::Scale(0.5)),
            edit(at(1, Site::AttnScores), N - 7, 0..1, EditOp::Add(vec![0.5])),
            edit(at(1, Site::AttnOut), N - 2, 0..d, EditOp::CopyFrom(row(N - 3))),
            edit(
                at(1, Site::ResidMid),
                N - 3,
                0..d,
                EditOp::CopyAlong { source: row(N - 4), basis: std::sync::Arc::new(basis) },
            ),
        ];
        assert!(heads > 1);
        // What an edit copies is a constant: neither row that gradients are asked for is one that is copied from.
        let (batch, readout) = batch_of(model, 1);
        let rows = [N - 2, N - 5, N - 7].map(|p| batch.row_of(0, p).unwrap());
        let points: Vec<HookPoint> = points_of(model, 1)
            .into_iter()
            .filter(|p| !edits.iter().any(|e| e.point == *p))
            .filter(|p| matches!(p, HookPoint::Layer(..)))
            // A head whose own input is changed reads through a norm of its own, which an edited scale does not concern.
            .filter(|p| !matches!(p, HookPoint::Layer(1, Site::QInput | Site::KInput | Site::VInput)))
            .collect();
        let captures = points.iter().map(|&point| Capture { point, rows: rows.to_vec() }).collect();
        let wanted = Wanted { captures, ..Wanted::default() };
        let (_, found) = gradients(model, &batch, &edits, &readout, &wanted, PLENTY);
        let (_, again) = gradients(model, &batch, &edits, &readout, &wanted, 0);
        assert_eq!(found.captures, again.captures, "{name}");
        for (&point, captured) in points.iter().zip(&found.captures) {
            // Earlier points also reach what is copied.
            if point.comes_before(at(1, Site::AttnOut)) {
                continue;
            }
            for (&row, gradient) in rows.iter().zip(captured) {
                check_direction(name, model, &batch, &readout, &edits, (point, row), gradient);
            }
        }
        let no_copies: Vec<Edit<f64>> = edits
            .into_iter()
            .filter(|e| !matches!(e.op, EditOp::CopyFrom(_) | EditOp::CopyAlong { .. }))
            .collect();
        let (_, found) = gradients(model, &batch, &no_copies, &readout, &wanted, PLENTY);
        for (&point, captured) in points.iter().zip(&found.captures) {
            for (&row, gradient) in rows.iter().zip(captured) {
                check_direction(name, model, &batch, &readout, &no_copies, (point, row), gradient);
            }
        }
    });
}

/// Compares the gradient of a value by a parameter with finite differences along a direction.
fn check_parameter(
    name: &str,
    model: &mut Model<f64>,
    which: usize,
    parameter: Parameter,
    gradient: &Mat<f64>,
    value: impl Fn(&Model<f64>) -> f64,
) {
    let here = value(model);
    let before = model.parameter(which, parameter).unwrap();
    assert_eq!((before.rows, before.cols), (gradient.rows, gradient.cols), "{name}: {parameter}");
    let direction: Vec<f64> = noise(23, before.data.len());
    let size = (dot(&before.data, &before.data) / before.data.len() as f64).sqrt();
    let step = 3e-5 * size;
    let mut at = |step: f64| {
        let moved = before.data.iter().zip(&direction).map(|(b, d)| b + d * step).collect();
        let moved = Mat { data: moved, ..before.clone() };
        model.set_parameter(which, parameter, &moved).unwrap();
        // Values are stored in f32: what was really moved.
        let stored = model.parameter(which, parameter).unwrap();
        let moved: Vec<f64> = stored.data.iter().zip(&before.data).map(|(s, b)| s - b).collect();
        (value(model), moved)
    };
    let ((up, moved_up), (down, moved_down)) = (at(step), at(-step));
    let moved: Vec<f64> = moved_up.iter().zip(&moved_down).map(|(u, d)| u - d).collect();
    let (got, want) = (dot(&gradient.data, &moved), up - down);
    model.set_parameter(which, parameter, &before).unwrap();
    assert_eq!(value(model), here, "{name}: {parameter}: the old value gives the old result");
    // Values are f32: a much shorter step would be lost in them, this one leaves a little of the third derivative.
    let tolerance = 1e-5 * want.abs() + 1e-10;
    assert!((got - want).abs() < tolerance, "{name}: {parameter}: {got} against {want}");
}

#[test]
fn gradients_of_parameters_are_those_of_finite_differences() {
    for family in crate::support::FAMILIES {
        let Some(mut model) = crate::support::tiny::<f64>(family) else { return };
        let adapted: Vec<(usize, Module)> = model.adapters()[0].adapted().collect();
        let factors = adapted.iter().flat_map(|&(l, m)| [Parameter::LoraA(l, m), Parameter::LoraB(l, m)]);
        let mut wanted: Vec<(usize, Parameter)> = factors.map(|p| (1, p)).collect();
        let spec = model.spec().clone();
        for layer in 0..spec.n_layers {
            wanted.push((0, Parameter::Norm(HookPoint::Layer(layer, Site::Ln1Scale))));
            wanted.push((0, Parameter::Norm(HookPoint::Layer(layer, Site::Ln2Scale))));
            if spec.post_norms {
                wanted.push((0, Parameter::Norm(HookPoint::Layer(layer, Site::Ln2PostScale))));
            }
            if family != "gpt2" {
                wanted.extend(spec.modules().map(|m| (0, Parameter::Weight(layer, m))));
            }
        }
        wanted.push((0, Parameter::Norm(HookPoint::FinalScale)));
        wanted.push((0, Parameter::Embedding));
        for which in [0, 1] {
            let own: Vec<(usize, Parameter)> = wanted.iter().copied().filter(|w| w.0 == which).collect();
            let asked = Wanted { parameters: own.clone(), ..Wanted::default() };
            // For base parameters the batch holds base rows only.
            let (batch, readout) = batch_of(&model, which);
            let (_, found) = gradients(&model, &batch, &[], &readout, &asked, PLENTY);
            let (_, again) = gradients(&model, &batch, &[], &readout, &asked, 0);
            assert_eq!(found.parameters, again.parameters, "{family}: layers computed again");
            for ((which, parameter), gradient) in own.into_iter().zip(&found.parameters) {
                let value = |model: &Model<f64>| value(model, &batch, &[], &readout);
                check_parameter(family, &mut model, which, parameter, gradient, value);
            }
        }
    }
}

#[test]
fn log_probabilities_lead_back_to_the_states() {
    each_family::<f64>(|name, model| {
        let d = model.spec().d_model;
        let tokens = vec![vec![3, 9, 40], vec![7], vec![1, 2]];
        let weights = vec![vec![0.5, -0.25, 1.0], vec![2.0], vec![1.0, -1.0]];
        let states = |normalized: Mat<f64>| States {
            model: 0,
            normalized,
            tokens: tokens.clone(),
            reference: Vec::new(),
            top: 0,
        };
        let here = Mat { data: noise(2, 3 * d), rows: 3, cols: d };
        let value = |normalized: Mat<f64>| -> f64 {
            let next = model.next_tokens(&states(normalized)).unwrap();
            let row = |(n, w): (&lorascope_engine::NextToken, &Vec<f64>)| -> f64 {
                w.iter().enumerate().map(|(j, w)| w * n.log_prob(j)).sum()
            };
            next.iter().zip(&weights).map(row).sum()
        };
        let gradient = model.log_probs_backward(&states(here.clone()), &weights).unwrap();
        for row in 0..3 {
            let direction: Vec<f64> = noise(row as u64, d);
            let at = |step: f64| {
                let mut moved = here.clone();
                moved.row_mut(row).iter_mut().zip(&direction).for_each(|(m, d)| *m += step * d);
                value(moved)
            };
            let want = (at(1e-5) - at(-1e-5)) / 2e-5;
            let got = dot(gradient.row(row), &direction);
            assert!((got - want).abs() < 1e-7 * (1.0 + want.abs()), "{name} row {row}: {got} against {want}");
        }
    });
}

/// It is read twice, as the input and as the output matrix.
#[test]
fn a_tied_embedding_has_a_gradient_from_both_ends() {
    let mut n_tied = 0;
    for family in crate::support::FAMILIES {
        let Some(mut model) = crate::support::tiny::<f64>(family) else { return };
        if !model.spec().tied_embeddings {
            continue;
        }
        n_tied += 1;
        let (batch, readout) = batch_of(&model, 0);
        let tokens = vec![vec![3, 9, 40], vec![7], vec![1, 2], vec![9]];
        let weights = vec![vec![0.5, -0.25, 1.0], vec![2.0], vec![1.0, -1.0], vec![-0.5]];
        let states = |run: &Run<f64>| {
            let (normalized, tokens) = (run.readout.clone(), tokens.clone());
            States { model: 0, normalized, tokens, reference: Vec::new(), top: 0 }
        };
        let value = |model: &Model<f64>| -> f64 {
            let run = model.run(&batch, &Hooks::default(), &readout).unwrap();
            let next = model.next_tokens(&states(&run)).unwrap();
            let rows = next.iter().zip(&weights);
            rows.flat_map(|(n, w)| w.iter().enumerate().map(|(j, w)| w * n.log_prob(j))).sum()
        };
        let mut of_output = Mat::default();
        let wanted = Wanted { parameters: vec![(0, Parameter::Embedding)], ..Wanted::default() };
        let loss = |run: &Run<f64>| {
            let next = model.next_tokens(&states(run))?;
            let normalizers: Vec<f64> = next.iter().map(|n| n.log_sum_exp).collect();
            let (to_states, to_output) =
                model.log_probs_backward_to_output(&states(run), &normalizers, &weights)?;
            assert_eq!(to_states, model.log_probs_backward_with(&states(run), &normalizers, &weights)?);
            of_output = to_output;
            Ok::<_, Error>(to_states)
        };
        let (_, found) = model.gradients(&batch, &Hooks::default(), &readout, &wanted, PLENTY, loss).unwrap();
        of_output.add(&found.parameters[0]);
        check_parameter(family, &mut model, 0, Parameter::Embedding, &of_output, value);
    }
    assert!(n_tied > 2, "{n_tied}");
}

#[test]
fn only_what_is_asked_for_is_gone_back_through() {
    let Some(model) = crate::support::tiny::<f64>("gemma2") else { return };
    let (batch, readout) = batch_of(&model, 1);
    let last = model.spec().n_layers - 1;
    let point = HookPoint::Layer(last, Site::Z);
    let rows = vec![batch.row_of(0, N - 1).unwrap()];
    let all = points_of(&model, 1).into_iter().map(|point| Capture { point, rows: rows.clone() });
    let everything = Wanted { captures: all.collect(), ..Wanted::default() };
    let little = Wanted { captures: vec![Capture { point, rows: rows.clone() }], ..Wanted::default() };
    let (_, everything_found) = gradients(&model, &batch, &[], &readout, &everything, PLENTY);
    let (_, little_found) = gradients(&model, &batch, &[], &readout, &little, PLENTY);
    let at = everything.captures.iter().position(|c| c.point == point).unwrap();
    assert_eq!(little_found.captures[0], everything_found.captures[at]);
    let nothing = gradients(&model, &batch, &[], &readout, &Wanted::default(), PLENTY).1;
    assert!(nothing.captures.is_empty() && nothing.parameters.is_empty());
}

#[test]
fn frozen_rules_take_away_what_they_freeze() {
    each_family::<f64>(|name, model| {
        let (batch, readout) = batch_of(model, 1);
        let rows = vec![batch.row_of(0, N - 1).unwrap()];
        let at = |site| HookPoint::Layer(0, site);
        let ask = |sites: &[Site], rules| {
            let captures = sites.iter().map(|&s| Capture { point: at(s), rows: rows.clone() }).collect();
            let wanted = Wanted { captures, rules, ..Wanted::default() };
            gradients(model, &batch, &[], &readout, &wanted, PLENTY).1.captures
        };
        let sites = [Site::Q, Site::V, Site::MlpPost, Site::MlpPre, Site::ResidPre];
        let exact = ask(&sites, Rules::EXACT);
        let frozen = ask(&sites, Rules { softmax: SoftmaxRule::Frozen, ..Rules::EXACT });
        assert!(frozen[0][0].iter().all(|g| *g == 0.0), "{name}: no gradient reaches queries");
        assert!(frozen[1][0].iter().any(|g| *g != 0.0));
        // A softmax at temperature 1 is itself.
        let same = ask(&sites, Rules { softmax: SoftmaxRule::Softened(1.0), ..Rules::EXACT });
        for (a, b) in exact.iter().flatten().flatten().zip(same.iter().flatten().flatten()) {
            assert!((a - b).abs() < 1e-10 * (1.0 + a.abs()), "{name}");
        }
        // Past a dropped layer only the residual stream leads.
        let dropped = ask(&sites, Rules { dropped_layer: Some(0), ..Rules::EXACT });
        let after = ask(&[Site::ResidPost], Rules::EXACT);
        assert_eq!(dropped[4][0], after[0][0], "{name}");
        assert!(dropped[0][0].iter().all(|g| *g == 0.0));
        let halved = ask(&sites, Rules { halved_gate: true, secant_activation: true, ..Rules::EXACT });
        assert_eq!(halved[2][0].len(), exact[2][0].len());
        assert_ne!(halved[3][0], exact[3][0], "{name}");
    });
}

#[test]
fn after_kept_rows_gradients_are_those_of_the_whole_run() {
    each_family::<f64>(|name, model| {
        let long = tokens(3, N);
        let readout_at = N - 1;
        let sequences: Vec<(usize, &[u32])> = vec![(1, &long), (0, &long)];
        let whole = Batch::new(model.spec(), &sequences).unwrap();
        let heads: Vec<(usize, &[u32])> = vec![(1, &long[..N - 2]), (0, &long[..N - 2])];
        let kept = model.keep(&heads, &|_, _| {}).unwrap();
        let ends: Vec<(usize, &[u32])> = vec![(0, &long[N - 2..]), (1, &long[N - 2..])];
        let batch = kept.batch(model, &ends, &[]).unwrap();
        let of = |batch: &Batch, kept: Option<&lorascope_engine::Kept<f64>>, memory| {
            let rows = |p: usize| -> Vec<usize> { (0..2).map(|s| batch.row_of(s, p).unwrap()).collect() };
            let points = points_of(model, 0);
            let captures = points.iter().map(|&point| Capture { point, rows: rows(N - 2) }).collect();
            let wanted = Wanted { captures, ..Wanted::default() };
            let loss = |run: &Run<f64>| Ok::<_, Error>(weights(&run.readout));
            let hooks = Hooks::default();
            match kept {
                None => model.gradients(batch, &hooks, &rows(readout_at), &wanted, memory, loss),
                Some(kept) => {
                    model.gradients_after(kept, batch, &hooks, &rows(readout_at), &wanted, memory, loss)
                }
            }
            .unwrap()
            .1
            .captures
        };
        let (expected, found) = (of(&whole, None, PLENTY), of(&batch, Some(&kept), PLENTY));
        for (a, b) in expected.iter().flatten().flatten().zip(found.iter().flatten().flatten()) {
            assert!((a - b).abs() < 1e-10 * (1.0 + a.abs()), "{name}: {a} {b}");
        }
        assert_eq!(found, of(&batch, Some(&kept), 0), "{name}");
    });
}

#[test]
fn prompts_that_stand_apart_have_gradients_of_their_own() {
    let Some(model) = crate::support::tiny::<f64>("qwen3") else { return };
    let long = tokens(3, N);
    let groups: Vec<(usize, usize, &[u32])> = vec![(0, 7, &long), (0, 3, &long[..N - 2]), (0, 7, &long[..4])];
    let apart = Batch::apart(model.spec(), &groups).unwrap();
    assert_eq!(apart.n_rows(), N + N - 2, "only within a group rows are shared");
    let alone = Batch::new(model.spec(), &[(0, &long)]).unwrap();
    let at = |batch: &Batch| {
        let rows = vec![batch.row_of(0, 2).unwrap()];
        let captures = vec![Capture { point: HookPoint::Layer(0, Site::ResidPre), rows }];
        let wanted = Wanted { captures, ..Wanted::default() };
        gradients(&model, batch, &[], &[batch.row_of(0, N - 1).unwrap()], &wanted, PLENTY).1.captures
    };
    assert_eq!(at(&apart), at(&alone));
}

/// Our names of modules in a family's checkpoint.
fn module_of(name: &str) -> Module {
    match name.rsplit('.').next().unwrap() {
        "q_proj" | "c_attn" => Module::Q,
        "k_proj" => Module::K,
        "v_proj" => Module::V,
        "o_proj" => Module::O,
        "gate_proj" => Module::Gate,
        "up_proj" | "c_fc" => Module::Up,
        "down_proj" => Module::Down,
        "c_proj" if name.contains("mlp") => Module::Down,
        "c_proj" => Module::O,
        other => panic!("module {other}"),
    }
}

/// `scripts/tiny_gradients.py` says what the numbers are.
#[test]
fn gradients_are_those_of_pytorch() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gradients.safetensors");
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    each_family::<f64>(|family, model| {
        let Some(shared) = crate::support::shared() else { return };
        let reference =
            crate::support::Reference::read(&shared.join("tiny").join(family).join("ref.safetensors"));
        let ids = &reference.input_ids[0][..20];
        let batch = Batch::new(model.spec(), &[(1, ids)]).unwrap();
        let stored: Vec<(String, Vec<f32>)> = file
            .tensors()
            .into_iter()
            .filter_map(|(name, view)| {
                let name = name.strip_prefix(&format!("{family}."))?.to_owned();
                let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                Some((name, values.collect()))
            })
            .collect();
        let rows: Vec<usize> = (0..20).map(|p| batch.row_of(0, p).unwrap()).collect();
        let capture = |layer| Capture { point: HookPoint::Layer(layer, Site::ResidPre), rows: rows.clone() };
        let factor = |name: &str| {
            let (path, factor) = name.rsplit_once('.').unwrap();
            match factor {
                "lora_a" => Parameter::LoraA(1, module_of(path)),
                _ => Parameter::LoraB(1, module_of(path)),
            }
        };
        let factors: Vec<&(String, Vec<f32>)> = stored.iter().filter(|s| s.0.contains("lora")).collect();
        let wanted = Wanted {
            captures: (0..model.spec().n_layers).map(capture).collect(),
            parameters: factors.iter().map(|f| (1, factor(&f.0))).collect(),
            ..Wanted::default()
        };
        let loss = |run: &Run<f64>| {
            let states = States {
                model: 1,
                normalized: run.readout.clone(),
                tokens: vec![vec![11], vec![7, 9]],
                reference: Vec::new(),
                top: 0,
            };
            model.log_probs_backward(&states, &[vec![0.5], vec![1.0, -1.0]])
        };
        let readout = [rows[11], rows[19]];
        let found = model.gradients(&batch, &Hooks::default(), &readout, &wanted, PLENTY, loss).unwrap().1;
        let compare = |name: &str, got: &[f64], want: &[f32]| {
            assert_eq!(got.len(), want.len(), "{family} {name}");
            let size = want.iter().fold(0.0f64, |m, w| m.max(f64::from(w.abs())));
            let off = got.iter().zip(want).fold(0.0f64, |m, (g, w)| m.max((g - f64::from(*w)).abs()));
            assert!(size > 0.0, "{family} {name}");
            // What transformers computes in f32 whatever the model's type: norms and softmaxes.
            assert!(off < 2e-5 * size, "{family} {name}: off by {off:.1e} of {size:.1e}");
        };
        for layer in 0..model.spec().n_layers {
            let want = &stored.iter().find(|s| s.0 == format!("resid_pre.{layer}")).unwrap().1;
            compare(&format!("resid_pre.{layer}"), &found.captures[layer].concat(), want);
        }
        for (factor, got) in factors.iter().zip(&found.parameters) {
            compare(&factor.0, &got.data, &factor.1);
        }
    });
}

/// The derivative that takes the place of the softmax's, in plain sums.
#[test]
fn a_softened_softmax_has_the_gradient_of_its_formula() {
    each_family::<f64>(|name, model| {
        let (batch, readout) = batch_of(model, 1);
        let row = batch.row_of(0, N - 4).unwrap();
        let layer = model.spec().n_layers - 1;
        let points = [Site::AttnScores, Site::Pattern].map(|site| HookPoint::Layer(layer, site));
        let captures: Vec<Capture> = points.iter().map(|&point| Capture { point, rows: vec![row] }).collect();
        let scores = crate::support::capture(model, &batch, &points[..1], &[row]).remove(0).remove(0);
        for temperature in [1.0, 2.0, 3.5] {
            let rules = Rules { softmax: SoftmaxRule::Softened(temperature), ..Rules::EXACT };
            let wanted = Wanted { captures: captures.clone(), rules, ..Wanted::default() };
            let found = gradients(model, &batch, &[], &readout, &wanted, PLENTY).1.captures;
            let seen = scores.len() / model.spec().n_heads;
            for head in 0..model.spec().n_heads {
                let part = head * seen..(head + 1) * seen;
                let weights: Vec<f64> =
                    scores[part.clone()].iter().map(|s| (s / temperature).exp()).collect();
                let total: f64 = weights.iter().sum();
                let dy = &found[1][0][part.clone()];
                let mean: f64 = weights.iter().zip(dy).map(|(w, d)| w / total * d).sum();
                for ((got, w), d) in found[0][0][part].iter().zip(&weights).zip(dy) {
                    let want = w / total * (d - mean);
                    assert!((got - want).abs() < 1e-9 * (1.0 + want.abs()), "{name}: {got} against {want}");
                }
            }
        }
    });
}

#[test]
fn threads_decide_about_no_bit_of_a_gradient() {
    let Some(model) = crate::support::tiny::<f32>("gemma2") else { return };
    let long = tokens(3, 60);
    let batch = Batch::new(model.spec(), &[(1, &long), (1, &long[..31]), (0, &long[..40])]).unwrap();
    let readout = [batch.row_of(0, 59).unwrap(), batch.row_of(2, 39).unwrap()];
    let rows: Vec<usize> = (0..batch.n_rows()).collect();
    let adapted = model.adapters()[0].adapted();
    let wanted = Wanted {
        captures: vec![Capture { point: HookPoint::Layer(0, Site::ResidPre), rows }],
        parameters: adapted.map(|(l, m)| (1, Parameter::LoraA(l, m))).collect(),
        ..Wanted::default()
    };
    let with = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let loss = |run: &Run<f32>| {
            let (rows, cols) = (run.readout.rows, run.readout.cols);
            Ok::<_, Error>(Mat { data: noise(11, rows * cols), rows, cols })
        };
        let hooks = Hooks::default();
        let found = pool.install(|| model.gradients(&batch, &hooks, &readout, &wanted, PLENTY, loss));
        let found = found.unwrap().1;
        (found.captures, found.parameters)
    };
    let alone = with(1);
    for threads in [2, 3, 7] {
        assert_eq!(with(threads), alone, "{threads} threads");
    }
}
