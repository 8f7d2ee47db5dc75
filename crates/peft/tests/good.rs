//! Adapters that must load: PEFT's own files in `../shared`, and small ones for what those leave out.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{Draft, base_of, q, shared, small_base, smollm2, tiny};
use lorascope_peft::{BaseIdentity, BaseModule, PeftAdapter, load};
use serde_json::json;
use std::path::Path;

fn write_and_load(draft: &Draft, base: &[BaseModule], tied: bool) -> PeftAdapter {
    let dir = tempfile::tempdir().unwrap();
    draft.write(dir.path());
    let identity = BaseIdentity { tied_embeddings: tied, ..BaseIdentity::default() };
    load(dir.path(), base, Some(&identity)).unwrap()
}

const LLAMA_Q: &str = "model.layers.0.self_attn.q_proj";

#[test]
fn every_family_loads_with_every_linear_map_adapted() {
    for (family, adapted) in [
        ("gemma2", 28),
        ("gemma3", 42),
        ("llama", 28),
        ("mistral", 28),
        ("qwen2", 28),
        ("qwen3", 28),
        ("gpt2", 16),
    ] {
        let Some(adapter) = tiny(family, "adapter") else { return };
        let report = &adapter.report;
        assert_eq!((report.adapted, report.keys), (adapted, 2 * adapted), "{family}");
        assert_eq!(report.linear + report.conv1d, adapted, "{family}");
        assert_eq!(report.conv1d > 0, family == "gpt2");
        assert_eq!(report.notes, Vec::<String>::new(), "{family}");
        assert!(adapter.low_rank.values().all(|m| m.rank == 4 && m.scale == 2.0), "{family}");
        assert!(!adapter.does_nothing(), "{family}");
    }
}

#[test]
fn transposed_maps_have_factors_by_input_and_output() {
    let Some(adapter) = tiny("gpt2", "adapter") else { return };
    let c_attn = &adapter.low_rank["transformer.h.0.attn.c_attn"];
    assert_eq!((c_attn.a.shape(), c_attn.b.shape()), (&[4, 64][..], &[192, 4][..]));
}

#[test]
fn rank_stabilised_scale() {
    let Some(adapter) = tiny("llama", "edge/rslora") else { return };
    assert!(adapter.low_rank.values().all(|m| m.scale == 4.0), "alpha 8 over the root of rank 4");
}

#[test]
fn dora_magnitudes_are_read() {
    let Some(adapter) = tiny("llama", "edge/dora") else { return };
    assert_eq!(adapter.report.dora, 28);
    let magnitude = adapter.low_rank[LLAMA_Q].magnitude.as_ref().unwrap();
    assert_eq!(magnitude.shape(), &[64]);
}

#[test]
fn ranks_and_alphas_by_pattern() {
    let Some(adapter) = tiny("llama", "edge/rank_alpha_pattern") else { return };
    let of = |path: &str| {
        let m = &adapter.low_rank[path];
        (m.rank, m.scale, m.a.shape()[0])
    };
    assert_eq!(of("model.layers.0.self_attn.q_proj"), (2, 4.0, 2));
    assert_eq!(of("model.layers.1.self_attn.q_proj"), (2, 4.0, 2));
    assert_eq!(of("model.layers.2.self_attn.q_proj"), (4, 1.0, 4));
    assert_eq!(of("model.layers.3.self_attn.v_proj"), (8, 4.0, 8));
    assert_eq!(of("model.layers.3.self_attn.q_proj"), (4, 2.0, 4));
    assert_eq!(
        adapter.report.ranks.iter().map(|(r, n)| (*r, *n)).collect::<Vec<_>>(),
        [(2, 2), (4, 5), (8, 1)]
    );
}

#[test]
fn saved_modules_replace_one_weight_and_nothing_else() {
    for (case, path) in [("save_lm_head", "lm_head"), ("save_embed", "model.embed_tokens")] {
        let Some(adapter) = tiny("llama", &format!("edge/{case}")) else { return };
        assert_eq!(adapter.replaced_weights.keys().collect::<Vec<_>>(), [path]);
        assert_eq!(adapter.replaced_weights[path].shape(), &[512, 64]);
        assert_eq!(adapter.report.adapted, 8);
    }
}

