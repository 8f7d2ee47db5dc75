//! What captures show: every hook point at every row, in the right width, and equal to what its definition says, computed
//! here a second time from the stored weights in plain f64 loops.

use crate::support::{
    Stored, all_rows, capture, distance, dot, each_family, points_of, shared, states, tokens,
};
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Mlp, Model, Module, NormKind, Positions, Site};
use std::collections::HashMap;

/// Tokens enough that the tiny models' windows of 16 hide something.
const N: usize = 22;

/// Width by name, written down a second time.
fn expected_width(model: &Model<f64>, which: usize, name: &str, position: usize) -> usize {
    let s = model.spec();
    let (q, kv) = (s.n_heads * s.d_head, s.n_kv_heads * s.d_head);
    let keys = s.n_heads * (position + 1);
    let module_out: HashMap<&str, usize> = [
        ("attn.q_proj", q),
        ("attn.k_proj", kv),
        ("attn.v_proj", kv),
        ("attn.o_proj", s.d_model),
        ("mlp.gate_proj", s.d_mlp),
        ("mlp.up_proj", s.d_mlp),
        ("mlp.down_proj", s.d_model),
    ]
    .into();
    let (module, last) = name.rsplit_once(".hook_").unwrap_or(("", name));
    let module = module.splitn(3, '.').nth(2).unwrap_or_default();
    match last {
        "q" | "rot_q" | "z" => q,
        "k" | "v" | "rot_k" => kv,
        "attn_scores" | "pattern" => keys,
        "result" | "lora_result" | "q_input" => s.n_heads * s.d_model,
        "k_input" | "v_input" => s.n_kv_heads * s.d_model,
        "pre" | "post" => s.d_mlp,
        "scale" => 1,
        "lora_a" => {
            assert_eq!(which, 1, "the base has no adapter");
            4 // the rank of every tiny adapter
        }
        "lora_out" => module_out[module],
        "hook_embed" | "hook_pos_embed" | "resid_pre" | "resid_mid" | "resid_post" | "attn_out"
        | "mlp_in" | "mlp_out" | "normalized" => s.d_model,
        other => panic!("no width known for {other}"),
    }
}

#[test]
fn every_point_is_captured_at_every_row_in_its_width() {
    each_family::<f64>(|family, model| {
        let tokens = tokens(1, N);
        let plain = Batch::new(model.spec(), &[(0, &tokens), (1, &tokens)]).unwrap();
        let untouched = states(model, &plain, Vec::new());
        for which in 0..2 {
            let points = points_of(model, which);
            let s = model.spec();
            let rotary = if s.positions == Positions::Learned { 0 } else { 2 };
            let sites = 20 + rotary + if s.post_norms { 2 } else { 0 };
            let modules = if matches!(s.mlp, Mlp::Plain(_)) { 6 } else { 7 };
            let top = if s.positions == Positions::Learned { 4 } else { 3 };
            assert_eq!(
                points.len(),
                top + s.n_layers * (sites + (2 * modules + 1) * which),
                "{family} {which}"
            );
            // In a batch with the other model, rows of which are not asked for, and rows named twice and out of order.
            let of_model: Vec<usize> =
                (0..N).rev().chain(0..N).map(|p| plain.row_of(which, p).unwrap()).collect();
            let captures = points.iter().map(|&point| Capture { point, rows: of_model.clone() }).collect();
            let run = model.run(&plain, &Hooks { captures, edits: Vec::new() }, &all_rows(&plain)).unwrap();
            assert_eq!(run.readout, untouched, "{family}: captures change nothing");
            for (point, values) in points.iter().zip(&run.captures) {
                assert_eq!(values.len(), 2 * N, "{point}");
                for (i, row) in values.iter().enumerate() {
                    let position = if i < N { N - 1 - i } else { i - N };
                    assert_eq!(
                        row.len(),
                        expected_width(model, which, &point.to_string(), position),
                        "{family} {point}"
                    );
                    assert_eq!(*row, values[2 * N - 1 - i], "the same row named twice");
                    assert!(row.iter().any(|v| *v != 0.0), "{family} {point}: all zero at {position}");
                }
            }
        }
    });
}

