//! Base models: weights, configuration, tokenizer.

use super::{Case, RUN};
use crate::support::weights::{edit_header, edit_tensors, gguf, truncate};
use serde_json::json;
use std::fs;

const WEIGHTS: &str = "base/model.safetensors";
const ALONE: &str = "decide --base ./base --prompts prompts.json --out out";
const GGUF: &str = "decide --base ./model.gguf --prompts prompts.json --out out";

pub const CASES: &[Case] = &[
    Case {
        name: "a folder that does not exist",
        line: "decide --base ./no/such/folder --prompts prompts.json --out out",
        spoil: |_| {},
        says: "base model `./no/such/folder`: `./no/such/folder` is neither an existing path nor a hub id of the form `org/name` or `org/name@revision`: owner and name are letters, digits, `-`, `_` and `.`, and begin with a letter or digit",
    },
    Case {
        name: "a hub id that is not in the cache, offline",
        line: "decide --base nobody/nothing --prompts prompts.json --out out",
        spoil: |_| {},
        says: "(no snapshot of that revision), and HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids downloading it; unset them once, or give a local folder",
    },
    Case {
        name: "an empty folder",
        line: RUN,
        spoil: |b| empty(b),
        says: "base model ./base: `./base` holds no weights: expected `model.safetensors` or `model.safetensors.index.json` beside a `config.json`, or exactly one `.gguf` file",
    },
    Case {
        name: "a truncated header",
        line: RUN,
        spoil: |b| truncate(&b.path(WEIGHTS), 5),
        says: "`./base/model.safetensors` is not a valid safetensors file: it has 5 bytes, too few for the header's length; the file is truncated",
    },
    Case {
        name: "truncated data",
        line: RUN,
        spoil: |b| truncate(&b.path(WEIGHTS), 500_000),
        says: "tensor `model.layers.1.mlp.gate_proj.weight` has offsets 475904..516864, but the data are 495992 bytes long; the file is truncated or damaged",
    },
    Case {
        name: "a header longer than the file",
        line: RUN,
        spoil: |b| b.bytes(WEIGHTS, &[&90_000_000u64.to_le_bytes()[..], b"{}"].concat()),
        says: "`./base/model.safetensors` is not a valid safetensors file: its header is declared 90000000 bytes long, but only 2 bytes follow; truncated or not safetensors",
    },
    Case {
        name: "a header longer than anything",
        line: RUN,
        spoil: |b| b.bytes(WEIGHTS, &[&u64::MAX.to_le_bytes()[..], b"{}"].concat()),
        says: "its header is declared 18446744073709551615 bytes long, but only 2 bytes follow; truncated or not safetensors",
    },
    Case {
        name: "a header that is not JSON",
        line: RUN,
        spoil: |b| b.bytes(WEIGHTS, &[&4u64.to_le_bytes()[..], b"nope"].concat()),
        says: "`./base/model.safetensors` is not a valid safetensors file: header: expected ident at line 1 column 2",
    },
    Case {
        name: "a shape that overflows",
        line: RUN,
        spoil: |b| {
            edit_header(&b.path(WEIGHTS), |h| {
                h["model.norm.weight"]["shape"] = json!([1u64 << 40, 1u64 << 40])
            });
        },
        says: "`./base/model.safetensors` is not a valid safetensors file: the shape of tensor `model.norm.weight`, [1099511627776, 1099511627776], overflows",
    },
    Case {
        name: "a shape that the bytes don't fit",
        line: RUN,
        spoil: |b| edit_header(&b.path(WEIGHTS), |h| h["model.norm.weight"]["shape"] = json!([65])),
        says: "tensor `model.norm.weight` of shape [65] needs 260 bytes, but its offsets give 256",
    },
    Case {
        name: "a shape that the configuration doesn't fit",
        line: RUN,
        spoil: |b| b.edit("base/config.json", |c| c["intermediate_size"] = json!(161)),
        says: "base model ./base: tensor `model.layers.0.mlp.gate_proj.weight` has shape [160, 64], but config.json makes it [161, 64]",
    },
    Case {
        name: "a missing tensor",
        line: ALONE,
        spoil: |b| {
            edit_tensors(&b.path(WEIGHTS), |t| {
                t.remove("model.layers.3.mlp.up_proj.weight");
            });
        },
        says: "base model ./base: tensor `model.layers.3.mlp.up_proj.weight` is missing from ./base",
    },
    Case {
        name: "a surplus tensor",
        line: RUN,
        spoil: |b| {
            edit_tensors(&b.path(WEIGHTS), |t| {
                let norm = t["model.norm.weight"].clone();
                t.insert("model.layers.0.self_attn.q_norm.weight".to_owned(), norm);
            });
        },
        says: "base model ./base: the checkpoint has tensors that a llama model has no place for: model.layers.0.self_attn.q_norm.weight",
    },
    Case {
        name: "a pickle instead of safetensors",
        line: RUN,
        spoil: |b| fs::rename(b.path(WEIGHTS), b.path("base/pytorch_model.bin")).unwrap(),
        says: "`./base/pytorch_model.bin` is a PyTorch pickle, which can run code when it is read, so it is refused; convert it where you trust it, with `model.save_pretrained(folder, safe_serialization=True)`, or use the model's `.safetensors` files",
    },
    Case {
        name: "no config.json",
        line: RUN,
        spoil: |b| fs::remove_file(b.path("base/config.json")).unwrap(),
        says: "`./base` has weights but no `config.json`; download it from the same model",
    },
    Case {
        name: "config.json that is not JSON",
        line: RUN,
        spoil: |b| b.text("base/config.json", "{\"model_type\": \"llama\",\n}"),
        says: "`./base/config.json` is not valid: trailing comma at line 2 column 1",
    },
    Case {
        name: "an unsupported model_type",
        line: RUN,
        spoil: |b| b.edit("base/config.json", |c| c["model_type"] = json!("mamba")),
        says: "base model ./base: model_type `mamba` is not supported; supported are gemma2, gemma3_text, gpt2, llama, mistral, qwen2, qwen3",
    },
    Case {
        name: "an unhandled key",
        line: RUN,
        spoil: |b| b.edit("base/config.json", |c| c["residual_multiplier"] = json!(0.22)),
        says: "base model ./base: config.json of this llama model has keys that lorascope does not handle and that may change the computation: residual_multiplier = 0.22",
    },
    Case {
        name: "a value that can't be",
        line: RUN,
        spoil: |b| b.edit("base/config.json", |c| c["num_key_value_heads"] = json!(3)),
        says: "base model ./base: config.json: `num_key_value_heads` is 3; it must divide num_attention_heads = 4",
    },
    Case {
        name: "no tokenizer",
        line: RUN,
        spoil: |b| fs::remove_file(b.path("base/tokenizer.json")).unwrap(),
        says: "`./base` has no `tokenizer.json`; save one there with `AutoTokenizer.from_pretrained(MODEL).save_pretrained(FOLDER)` of transformers",
    },
    Case {
        name: "a tokenizer that is none",
        line: RUN,
        spoil: |b| b.text("base/tokenizer.json", "{\"version\": \"1.0\"}"),
        says: "tokenizer of ./base: `./base/tokenizer.json` does not describe a tokenizer: Model missing. at line 1 column 18",
    },
    Case {
        name: "a tokenizer with more tokens than the model",
        line: RUN,
        spoil: |b| b.edit("base/tokenizer.json", |t| t["model"]["vocab"]["k"] = json!(600)),
        says: "prompt `p0`: token `k` has the id 600, but the model has 512 tokens; is this tokenizer the model's own?",
    },
    Case {
        name: "a chat template with a syntax error",
        line: RUN,
        spoil: |b| b.text("base/chat_template.jinja", "{% for m in messages %}\n{{ m.content }"),
        says: "tokenizer of ./base: the chat template has a syntax error (line 2): syntax error: unexpected `}`, expected end of variable block",
    },
    Case {
        name: "a GGUF file that is none",
        line: GGUF,
        spoil: |b| b.text("model.gguf", "not a model"),
        says: "`./model.gguf` is not a readable GGUF file: it begins with \"not \" instead of `GGUF`",
    },
    Case {
        name: "a truncated GGUF file",
        line: GGUF,
        spoil: |b| b.bytes("model.gguf", &gguf(&[("general.architecture", "llama")], 1, b"")),
        says: "`./model.gguf` is not a readable GGUF file: it ends at byte 69, inside a tensor's name; the file is truncated or damaged",
    },
    Case {
        name: "a GGUF file with a huge count",
        line: GGUF,
        spoil: |b| b.bytes("model.gguf", &gguf(&[], u64::MAX, b"")),
        says: "`./model.gguf` is not a readable GGUF file: the list of tensors has 18446744073709551615 entries, more than the rest of the file can hold; the file is damaged",
    },
    Case {
        name: "a GGUF file of another architecture",
        line: GGUF,
        spoil: |b| b.bytes("model.gguf", &gguf(&[("general.architecture", "rwkv")], 0, b"")),
        says: "`./model.gguf` is not a readable GGUF file: its architecture is `rwkv`; readable are llama, qwen2, qwen3, gemma2, gemma3 and gpt2",
    },
    Case {
        name: "a file that is no model",
        line: "decide --base ./prompts.json --prompts prompts.json --out out",
        spoil: |_| {},
        says: "`./prompts.json` is neither a folder nor a `.gguf` file; give the folder that holds `config.json`",
    },
];

/// Found only while the weights are read, when the run folder is there already.
pub const FOUND_WHILE_RUNNING: &[Case] = &[Case {
    name: "NaN among the weights",
    line: RUN,
    spoil: |b| {
        edit_tensors(&b.path(WEIGHTS), |t| {
            t.get_mut("model.layers.2.mlp.up_proj.weight").unwrap().set(77, f32::NAN);
        });
    },
    says: "tensor `model.layers.2.mlp.up_proj.weight` holds a non-finite value at element 77; the file is damaged or has overflowed",
}];

fn empty(bench: &crate::support::Bench) {
    fs::remove_dir_all(bench.path("base")).unwrap();
    fs::create_dir(bench.path("base")).unwrap();
}
