//! GGUF metadata to the keys of a Hugging Face `config.json` (in the spelling of transformers 4, which every version
//! reads). What a GGUF file does not say, because llama.cpp has it in its code, comes from there
//! (`llama-model.cpp`, `load_hparams`), and is marked so.

use super::names::{Arch, head_count, kv_head_count};
use super::{GgufProblem, Metadata, MetadataValue, rope};
use crate::tensor::StoredTensor;
use serde_json::{Map, Value, json};

/// Layers by which llama.cpp recognises the 27B models, whose query scale is not the head dimension's.
const GEMMA2_27B_LAYERS: u64 = 46;
const GEMMA3_27B_LAYERS: u64 = 62;

/// Builds the config. `rope_factors`: values of `rope_freqs.weight`.
pub(super) fn translate(
    arch: Arch,
    metadata: &Metadata,
    tensors: &[StoredTensor],
    rope_factors: Option<&[f32]>,
) -> Result<Value, GgufProblem> {
    let source = Source { arch, metadata, tensors };
    let mut config = Map::new();
    source.tokens(&mut config);
    if arch == Arch::Gpt2 {
        source.gpt2(&mut config)?;
    } else {
        source.decoder(&mut config)?;
        source.rope(&mut config, rope_factors)?;
        source.windows(&mut config)?;
    }
    if arch.is_gemma() {
        source.gemma(&mut config)?;
    }
    Ok(Value::Object(config))
}

struct Source<'a> {
    arch: Arch,
    metadata: &'a Metadata,
    tensors: &'a [StoredTensor],
}

