//! Adapters and base models for the tests: those of `../shared`, and small ones written on the fly.

#![allow(dead_code, reason = "each test program uses its own part")]
#![allow(clippy::unwrap_used, reason = "a broken fixture must stop the test")]

use lorascope_checkpoint::read_safetensors;
use lorascope_peft::{BaseIdentity, BaseModule, ModuleKind, PeftAdapter, load};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// `../shared` beside the repository; `None`, with a notice, where it is absent and not demanded.
pub fn shared() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if path.is_dir() {
        return Some(path);
    }
    let demanded = std::env::var("LORASCOPE_REQUIRE_SHARED").is_ok_and(|v| v == "1");
    assert!(!demanded, "`{}` is absent, and LORASCOPE_REQUIRE_SHARED=1 demands it", path.display());
    eprintln!("skipped: `{}` is absent", path.display());
    None
}

/// An adapter of a tiny model, by its folder.
pub fn tiny(family: &str, adapter: &str) -> Option<PeftAdapter> {
    let folder = shared()?.join("tiny").join(family);
    let (base, identity) = base_of(&folder.join("model"));
    Some(load(&folder.join(adapter), &base, Some(&identity)).unwrap())
}

/// The modules of a model folder, from the header of its single weights file.
pub fn base_of(model: &Path) -> (Vec<BaseModule>, BaseIdentity) {
    let tensors = read_safetensors(&model.join("model.safetensors")).unwrap();
    let shapes: BTreeMap<String, Vec<usize>> =
        tensors.iter().map(|t| (t.name().to_owned(), t.shape().to_vec())).collect();
    let mut modules = Vec::new();
    for (name, shape) in &shapes {
        let Some(path) = name.strip_suffix(".weight") else { continue };
        modules.push(BaseModule {
            path: path.to_owned(),
            kind: kind_of(path, shape),
            shape: shape.clone(),
            has_bias: shapes.contains_key(&format!("{path}.bias")),
        });
    }
    let tied = !shapes.contains_key("lm_head.weight");
    if tied {
        let embedding =
            modules.iter().find(|m| m.kind == ModuleKind::Embedding && !m.path.ends_with("wpe")).unwrap();
        let shape = embedding.shape.clone();
        modules.push(BaseModule { path: "lm_head".into(), kind: ModuleKind::Linear, shape, has_bias: false });
    }
    let identity = BaseIdentity { name_or_path: None, vocab_size: Some(512), tied_embeddings: tied };
    (modules, identity)
}

fn kind_of(path: &str, shape: &[usize]) -> ModuleKind {
    let last = path.rsplit('.').next().unwrap();
    match last {
        "embed_tokens" | "wte" | "wpe" => ModuleKind::Embedding,
        "c_attn" | "c_proj" | "c_fc" => ModuleKind::Conv1d,
        _ if shape.len() == 1 => ModuleKind::Norm,
        _ => ModuleKind::Linear,
    }
}

/// SmolLM2-135M's modules, from its published dimensions.
pub fn smollm2() -> (Vec<BaseModule>, BaseIdentity) {
    let linear = |path: String, n_out, n_in| BaseModule {
        path,
        kind: ModuleKind::Linear,
        shape: vec![n_out, n_in],
        has_bias: false,
    };
    let norm = |path: String| BaseModule { path, kind: ModuleKind::Norm, shape: vec![576], has_bias: false };
    let mut modules = vec![norm("model.norm".into()), linear("lm_head".into(), 49152, 576)];
    modules
        .push(BaseModule { kind: ModuleKind::Embedding, ..linear("model.embed_tokens".into(), 49152, 576) });
    for layer in 0..30 {
        let at = |name: &str| format!("model.layers.{layer}.{name}");
        for (name, n_out, n_in) in [
            ("self_attn.q_proj", 576, 576),
            ("self_attn.k_proj", 192, 576),
            ("self_attn.v_proj", 192, 576),
            ("self_attn.o_proj", 576, 576),
            ("mlp.gate_proj", 1536, 576),
            ("mlp.up_proj", 1536, 576),
            ("mlp.down_proj", 576, 1536),
        ] {
            modules.push(linear(at(name), n_out, n_in));
        }
        modules.push(norm(at("input_layernorm")));
        modules.push(norm(at("post_attention_layernorm")));
    }
    let name_or_path = Some("HuggingFaceTB/SmolLM2-135M-Instruct".into());
    (modules, BaseIdentity { name_or_path, vocab_size: Some(49152), tied_embeddings: true })
}