#[test]
fn layers_to_transform_limits_the_layers() {
    let Some(adapter) = tiny("llama", "edge/layers_to_transform") else { return };
    let layers: std::collections::BTreeSet<&str> =
        adapter.low_rank.keys().map(|p| p.split('.').nth(2).unwrap()).collect();
    assert_eq!(layers.into_iter().collect::<Vec<_>>(), ["1", "3"]);
    assert_eq!(adapter.report.adapted, 14);
}

#[test]
fn a_pattern_selects_by_the_whole_path() {
    let Some(adapter) = tiny("llama", "edge/target_regex") else { return };
    let expected: Vec<String> = ["0", "2"]
        .iter()
        .flat_map(|l| {
            ["mlp.down_proj", "self_attn.o_proj", "self_attn.q_proj"].map(|m| format!("model.layers.{l}.{m}"))
        })
        .collect();
    assert_eq!(adapter.low_rank.keys().cloned().collect::<Vec<_>>(), expected);
}

#[test]
fn bias_of_b_is_read() {
    let Some(adapter) = tiny("llama", "edge/lora_bias") else { return };
    assert_eq!(adapter.report.lora_biases, 28);
    assert_eq!(adapter.low_rank[LLAMA_Q].bias.as_ref().unwrap().shape(), &[64]);
}

#[test]
fn half_precision_stays_as_stored() {
    let Some(adapter) = tiny("llama", "edge/bf16_saved") else { return };
    let a = &adapter.low_rank[LLAMA_Q].a;
    assert_eq!(a.dtype(), lorascope_checkpoint::DType::BF16);
    assert!(a.to_f32().unwrap().iter().any(|x| *x != 0.0));
}

#[test]
fn trained_biases_replace_those_of_the_base() {
    for (case, biases) in [("bias_all", 12), ("bias_lora_only", 4)] {
        let Some(adapter) = tiny("qwen2", &format!("edge/{case}")) else { return };
        assert_eq!(adapter.replaced_biases.len(), biases, "{case}");
        assert_eq!(adapter.replaced_biases[LLAMA_Q].shape(), &[64], "{case}");
    }
}

#[test]
fn all_linear_as_saved_and_as_written() {
    let Some(adapter) = tiny("llama", "edge/all_linear") else { return };
    let Some(shared) = shared() else { return };
    let (base, identity) = base_of(&shared.join("tiny/llama/model"));
    let dir = tempfile::tempdir().unwrap();
    let source = shared.join("tiny/llama/edge/all_linear");
    edit_config(&source, dir.path(), "target_modules", json!("all-linear"));
    let by_keyword = load(dir.path(), &base, Some(&identity)).unwrap();
    assert_eq!(by_keyword.report, adapter.report);
    assert_eq!(by_keyword.sha256, adapter.sha256);
    assert_ne!(by_keyword.config_sha256, adapter.config_sha256);
}

fn edit_config(source: &Path, target: &Path, key: &str, value: serde_json::Value) {
    let text = std::fs::read_to_string(source.join("adapter_config.json")).unwrap();
    let mut config: serde_json::Map<String, serde_json::Value> = serde_json::from_str(&text).unwrap();
    config.insert(key.into(), value);
    std::fs::write(target.join("adapter_config.json"), serde_json::to_vec(&config).unwrap()).unwrap();
    std::fs::copy(source.join("adapter_model.safetensors"), target.join("adapter_model.safetensors"))
        .unwrap();
}

#[test]
fn smollm2_adapters_load() {
    let Some(shared) = shared() else { return };
    let (base, identity) = smollm2();
    for (name, keys, adapted) in [
        ("PT2_strategic", 420, 210),
        ("PT3_deontological", 420, 210),
        ("PT3_utilitarian", 420, 210),
        ("PT4_hybrid", 420, 210),
        ("edge_dora", 630, 210),
        ("edge_qv_patterns", 120, 60),
        ("edge_rslora", 420, 210),
    ] {
        let adapter = load(&shared.join("adapters/smollm2").join(name), &base, Some(&identity)).unwrap();
        assert_eq!((adapter.report.keys, adapter.report.adapted), (keys, adapted), "{name}");
        assert_eq!(adapter.report.notes, Vec::<String>::new(), "{name}");
        assert!(adapter.report.inert.is_empty(), "{name}");
        assert_eq!(adapter.sha256.len(), 64);
        if name == "edge_qv_patterns" {
            let of = |path: &str| (adapter.low_rank[path].rank, adapter.low_rank[path].scale);
            assert_eq!(of("model.layers.2.self_attn.q_proj"), (4, 4.0));
            assert_eq!(of("model.layers.29.self_attn.v_proj"), (16, 2.0));
            assert_eq!(of("model.layers.5.self_attn.q_proj"), (8, 0.5));
        }
    }
}

