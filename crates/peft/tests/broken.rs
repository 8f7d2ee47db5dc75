//! Broken adapters and the exact message that each must give.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::{Draft, q, small_base};
use lorascope_peft::{BaseIdentity, load};
use serde_json::json;
use std::path::Path;

/// Loads what `damage` leaves of a good adapter and gives the message, without the folder.
fn message(damage: impl FnOnce(&Path, &mut Draft)) -> String {
    let dir = tempfile::tempdir().unwrap();
    let mut draft = Draft::new();
    draft.write(dir.path());
    let good: BaseIdentity =
        BaseIdentity { name_or_path: Some("org/small".into()), ..BaseIdentity::default() };
    load(dir.path(), &small_base(), Some(&good)).unwrap();
    damage(dir.path(), &mut draft);
    let error = load(dir.path(), &small_base(), Some(&good)).unwrap_err().to_string();
    let folder = dir.path().display().to_string();
    let message = error.strip_prefix(&format!("adapter `{folder}`: ")).expect(&error);
    message.replace(&folder, "FOLDER")
}

fn config(key: &str, value: serde_json::Value) -> String {
    message(|dir, draft| draft.set(key, value).write(dir))
}

fn tensors(edit: impl FnOnce(&mut Draft)) -> String {
    message(|dir, draft| {
        edit(draft);
        draft.write(dir);
    })
}

const HINT: &str = "; the adapter was trained on `org/small`, the base is `org/small`";

#[test]
fn files() {
    assert_eq!(
        message(|dir, _| std::fs::remove_file(dir.join("adapter_config.json")).unwrap()),
        "has no `adapter_config.json`; a PEFT adapter has it beside `adapter_model.safetensors`; a whole model is \
         given as the base"
    );
    assert_eq!(
        message(|dir, _| std::fs::remove_file(dir.join("adapter_model.safetensors")).unwrap()),
        "has no `adapter_model.safetensors`; PEFT's `save_pretrained` writes it"
    );
    for pickle in ["adapter_model.bin", "adapter_model.pt"] {
        assert_eq!(
            message(
                |dir, _| std::fs::rename(dir.join("adapter_model.safetensors"), dir.join(pickle)).unwrap()
            ),
            format!(
                "has its weights only in `{pickle}`, a pickle, which can run code when read; convert it with PEFT: \
                 `PeftModel.from_pretrained(base, folder).save_pretrained(folder, safe_serialization=True)`"
            )
        );
    }
    let nowhere = Path::new("no/such/folder");
    assert_eq!(
        load(nowhere, &small_base(), None).unwrap_err().to_string(),
        "adapter `no/such/folder`: is not a folder; give the folder that holds `adapter_config.json`"
    );
    assert_eq!(
        message(|dir, _| std::fs::write(dir.join("adapter_model.safetensors"), b"short").unwrap()),
        "`FOLDER/adapter_model.safetensors` is not a valid safetensors file: it has 5 bytes, too few for the header's \
         length; the file is truncated"
    );
    assert_eq!(
        message(|dir, _| {
            let path = dir.join("adapter_model.safetensors");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(&path, &bytes[..bytes.len() - 4]).unwrap();
        }),
        format!(
            "`FOLDER/adapter_model.safetensors` is not a valid safetensors file: tensor `{}.lora_B.weight` has offsets \
             80..112, but the data are 108 bytes long; the file is truncated or damaged",
            q(1)
        )
    );
}

#[test]
fn configuration_as_json() {
    let write = |text: &'static str| {
        message(move |dir, _| std::fs::write(dir.join("adapter_config.json"), text).unwrap())
    };
    assert_eq!(
        write("{\"r\": 8,"),
        "`adapter_config.json` is invalid: EOF while parsing a value at line 1 column 8"
    );
    assert_eq!(
        write("[]"),
        "`adapter_config.json` is invalid: invalid type: sequence, expected a map at line 1 column 0"
    );
    assert_eq!(write("{\"r\": 8}"), "`adapter_config.json` is invalid: key `peft_type` is missing");
    assert_eq!(
        write("{\"peft_type\": \"LORA\", \"r\": \"eight\"}"),
        "`adapter_config.json` is invalid: key `r`: invalid type: string \"eight\", expected usize at line 1 column 34"
    );
    assert_eq!(
        write("{\"peft_type\": \"LORA\",\n \"rank_pattern\": {\"q_proj\": -1}}"),
        "`adapter_config.json` is invalid: key `rank_pattern.q_proj`: invalid value: integer `-1`, expected usize at \
         line 2 column 30"
    );
    assert_eq!(
        write("{\"peft_type\": \"LORA\", \"bias\": \"some\"}"),
        "`adapter_config.json` is invalid: key `bias`: unknown variant `some`, expected one of `none`, `all`, \
         `lora_only` at line 1 column 36"
    );
}

