//! docs/hooks.md names exactly the hook points that there are.

use lorascope_engine::{FAMILIES, HookPoint, Module, read_spec};
use std::collections::BTreeSet;

const PAGE: &str = include_str!("../../../../docs/hooks.md");

/// First cells of the page's table rows that hold code, without the backticks.
fn names_in_tables() -> Vec<&'static str> {
    let first_cell = |line: &'static str| line.strip_prefix('|')?.split('|').next();
    let cells = PAGE.lines().filter_map(first_cell);
    cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)).collect()
}

/// Hook names that the page lists, with `{M}` filled in by every module that it lists.
fn named_points() -> BTreeSet<String> {
    let names = names_in_tables();
    let is_point = |n: &&str| n.contains("hook_");
    let modules: Vec<&str> = names.iter().copied().filter(|n| n.ends_with("_proj")).collect();
    assert_eq!(modules, Module::ALL.map(Module::name), "the page lists the modules in their order");
    let fill = |name: &str| -> Vec<String> {
        if name.contains("{M}") {
            modules.iter().map(|m| name.replace("{M}", m)).collect()
        } else {
            vec![name.to_owned()]
        }
    };
    names.into_iter().filter(is_point).flat_map(fill).collect()
}

#[test]
fn the_page_lists_every_hook_point_and_no_other() {
    let named = named_points();
    // Between them, a rotary model with a gate, one with norms after attention and MLP, and GPT-2 have every point.
    let llama = serde_json::json!({
        "model_type": "llama", "hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1,
        "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 10, "hidden_act": "silu"
    });
    let mut gemma2 = llama.clone();
    gemma2["model_type"] = "gemma2".into();
    gemma2["hidden_activation"] = "gelu_pytorch_tanh".into();
    gemma2["query_pre_attn_scalar"] = 4.into();
    gemma2["sliding_window"] = 4.into();
    gemma2["head_dim"] = 4.into();
    gemma2["num_key_value_heads"] = 2.into();
    let gpt2 = serde_json::json!({
        "model_type": "gpt2", "n_embd": 8, "n_layer": 1, "n_head": 2, "vocab_size": 8, "n_positions": 10,
        "activation_function": "gelu_new"
    });
    let mut existing = BTreeSet::new();
    for config in [llama, gemma2, gpt2] {
        let points = HookPoint::all(&read_spec(&config).unwrap().1);
        existing.extend(points.iter().map(|p| p.to_string().replacen("blocks.0.", "blocks.{l}.", 1)));
    }
    assert_eq!(named, existing);
    for name in named {
        let point: HookPoint = name.replace("{l}", "5").parse().unwrap();
        assert_eq!(point.to_string(), name.replace("{l}", "5"));
    }
}

#[test]
fn the_page_names_every_family() {
    for family in FAMILIES {
        assert!(PAGE.contains(&format!("`{}`", family.model_type)), "{} is not named", family.model_type);
    }
}