/// One model's captures over one sequence, by point: `[row][value]`.
struct Seen<'m> {
    model: &'m Model<f64>,
    values: HashMap<HookPoint, Vec<Vec<f64>>>,
    base: Stored,
    adapter: Option<Stored>,
}

impl<'m> Seen<'m> {
    fn new(family: &str, model: &'m Model<f64>, which: usize) -> Option<Self> {
        let batch = Batch::new(model.spec(), &[(which, &tokens(7, N))]).unwrap();
        let points = points_of(model, which);
        let values = capture(model, &batch, &points, &all_rows(&batch));
        let dir = shared()?.join("tiny").join(family);
        let base = Stored::read(&dir.join("model/model.safetensors"));
        let adapter = (which == 1).then(|| Stored::read(&dir.join("adapter/adapter_model.safetensors")));
        Some(Self { model, values: points.into_iter().zip(values).collect(), base, adapter })
    }

    fn at(&self, layer: usize, site: Site, row: usize) -> &[f64] {
        &self.values[&HookPoint::Layer(layer, site)][row]
    }

    /// A head's slice of a value with `width` numbers a head.
    fn head(&self, layer: usize, site: Site, row: usize, head: usize) -> &[f64] {
        let s = self.model.spec();
        let width = if site == Site::Result { s.d_model } else { s.d_head };
        &self.at(layer, site, row)[head * width..(head + 1) * width]
    }

    /// Keys of a head's scores or pattern.
    fn keys(&self, layer: usize, site: Site, row: usize, head: usize) -> &[f64] {
        &self.at(layer, site, row)[head * (row + 1)..(head + 1) * (row + 1)]
    }

    fn gpt2(&self) -> bool {
        self.model.spec().family == "gpt2"
    }

    /// Norm of one row by the stored parameters: `(scale, normalised)`.
    fn norm(&self, path: &str, x: &[f64]) -> (f64, Vec<f64>) {
        let weight = self.base.get(&format!("{path}.weight"));
        let n = x.len() as f64;
        match self.model.spec().norm {
            NormKind::Rms { eps, unit_offset } => {
                let scale = (dot(x, x) / n + eps).sqrt();
                let gain = |w: f64| if unit_offset { 1.0 + w } else { w };
                (scale, x.iter().zip(weight).map(|(v, &w)| v / scale * gain(w)).collect())
            }
            NormKind::Layer { eps } => {
                let mean = x.iter().sum::<f64>() / n;
                let centred: Vec<f64> = x.iter().map(|v| v - mean).collect();
                let scale = (dot(&centred, &centred) / n + eps).sqrt();
                let bias = self.base.get(&format!("{path}.bias"));
                (scale, centred.iter().zip(weight).zip(bias).map(|((v, w), b)| v / scale * w + b).collect())
            }
        }
    }

    /// Path and share of a module: the i-th of n equal parts of the outputs.
    fn path(&self, layer: usize, module: Module) -> (String, usize, usize) {
        let (name, part, parts) = if self.gpt2() {
            match module {
                Module::Q => ("attn.c_attn", 0, 3),
                Module::K => ("attn.c_attn", 1, 3),
                Module::V => ("attn.c_attn", 2, 3),
                Module::O => ("attn.c_proj", 0, 1),
                Module::Up | Module::Gate => ("mlp.c_fc", 0, 1),
                Module::Down => ("mlp.c_proj", 0, 1),
            }
        } else {
            (module.name(), 0, 1)
        };
        let root = if self.gpt2() { "transformer.h" } else { "model.layers" };
        let name = if self.gpt2() { name.to_owned() } else { name.replace("attn.", "self_attn.") };
        (format!("{root}.{layer}.{name}"), part, parts)
    }

    /// `A x` and `s · B (A x)` of a module, dense, from the adapter's file; all tiny adapters have s = 8 / 4.
    fn low_rank(&self, layer: usize, module: Module, x: &[f64]) -> (Vec<f64>, Vec<f64>) {
        let (path, part, parts) = self.path(layer, module);
        let adapter = self.adapter.as_ref().unwrap();
        let features = adapter.times(&format!("base_model.model.{path}.lora_A.weight"), false, x);
        let all = adapter.times(&format!("base_model.model.{path}.lora_B.weight"), false, &features);
        let n = all.len() / parts;
        (features, all[part * n..(part + 1) * n].iter().map(|v| 2.0 * v).collect())
    }

