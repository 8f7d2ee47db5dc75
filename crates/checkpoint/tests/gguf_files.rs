//! GGUF files against gguf-py's dequantisation, against formula-made models of every family, and against the safetensors
//! of the tiny reference models. The fixtures come from `scripts/ggml_blocks.py` and `scripts/tiny_gguf.py`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::tiny;
use lorascope_checkpoint::gguf::MetadataValue;
use lorascope_checkpoint::{Checkpoint, DType, StoredTensor, read_safetensors};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};

const FAMILIES: [&str; 7] = ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2"];

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|x| x.to_bits()).collect()
}

#[test]
fn every_block_format_equals_gguf_py() {
    let checkpoint = Checkpoint::open(&fixtures().join("quants.gguf")).unwrap();
    let expected = read_safetensors(&fixtures().join("quants.safetensors")).unwrap();
    assert_eq!(expected.len(), 10);
    let mut dtypes = Vec::new();
    for want in &expected {
        let tensor = checkpoint.tensor(want.name()).unwrap();
        assert_eq!(tensor.shape(), want.shape());
        let (got, want) = (tensor.to_f32().unwrap(), want.to_f32().unwrap());
        assert_eq!(bits(&got), bits(&want), "{:?}", tensor.dtype());
        for row in 0..tensor.n_rows() {
            let mut out = vec![0.0; tensor.n_cols()];
            tensor.widen_rows(row..row + 1, &mut out).unwrap();
            assert_eq!(bits(&out), bits(&want[row * out.len()..][..out.len()]));
        }
        dtypes.push(tensor.dtype());
    }
    for dtype in [DType::F16, DType::BF16, DType::Q4_0, DType::Q4_1, DType::Q5_0, DType::Q5_1, DType::Q8_0] {
        assert!(dtypes.contains(&dtype));
    }
    for dtype in [DType::Q4_K, DType::Q5_K, DType::Q6_K] {
        assert!(dtypes.contains(&dtype));
    }
}

/// `formula` of `scripts/tiny_gguf.py`.
fn formula(name: &str, n: usize) -> Vec<f32> {
    let seed =
        name.bytes().fold(2_166_136_261u32, |seed, byte| (seed ^ u32::from(byte)).wrapping_mul(16_777_619));
    let value = |i: usize| (i as u32).wrapping_mul(2_654_435_761).wrapping_add(seed) >> 23;
    (0..n).map(|i| (value(i) as f32 - 256.0) / 64.0).collect()
}

#[test]
fn every_family_has_hugging_face_names_shapes_and_values() {
    for family in FAMILIES {
        let checkpoint = Checkpoint::open(&fixtures().join("gguf").join(format!("{family}.gguf"))).unwrap();
        let Some(like) = tiny(family) else { return };
        let reference = Checkpoint::open(&like).unwrap();
        let first_layers =
            |name: &&str| !["2", "3", "4", "5"].iter().any(|n| name.split('.').any(|part| part == *n));
        let names: Vec<&str> = reference.names().filter(first_layers).collect();
        assert_eq!(checkpoint.names().collect::<Vec<_>>(), names, "{family}");
        for name in names {
            let (tensor, like) = (checkpoint.tensor(name).unwrap(), reference.tensor(name).unwrap());
            assert_eq!(tensor.shape().len(), like.shape().len());
            let values = tensor.to_f32().unwrap();
            assert_eq!(values, formula(name, values.len()), "{family} {name}");
        }
    }
}

