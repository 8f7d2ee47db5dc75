//! Directions taken back through weights read what the forward pass computes: module by module against plain loops over the
//! stored weights, and all components of a model together against its own logit difference.

use crate::support::{
    Stored, all_rows, copy_folder, dot, each_family, edit_tensors, llama_with_many, load, noise, shared,
    tiny, tokens,
};
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Mat, Model, Module, Number, Positions, Site};
use std::collections::HashMap;
use std::path::PathBuf;

/// Tokens of a sequence; more than the tiny models' windows of 16.
const N: usize = 20;

/// `directions` of one model.
fn rows(values: &[Vec<f64>]) -> Mat<f64> {
    Mat { data: values.concat(), rows: values.len(), cols: values[0].len() }
}

fn gpt2_path(module: Module) -> (&'static str, usize, usize) {
    match module {
        Module::Q => ("attn.c_attn", 0, 3),
        Module::K => ("attn.c_attn", 1, 3),
        Module::V => ("attn.c_attn", 2, 3),
        Module::O => ("attn.c_proj", 0, 1),
        Module::Up | Module::Gate => ("mlp.c_fc", 0, 1),
        Module::Down => ("mlp.c_proj", 0, 1),
    }
}

#[test]
fn every_module_reads_its_input_as_its_output_is_read() {
    each_family::<f64>(|family, model| {
        let dir = shared().unwrap().join("tiny").join(family);
        let base = Stored::read(&dir.join("model/model.safetensors"));
        let adapter = Stored::read(&dir.join("adapter/adapter_model.safetensors"));
        let s = model.spec();
        for (layer, module) in (0..s.n_layers).flat_map(|l| s.modules().map(move |m| (l, m))) {
            let (n_out, n_in) = s.module_shape(module);
            let gpt2 = family == "gpt2";
            let (name, part, parts) = if gpt2 { gpt2_path(module) } else { (module.name(), 0, 1) };
            let root = if gpt2 { "transformer.h" } else { "model.layers" };
            let name = if gpt2 { name.to_owned() } else { name.replace("attn.", "self_attn.") };
            let path = format!("{root}.{layer}.{name}");
            let (x, u): (Vec<f64>, Vec<f64>) = (noise(layer as u64, n_in), noise(9, n_out));
            let mine = part * n_out..(part + 1) * n_out;
            let of = |stored: &Stored, name: &str, transposed: bool, x: &[f64]| -> Vec<f64> {
                let all = stored.times(name, transposed, x);
                if all.len() == parts * n_out { all[mine.clone()].to_vec() } else { all }
            };
            let through_base = dot(&u, &of(&base, &format!("{path}.weight"), gpt2, &x));
            let factor = |m: &str| format!("base_model.model.{path}.lora_{m}.weight");
            let features = of(&adapter, &factor("A"), false, &x);
            // Every tiny adapter has s = 8 / 4.
            let through_adapter = 2.0 * dot(&u, &of(&adapter, &factor("B"), false, &features));
            let bias = base.find(&format!("{path}.bias")).map_or(0.0, |b| dot(&u, &b[mine.clone()]));
            let pulled = model
                .pull_back(layer, module, &[0, 1, 1], &rows(&[u.clone(), u.clone(), u.clone()]))
                .unwrap();
            for row in 0..3 {
                let what = format!("{family} {layer} {module} {row}");
                assert!((dot(pulled.base.row(row), &x) - through_base).abs() < 1e-11, "{what}: base");
                assert!((pulled.base_bias[row] - bias).abs() < 1e-12, "{what}: bias");
                assert_eq!(pulled.adapter_bias[row], 0.0, "{what}: no tiny adapter brings a bias");
                let expected = if row == 0 { 0.0 } else { through_adapter };
                assert!((dot(pulled.adapter.row(row), &x) - expected).abs() < 1e-11, "{what}: adapter");
            }
            assert_eq!(pulled.base.row(0), pulled.base.row(2), "equal rows, equal bits");
            let alone = model.pull_back(layer, module, &[1], &rows(&[u])).unwrap();
            assert_eq!(alone.adapter.row(0), pulled.adapter.row(1), "whatever else is asked");
        }
    });
}

/// What one model's components contribute to a logit difference at one row, from weights and captures.
struct Parts {
    /// `[base share, adapter share]` by component: `(what, layer, head)`.
    shares: HashMap<(&'static str, usize, usize), [f64; 2]>,
    /// The logit difference that the readout has.
    logit_difference: f64,
}

impl Parts {
    fn sum(&self) -> f64 {
        self.shares.values().flatten().sum()
    }