#[test]
fn methods_and_keys_that_are_not_handled() {
    for method in ["PREFIX_TUNING", "IA3", "ADALORA", "PROMPT_TUNING", "LOHA"] {
        assert_eq!(
            config("peft_type", json!(method)),
            format!("`peft_type` is `{method}`; only `LORA` adapters can be read")
        );
    }
    let unsupported = [
        ("use_qalora", json!(true), "true", "QA-LoRA pools the adapter's input"),
        ("use_bdlora", json!({"nblocks": 2}), "{\"nblocks\":2}", "BD-LoRA makes the factors block-diagonal"),
        (
            "alora_invocation_tokens",
            json!([1, 2]),
            "[1,2]",
            "activated LoRA adapts only the tokens after an invocation sequence",
        ),
        (
            "layer_replication",
            json!([[0, 2]]),
            "[[0,2]]",
            "it builds a deeper base model from copies of layers",
        ),
        ("target_parameters", json!(["w"]), "[\"w\"]", "it adapts bare parameters rather than modules"),
        ("megatron_config", json!({"a": 1}), "{\"a\":1}", "the adapter is split for Megatron"),
        (
            "arrow_config",
            json!({"top_k": 3}),
            "{\"top_k\":3}",
            "Arrow routes between adapters token by token",
        ),
        (
            "kasa_config",
            json!({"beta": 1}),
            "{\"beta\":1}",
            "KaSA truncates the base's weights when the adapter is loaded",
        ),
        ("monteclora_config", json!({"a": 1}), "{\"a\":1}", "MonteCLoRA perturbs the update at random"),
        (
            "trainable_token_indices",
            json!([3]),
            "[3]",
            "it replaces single rows of the embedding; train with `modules_to_save` instead",
        ),
    ];
    for (key, value, shown, why) in unsupported {
        assert_eq!(config(key, value), format!("`{key}` is set to `{shown}`, which is not supported: {why}"));
    }
    for init in ["pissa", "pissa_niter_16", "olora", "corda", "loftq", "lora_ga", "new_way"] {
        assert_eq!(
            config("init_lora_weights", json!(init)),
            format!(
                "`init_lora_weights` is set to `{init}`, which is not supported: this initialisation (PiSSA, OLoRA, \
                 CorDA, LoftQ, LoRA-GA or an unknown one) changes the base's weights too; save the adapter with \
                 `path_initial_model_for_weight_conversion`"
            )
        );
    }
    assert_eq!(
        config("use_quantum", json!(true)),
        "`adapter_config.json` sets the unknown key `use_quantum` to `true`; it may change what the adapter computes, \
         so the adapter is refused (null, false and empty values are accepted)"
    );
}

#[test]
fn values_that_make_no_sense() {
    assert_eq!(config("r", json!(0)), "`r` is `0`: a rank must be at least 1");
    assert_eq!(
        config("rank_pattern", json!({"q_proj": 0})),
        "`rank_pattern.q_proj` is `0`: a rank must be at least 1"
    );
    assert_eq!(
        config("task_type", json!("SEQ_CLS")),
        "`task_type` is `SEQ_CLS`: only adapters of language models with their head (`CAUSAL_LM`) can be read"
    );
    assert_eq!(
        message(|dir, d| d.set("use_dora", json!(true)).set("lora_bias", json!(true)).write(dir)),
        "`lora_bias` is `true`: PEFT has no `lora_bias` together with `use_dora`"
    );
    assert_eq!(
        config("layers_pattern", json!("layers")),
        "`layers_pattern` is `set`: it needs `layers_to_transform`"
    );
    assert_eq!(
        message(|dir, d| d
            .set("target_modules", json!(".*q_proj"))
            .set("layers_to_transform", json!([0]))
            .write(dir)),
        "`layers_to_transform` is `set`: it can't be used when `target_modules` is a string"
    );
    assert_eq!(
        config("target_modules", json!("(q_proj")),
        "`target_modules` holds the pattern `(q_proj`, which can't be used: Parsing error at position 7: Opening \
         parenthesis without closing parenthesis"
    );
}