    /// What enters a module, from captures further up.
    fn input(&self, layer: usize, module: Module, row: usize) -> Vec<f64> {
        let gemma = self.model.spec().post_norms;
        let (norm_1, norm_2) = match (self.gpt2(), gemma) {
            (true, _) => ("transformer.h.{l}.ln_1", "transformer.h.{l}.ln_2"),
            (_, true) => ("model.layers.{l}.input_layernorm", "model.layers.{l}.pre_feedforward_layernorm"),
            _ => ("model.layers.{l}.input_layernorm", "model.layers.{l}.post_attention_layernorm"),
        };
        let norm = |pattern: &str, site| {
            self.norm(&pattern.replace("{l}", &layer.to_string()), self.at(layer, site, row)).1
        };
        match module {
            Module::Q | Module::K | Module::V => norm(norm_1, Site::ResidPre),
            Module::O => self.at(layer, Site::Z, row).to_vec(),
            Module::Gate | Module::Up => norm(norm_2, Site::ResidMid),
            Module::Down => self.at(layer, Site::MlpPost, row).to_vec(),
        }
    }
}

/// Calls `f` with the captures of every family, base and adapter.
fn each_model(f: impl Fn(&str, &Seen)) {
    each_family::<f64>(|family, model| {
        for which in 0..2 {
            let Some(seen) = Seen::new(family, model, which) else { return };
            f(&format!("{family} {}", model.name(which)), &seen);
        }
    });
}