    /// Where the adapter's share is not zero.
    fn adapted(&self) -> Vec<(&'static str, usize, usize)> {
        let mut found: Vec<_> = self.shares.iter().filter(|(_, s)| s[1] != 0.0).map(|(k, _)| *k).collect();
        found.sort_unstable();
        found
    }
}

/// Attributes the difference of two tokens' logits after some tokens.
fn attribute<R: Number>(model: &Model<R>, which: usize, tokens: &[u32], a: u32, b: u32) -> Parts {
    let s = model.spec();
    let batch = Batch::new(s, &[(which, tokens)]).unwrap();
    let row = batch.n_rows() - 1;
    let mut points = vec![HookPoint::FinalScale];
    for layer in 0..s.n_layers {
        let scales = [Site::Ln1PostScale, Site::Ln2PostScale];
        let sites = [Site::Z, Site::MlpPost].into_iter().chain(scales.into_iter().filter(|_| s.post_norms));
        points.extend(sites.map(|site| HookPoint::Layer(layer, site)));
    }
    let captures = points.iter().map(|&point| Capture { point, rows: vec![row] }).collect();
    let run = model.run(&batch, &Hooks { captures, edits: Vec::new() }, &[row]).unwrap();
    let wide = |v: &[Vec<R>]| v[0].iter().map(|v| v.to_f64()).collect::<Vec<f64>>();
    let values: HashMap<HookPoint, Vec<f64>> =
        points.into_iter().zip(run.captures.iter().map(|v| wide(v))).collect();
    let at = |layer, site| &values[&HookPoint::Layer(layer, site)];

    let read = model.readout_directions(&[(which, a, b)]).unwrap();
    let scale = values[&HookPoint::FinalScale][0];
    let mut shares = HashMap::new();
    shares.insert(("final_bias", 0, 0), [read.base_bias[0], read.adapter_bias[0]]);
    let u = read.directions.row(0);
    let embed = model.embedding_shares(which, tokens[row]).unwrap();
    shares.insert(("embed", 0, 0), [dot(u, &embed.base) / scale, dot(u, &embed.adapter) / scale]);
    let position = model.position_shares(which, row).unwrap();
    shares.insert(("pos_embed", 0, 0), [dot(u, &position.base) / scale, dot(u, &position.adapter) / scale]);
    for layer in 0..s.n_layers {
        for (module, post, input) in
            [(Module::O, Site::Ln1PostScale, Site::Z), (Module::Down, Site::Ln2PostScale, Site::MlpPost)]
        {
            let (mut directions, mut scale) = (read.directions.clone(), scale);
            if s.post_norms {
                let point = HookPoint::Layer(layer, post);
                directions = model.pull_back_norm(point, &[which], &directions).unwrap().directions;
                scale *= values[&point][0];
            }
            let pulled = model.pull_back(layer, module, &[which], &directions).unwrap();
            let x = at(layer, input);
            let (what, bias, width) = match module {
                Module::O => ("head", "attn_bias", s.d_head),
                _ => ("mlp", "mlp_bias", s.d_mlp),
            };
            for (i, x) in x.chunks_exact(width).enumerate() {
                let part = i * width..(i + 1) * width;
                let share = |pulled: &Mat<f64>| dot(&pulled.row(0)[part.clone()], x) / scale;
                shares.insert((what, layer, i), [share(&pulled.base), share(&pulled.adapter)]);
            }
            let biases = [pulled.base_bias[0] / scale, pulled.adapter_bias[0] / scale];
            assert!(model.has_bias(layer, module) || biases == [0.0, 0.0]);
            shares.insert((bias, layer, 0), biases);
        }
    }
    let logit = |token: u32| {
        let row = model.output_row(which, token).unwrap();
        row.iter().zip(run.readout.row(0)).map(|(w, x)| w.to_f64() * x.to_f64()).sum::<f64>()
    };
    Parts { shares, logit_difference: logit(b) - logit(a) }
}

/// Asserts completeness in f64: only the order of sums differs.
fn complete(what: &str, model: &Model<f64>, which: usize) -> Parts {
    let parts = attribute(model, which, &tokens(5, N), 17, 301);
    let size: f64 = parts.shares.values().flatten().map(|v| v.abs()).sum();
    let error = (parts.sum() - parts.logit_difference).abs();
    println!("{what}: {} against {}, off by {error:.1e}", parts.sum(), parts.logit_difference);
    assert!(error < 1e-12 * size.max(1.0), "{what}: {error:.1e} of {size}");
    parts
}

#[test]
fn components_add_up_to_the_logit_difference_in_every_family() {
    each_family::<f64>(|family, model| {
        for which in 0..2 {
            let parts = complete(&format!("{family} {which}"), model, which);
            let learned = model.spec().positions == Positions::Learned;
            for (what, expected) in [("pos_embed", learned), ("final_bias", learned)] {
                assert_eq!(parts.shares[&(what, 0, 0)][0] != 0.0, expected, "{family}: {what}");
            }
            let adapted = parts.adapted();
            let components = model.spec().n_layers * (model.spec().n_heads + 1);
            assert_eq!(adapted.len(), components * which, "{family} {which}: {adapted:?}");
        }
    });
    // f32 states through f64 weights: what a run of the program does.
    each_family::<f32>(|family, model| {
        for which in 0..2 {
            let parts = attribute(model, which, &tokens(5, N), 17, 301);
            let error = (parts.sum() - parts.logit_difference).abs();
            assert!(error < 1e-4 * parts.logit_difference.abs().max(1.0), "{family} {which}: {error:.1e}");
        }
    });
}

#[test]
fn every_kind_of_update_is_complete_and_stands_in_its_place() {
    let Some(model) = llama_with_many::<f64>() else { return };
    for which in 0..model.n_models() {
        complete(model.name(which), &model, which);
    }
    let edge = |family: &str, names: &[&'static str]| {
        let dir = shared().unwrap().join("tiny").join(family);
        let adapters: Vec<(&str, PathBuf)> = names.iter().map(|n| (*n, dir.join("edge").join(n))).collect();
        load::<f64>(&dir.join("model"), &adapters)
    };
    let llama = edge(
        "llama",
        &["dora", "lora_bias", "rslora", "save_lm_head", "save_embed", "layers_to_transform", "all_linear"],
    );
    let parts: Vec<Parts> = (0..llama.n_models()).map(|m| complete(llama.name(m), &llama, m)).collect();
    let of = |name: &str| &parts[llama.names().iter().position(|n| *n == name).unwrap()];
    assert!(of("dora").shares[&("mlp", 1, 0)][1] != 0.0 || of("dora").shares[&("head", 1, 0)][1] != 0.0);
    assert!(
        of("lora_bias").adapted().iter().any(|p| p.0.ends_with("_bias")),
        "{:?}",
        of("lora_bias").adapted()
    );
    assert_ne!(of("save_embed").shares[&("embed", 0, 0)][1], 0.0, "an embedding of its own");
    assert_eq!(of("dora").shares[&("embed", 0, 0)][1], 0.0);
    let qwen = edge("qwen2", &["bias_all", "bias_lora_only"]);
    (0..qwen.n_models()).for_each(|m| drop(complete(qwen.name(m), &qwen, m)));
}

/// A copy of a family's tiny adapter of which `keep` decides what stays: it is given module path, index and columns of the
/// factor A, and says whether the number stays. Everything else becomes zero.
fn planted(family: &str, keep: impl Fn(&str, usize) -> bool) -> Option<Model<f64>> {
    let dir = shared()?.join("tiny").join(family);
    let copy = copy_folder(&dir.join("adapter"));
    edit_tensors(&copy.path().join("adapter_model.safetensors"), |tensors| {
        for (name, (shape, values)) in tensors.iter_mut().filter(|(name, _)| name.ends_with("lora_A.weight"))
        {
            let columns = shape[1];
            values
                .iter_mut()
                .enumerate()
                .filter(|(i, _)| !keep(name, i % columns))
                .for_each(|(_, v)| *v = 0.0);
        }
    });
    Some(load(&dir.join("model"), &[("planted", copy.path().to_owned())]))
}

#[test]
fn an_adapter_that_acts_in_one_place_has_its_share_there_and_nowhere_else() {
    for family in ["llama", "gemma2", "gpt2"] {
        let (o, down) = if family == "gpt2" {
            ("h.2.attn.c_proj", "h.2.mlp.c_proj")
        } else {
            ("layers.2.self_attn.o_proj", "layers.2.mlp.down_proj")
        };
        // A reads head h's slice of z alone: the update passes through that head alone.
        let Some(model) = planted(family, |name, column| name.contains(o) && column / 16 == 1) else {
            return;
        };
        assert_eq!(model.spec().d_head, 16);
        assert_eq!(complete(family, &model, 1).adapted(), [("head", 2, 1)], "{family}");
        let Some(model) = planted(family, |name, _| name.contains(down)) else { return };
        assert_eq!(complete(family, &model, 1).adapted(), [("mlp", 2, 0)], "{family}");
        let Some(model) = planted(family, |_, _| false) else { return };
        let (base, idle) = (complete(family, &model, 0), complete(family, &model, 1));
        assert_eq!((base.shares, idle.adapted().len()), (idle.shares.clone(), 0), "{family}: nothing at all");
    }
}

#[test]
fn an_adapters_own_positions_are_used() {
    let Some(dir) = shared().map(|s| s.join("tiny/gpt2")) else { return };
    let copy = copy_folder(&dir.join("adapter"));
    crate::support::edit_json(&copy.path().join("adapter_config.json"), |c| {
        c["modules_to_save"] = serde_json::json!(["wpe"])
    });
    let table = Stored::read(&dir.join("model/model.safetensors"));
    let own: Vec<f32> = table.get("transformer.wpe.weight").iter().map(|v| (3.0 * v + 0.01) as f32).collect();
    let model = tiny::<f64>("gpt2").unwrap();
    let shape = vec![own.len() / model.spec().d_model, model.spec().d_model];
    edit_tensors(&copy.path().join("adapter_model.safetensors"), |t| {
        t.insert("base_model.model.transformer.wpe.weight".to_owned(), (shape.clone(), own.clone()));
    });
    let model = load::<f64>(&dir.join("model"), &[("saved", copy.path().to_owned())]);
    let parts = complete("own positions", &model, 1);
    assert_ne!(parts.shares[&("pos_embed", 0, 0)][1], 0.0);
    let batch = Batch::new(model.spec(), &[(1, &tokens(5, N))]).unwrap();
    let captures = vec![Capture { point: HookPoint::PosEmbed, rows: all_rows(&batch) }];
    let seen = model.run(&batch, &Hooks { captures, edits: Vec::new() }, &[]).unwrap().captures.remove(0);
    for (position, values) in seen.iter().enumerate() {
        let expected: Vec<f64> =
            own[position * shape[1]..(position + 1) * shape[1]].iter().map(|&v| f64::from(v)).collect();
        assert_eq!(*values, expected, "position {position}");
    }
}

#[test]
fn directions_that_do_not_fit_are_refused() {
    let Some(model) = tiny::<f64>("llama") else { return };
    let d = model.spec().d_model;
    let message = |result: Result<(), lorascope_engine::Error>| result.unwrap_err().to_string();
    let pull = |layer, module, models: &[usize], u: Mat<f64>| {
        message(model.pull_back(layer, module, models, &u).map(|_| ()))
    };
    let one = || Mat::zeros(1, d);
    assert_eq!(
        pull(4, Module::O, &[0], one()),
        "directions to be taken back: layer 4 of a model with 4 layers"
    );
    assert_eq!(
        pull(0, Module::O, &[2], one()),
        "rows of model 2 were asked for, but only 2 models are loaded (0 is the base)"
    );
    assert_eq!(pull(0, Module::O, &[0, 1], one()), "directions to be taken back: 2 models for 1 rows");
    assert_eq!(
        pull(0, Module::Up, &[0], one()),
        format!(
            "directions to be taken back: they have {d} values, but there are {} outputs",
            model.spec().d_mlp
        )
    );
    let norm = |point: HookPoint| message(model.pull_back_norm(point, &[0], &one()).map(|_| ()));
    assert_eq!(
        norm(HookPoint::Layer(0, Site::Ln1PostScale)),
        "hook point `blocks.0.ln1_post.hook_scale` does not exist in this model: it has no norms after attention and MLP"
    );
    assert_eq!(
        norm(HookPoint::Layer(0, Site::Z)),
        "directions to be taken back: `blocks.0.attn.hook_z` is not the scale of a norm over the residual stream"
    );
    let readout = message(model.readout_directions(&[(0, 1, 99_999)]).map(|_| ()));
    assert_eq!(
        readout,
        format!(
            "directions to be taken back: token 99999 is outside the vocabulary of {} tokens",
            model.spec().d_vocab
        )
    );
    assert!(model.embedding_shares(0, 99_999).is_err() && model.embedding_shares(2, 0).is_err());
    let context = model.spec().n_ctx;
    assert_eq!(
        message(model.position_shares(0, context).map(|_| ())),
        format!("directions to be taken back: position {context} is outside the context of {context} tokens")
    );
    let Some(gpt2) = tiny::<f64>("gpt2") else { return };
    let u = Mat::zeros(1, gpt2.spec().d_mlp);
    assert_eq!(
        message(gpt2.pull_back(0, Module::Gate, &[0], &u).map(|_| ())),
        "directions to be taken back: a gpt2 model has no mlp.gate_proj"
    );
}

/// Taking vectors forward through the frozen norm and the output agrees with taking the output back.
#[test]
fn changes_of_logits_are_what_directions_read() {
    each_family::<f64>(|family, model| {
        let d = model.spec().d_model;
        let vectors = rows(&[noise(1, d), noise(2, d), noise(3, d)]);
        for which in 0..model.n_models() {
            let logits = model.logit_changes(which, &vectors).unwrap();
            assert_eq!((logits.rows, logits.cols), (3, model.spec().d_vocab));
            let read = model.readout_directions(&[(which, 3, 11)]).unwrap();
            for i in 0..3 {
                let expected = dot(read.directions.row(0), vectors.row(i));
                let found = logits.row(i)[11] - logits.row(i)[3];
                assert!((found - expected).abs() < 1e-10, "{family}: {found} {expected}");
            }
        }
        assert!(model.logit_changes(model.n_models(), &vectors).is_err());
        assert!(model.logit_changes(0, &Mat::zeros(1, d + 1)).is_err());
    });
}