#[test]
fn names_with_the_adapters_name_or_without_the_prefix_mean_the_same() {
    let plain = write_and_load(&Draft::new(), &small_base(), false);
    let mut named = Draft::new();
    for layer in 0..2 {
        for factor in ["lora_A", "lora_B"] {
            let name = format!("{}.{factor}.weight", q(layer));
            let bare = name.replace("base_model.model.", "").replace(factor, &format!("{factor}.default"));
            named.rename(&name, &bare);
        }
    }
    let named = write_and_load(&named, &small_base(), false);
    assert_eq!(named.report, plain.report);
    assert_eq!(named.low_rank.keys().collect::<Vec<_>>(), plain.low_rank.keys().collect::<Vec<_>>());
}

#[test]
fn an_adapter_that_does_nothing_loads_and_says_so() {
    let mut zero_alpha = Draft::new();
    zero_alpha.set("lora_alpha", json!(0));
    let adapter = write_and_load(&zero_alpha, &small_base(), false);
    assert!(adapter.does_nothing());
    assert_eq!(adapter.report.inert.len(), 2);

    let mut untrained = Draft::new();
    for layer in 0..2 {
        untrained.tensors.insert(format!("{}.lora_B.weight", q(layer)), (vec![4, 2], vec![0.0; 8]));
    }
    assert!(write_and_load(&untrained, &small_base(), false).does_nothing());
    untrained.put(&format!("{}.lora_B.weight", q(1)), &[4, 2]);
    let half = write_and_load(&untrained, &small_base(), false);
    assert!(!half.does_nothing());
    assert_eq!(half.report.inert, ["model.layers.0.self_attn.q_proj"]);
}

#[test]
fn biases_in_the_older_spelling() {
    let mut draft = Draft::new();
    draft.set("bias", json!("lora_only"));
    for layer in 0..2 {
        draft.put(&format!("{}.bias", q(layer)), &[4]);
    }
    assert_eq!(write_and_load(&draft, &small_base(), false).replaced_biases.len(), 2);
}

#[test]
fn saved_norms_match_by_the_end_of_the_name_as_in_peft() {
    let mut draft = Draft::new();
    draft.set("modules_to_save", json!(["norm"]));
    draft.put("base_model.model.model.norm.weight", &[3]);
    for layer in 0..2 {
        draft.put(&format!("base_model.model.model.layers.{layer}.self_attn.q_norm.weight"), &[4]);
    }
    let adapter = write_and_load(&draft, &small_base(), false);
    assert_eq!(adapter.report.replaced_weights, 3);
}

#[test]
fn a_saved_group_replaces_all_it_holds() {
    let mut draft = Draft::new();
    draft.set("modules_to_save", json!(["mlp"]));
    for layer in 0..2 {
        let name =
            format!("base_model.model.model.layers.{layer}.mlp.modules_to_save.default.down_proj.weight");
        draft.put(&name, &[3, 6]);
    }
    let adapter = write_and_load(&draft, &small_base(), false);
    assert_eq!(adapter.replaced_weights["model.layers.1.mlp.down_proj"].shape(), &[3, 6]);
}

#[test]
fn targets_layers_and_exclusions() {
    let only_first = |edit: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::new();
        for factor in ["lora_A", "lora_B"] {
            draft.drop(&format!("{}.{factor}.weight", q(1)));
        }
        edit(&mut draft);
        let adapter = write_and_load(&draft, &small_base(), false);
        assert_eq!(adapter.low_rank.keys().collect::<Vec<_>>(), [LLAMA_Q]);
    };
    only_first(&|d| _ = d.set("layers_to_transform", json!(0)));
    only_first(&|d| {
        _ = d.set("layers_to_transform", json!([0])).set("layers_pattern", json!(["h", "layers"]))
    });
    only_first(&|d| _ = d.set("exclude_modules", json!(["layers.1.self_attn.q_proj"])));
    only_first(&|d| _ = d.set("exclude_modules", json!(r".*\.1\..*")));
    only_first(&|d| _ = d.set("target_modules", json!([LLAMA_Q])));
    only_first(&|d| _ = d.set("target_modules", json!(r"^model(?!.*\.1\.).*\.q_proj")));
}

