//! What edits do: nothing when they change nothing, exactly what they say where they say it, and only downstream of there.

use crate::support::{
    all_rows, capture, distance, each_family, llama_with_many, noise, points_of, states, tokens,
};
use lorascope_engine::{Batch, Capture, Edit, EditOp, HookPoint, Hooks, Mat, Model, Module, Positions, Site};

/// Rows of a sequence; more than the tiny models' windows of 16.
const N: usize = 20;

fn edit(point: HookPoint, row: usize, width: usize, op: EditOp<f64>) -> Edit<f64> {
    Edit { point, row, units: 0..width, op }
}

fn at(layer: usize, site: Site) -> HookPoint {
    HookPoint::Layer(layer, site)
}

fn row_of(states: &Mat<f64>, row: usize) -> &[f64] {
    states.row(row)
}

/// The layers of a model with a site, or a place outside of the layers once.
fn everywhere(model: &Model<f64>, point: HookPoint) -> Vec<HookPoint> {
    match point {
        HookPoint::Layer(0, site) => (0..model.spec().n_layers).map(|l| at(l, site)).collect(),
        HookPoint::Layer(..) => Vec::new(),
        other => vec![other],
    }
}

fn nothing_changes_under_neutral_edits(name: &str, model: &Model<f64>, which: usize) {
    let batch = Batch::new(model.spec(), &[(which, &tokens(3, N)), (0, &tokens(4, 5))]).unwrap();
    let rows: Vec<usize> = (0..N).map(|p| batch.row_of(0, p).unwrap()).collect();
    let plain = states(model, &batch, Vec::new());
    let points = points_of(model, which);
    let own = capture(model, &batch, &points, &rows);
    let values_at = |point: HookPoint| &own[points.iter().position(|p| *p == point).unwrap()];
    for &first in &points {
        let places: Vec<HookPoint> =
            everywhere(model, first).into_iter().filter(|p| points.contains(p)).collect();
        let edits = |op: &dyn Fn(&Vec<f64>) -> EditOp<f64>| -> Vec<Edit<f64>> {
            let of = |p: &HookPoint| {
                values_at(*p).iter().zip(&rows).map(|(v, &r)| edit(*p, r, v.len(), op(v))).collect()
            };
            places.iter().flat_map(|p| -> Vec<Edit<f64>> { of(p) }).collect()
        };
        let neutral = [
            edits(&|_| EditOp::Scale(1.0)),
            edits(&|v| EditOp::Set(v.clone())),
            edits(&|v| EditOp::Add(vec![0.0; v.len()])),
        ];
        assert_eq!(states(model, &batch, neutral.concat()), plain, "{name}: {first}");
    }
}

#[test]
fn edits_that_change_no_value_change_no_bit() {
    each_family::<f64>(|family, model| {
        for which in 0..2 {
            nothing_changes_under_neutral_edits(&format!("{family} {which}"), model, which);
        }
    });
    // Scales that are no power of two, DoRA and biases of B round differently if added in another order.
    for model in [llama_with_many(), crate::support::llama_scaled(7)].into_iter().flatten() {
        for which in 1..model.n_models() {
            nothing_changes_under_neutral_edits(model.name(which), &model, which);
        }
    }
}

/// Whether a change at a point of one row can reach later rows: through keys and values of this layer or a later one.
fn reaches_later_rows(point: HookPoint, n_layers: usize) -> bool {
    let keys = [Site::ResidPre, Site::Ln1Scale, Site::KInput, Site::VInput, Site::K, Site::V, Site::RotK];
    match point {
        HookPoint::Embed | HookPoint::PosEmbed => true,
        HookPoint::FinalScale | HookPoint::FinalNormalized => false,
        HookPoint::Layer(l, _) if l + 1 < n_layers => true,
        HookPoint::Layer(_, Site::LoraA(m) | Site::LoraOut(m)) => matches!(m, Module::K | Module::V),
        HookPoint::Layer(_, site) => keys.contains(&site),
    }
}