#[test]
fn selections_that_do_not_fit_the_base() {
    assert_eq!(
        config("target_modules", json!([])),
        format!("`target_modules` [] selects no module of the base model{HINT}")
    );
    assert_eq!(
        config("target_modules", json!(null)),
        format!("`target_modules` null selects no module of the base model{HINT}")
    );
    assert_eq!(
        config("target_modules", json!(["c_attn"])),
        format!("`target_modules` [\"c_attn\"] selects no module of the base model{HINT}")
    );
    assert_eq!(
        config("layers_to_transform", json!([7])),
        format!(
            "`target_modules` [\"q_proj\"] within `layers_to_transform` [7] selects no module of the base model{HINT}"
        )
    );
    assert_eq!(
        config("target_modules", json!(["q_proj", "model.norm"])),
        "`target_modules` selects `model.norm`, a norm; LoRA adapts linear maps and embeddings only"
    );
    assert_eq!(
        config("target_modules", json!(["q_proj", "mlp"])),
        "`target_modules` selects `model.layers.0.mlp`, a group of modules; LoRA adapts linear maps and embeddings only"
    );
    assert_eq!(
        config("modules_to_save", json!(["proj"])),
        "module `model.layers.0.self_attn.q_proj` is selected by both `target_modules` and `modules_to_save`; it can \
         be only one"
    );
    assert_eq!(
        message(|dir, d| d
            .set("use_dora", json!(true))
            .set("target_modules", json!(["embed_tokens"]))
            .write(dir)),
        "`use_dora` is set to `true`, which is not supported: DoRA on an embedding is not implemented; leave the \
         embedding out of `target_modules`"
    );
}

#[test]
fn tensors_missing_or_surplus() {
    assert_eq!(
        tensors(|d| _ = d.drop(&format!("{}.lora_B.weight", q(1)))),
        format!(
            "tensor `{}.lora_B.weight` is missing (1 missing in all): rank 2 comes from `r`, the other length from the \
             base's weight{HINT}",
            q(1)
        )
    );
    assert_eq!(
        tensors(|d| _ = d.set("target_modules", json!(["q_proj", "down_proj"]))),
        format!(
            "tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` is missing (4 missing in all): rank \
             2 comes from `r`, the other length from the base's weight{HINT}"
        )
    );
    assert_eq!(
        tensors(|d| _ = d.set("use_dora", json!(true))),
        format!(
            "tensor `{}.lora_magnitude_vector` is missing (2 missing in all): `use_dora` gives every \
             output of an adapted module a norm{HINT}",
            q(0)
        )
    );
    assert_eq!(
        tensors(|d| _ = d.set("bias", json!("all"))),
        format!(
            "tensor `{}.base_layer.bias` is missing (2 missing in all): `bias` is `all`, and the base's bias has that \
             length{HINT}",
            q(0)
        )
    );
    assert_eq!(
        tensors(|d| _ = d.set("modules_to_save", json!(["lm_head"]))),
        format!(
            "tensor `base_model.model.lm_head.weight` is missing (1 missing in all): `modules_to_save` replaces the \
             base's weight, which has that shape{HINT}"
        )
    );
    let surplus = |name: String, shape: &[usize], why: &str| {
        assert_eq!(tensors(|d| _ = d.put(&name, shape)), format!("surplus tensor `{name}`: {why}"));
    };
    let down = "base_model.model.model.layers.0.mlp.down_proj";
    surplus(
        format!("{down}.lora_A.weight"),
        &[2, 6],
        "the configuration does not select its module (`target_modules` and its limits)",
    );
    surplus(format!("{}.lora_B.bias", q(0)), &[4], "`lora_bias` is not set");
    surplus(format!("{}.lora_magnitude_vector", q(0)), &[4], "`use_dora` is not set");
    surplus(format!("{}.base_layer.bias", q(0)), &[4], "`bias` does not cover it");
    surplus(format!("{down}.bias"), &[3], "its module has no bias in the base model");
    surplus(format!("{down}.weight"), &[3, 6], "its module is not in `modules_to_save`");
    surplus(
        "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta".into(),
        &[1, 3],
        "it holds single rows of an embedding (`trainable_token_indices`), which is not supported",
    );
    surplus(
        format!("{}.lora_embedding_A", q(0)),
        &[2, 3],
        "factors of embeddings are `lora_embedding_A` and `lora_embedding_B`, those of linear maps `lora_A` and `lora_B`",
    );
    assert_eq!(
        tensors(|d| _ = d.put("prompt_embeddings", &[4, 3])),
        "tensor `prompt_embeddings` has a name that no LoRA adapter uses; it can't be placed"
    );
    assert_eq!(
        tensors(|d| _ = d.put(&format!("{}.lora_A.default.weight", q(0)), &[2, 3])),
        format!(
            "tensors `{0}.lora_A.default.weight` and `{0}.lora_A.weight` are the same parameter of \
             `model.layers.0.self_attn.q_proj`",
            q(0)
        )
    );
}