#[test]
fn embedding_updates_and_the_weights_saved_beside_them() {
    let mut draft = Draft::new();
    draft.set("target_modules", json!(["q_proj", "embed_tokens"]));
    draft.put("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 5]);
    draft.put("base_model.model.model.embed_tokens.lora_embedding_B", &[3, 2]);
    let adapter = write_and_load(&draft, &small_base(), false);
    let embedding = &adapter.embeddings["model.embed_tokens"];
    assert_eq!((embedding.rank, embedding.scale, embedding.a.shape()), (2, 4.0, &[2, 5][..]));

    draft.put("base_model.model.model.embed_tokens.base_layer.weight", &[5, 3]);
    let untied = write_and_load(&draft, &small_base(), false);
    assert_eq!(untied.replaced_weights.keys().collect::<Vec<_>>(), ["model.embed_tokens"]);
    let tied = write_and_load(&draft, &small_base(), true);
    assert_eq!(tied.replaced_weights.keys().collect::<Vec<_>>(), ["lm_head", "model.embed_tokens"]);
    assert!(!tied.low_rank.contains_key("lm_head"), "without ensure_weight_tying the head has no update");
}

#[test]
fn tied_saved_embedding_changes_the_head_only_where_tying_is_ensured() {
    let mut draft = Draft::new();
    draft.set("modules_to_save", json!(["embed_tokens"]));
    draft.put("base_model.model.model.embed_tokens.weight", &[5, 3]);
    let apart = write_and_load(&draft, &small_base(), true);
    assert_eq!(apart.replaced_weights.keys().collect::<Vec<_>>(), ["model.embed_tokens"]);
    draft.set("ensure_weight_tying", json!(true));
    let together = write_and_load(&draft, &small_base(), true);
    assert_eq!(together.replaced_weights.keys().collect::<Vec<_>>(), ["lm_head", "model.embed_tokens"]);
}

#[test]
fn a_tied_heads_update_is_the_embeddings_transposed() {
    let mut draft = Draft::new();
    draft.set("target_modules", json!(["q_proj", "embed_tokens"])).set("ensure_weight_tying", json!(true));
    draft.put("base_model.model.model.embed_tokens.lora_embedding_A", &[2, 5]);
    draft.put("base_model.model.model.embed_tokens.lora_embedding_B", &[3, 2]);
    let adapter = write_and_load(&draft, &small_base(), true);
    let head = &adapter.low_rank["lm_head"];
    assert_eq!((head.a.shape(), head.b.shape()), (&[2, 3][..], &[5, 2][..]));
    assert_eq!(head.a.to_f32().unwrap(), [1.0, 3.0, 5.0, 2.0, 4.0, 6.0]);
    assert_eq!(head.b.to_f32().unwrap(), [1.0, 6.0, 2.0, 7.0, 3.0, 8.0, 4.0, 9.0, 5.0, 10.0]);
}

#[test]
fn what_peft_lets_pass_is_noted() {
    let mut draft = Draft::new();
    draft.set("target_modules", json!(["q_proj", "c_attn"])).set("modules_to_save", json!(["score"]));
    draft.set("rank_pattern", json!({"nowhere": 3}));
    let dir = tempfile::tempdir().unwrap();
    draft.write(dir.path());
    let identity = BaseIdentity { name_or_path: Some("else/where".into()), ..BaseIdentity::default() };
    let adapter = load(dir.path(), &small_base(), Some(&identity)).unwrap();
    assert_eq!(
        adapter.report.notes,
        [
            "`target_modules` entry `c_attn` matches no module",
            "`modules_to_save` entry `score` matches no module",
            "`rank_pattern` entry `nowhere` matches no adapted module",
            "the adapter says it was trained on `org/small`; the base is `else/where`",
        ]
    );
}