#[test]
fn an_edit_changes_its_row_and_what_sees_it_and_nothing_else() {
    const ROW: usize = 7;
    each_family::<f64>(|family, model| {
        let n_layers = model.spec().n_layers;
        for which in 0..2 {
            let (own, other) = (tokens(3, N), tokens(4, 9));
            // The same tokens in the other model, and another sequence of the same model, must not notice.
            let sequences: [(usize, &[u32]); 3] = [(which, &own), (1 - which, &own), (which, &other)];
            let batch = Batch::new(model.spec(), &sequences).unwrap();
            let rows: Vec<usize> = (0..N).map(|p| batch.row_of(0, p).unwrap()).collect();
            let plain = states(model, &batch, Vec::new());
            let points = points_of(model, which);
            let values = capture(model, &batch, &points, &[rows[ROW]]);
            // The layers between the first and the last are like the first.
            let told_apart =
                |p: &HookPoint| !matches!(p, HookPoint::Layer(l, _) if *l > 0 && l + 1 < n_layers);
            for (i, (&point, values)) in
                points.iter().zip(&values).enumerate().filter(|(_, (p, _))| told_apart(p))
            {
                let n = values[0].len();
                // The other order in the other model, so that every point has both.
                let op =
                    if (i + which) % 2 == 0 { EditOp::Set(noise(1, n)) } else { EditOp::Add(noise(2, n)) };
                let what =
                    format!("{family} {which}: {op:?} at {point}").chars().take(60).collect::<String>();
                let edited = states(model, &batch, vec![edit(point, rows[ROW], n, op)]);
                for row in all_rows(&batch) {
                    let same = edited.row(row) == plain.row(row);
                    match rows.iter().position(|&r| r == row) {
                        Some(p) if p == ROW => assert!(!same, "{what} must change its row"),
                        // The next row certainly sees it, whatever the window.
                        Some(p) if p == ROW + 1 && reaches_later_rows(point, n_layers) => {
                            assert!(!same, "{what} must change the next row");
                        }
                        Some(p) if p > ROW && reaches_later_rows(point, n_layers) => {}
                        _ => assert!(same, "{what} must not change row {row}"),
                    }
                }
            }
        }
    });
}

#[test]
fn copying_the_last_residual_of_another_model_copies_its_readout() {
    each_family::<f64>(|family, model| {
        let last = at(model.spec().n_layers - 1, Site::ResidPost);
        let (base, lora) = (tokens(3, N), tokens(8, 6));
        let batch = Batch::new(model.spec(), &[(0, &base), (1, &lora)]).unwrap();
        let plain = states(model, &batch, Vec::new());
        let (source, target) = (batch.row_of(0, 11).unwrap(), batch.row_of(1, 4).unwrap());
        assert_ne!(plain.row(source), plain.row(target));
        let copied =
            states(model, &batch, vec![edit(last, target, model.spec().d_model, EditOp::CopyFrom(source))]);
        assert_eq!(copied.row(target), plain.row(source), "{family}");
        for row in all_rows(&batch).into_iter().filter(|&r| r != target) {
            assert_eq!(copied.row(row), plain.row(row), "{family}: row {row} is as it was");
        }
    });
}

/// Every low-rank term of a model at rows from `layer` on, taken away by setting a site to zero.
fn without_adapter(
    model: &Model<f64>,
    which: usize,
    rows: &[usize],
    layer: usize,
    site: fn(Module) -> Site,
) -> Vec<Edit<f64>> {
    let adapter = &model.adapters()[which - 1];
    let modules = adapter.adapted().filter(|(l, _)| *l >= layer);
    let all = modules.flat_map(|(l, m)| rows.iter().map(move |&r| (l, m, r)));
    let width = |l, m| match site(m) {
        Site::LoraA(m) => adapter.rank(l, m).unwrap(),
        _ => model.spec().module_shape(m).0,
    };
    all.map(|(l, m, r)| edit(at(l, site(m)), r, width(l, m), EditOp::Scale(0.0))).collect()
}