impl Source<'_> {
    fn key(&self, key: &str) -> String {
        format!("{}.{key}", self.arch.key())
    }

    fn integer(&self, key: &str) -> Result<u64, GgufProblem> {
        let key = self.key(key);
        self.metadata.get_u64(&key).ok_or(GgufProblem::Metadata { key, wanted: "a number" })
    }

    /// Layers; bounded, because lists as long as this are made.
    fn layers(&self) -> Result<u64, GgufProblem> {
        let layers = self.integer("block_count")?;
        if (1..=1 << 16).contains(&layers) {
            return Ok(layers);
        }
        Err(GgufProblem::MetadataValue {
            key: self.key("block_count"),
            value: layers.to_string(),
            wanted: "a number from 1 to 65536",
        })
    }

    fn number(&self, key: &str) -> Option<f64> {
        self.metadata.get_f64(&self.key(key))
    }

    fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    fn find(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.iter().find(|tensor| tensor.name() == name)
    }

    /// Ids of special tokens; whether the output matrix is the embedding's; length of the vocabulary (the embedding's
    /// rows: the one number that the weights cannot contradict).
    fn tokens(&self, config: &mut Map<String, Value>) {
        for (theirs, ours) in [("bos", "bos"), ("eos", "eos"), ("padding", "pad"), ("unknown", "unk")] {
            if let Some(id) = self.metadata.get_u64(&format!("tokenizer.ggml.{theirs}_token_id")) {
                config.insert(format!("{ours}_token_id"), json!(id));
            }
        }
        config.insert("tie_word_embeddings".into(), json!(!self.has("lm_head.weight")));
        let embedding =
            self.find("model.embed_tokens.weight").or_else(|| self.find("transformer.wte.weight"));
        if let Some(embedding) = embedding {
            config.insert("vocab_size".into(), json!(embedding.n_rows()));
        }
    }

    fn gpt2(&self, config: &mut Map<String, Value>) -> Result<(), GgufProblem> {
        let epsilon = self.number("attention.layer_norm_epsilon").ok_or_else(|| GgufProblem::Metadata {
            key: self.key("attention.layer_norm_epsilon"),
            wanted: "a number",
        })?;
        let values = json!({
            "model_type": "gpt2",
            "architectures": ["GPT2LMHeadModel"],
            "activation_function": "gelu_new",
            "n_embd": self.integer("embedding_length")?,
            "n_head": head_count(self.metadata, self.arch)?,
            "n_layer": self.layers()?,
            "n_positions": self.integer("context_length")?,
            "n_inner": self.integer("feed_forward_length")?,
            "layer_norm_epsilon": epsilon,
        });
        extend(config, values);
        Ok(())
    }

    fn decoder(&self, config: &mut Map<String, Value>) -> Result<(), GgufProblem> {
        let (hidden, heads) = (self.integer("embedding_length")?, head_count(self.metadata, self.arch)?);
        let epsilon = self.number("attention.layer_norm_rms_epsilon").ok_or_else(|| {
            GgufProblem::Metadata { key: self.key("attention.layer_norm_rms_epsilon"), wanted: "a number" }
        })?;
        let (model_type, class, activation) = self.identity();
        let values = json!({
            "model_type": model_type,
            "architectures": [class],
            "hidden_size": hidden,
            "num_hidden_layers": self.layers()?,
            "num_attention_heads": heads,
            "num_key_value_heads": kv_head_count(self.metadata, self.arch)?,
            "head_dim": self.head_dim()?,
            "intermediate_size": self.integer("feed_forward_length")?,
            "rms_norm_eps": epsilon,
            "max_position_embeddings": self.integer("context_length")?,
        });
        extend(config, values);
        let activation_key = if self.arch.is_gemma() { "hidden_activation" } else { "hidden_act" };
        config.insert(activation_key.into(), json!(activation));
        if self.arch == Arch::Llama {
            config.insert("attention_bias".into(), json!(self.has("model.layers.0.self_attn.q_proj.bias")));
            config.insert("mlp_bias".into(), json!(self.has("model.layers.0.mlp.up_proj.bias")));
        }
        Ok(())
    }

    /// Model type, model class, activation. A llama with a sliding window is a Mistral.
    fn identity(&self) -> (&'static str, &'static str, &'static str) {
        match self.arch {
            Arch::Llama if self.metadata.get(&self.key("attention.sliding_window")).is_some() => {
                ("mistral", "MistralForCausalLM", "silu")
            }
            Arch::Llama => ("llama", "LlamaForCausalLM", "silu"),
            Arch::Qwen2 => ("qwen2", "Qwen2ForCausalLM", "silu"),
            Arch::Qwen3 => ("qwen3", "Qwen3ForCausalLM", "silu"),
            Arch::Gemma2 => ("gemma2", "Gemma2ForCausalLM", "gelu_pytorch_tanh"),
            Arch::Gemma3 => ("gemma3_text", "Gemma3ForCausalLM", "gelu_pytorch_tanh"),
            Arch::Gpt2 => ("gpt2", "GPT2LMHeadModel", "gelu_new"),
        }
    }

    /// `attention.key_length`, or (older files) an equal share of the hidden size.
    fn head_dim(&self) -> Result<u64, GgufProblem> {
        let key = self.key("attention.key_length");
        let Some(value) = self.metadata.get(&key) else {
            return Ok(self.integer("embedding_length")? / head_count(self.metadata, self.arch)?);
        };
        let keys = self.metadata.get_u64(&key).filter(|n| (1..=1 << 20).contains(n));
        let values = self.metadata.get_u64(&self.key("attention.value_length")).or(keys);
        match keys {
            Some(n) if keys == values => Ok(n),
            _ => Err(GgufProblem::MetadataValue {
                key,
                value: format!("{value:?}"),
                wanted: "a positive number, the same as `attention.value_length`",
            }),
        }
    }

    fn rope(&self, config: &mut Map<String, Value>, factors: Option<&[f32]>) -> Result<(), GgufProblem> {
        // llama.cpp's base where the file has none.
        let theta = self.number("rope.freq_base").unwrap_or(10_000.0);
        config.insert("rope_theta".into(), json!(theta));
        if self.arch == Arch::Gemma3 {
            // llama.cpp's base of the sliding layers where the file has none.
            let local = self.number("rope.freq_base_swa").unwrap_or(10_000.0);
            config.insert("rope_local_base_freq".into(), json!(local));
        }
        let dimensions = self.metadata.get_u64(&self.key("rope.dimension_count"));
        if let Some(n) = dimensions.filter(|n| Ok(*n) != self.head_dim()) {
            return Err(GgufProblem::MetadataValue {
                key: self.key("rope.dimension_count"),
                value: n.to_string(),
                wanted: "the head dimension (rotating a part of a head is not supported)",
            });
        }
        let scaling = match factors {
            Some(factors) => {
                rope::llama3_scaling(factors, theta, self.head_dim()?, self.integer("context_length")?)?
            }
            None => self.declared_scaling()?,
        };
        config.insert("rope_scaling".into(), scaling.unwrap_or(Value::Null));
        Ok(())
    }

    fn declared_scaling(&self) -> Result<Option<Value>, GgufProblem> {
        // `rope.scale_linear` is what the first GGUF files had.
        let factor = self.number("rope.scaling.factor").or_else(|| self.number("rope.scale_linear"));
        let kind = self.metadata.get_str(&self.key("rope.scaling.type"));
        let original = self.metadata.get_u64(&self.key("rope.scaling.original_context_length"));
        match (kind, factor) {
            (None | Some("none"), None) => Ok(None),
            (None | Some("none" | "linear"), Some(1.0)) => Ok(None),
            (None | Some("linear"), Some(factor)) => {
                Ok(Some(json!({ "rope_type": "linear", "factor": factor })))
            }
            (Some("yarn"), Some(factor)) => {
                let mut scaling = Map::new();
                extend(&mut scaling, json!({ "rope_type": "yarn", "factor": factor }));
                if let Some(original) = original {
                    scaling.insert("original_max_position_embeddings".into(), json!(original));
                }
                let optional = [
                    ("attention_factor", "rope.scaling.yarn_attn_factor"),
                    ("beta_fast", "rope.scaling.yarn_beta_fast"),
                    ("beta_slow", "rope.scaling.yarn_beta_slow"),
                ];
                for (ours, theirs) in optional {
                    if let Some(x) = self.number(theirs) {
                        scaling.insert(ours.into(), json!(x));
                    }
                }
                Ok(Some(Value::Object(scaling)))
            }
            (kind, factor) => Err(GgufProblem::MetadataValue {
                key: self.key("rope.scaling.type"),
                value: format!("{kind:?} with factor {factor:?}"),
                wanted: "`none`, `linear` or `yarn`, the latter two with `rope.scaling.factor`",
            }),
        }
    }

    fn windows(&self, config: &mut Map<String, Value>) -> Result<(), GgufProblem> {
        let key = self.key("attention.sliding_window");
        let window = match (self.metadata.get(&key), self.arch) {
            (Some(_), _) => Some(self.integer("attention.sliding_window")?),
            // llama.cpp's window where the file has none.
            (None, Arch::Gemma2) => Some(4096),
            (None, _) => None,
        };
        config.insert("sliding_window".into(), json!(window));
        Ok(())
    }

    fn gemma(&self, config: &mut Map<String, Value>) -> Result<(), GgufProblem> {
        let layers = self.layers()?;
        // llama.cpp's caps of Gemma 2 where the file has none; Gemma 3 has no caps.
        let default = |cap: f64| if self.arch == Arch::Gemma2 { Some(cap) } else { None };
        let attention = self.number("attn_logit_softcapping").or(default(50.0));
        let output = self.number("final_logit_softcapping").or(default(30.0));
        config.insert("attn_logit_softcapping".into(), json!(attention));
        config.insert("final_logit_softcapping".into(), json!(output));
        config.insert("query_pre_attn_scalar".into(), json!(self.query_scalar(layers)?));
        let types: Vec<&str> = self
            .sliding_layers(layers)?
            .into_iter()
            .map(|sliding| if sliding { "sliding_attention" } else { "full_attention" })
            .collect();
        config.insert("layer_types".into(), json!(types));
        Ok(())
    }

    /// Scores are divided by the root of this. GGUF has it only where a converter wrote `attention.scale`; else it is as
    /// in llama.cpp: the head dimension, but an equal share of the hidden size in the 27B models.
    fn query_scalar(&self, layers: u64) -> Result<f64, GgufProblem> {
        if let Some(scale) = self.number("attention.scale").filter(|scale| *scale > 0.0) {
            let scalar = 1.0 / (scale * scale);
            let whole = scalar.round();
            return Ok(if (scalar / whole - 1.0).abs() < 1e-6 { whole } else { scalar });
        }
        let large = matches!(
            (self.arch, layers),
            (Arch::Gemma2, GEMMA2_27B_LAYERS) | (Arch::Gemma3, GEMMA3_27B_LAYERS)
        );
        let scalar = if large {
            self.integer("embedding_length")? / head_count(self.metadata, self.arch)?
        } else {
            self.head_dim()?
        };
        Ok(scalar as f64)
    }

    /// Which layers see only the window: as the file says, else as in llama.cpp: every layer of Gemma 2 but each second,
    /// of Gemma 3 but each sixth.
    fn sliding_layers(&self, layers: u64) -> Result<Vec<bool>, GgufProblem> {
        let key = self.key("attention.sliding_window_pattern");
        let every = |n: u64| (0..layers).map(|layer| (layer + 1) % n != 0).collect();
        match self.metadata.get(&key) {
            None => Ok(every(if self.arch == Arch::Gemma2 { 2 } else { 6 })),
            Some(MetadataValue::BoolArray(sliding)) if sliding.len() as u64 == layers => Ok(sliding.clone()),
            Some(MetadataValue::Unsigned(n)) if *n > 0 => Ok(every(*n)),
            Some(value) => Err(GgufProblem::MetadataValue {
                key,
                value: format!("{value:?}"),
                wanted: "a truth value per layer, or a positive number",
            }),
        }
    }
}

fn extend(config: &mut Map<String, Value>, values: Value) {
    if let Value::Object(values) = values {
        config.extend(values);
    }
}
