//! Checkpoints and adapters that do not fit: each is refused, in exactly these words.

use crate::support::{Tensors, copy_folder, edit_json, edit_tensors, shared};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{Batch, DEFAULT_MEMORY, Hooks, Model};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

fn open(dir: &Path, adapters: &[(String, PathBuf)]) -> Result<Model<f32>, String> {
    let base = Checkpoint::open(dir).map_err(|e| e.to_string())?;
    Model::load(base, adapters, DEFAULT_MEMORY).map_err(|e| e.to_string())
}

fn tiny_dir(family: &str) -> Option<PathBuf> {
    Some(shared()?.join("tiny").join(family).join("model"))
}

/// What loading says to a changed config.json; the message without the machine's folder.
fn config_refusal(family: &str, change: impl Fn(&mut Value)) -> String {
    let Some(dir) = tiny_dir(family) else { return String::new() };
    let dir = copy_folder(&dir);
    edit_json(&dir.path().join("config.json"), change);
    match open(dir.path(), &[]) {
        Ok(model) => panic!("{family} accepted: {:?}", model.spec()),
        Err(e) => e.replace(&dir.path().display().to_string(), "DIR"),
    }
}

#[test]
fn configurations_that_would_compute_something_else() {
    if shared().is_none() {
        return;
    }
    let unhandled = |family: &str, key: &str| {
        format!(
            "config.json of this {family} model has keys that lorascope does not handle and that may change the \
             computation: {key}"
        )
    };
    let cases: Vec<(&str, &str, Value, String)> = vec![
        ("gemma2", "use_bidirectional_attention", json!(true),
            "config.json: `use_bidirectional_attention` is true; only false is supported".into()),
        ("gemma2", "hidden_activation", json!("gelu"),
            "config.json: `hidden_activation` is \"gelu\"; expected silu, gelu_pytorch_tanh or gelu_new".into()),
        ("gemma2", "hidden_activation", json!(null),
            "config.json has no `hidden_activation`, which a gemma2 model needs".into()),
        ("gemma2", "num_key_value_heads", json!(null),
            "config.json has no `num_key_value_heads`, which a gemma2 model needs".into()),
        ("gemma2", "sliding_window", json!(null), "config.json has no `sliding_window`, which a gemma2 model needs".into()),
        ("gemma2", "attn_logit_softcapping", json!("50"),
            "config.json: `attn_logit_softcapping` is \"50\"; expected a number".into()),
        ("gemma2", "layer_types", json!(["full_attention"]),
            "config.json: `layer_types` is [\"full_attention\"]; expected 4 of full_attention or sliding_attention".into()),
        ("gemma3", "rope_parameters", json!({"rope_theta": 1e4}),
            "config.json: `rope_parameters` is {\"rope_theta\":10000.0}; expected an object with full_attention and \
             sliding_attention".into()),
        ("gemma3", "final_logit_cap", json!(3.0), unhandled("gemma3_text", "final_logit_cap = 3.0")),
        ("gpt2", "scale_attn_by_inverse_layer_idx", json!(true),
            "config.json: `scale_attn_by_inverse_layer_idx` is true; only false is supported".into()),
        ("gpt2", "add_cross_attention", json!(true),
            "config.json: `add_cross_attention` is true; only false is supported".into()),
        ("gpt2", "activation_function", json!("gelu"),
            "config.json: `activation_function` is \"gelu\"; expected silu, gelu_pytorch_tanh or gelu_new".into()),
        ("gpt2", "n_embd", json!(null), "config.json has no `n_embd`, which a gpt2 model needs".into()),
        ("llama", "pretraining_tp", json!(2), "config.json: `pretraining_tp` is 2; only 1 is supported".into()),
        ("llama", "rope_interleaved", json!(true), "config.json: `rope_interleaved` is true; only false is supported".into()),
        ("llama", "attention_multiplier", json!(0.5), unhandled("llama", "attention_multiplier = 0.5")),
        ("llama", "num_hidden_layers", json!(0),
            "config.json: `num_hidden_layers` is 0; expected a whole number from 1 to 16777216".into()),
        ("llama", "head_dim", json!(15), "config.json: `head_dim` is 15; it must be even and positive".into()),
        ("llama", "tie_word_embeddings", json!("no"),
            "config.json: `tie_word_embeddings` is \"no\"; expected true or false".into()),
        ("llama", "rope_parameters", json!({"rope_type": "dynamic", "factor": 2.0}),
            "config.json: `rope_type` is \"dynamic\"; expected default, linear or llama3".into()),
        ("llama", "rope_parameters", json!({"rope_type": "llama3", "factor": 8.0}),
            "config.json has no `rope scaling.low_freq_factor`, which a llama model needs".into()),
        ("llama", "rope_parameters", json!({"rope_type": "default", "mscale": 2.0}),
            "config.json: `rope scaling.mscale` is 2.0; this key is not handled".into()),
        ("llama", "model_type", json!("llama4"),
            "model_type `llama4` is not supported; supported are gemma2, gemma3_text, gpt2, llama, mistral, qwen2, \
             qwen3".into()),
        ("mistral", "num_key_value_heads", json!(3),
            "config.json: `num_key_value_heads` is 3; it must divide num_attention_heads = 4".into()),
        ("mistral", "sliding_window", json!(-1),
            "config.json: `sliding_window` is -1; expected a whole number from 1 to 16777216".into()),
        ("qwen2", "use_sliding_window", json!(1), "config.json: `use_sliding_window` is 1; expected true or false".into()),
        ("qwen2", "dual_chunk_attention_config", json!({}), unhandled("qwen2", "dual_chunk_attention_config = {}")),
        ("qwen3", "num_experts", json!(8), unhandled("qwen3", "num_experts = 8")),
        ("qwen3", "intermediate_size", json!(null), "config.json has no `intermediate_size`, which a qwen3 model needs".into()),
    ];
    for (family, key, value, message) in cases {
        let got = config_refusal(family, |c| c[key] = value.clone());
        assert_eq!(got, message, "{family}: {key} = {value}");
    }
}