#[test]
fn without_its_low_rank_terms_an_adapter_is_its_base_bit_for_bit() {
    let same = |name: &str, model: &Model<f64>, which: usize, site: fn(Module) -> Site| {
        let tokens = tokens(3, N);
        let batch = Batch::new(model.spec(), &[(0, &tokens), (which, &tokens)]).unwrap();
        let rows: Vec<usize> = (N..2 * N).collect();
        let plain = states(model, &batch, Vec::new());
        assert_ne!(plain.row(0), plain.row(N), "{name}: the adapter does something");
        let edited = states(model, &batch, without_adapter(model, which, &rows, 0, site));
        for p in 0..N {
            assert_eq!(edited.row(N + p), plain.row(p), "{name}: position {p}");
        }
    };
    each_family::<f64>(|family, model| {
        same(family, model, 1, Site::LoraOut);
        same(family, model, 1, Site::LoraA);
    });
    let Some(model) = llama_with_many::<f64>() else { return };
    for which in 1..model.n_models() {
        same(model.name(which), &model, which, Site::LoraOut);
    }
}

#[test]
fn the_base_goes_on_from_an_adapters_state_as_the_adapter_without_its_later_terms() {
    // Copying resid_pre of layer l of all rows carries over everything that the adapter did before.
    each_family::<f64>(|family, model| {
        let (spec, tokens) = (model.spec(), tokens(3, N));
        let batch = Batch::new(spec, &[(0, &tokens), (1, &tokens)]).unwrap();
        let rows: Vec<usize> = (N..2 * N).collect();
        for layer in 0..spec.n_layers {
            let mut edits = without_adapter(model, 1, &rows, layer, Site::LoraOut);
            let copy = |r: &usize| edit(at(layer, Site::ResidPre), *r, spec.d_model, EditOp::CopyFrom(r - N));
            edits.extend(rows.iter().map(copy));
            let edited = states(model, &batch, edits);
            for p in 0..N {
                assert_eq!(edited.row(N + p), edited.row(p), "{family}: layer {layer}, position {p}");
            }
        }
    });
}

#[test]
fn taking_a_head_away_is_the_same_at_z_at_result_and_at_attn_out() {
    each_family::<f64>(|family, model| {
        let s = model.spec();
        for (which, layer, head) in
            (0..2).flat_map(|w| (0..s.n_layers).flat_map(move |l| (0..4).map(move |h| (w, l, h))))
        {
            let batch = Batch::new(s, &[(which, &tokens(3, N))]).unwrap();
            let rows = all_rows(&batch);
            let results = &capture(model, &batch, &[at(layer, Site::Result)], &rows)[0];
            let (z, result) =
                (head * s.d_head..(head + 1) * s.d_head, head * s.d_model..(head + 1) * s.d_model);
            let zero = |site, units: &std::ops::Range<usize>| {
                let one = |&row: &usize| Edit {
                    point: at(layer, site),
                    row,
                    units: units.clone(),
                    op: EditOp::Scale(0.0),
                };
                states(model, &batch, rows.iter().map(one).collect())
            };
            let minus = |&row: &usize| {
                let share = results[row][result.clone()].iter().map(|v| -v).collect();
                edit(at(layer, Site::AttnOut), row, s.d_model, EditOp::Add(share))
            };
            let at_result = zero(Site::Result, &result);
            let at_out = states(model, &batch, rows.iter().map(minus).collect());
            assert!(distance(&at_result.data, &at_out.data) < 1e-11, "{family} {which} {layer} {head}");
            let difference = distance(&at_result.data, &zero(Site::Z, &z).data);
            if s.post_norms {
                // z enters the norm after attention, whose scale result keeps: these are two questions.
                assert!(difference > 1e-6, "{family} {which} {layer} {head}");
            } else {
                assert!(difference < 1e-11, "{family} {which} {layer} {head}: {difference}");
            }
        }
    });
}