#[test]
fn another_base() {
    assert_eq!(
        tensors(|d| {
            d.put(&format!("{}.lora_A.weight", q(2)), &[2, 3])
                .put(&format!("{}.lora_B.weight", q(2)), &[4, 2]);
        }),
        format!(
            "tensor `{}.lora_A.weight` belongs to module `model.layers.2.self_attn.q_proj`, which the base model does \
             not have (2 of the adapter's 6 tensors have no place){HINT}",
            q(2)
        )
    );
    assert_eq!(
        tensors(|d| _ = d.put(&format!("{}.lora_A.weight", q(0)), &[2, 7])),
        format!(
            "tensor `{}.lora_A.weight` has shape [2, 7], expected [2, 3]: rank 2 comes from `r`, the other length from \
             the base's weight{HINT}",
            q(0)
        )
    );
    assert_eq!(
        tensors(|d| {
            d.put("base_model.model.lm_head.weight", &[6, 3]).set("modules_to_save", json!(["lm_head"]));
        }),
        format!(
            "tensor `base_model.model.lm_head.weight` has shape [6, 3], expected [5, 3]: `modules_to_save` replaces \
             the base's weight, which has that shape; was the adapter saved with a resized vocabulary?{HINT}"
        )
    );
}

#[test]
fn ranks_that_disagree_with_the_configuration() {
    assert_eq!(
        config("r", json!(3)),
        format!(
            "tensor `{}.lora_A.weight` has shape [2, 3], expected [3, 3]: rank 3 comes from `r`, the other length from \
             the base's weight{HINT}",
            q(0)
        )
    );
    assert_eq!(
        config("rank_pattern", json!({"layers.1.self_attn.q_proj": 5})),
        format!(
            "tensor `{}.lora_A.weight` has shape [2, 3], expected [5, 3]: rank 5 comes from \
             `rank_pattern.layers.1.self_attn.q_proj`, the other length from the base's weight{HINT}",
            q(1)
        )
    );
}

#[test]
fn values_that_are_not_numbers() {
    for (bad, shown) in [(f32::NAN, "NaN"), (f32::INFINITY, "inf"), (f32::NEG_INFINITY, "-inf")] {
        assert_eq!(
            tensors(|d| {
                let name = format!("{}.lora_B.weight", q(1));
                d.tensors.get_mut(&name).unwrap().1[5] = bad;
            }),
            format!(
                "tensor `{}.lora_B.weight` holds `{shown}` at index [2, 1]; the file is damaged, or training diverged",
                q(1)
            )
        );
    }
}

#[test]
fn tied_copies_that_differ() {
    let dir = tempfile::tempdir().unwrap();
    let mut draft = Draft::new();
    draft.set("modules_to_save", json!(["embed_tokens"])).set("ensure_weight_tying", json!(true));
    draft.put("base_model.model.model.embed_tokens.weight", &[5, 3]);
    draft.tensors.insert("base_model.model.lm_head.weight".into(), (vec![5, 3], vec![0.5; 15]));
    draft.write(dir.path());
    let tied = BaseIdentity { tied_embeddings: true, ..BaseIdentity::default() };
    let error = load(dir.path(), &small_base(), Some(&tied)).unwrap_err();
    assert_eq!(
        error.problem.to_string(),
        "tensors `base_model.model.model.embed_tokens.weight` and `base_model.model.lm_head.weight` differ, though \
         `ensure_weight_tying` makes them one"
    );
}