/// A base of two layers, small enough to list in a message: width 3, vocabulary 5, biases on `q_proj`.
pub fn small_base() -> Vec<BaseModule> {
    let module = |path: &str, kind, shape: &[usize], has_bias| BaseModule {
        path: path.into(),
        kind,
        shape: shape.to_vec(),
        has_bias,
    };
    let mut modules = vec![
        module("model.embed_tokens", ModuleKind::Embedding, &[5, 3], false),
        module("model.norm", ModuleKind::Norm, &[3], false),
        module("lm_head", ModuleKind::Linear, &[5, 3], false),
    ];
    for layer in 0..2 {
        modules.push(module(
            &format!("model.layers.{layer}.self_attn.q_proj"),
            ModuleKind::Linear,
            &[4, 3],
            true,
        ));
        modules.push(module(
            &format!("model.layers.{layer}.self_attn.q_norm"),
            ModuleKind::Norm,
            &[4],
            false,
        ));
        modules.push(module(
            &format!("model.layers.{layer}.mlp.down_proj"),
            ModuleKind::Linear,
            &[3, 6],
            false,
        ));
    }
    modules
}

/// An adapter that a test takes apart before it is written.
#[derive(Clone)]
pub struct Draft {
    pub config: Map<String, Value>,
    pub tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// Path of `q_proj` in a layer of [`small_base`], as the file spells it.
pub fn q(layer: usize) -> String {
    format!("base_model.model.model.layers.{layer}.self_attn.q_proj")
}

impl Draft {
    /// A good adapter of rank 2 on `q_proj` of [`small_base`].
    pub fn new() -> Self {
        let Value::Object(config) = json!({
            "peft_type": "LORA", "task_type": "CAUSAL_LM", "base_model_name_or_path": "org/small",
            "r": 2, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none", "loftq_config": {},
            "fan_in_fan_out": false, "inference_mode": true, "layers_to_transform": null,
        }) else {
            unreachable!()
        };
        let mut draft = Self { config, tensors: BTreeMap::new() };
        for layer in 0..2 {
            draft.put(&format!("{}.lora_A.weight", q(layer)), &[2, 3]);
            draft.put(&format!("{}.lora_B.weight", q(layer)), &[4, 2]);
        }
        draft
    }

    pub fn set(&mut self, key: &str, value: Value) -> &mut Self {
        self.config.insert(key.into(), value);
        self
    }

    /// Adds a tensor of the values 1, 2, 3, …
    pub fn put(&mut self, name: &str, shape: &[usize]) -> &mut Self {
        let values = (1..=shape.iter().product::<usize>()).map(|i| i as f32).collect();
        self.tensors.insert(name.into(), (shape.to_vec(), values));
        self
    }

    pub fn drop(&mut self, name: &str) -> &mut Self {
        assert!(self.tensors.remove(name).is_some(), "no tensor {name}");
        self
    }

    pub fn rename(&mut self, from: &str, to: &str) -> &mut Self {
        let tensor = self.tensors.remove(from).unwrap();
        self.tensors.insert(to.into(), tensor);
        self
    }

    pub fn write(&self, dir: &Path) {
        std::fs::write(dir.join("adapter_config.json"), serde_json::to_vec(&self.config).unwrap()).unwrap();
        std::fs::write(dir.join("adapter_model.safetensors"), safetensors(&self.tensors)).unwrap();
    }
}

/// A safetensors file of f32 tensors.
fn safetensors(tensors: &BTreeMap<String, (Vec<usize>, Vec<f32>)>) -> Vec<u8> {
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, (shape, values)) in tensors {
        let begin = data.len();
        data.extend(values.iter().flat_map(|v| v.to_le_bytes()));
        header.insert(
            name.clone(),
            json!({"dtype": "F32", "shape": shape, "data_offsets": [begin, data.len()]}),
        );
    }
    let header = serde_json::to_vec(&header).unwrap();
    [&(header.len() as u64).to_le_bytes()[..], &header, &data].concat()
}
