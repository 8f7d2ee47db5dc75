//! Adapters: their names, their configuration, their weights.

use super::{Case, RUN, words_only};
use crate::support::weights::{Tensor, edit_tensors, truncate};
use serde_json::json;
use std::fs;

const WEIGHTS: &str = "lora/adapter_model.safetensors";
const CONFIG: &str = "lora/adapter_config.json";
const FIRST: &str = "base_model.model.model.layers.0.mlp.down_proj.lora_A.weight";

pub const CASES: &[Case] = &[
    words_only(
        "no `=`",
        "decide --base ./base --adapter ./lora --prompts prompts.json --out out",
        "`./lora` is not of the form NAME=PATH",
    ),
    words_only(
        "the base's own name",
        "decide --base ./base --adapter base=./lora --prompts prompts.json --out out",
        "`base` is the base model's own name; call the adapter something else",
    ),
    words_only(
        "a name that no file can have",
        "decide --base ./base --adapter a/b=./lora --prompts prompts.json --out out",
        "`a/b` can't be a model's name; use up to 64 letters, digits, `_`, `-`, `.`, `+`, and `@STEP` after that for a checkpoint",
    ),
    words_only(
        "no path",
        "decide --base ./base --adapter a= --prompts prompts.json --out out",
        "`a=` names no path",
    ),
    words_only(
        "two of one name",
        "decide --base ./base --adapter a=./lora --adapter a=./dora --prompts prompts.json --out out",
        "two models are called `a`; give every adapter a name of its own (`base` is the base model)",
    ),
    words_only(
        "a control of nobody",
        "decide --base ./base --adapter a=./lora --control random:b --prompts prompts.json --out out",
        "control `random:b`: no adapter is called `b`; there are a\n",
    ),
    words_only(
        "a control without adapters",
        "decide --base ./base --control random --prompts prompts.json --out out",
        "control `random`: there is no adapter to make one of\n",
    ),
    words_only(
        "a seed in words",
        "decide --base ./base --adapter a=./lora --control random@x --prompts prompts.json --out out",
        "`random@x`: the seed `x` is no whole number from 0\n",
    ),
    words_only(
        "the same control twice",
        "decide --base ./base --adapter a=./lora --control random --control random:a --prompts prompts.json --out out",
        "two models are called `a.random`; give every adapter a name of its own (`base` is the base model)",
    ),
    words_only(
        "a control of DoRA",
        "decide --base ./base --adapter a=./dora --control shuffled --prompts prompts.json --out out",
        "error: control `shuffled` of adapter `a`: the DoRA update of `model.layers.0.mlp.down_proj` is not a low-rank change, so it has no control; use an adapter without it\n",
    ),
    words_only(
        "weights of a base alone",
        "weights --base ./base --prompts prompts.json --out out",
        "settings of `weights`: there is no adapter whose weights could be looked at; give --adapter NAME=PATH\n",
    ),
    words_only(
        "a cosine above 1",
        "weights --base ./base --adapter a=./lora --set intruder_cosine=1.5 --prompts prompts.json --out out",
        "settings of `weights`: intruder_cosine is 1.5; it must lie between 0 and 1\n",
    ),
    words_only(
        "a folder that does not exist",
        "decide --base ./base --adapter a=./nowhere --prompts prompts.json --out out",
        "adapter `a`: `./nowhere` is neither an existing path nor a hub id of the form `org/name` or `org/name@revision`: owner",
    ),
    words_only(
        "a folder that is no adapter",
        "decide --base ./base --adapter a=./base --prompts prompts.json --out out",
        "adapter `a`: adapter `./base`: has no `adapter_config.json`; a PEFT adapter has it beside `adapter_model.safetensors`; a whole model is given as the base\n",
    ),
    Case {
        name: "made for another base",
        line: RUN,
        spoil: |b| {
            for file in [WEIGHTS, CONFIG] {
                let from = b.shared.join("tiny/gemma3/adapter").join(file.trim_start_matches("lora/"));
                fs::write(b.path(file), fs::read(from).unwrap()).unwrap();
            }
        },
        says: "adapter `lora`: adapter `./lora`: tensor `base_model.model.model.layers.4.mlp.down_proj.lora_A.weight` belongs to module `model.layers.4.mlp.down_proj`, which the base model does not have (28 of the adapter's 84 tensors have no place); the adapter was trained on `tiny-gemma3`\n",
    },
    Case {
        name: "a missing tensor",
        line: RUN,
        spoil: |b| {
            edit_tensors(&b.path(WEIGHTS), |t| {
                t.remove(FIRST);
            });
        },
        says: "adapter `lora`: adapter `./lora`: tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` is missing (1 missing in all): rank 4 comes from `r`, the other length from the base's weight; the adapter was trained on `tiny-llama`\n",
    },
    Case {
        name: "a surplus tensor",
        line: RUN,
        spoil: |b| {
            edit_tensors(&b.path(WEIGHTS), |t| {
                t.insert("base_model.model.lm_head.lora_A.weight".to_owned(), Tensor::zeros(&[4, 64]));
            });
        },
        says: "adapter `lora`: adapter `./lora`: surplus tensor `base_model.model.lm_head.lora_A.weight`: the configuration does not select its module (`target_modules` and its limits)\n",
    },
    Case {
        name: "a rank that the tensors don't have",
        line: RUN,
        spoil: |b| b.edit(CONFIG, |c| c["r"] = json!(8)),
        says: "adapter `lora`: adapter `./lora`: tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` has shape [4, 160], expected [8, 160]: rank 8 comes from `r`, the other length from the base's weight; the adapter was trained on `tiny-llama`\n",
    },
    Case {
        name: "NaN",
        line: RUN,
        spoil: |b| edit_tensors(&b.path(WEIGHTS), |t| t.get_mut(FIRST).unwrap().set(161, f32::NAN)),
        says: "adapter `lora`: adapter `./lora`: tensor `base_model.model.model.layers.0.mlp.down_proj.lora_A.weight` holds `NaN` at index [1, 1]; the file is damaged, or training diverged\n",
    },
    Case {
        name: "truncated",
        line: RUN,
        spoil: |b| truncate(&b.path(WEIGHTS), 50_000),
        says: "adapter `lora`: adapter `./lora`: `./lora/adapter_model.safetensors` is not a valid safetensors file: tensor `base_model.model.model.layers.2.mlp.up_proj.lora_A.weight` has offsets 43008..44032, but the data are 43048 bytes long; the file is truncated or damaged\n",
    },
    Case {
        name: "another peft_type",
        line: RUN,
        spoil: |b| b.edit(CONFIG, |c| c["peft_type"] = json!("IA3")),
        says: "adapter `lora`: adapter `./lora`: `peft_type` is `IA3`; only `LORA` adapters can be read\n",
    },
    Case {
        name: "a key of a later PEFT",
        line: RUN,
        spoil: |b| b.edit(CONFIG, |c| c["use_xlora"] = json!(true)),
        says: "adapter `lora`: adapter `./lora`: `adapter_config.json` sets the unknown key `use_xlora` to `true`; it may change what the adapter computes, so the adapter is refused (null, false and empty values are accepted)\n",
    },
    Case {
        name: "a feature that changes the computation",
        line: RUN,
        spoil: |b| b.edit(CONFIG, |c| c["use_qalora"] = json!(true)),
        says: "adapter `lora`: adapter `./lora`: `use_qalora` is set to `true`, which is not supported: QA-LoRA pools the adapter's input\n",
    },
    Case {
        name: "no weights",
        line: RUN,
        spoil: |b| fs::remove_file(b.path(WEIGHTS)).unwrap(),
        says: "adapter `lora`: adapter `./lora`: has no `adapter_model.safetensors`; PEFT's `save_pretrained` writes it\n",
    },
    Case {
        name: "a pickle",
        line: RUN,
        spoil: |b| fs::rename(b.path(WEIGHTS), b.path("lora/adapter_model.bin")).unwrap(),
        says: "adapter `lora`: adapter `./lora`: has its weights only in `adapter_model.bin`, a pickle, which can run code when read; convert it with PEFT: `PeftModel.from_pretrained(base, folder).save_pretrained(folder, safe_serialization=True)`\n",
    },
    Case {
        name: "no configuration",
        line: RUN,
        spoil: |b| fs::remove_file(b.path(CONFIG)).unwrap(),
        says: "adapter `lora`: adapter `./lora`: has no `adapter_config.json`; a PEFT adapter has it beside `adapter_model.safetensors`; a whole model is given as the base\n",
    },
    Case {
        name: "a configuration that is not JSON",
        line: RUN,
        spoil: |b| b.text(CONFIG, "{\"r\": 4"),
        says: "adapter `lora`: adapter `./lora`: `adapter_config.json` is invalid: EOF while parsing an object at line 1 column 7\n",
    },
    Case {
        name: "nothing that it targets",
        line: RUN,
        spoil: |b| b.edit(CONFIG, |c| c["target_modules"] = json!(["c_attn"])),
        says: "adapter `lora`: adapter `./lora`: `target_modules` [\"c_attn\"] selects no module of the base model; the adapter was trained on `tiny-llama`\n",
    },
];