#[test]
fn transposed_and_interleaved_rows_can_be_read_one_by_one() {
    let open =
        |family: &str| Checkpoint::open(&fixtures().join("gguf").join(format!("{family}.gguf"))).unwrap();
    let one_by_one = |tensor: &StoredTensor| -> Vec<f32> {
        let mut out = vec![0.0; tensor.n_rows() * tensor.n_cols()];
        for (row, out) in out.chunks_mut(tensor.n_cols()).enumerate() {
            tensor.widen_rows(row..row + 1, out).unwrap();
        }
        out
    };
    for (family, name, shape) in [
        ("gpt2", "transformer.h.1.attn.c_attn.weight", [32, 96]),
        ("gpt2", "transformer.h.0.mlp.c_proj.weight", [128, 32]),
        ("llama", "model.layers.1.self_attn.k_proj.weight", [16, 32]),
    ] {
        let checkpoint = open(family);
        let tensor = checkpoint.tensor(name).unwrap();
        assert_eq!(tensor.shape(), shape);
        assert_eq!(one_by_one(tensor), formula(name, shape[0] * shape[1]));
    }
}

#[test]
fn metadata_become_the_config() {
    let config = |family: &str| {
        Checkpoint::open(&fixtures().join("gguf").join(format!("{family}.gguf"))).unwrap().config().clone()
    };
    let common = json!({
        "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 8,
        "intermediate_size": 48, "max_position_embeddings": 128, "vocab_size": 40, "bos_token_id": 2, "eos_token_id": 1,
    });
    let cases = [
        (
            "llama",
            json!({
                "model_type": "llama", "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": false,
                "attention_bias": false, "mlp_bias": false, "hidden_act": "silu", "sliding_window": null,
            }),
        ),
        (
            "mistral",
            json!({ "model_type": "mistral", "rms_norm_eps": 1e-6, "sliding_window": 16, "rope_scaling": null }),
        ),
        ("qwen2", json!({ "model_type": "qwen2", "tie_word_embeddings": true })),
        ("qwen3", json!({ "model_type": "qwen3", "tie_word_embeddings": true })),
        (
            "gemma2",
            json!({
                "model_type": "gemma2", "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0,
                "query_pre_attn_scalar": 24.0, "sliding_window": 16, "hidden_activation": "gelu_pytorch_tanh",
                "layer_types": ["full_attention", "sliding_attention"], "tie_word_embeddings": true,
            }),
        ),
        (
            "gemma3",
            json!({
                "model_type": "gemma3_text", "attn_logit_softcapping": null, "final_logit_softcapping": null,
                "query_pre_attn_scalar": 48.0, "rope_theta": 1e6, "rope_local_base_freq": 1e4,
                "layer_types": ["sliding_attention", "full_attention"],
            }),
        ),
    ];
    for (family, own) in cases {
        let config = config(family);
        for (key, want) in common.as_object().unwrap().iter().chain(own.as_object().unwrap()) {
            assert_eq!(&config[key], want, "{family} {key}");
        }
    }
    let gpt2 = json!({
        "model_type": "gpt2", "n_embd": 32, "n_head": 4, "n_layer": 2, "n_positions": 8, "n_inner": 128,
        "layer_norm_epsilon": 1e-5, "vocab_size": 40, "activation_function": "gelu_new", "tie_word_embeddings": true,
    });
    let config = config("gpt2");
    for (key, want) in gpt2.as_object().unwrap() {
        assert_eq!(&config[key], want, "gpt2 {key}");
    }
}

#[test]
fn typed_metadata_are_there_for_the_tokenizer() {
    let checkpoint = Checkpoint::open(&fixtures().join("gguf/llama.gguf")).unwrap();
    let metadata = checkpoint.gguf().unwrap();
    assert_eq!(metadata.get_str("general.architecture"), Some("llama"));
    assert_eq!(metadata.get_u64("tokenizer.ggml.bos_token_id"), Some(2));
    assert_eq!(metadata.get_f64("llama.attention.layer_norm_rms_epsilon"), Some(1e-5));
    assert_eq!(metadata.get_bool("tokenizer.ggml.add_bos_token"), Some(true));
    assert_eq!(metadata.get_str_array("tokenizer.ggml.tokens").unwrap(), ["t0", "t1", "t2"]);
    assert_eq!(metadata.get_f32_array("tokenizer.ggml.scores").unwrap(), [0.0, -1.5, -2.0]);
    assert_eq!(metadata.get_i32_array("tokenizer.ggml.token_type").unwrap(), [1, 3, 6]);
    assert!(matches!(metadata.get("llama.vocab_size"), Some(MetadataValue::Unsigned(40))));
    assert!(metadata.keys().any(|key| key == "llama.block_count"));
    assert_eq!(metadata.get_str("llama.block_count"), None);
}