/// What loading says to changed tensors.
fn tensor_refusal(family: &str, change: impl Fn(&mut Tensors)) -> String {
    let Some(dir) = tiny_dir(family) else { return String::new() };
    let dir = copy_folder(&dir);
    edit_tensors(&dir.path().join("model.safetensors"), change);
    match open(dir.path(), &[]) {
        Ok(_) => panic!("{family} accepted"),
        Err(e) => e.replace(&dir.path().display().to_string(), "DIR"),
    }
}

fn remove(name: &'static str) -> impl Fn(&mut Tensors) {
    move |t| assert!(t.remove(name).is_some(), "{name}")
}

fn reshape(name: &'static str, shape: &'static [usize]) -> impl Fn(&mut Tensors) {
    move |t| {
        assert!(
            t.insert(name.into(), (shape.to_vec(), vec![0.5; shape.iter().product()])).is_some(),
            "{name}"
        )
    }
}

fn add(name: &'static str) -> impl Fn(&mut Tensors) {
    move |t| assert!(t.insert(name.into(), (vec![2], vec![1.0, 2.0])).is_none(), "{name}")
}

#[test]
fn tensors_that_are_missing_misshapen_or_too_many() {
    if shared().is_none() {
        return;
    }
    let missing = |name: &str| format!("tensor `{name}` is missing from DIR");
    let surplus = |family: &str, names: &str| {
        format!("the checkpoint has tensors that a {family} model has no place for: {names}")
    };
    for name in [
        "model.embed_tokens.weight",
        "lm_head.weight",
        "model.norm.weight",
        "model.layers.3.input_layernorm.weight",
        "model.layers.2.self_attn.k_proj.weight",
        "model.layers.0.mlp.down_proj.weight",
    ] {
        assert_eq!(tensor_refusal("llama", remove(name)), missing(name));
    }
    assert_eq!(
        tensor_refusal("gpt2", remove("transformer.h.1.ln_2.bias")),
        missing("transformer.h.1.ln_2.bias")
    );
    let name = "model.layers.1.post_feedforward_layernorm.weight";
    assert_eq!(tensor_refusal("gemma2", remove(name)), missing(name));
    let name = "model.layers.1.self_attn.q_norm.weight";
    assert_eq!(tensor_refusal("qwen3", remove(name)), missing(name));

    let shape = |name: &str, found: &str, expected: &str| {
        format!("tensor `{name}` has shape {found}, but config.json makes it {expected}")
    };
    let name = "model.layers.0.self_attn.q_proj.weight";
    assert_eq!(tensor_refusal("llama", reshape(name, &[32, 64])), shape(name, "[32, 64]", "[64, 64]"));
    let name = "transformer.h.0.attn.c_attn.weight";
    assert_eq!(tensor_refusal("gpt2", reshape(name, &[192, 64])), shape(name, "[192, 64]", "[64, 192]"));
    let name = "model.layers.0.self_attn.k_proj.bias";
    assert_eq!(tensor_refusal("qwen2", reshape(name, &[64])), shape(name, "[64]", "[32]"));
    let name = "model.layers.3.self_attn.k_norm.weight";
    assert_eq!(tensor_refusal("gemma3", reshape(name, &[16])), shape(name, "[16]", "[32]"));
    // Fewer layers in config.json than in the file, and the other way round.
    assert_eq!(
        config_refusal("llama", |c| c["num_hidden_layers"] = json!(5)),
        missing("model.layers.4.input_layernorm.weight")
    );
    assert!(
        config_refusal("mistral", |c| c["num_hidden_layers"] = json!(3))
            .starts_with(&surplus("mistral", "model.layers.3."))
    );

    let name = "model.layers.0.self_attn.q_norm.weight";
    assert_eq!(tensor_refusal("llama", add(name)), surplus("llama", name));
    assert_eq!(tensor_refusal("gemma2", add("vision_tower.a")), surplus("gemma2", "vision_tower.a"));
}