#[test]
fn a_pattern_with_all_weight_on_one_key_gives_that_keys_value() {
    each_family::<f64>(|family, model| {
        let s = model.spec();
        for (which, layer) in (0..2).flat_map(|w| (0..s.n_layers).map(move |l| (w, l))) {
            let batch = Batch::new(s, &[(which, &tokens(3, N))]).unwrap();
            let v = &capture(model, &batch, &[at(layer, Site::V)], &all_rows(&batch))[0];
            // Keys 0 and 4 lie outside the window of row 19: the pattern is taken as it is set.
            for (row, key) in [(19, 4), (19, 19), (7, 2), (0, 0)] {
                let mut pattern = vec![0.0; s.n_heads * (row + 1)];
                (0..s.n_heads).for_each(|h| pattern[h * (row + 1) + key] = 1.0);
                let edits = vec![edit(at(layer, Site::Pattern), row, pattern.len(), EditOp::Set(pattern))];
                let captures = vec![Capture { point: at(layer, Site::Z), rows: vec![row] }];
                let z = &model.run(&batch, &Hooks { captures, edits }, &[]).unwrap().captures[0][0];
                for (head, z) in z.chunks_exact(s.d_head).enumerate() {
                    let group = head / s.group();
                    assert_eq!(
                        z,
                        &v[key][group * s.d_head..(group + 1) * s.d_head],
                        "{family} {which} {layer} {head}"
                    );
                }
            }
        }
    });
}

#[test]
fn scores_decide_the_pattern() {
    each_family::<f64>(|family, model| {
        let s = model.spec();
        let (layer, row, key) = (1, 12, 5);
        for which in 0..2 {
            let batch = Batch::new(s, &[(which, &tokens(3, N))]).unwrap();
            let point = at(layer, Site::AttnScores);
            let patterns = |op: EditOp<f64>| -> Vec<Vec<f64>> {
                let units = key..key + 1; // head 0 only
                let edits = vec![Edit { point, row, units, op }];
                let captures = vec![Capture { point: at(layer, Site::Pattern), rows: vec![row] }];
                let mut run = model.run(&batch, &Hooks { captures, edits }, &[]).unwrap();
                run.captures.remove(0).remove(0).chunks_exact(row + 1).map(<[f64]>::to_vec).collect()
            };
            let plain = patterns(EditOp::Scale(1.0));
            let only: Vec<f64> = (0..=row).map(|k| f64::from(u8::from(k == key))).collect();
            let chosen = patterns(EditOp::Set(vec![1e4]));
            assert_eq!(chosen[0], only, "{family}");
            assert_eq!(chosen[1..], plain[1..], "{family}: the other heads are as they were");
            let hidden = patterns(EditOp::Set(vec![f64::NEG_INFINITY]));
            let rest = 1.0 - plain[0][key];
            let expected: Vec<f64> =
                plain[0].iter().enumerate().map(|(k, p)| if k == key { 0.0 } else { p / rest }).collect();
            assert!(distance(&hidden[0], &expected) < 1e-12, "{family}");
        }
    });
}

#[test]
fn edits_of_the_same_values_happen_in_their_order_and_captures_and_copies_come_after_them() {
    let Some(model) = crate::support::tiny::<f64>("llama") else { return };
    let batch = Batch::new(model.spec(), &[(0, &tokens(3, 4)), (1, &tokens(3, 4))]).unwrap();
    let point = at(2, Site::MlpPost);
    let one = |row, units, op| Edit { point, row, units, op };
    let (set, add, scale) = (
        one(1, 3..5, EditOp::Set(vec![2.0, 2.0])),
        one(1, 4..6, EditOp::Add(vec![3.0, 3.0])),
        one(1, 4..5, EditOp::Scale(2.0)),
    );
    let copy = one(6, 4..6, EditOp::CopyFrom(1));
    let run = |edits: Vec<Edit<f64>>| {
        let captures = vec![Capture { point, rows: vec![1, 6] }];
        model.run(&batch, &Hooks { captures, edits }, &[]).unwrap().captures.remove(0)
    };
    let plain = run(Vec::new());
    let got = run(vec![copy.clone(), set.clone(), add.clone(), scale.clone()]);
    assert_eq!(got[0][3..6], [2.0, 10.0, plain[0][5] + 3.0]);
    assert_eq!(got[1][4..6], got[0][4..6], "a copy takes what the source has after its edits");
    assert_eq!((&got[1][..4], &got[1][6..]), (&plain[1][..4], &plain[1][6..]));
    assert_eq!(run(vec![scale, add, set, copy])[0][4], 2.0, "the last one sets");
}