#[test]
fn a_folder_has_no_gguf_metadata() {
    let Some(folder) = tiny("llama") else { return };
    assert!(Checkpoint::open(&folder).unwrap().gguf().is_none());
}

fn from_environment(variable: &str) -> Option<PathBuf> {
    let path = std::env::var_os(variable).map(PathBuf::from);
    if path.is_none() {
        println!("skipped: {variable} is not set");
    }
    path
}

/// The converted tiny models (`scripts/tiny_gguf.py check`, which had `transformers` verify them) equal the originals;
/// Gemma's norms up to the rounding of + 1 - 1.
#[test]
fn converted_tiny_models_equal_their_originals() {
    let Some(folder) = from_environment("LORASCOPE_TINY_GGUF") else { return };
    for family in FAMILIES {
        let checkpoint = Checkpoint::open(&folder.join(format!("{family}.gguf"))).unwrap();
        let Some(original) = tiny(family) else { return };
        let original = Checkpoint::open(&original).unwrap();
        assert!(checkpoint.names().eq(original.names()), "{family}");
        for name in original.names() {
            let shifted = family.starts_with("gemma") && name.ends_with("norm.weight");
            let undo = |w: f32| if shifted { (w + 1.0) - 1.0 } else { w };
            let (tensor, want) = (checkpoint.tensor(name).unwrap(), original.tensor(name).unwrap());
            assert_eq!(tensor.shape(), want.shape());
            let want: Vec<f32> = want.to_f32().unwrap().into_iter().map(undo).collect();
            assert_eq!(bits(&tensor.to_f32().unwrap()), bits(&want), "{family} {name}");
        }
        same_config(family, checkpoint.config(), original.config());
    }
}

/// What the original says and GGUF can say must agree.
fn same_config(family: &str, ours: &Value, theirs: &Value) {
    let spelled_otherwise = ["rope_scaling", "rope_theta", "architectures"];
    for (key, value) in ours.as_object().unwrap() {
        if let Some(want) =
            theirs.get(key).filter(|want| !want.is_null() && !spelled_otherwise.contains(&key.as_str()))
        {
            assert!(value == want || value.as_f64() == want.as_f64(), "{family} {key}: {value} {want}");
        }
    }
    let rope = &theirs["rope_parameters"];
    if rope["rope_type"] == "llama3" {
        for key in ["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"] {
            assert_eq!(ours["rope_scaling"][key].as_f64(), rope[key].as_f64(), "{family} {key}");
        }
    }
}

#[test]
fn smollm2_equals_gguf_py() {
    let Some(path) = from_environment("LORASCOPE_SMOLLM2_GGUF") else { return };
    let checkpoint = Checkpoint::open(&path).unwrap();
    let hashes = std::fs::read(fixtures().join("smollm2_sha256.json")).unwrap();
    let hashes: std::collections::BTreeMap<String, String> = serde_json::from_slice(&hashes).unwrap();
    assert_eq!(hashes.len(), 272);
    assert!(checkpoint.names().eq(hashes.keys().map(String::as_str)));
    for (name, want) in &hashes {
        let tensor = checkpoint.tensor(name).unwrap();
        let values = tensor.to_f32().unwrap();
        tensor.release_pages();
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        let digest: String = Sha256::digest(&bytes).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(&digest, want, "{name}");
    }
    let config = checkpoint.config();
    let want = [
        ("hidden_size", 576),
        ("num_attention_heads", 9),
        ("num_key_value_heads", 3),
        ("vocab_size", 49_152),
    ];
    for (key, value) in want {
        assert_eq!(config[key], value);
    }
    assert_eq!((&config["rope_theta"], &config["tie_word_embeddings"]), (&json!(1e5), &json!(true)));
}