#[test]
fn weights_that_are_no_numbers_are_named_where_they_are_used() {
    let Some(dir) = tiny_dir("llama") else { return };
    for (name, index, value) in [
        ("model.norm.weight", 7, f32::NAN), // found when loading
        ("model.layers.2.mlp.up_proj.weight", 64 * 33 + 5, f32::INFINITY),
        ("model.layers.0.input_layernorm.weight", 63, f32::NEG_INFINITY),
        ("model.embed_tokens.weight", 64 * 9 + 1, f32::NAN),
        ("lm_head.weight", 64 * 511 + 63, f32::NAN),
    ] {
        let dir = copy_folder(&dir);
        edit_tensors(&dir.path().join("model.safetensors"), |t| t.get_mut(name).unwrap().1[index] = value);
        let run = || -> Result<(), String> {
            let model = open(dir.path(), &[])?;
            let batch = Batch::new(model.spec(), &[(0, &[3, 9, 4])]).map_err(|e| e.to_string())?;
            let run = model.run(&batch, &Hooks::default(), &[2]).map_err(|e| e.to_string())?;
            model.all_logits(0, &run.readout).map_err(|e| e.to_string())?;
            Ok(())
        };
        let message = format!(
            "tensor `{name}` holds a non-finite value at element {index}; the file is damaged or has overflowed"
        );
        assert_eq!(run().unwrap_err(), message);
    }
}

#[test]
fn names_of_adapters_are_their_own() {
    let Some(dir) = tiny_dir("llama") else { return };
    let adapter = dir.parent().unwrap().join("adapter");
    let with = |names: &[&str]| {
        let adapters: Vec<_> = names.iter().map(|n| ((*n).to_owned(), adapter.clone())).collect();
        open(&dir, &adapters).map(|m| m.names().into_iter().map(str::to_owned).collect::<Vec<_>>())
    };
    let twice = |name: &str| {
        Err(format!(
            "two models are called `{name}`; give every adapter a name of its own (`base` is the base model)"
        ))
    };
    assert_eq!(with(&["a", "b", "a"]), twice("a"));
    assert_eq!(with(&["base"]), twice("base"));
    assert_eq!(with(&["b", "a"]).unwrap(), ["base", "b", "a"]);
}

#[test]
fn adapters_of_other_models_are_refused_by_their_name() {
    let Some(dir) = tiny_dir("llama") else { return };
    let other = dir.parent().unwrap().parent().unwrap().join("gpt2/adapter");
    let error = open(&dir, &[("mine".to_owned(), other)]).unwrap_err();
    assert!(error.starts_with("adapter `mine`: "), "{error}");
}