#[test]
fn an_edited_scale_divides_its_norm() {
    each_family::<f64>(|family, model| {
        let s = model.spec();
        let (layer, row) = (1, 5);
        let batch = Batch::new(s, &[(1, &tokens(3, N))]).unwrap();
        // Without adapter and bias, what a norm feeds is proportional to it.
        let (site, reads) = (Site::Ln2PostScale, Site::MlpOut);
        if s.post_norms {
            let run = |edits: Vec<Edit<f64>>| {
                let captures = vec![Capture { point: at(layer, reads), rows: vec![row] }];
                model.run(&batch, &Hooks { captures, edits }, &[]).unwrap().captures[0][0].clone()
            };
            let (plain, halved) =
                (run(Vec::new()), run(vec![edit(at(layer, site), row, 1, EditOp::Scale(2.0))]));
            let half: Vec<f64> = plain.iter().map(|v| v / 2.0).collect();
            assert!(distance(&halved, &half) < 1e-12, "{family}");
            // Heads stay additive under an edited scale.
            let point = at(layer, Site::Ln1PostScale);
            let captures = [Site::Result, Site::AttnOut]
                .map(|s| Capture { point: at(layer, s), rows: vec![row] })
                .to_vec();
            let edits = vec![edit(point, row, 1, EditOp::Scale(3.0))];
            let seen = model.run(&batch, &Hooks { captures, edits }, &[]).unwrap().captures;
            let mut sum = vec![0.0; s.d_model];
            for head in seen[0][0].chunks_exact(s.d_model) {
                sum.iter_mut().zip(head).for_each(|(s, v)| *s += v);
            }
            assert!(distance(&sum, &seen[1][0]) < 1e-12, "{family}: heads add up");
        }
        // A norm by a scale without bounds is its bias.
        let huge = |site| {
            let captures = vec![Capture { point: at(layer, Site::Q), rows: vec![row] }];
            let edits = vec![edit(at(layer, site), row, 1, EditOp::Scale(1e200))];
            model.run(&batch, &Hooks { captures, edits }, &[]).unwrap().captures[0][0].clone()
        };
        if s.positions != Positions::Learned && !s.biases.qkv && !s.qk_norm {
            assert!(huge(Site::Ln1Scale).iter().all(|v| v.abs() < 1e-100), "{family}");
        }
    });
}

#[test]
fn edits_of_the_final_norm_are_what_is_read_out() {
    each_family::<f64>(|family, model| {
        let d = model.spec().d_model;
        let bias = model.spec().positions == Positions::Learned; // of these families, GPT-2 has LayerNorm
        let batch = Batch::new(model.spec(), &[(1, &tokens(3, N))]).unwrap();
        let plain = states(model, &batch, Vec::new());
        let twice = states(model, &batch, vec![edit(HookPoint::FinalScale, 5, 1, EditOp::Scale(2.0))]);
        if !bias {
            let half: Vec<f64> = plain.row(5).iter().map(|v| v / 2.0).collect();
            assert!(distance(twice.row(5), &half) < 1e-12, "{family}");
        } else {
            // Without its scale's inverse only the bias is left.
            let none = states(model, &batch, vec![edit(HookPoint::FinalScale, 5, 1, EditOp::Scale(1e300))]);
            let expected: Vec<f64> =
                plain.row(5).iter().zip(none.row(5)).map(|(v, b)| (v - b) / 2.0 + b).collect();
            assert!(distance(twice.row(5), &expected) < 1e-12, "{family}");
        }
        let values: Vec<f64> = noise(3, d);
        let set =
            states(model, &batch, vec![edit(HookPoint::FinalNormalized, 5, d, EditOp::Set(values.clone()))]);
        assert_eq!(row_of(&set, 5), values);
    });
}