#[test]
fn rotary_turns_queries_and_keys_of_every_position_but_the_first() {
    each_model(|name, seen| {
        let s = seen.model.spec();
        if s.positions == Positions::Learned {
            return;
        }
        for layer in 0..s.n_layers {
            for (before, after, heads) in
                [(Site::Q, Site::RotQ, s.n_heads), (Site::K, Site::RotK, s.n_kv_heads)]
            {
                assert_eq!(
                    seen.at(layer, before, 0),
                    seen.at(layer, after, 0),
                    "{name}: position 0 is not turned"
                );
                for row in 1..N {
                    assert!(
                        distance(seen.at(layer, before, row), seen.at(layer, after, row)) > 1e-3,
                        "{name} {row}"
                    );
                    for h in 0..heads {
                        let norm =
                            |site| dot(seen.head(layer, site, row, h), seen.head(layer, site, row, h)).sqrt();
                        assert!(
                            (norm(before) - norm(after)).abs() < 1e-12 * norm(before),
                            "{name}: lengths are kept"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn scores_patterns_and_z_are_what_attention_is() {
    each_model(|name, seen| {
        let s = seen.model.spec();
        let learned = s.positions == Positions::Learned;
        let (q, k) = if learned { (Site::Q, Site::K) } else { (Site::RotQ, Site::RotK) };
        for (layer, row, head) in
            (0..s.n_layers).flat_map(|l| (0..N).flat_map(move |r| (0..4).map(move |h| (l, r, h))))
        {
            assert_eq!(s.n_heads, 4);
            let group = head / s.group();
            let first = s.layers[layer].window.map_or(0, |w| (row + 1).saturating_sub(w));
            let scores = seen.keys(layer, Site::AttnScores, row, head);
            let pattern = seen.keys(layer, Site::Pattern, row, head);
            let score = |key: usize| {
                let raw = dot(seen.head(layer, q, row, head), seen.head(layer, k, key, group)) * s.attn_scale;
                let capped = s.attn_softcap.map_or(raw, |cap| cap * (raw / cap).tanh());
                if key < first { f64::NEG_INFINITY } else { capped }
            };
            let expected: Vec<f64> = (0..=row).map(score).collect();
            assert!(distance(scores, &expected) < 1e-11, "{name} {layer} {row} {head}: scores");
            let total: f64 = expected.iter().map(|v| v.exp()).sum();
            let softmax: Vec<f64> = expected.iter().map(|v| v.exp() / total).collect();
            assert!(distance(pattern, &softmax) < 1e-12, "{name} {layer} {row} {head}: pattern");
            let mut z = vec![0.0; s.d_head];
            for (key, p) in pattern.iter().enumerate() {
                z.iter_mut().zip(seen.head(layer, Site::V, key, group)).for_each(|(z, v)| *z += p * v);
            }
            assert!(
                distance(seen.head(layer, Site::Z, row, head), &z) < 1e-12,
                "{name} {layer} {row} {head}: z"
            );
        }
    });
}

#[test]
fn results_are_the_heads_shares_of_the_attention_output() {
    each_model(|name, seen| {
        let s = seen.model.spec();
        for (layer, row) in (0..s.n_layers).flat_map(|l| (0..N).map(move |r| (l, r))) {
            // Every head by itself through the dense output projection and the adapter's factors.
            let share = |head: usize| {
                let mut alone = vec![0.0; s.n_heads * s.d_head];
                alone[head * s.d_head..(head + 1) * s.d_head].copy_from_slice(seen.head(
                    layer,
                    Site::Z,
                    row,
                    head,
                ));
                let (path, ..) = seen.path(layer, Module::O);
                let mut out = seen.base.times(&format!("{path}.weight"), seen.gpt2(), &alone);
                if seen.adapter.is_some() {
                    let (_, added) = seen.low_rank(layer, Module::O, &alone);
                    out.iter_mut().zip(added).for_each(|(o, a)| *o += a);
                }
                out
            };
            let mut shares: Vec<Vec<f64>> = (0..s.n_heads).map(share).collect();
            let raw: Vec<f64> = (0..s.d_model).map(|j| shares.iter().map(|h| h[j]).sum()).collect();
            if s.post_norms {
                let path = format!("model.layers.{layer}.post_attention_layernorm");
                let (scale, _) = seen.norm(&path, &raw);
                let weight = seen.base.get(&format!("{path}.weight"));
                shares
                    .iter_mut()
                    .for_each(|h| h.iter_mut().zip(weight).for_each(|(v, w)| *v *= (1.0 + w) / scale));
            }
            let (path, ..) = seen.path(layer, Module::O);
            let bias = seen.base.find(&format!("{path}.bias")).map_or(vec![0.0; s.d_model], <[f64]>::to_vec);
            assert_eq!(seen.gpt2(), bias.iter().any(|b| *b != 0.0));
            let mut sum = bias;
            for (head, share) in shares.iter().enumerate() {
                let result = seen.head(layer, Site::Result, row, head);
                assert!(distance(result, share) < 1e-11, "{name} {layer} {row} {head}");
                sum.iter_mut().zip(result).for_each(|(s, r)| *s += r);
            }
            assert!(distance(seen.at(layer, Site::AttnOut, row), &sum) < 1e-11, "{name} {layer} {row}: sum");
        }
    });
}

#[test]
fn the_residual_stream_adds_up_bit_for_bit() {
    each_model(|name, seen| {
        let s = seen.model.spec();
        let sum = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(x, y)| x + y).collect::<Vec<f64>>();
        for row in 0..N {
            let embed = seen.values[&HookPoint::Embed][row].clone();
            let start = seen.values.get(&HookPoint::PosEmbed).map_or(embed.clone(), |p| sum(&embed, &p[row]));
            assert_eq!(seen.at(0, Site::ResidPre, row), start, "{name}");
            for layer in 0..s.n_layers {
                let at = |site| seen.at(layer, site, row);
                assert_eq!(at(Site::ResidMid), sum(at(Site::ResidPre), at(Site::AttnOut)), "{name} {layer}");
                assert_eq!(at(Site::ResidPost), sum(at(Site::ResidMid), at(Site::MlpOut)), "{name} {layer}");
                if layer + 1 < s.n_layers {
                    assert_eq!(
                        at(Site::ResidPost),
                        seen.at(layer + 1, Site::ResidPre, row),
                        "{name} {layer}"
                    );
                }
            }
        }
    });
}

#[test]
fn scales_are_what_the_norms_divide_by() {
    each_model(|name, seen| {
        let s = seen.model.spec();
        let (norm_1, norm_2) = if seen.gpt2() {
            ("transformer.h.{l}.ln_1", "transformer.h.{l}.ln_2")
        } else if s.post_norms {
            ("model.layers.{l}.input_layernorm", "model.layers.{l}.pre_feedforward_layernorm")
        } else {
            ("model.layers.{l}.input_layernorm", "model.layers.{l}.post_attention_layernorm")
        };
        for (layer, row) in (0..s.n_layers).flat_map(|l| (0..N).map(move |r| (l, r))) {
            let path = |pattern: &str| pattern.replace("{l}", &layer.to_string());
            let check = |site: Site, path: String, x: &[f64]| {
                let (scale, _) = seen.norm(&path, x);
                let got = seen.at(layer, site, row);
                assert!((got[0] - scale).abs() < 1e-12 * scale, "{name} {layer} {row}: {path}");
            };
            check(Site::Ln1Scale, path(norm_1), seen.at(layer, Site::ResidPre, row));
            check(Site::Ln2Scale, path(norm_2), seen.at(layer, Site::ResidMid, row));
            if s.post_norms {
                // What these norms see has no hook point of its own: the module's output, from its input.
                for (site, module, norm) in [
                    (Site::Ln1PostScale, Module::O, "post_attention_layernorm"),
                    (Site::Ln2PostScale, Module::Down, "post_feedforward_layernorm"),
                ] {
                    let input = seen.input(layer, module, row);
                    let mut out =
                        seen.base.times(&format!("{}.weight", seen.path(layer, module).0), false, &input);
                    if seen.adapter.is_some() {
                        let (_, added) = seen.low_rank(layer, module, &input);
                        out.iter_mut().zip(added).for_each(|(o, a)| *o += a);
                    }
                    check(site, path(&format!("model.layers.{{l}}.{norm}")), &out);
                }
            }
        }
    });
}

#[test]
fn low_rank_points_show_the_adapters_features_and_what_it_adds() {
    each_model(|name, seen| {
        let s = seen.model.spec();
        if seen.adapter.is_none() {
            return;
        }
        let modules: Vec<Module> = s.modules().collect();
        for (layer, row) in (0..s.n_layers).flat_map(|l| (0..N).map(move |r| (l, r))) {
            for &module in &modules {
                let (features, added) = seen.low_rank(layer, module, &seen.input(layer, module, row));
                let (got_a, got_out) =
                    (seen.at(layer, Site::LoraA(module), row), seen.at(layer, Site::LoraOut(module), row));
                let size = added.iter().chain(&features).fold(1.0, |m: f64, v| m.max(v.abs()));
                assert!(distance(got_a, &features) < 1e-12 * size, "{name} {layer} {module} {row}: A x");
                assert!(distance(got_out, &added) < 1e-12 * size, "{name} {layer} {module} {row}: s B A x");
            }
        }
    });
}

#[test]
fn the_final_norm_shows_its_scale_and_what_is_read_out() {
    each_model(|name, seen| {
        let s = seen.model.spec();
        let path = if seen.gpt2() { "transformer.ln_f" } else { "model.norm" };
        let which = usize::from(seen.adapter.is_some());
        let batch = Batch::new(s, &[(which, &tokens(7, N))]).unwrap();
        let readout = states(seen.model, &batch, Vec::new());
        for row in 0..N {
            let resid = seen.at(s.n_layers - 1, Site::ResidPost, row);
            let (scale, normalized) = seen.norm(path, resid);
            let got = &seen.values[&HookPoint::FinalNormalized][row];
            assert!(
                (seen.values[&HookPoint::FinalScale][row][0] - scale).abs() < 1e-12 * scale,
                "{name} {row}"
            );
            assert!(distance(got, &normalized) < 1e-12 * 30.0, "{name} {row}");
            assert_eq!(got, readout.row(row), "{name}: the readout is what the point shows");
            let again = lorascope_engine::Mat { data: resid.to_vec(), rows: 1, cols: s.d_model };
            assert_eq!(
                seen.model.final_norm(which, &again).data,
                *got,
                "{name}: the norm by itself does the same"
            );
        }
    });
}
