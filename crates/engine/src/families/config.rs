//! Reading `config.json`, with an account of every key: read, harmless, or refused.

use crate::error::{Error, Result};
use crate::spec::{Activation, Biases, LayerSpec, ModelSpec, Rotary, RotaryScaling};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Keys that never change what a forward pass computes.
const HARMLESS: &[&str] = &[
    "_attn_implementation",
    "_attn_implementation_autoset",
    "_name_or_path",
    "architectures",
    "attention_dropout",
    "attn_pdrop",
    "bos_token_id",
    "cache_implementation",
    "dtype",
    "embd_pdrop",
    "eos_token_id",
    "id2label",
    "initializer_range",
    "label2id",
    "model_type",
    "pad_token_id",
    "quantization_config", // the checkpoint reader acts on it, or refuses
    "resid_pdrop",
    "sep_token_id",
    "task_specific_params",
    "torch_dtype",
    "transformers.js_config",
    "transformers_version",
    "unk_token_id",
    "use_cache",
];

/// A `config.json` that remembers which of its keys were read.
pub struct Config<'a> {
    family: &'static str,
    value: &'a Value,
    read: RefCell<BTreeSet<&'static str>>,
}

impl<'a> Config<'a> {
    /// Starts reading for a family.
    pub fn new(family: &'static str, value: &'a Value) -> Self {
        Self { family, value, read: RefCell::default() }
    }

    /// The key's value; null counts as absent.
    fn get(&self, key: &'static str) -> Option<&'a Value> {
        self.read.borrow_mut().insert(key);
        self.value.get(key).filter(|v| !v.is_null())
    }

    fn wrong(key: &str, value: &Value, expected: impl Into<String>) -> Error {
        Error::ConfigValue { key: key.to_owned(), value: value.to_string(), expected: expected.into() }
    }

    fn missing(&self, key: &str) -> Error {
        Error::ConfigMissing { family: self.family, key: key.to_owned() }
    }

    /// A positive count, absent allowed. Bounded so that products of a few of them can't overflow.
    pub fn count_or_none(&self, key: &'static str) -> Result<Option<usize>> {
        const MOST: u64 = 1 << 24;
        self.get(key)
            .map(|v| match v.as_u64() {
                Some(n) if (1..=MOST).contains(&n) => Ok(n as usize),
                _ => Err(Self::wrong(key, v, format!("expected a whole number from 1 to {MOST}"))),
            })
            .transpose()
    }

    /// A positive count.
    pub fn count(&self, key: &'static str) -> Result<usize> {
        self.count_or_none(key)?.ok_or_else(|| self.missing(key))
    }

    /// A finite number, absent allowed.
    pub fn number_or_none(&self, key: &'static str) -> Result<Option<f64>> {
        self.get(key).map(|v| number(key, v)).transpose()
    }

    /// A finite number.
    pub fn number(&self, key: &'static str) -> Result<f64> {
        self.number_or_none(key)?.ok_or_else(|| self.missing(key))
    }

    /// True or false; absent is false.
    pub fn flag(&self, key: &'static str) -> Result<bool> {
        self.get(key)
            .map_or(Ok(false), |v| v.as_bool().ok_or_else(|| Self::wrong(key, v, "expected true or false")))
    }

    /// True or false; `default` where absent.
    pub fn flag_or(&self, key: &'static str, default: bool) -> Result<bool> {
        if self.get(key).is_none() { Ok(default) } else { self.flag(key) }
    }

    /// Refuses anything but the one value that this family computes (absent is fine).
    pub fn only(&self, key: &'static str, supported: Value) -> Result<()> {
        match self.get(key) {
            Some(v) if *v != supported => Err(Self::wrong(key, v, format!("only {supported} is supported"))),
            _ => Ok(()),
        }
    }

    /// The activation function named by `key`.
    pub fn activation(&self, key: &'static str) -> Result<Activation> {
        let value = self.get(key).ok_or_else(|| self.missing(key))?;
        match value.as_str() {
            Some("silu") => Ok(Activation::Silu),
            Some("gelu_pytorch_tanh" | "gelu_new") => Ok(Activation::GeluTanh),
            _ => Err(Self::wrong(key, value, "expected silu, gelu_pytorch_tanh or gelu_new")),
        }
    }

    /// Rotary embedding of a model that has one: `rope_parameters`, or `rope_theta` with `rope_scaling`.
    pub fn rotary(&self, default_theta: f64) -> Result<Rotary> {
        let theta = self.number_or_none("rope_theta")?;
        let scaling = self.get("rope_scaling");
        match self.get("rope_parameters") {
            Some(parameters) => self.rotary_from(parameters, default_theta),
            None => Ok(Rotary {
                theta: theta.unwrap_or(default_theta),
                scaling: scaling.map_or(Ok(RotaryScaling::None), |s| self.rotary_scaling(s))?,
            }),
        }
    }

    /// Rotary embeddings of full and sliding layers, `[full, sliding]`, of a family that has both (Gemma-3).
    pub fn rotary_pair(&self, full_theta: f64, sliding_theta: f64) -> Result<Vec<Rotary>> {
        let sliding = self.number_or_none("rope_local_base_freq")?;
        let nested =
            self.get("rope_parameters").map(|p| (p.get("full_attention"), p.get("sliding_attention"), p));
        match nested {
            Some((Some(full), Some(sliding), _)) => {
                Ok(vec![self.rotary_from(full, full_theta)?, self.rotary_from(sliding, sliding_theta)?])
            }
            Some((_, _, value)) => Err(Self::wrong(
                "rope_parameters",
                value,
                "expected an object with full_attention and sliding_attention",
            )),
            // Scaling of older files is that of the full layers; sliding ones never need it.
            None => Ok(vec![
                self.rotary(full_theta)?,
                Rotary { theta: sliding.unwrap_or(sliding_theta), scaling: RotaryScaling::None },
            ]),
        }
    }

    fn rotary_from(&self, parameters: &Value, default_theta: f64) -> Result<Rotary> {
        let theta = parameters.get("rope_theta").map_or(Ok(default_theta), |v| number("rope_theta", v))?;
        Ok(Rotary { theta, scaling: self.rotary_scaling(parameters)? })
    }

    fn rotary_scaling(&self, scaling: &Value) -> Result<RotaryScaling> {
        let kind = scaling.get("rope_type").or_else(|| scaling.get("type"));
        let field = |key: &str| {
            let value = scaling.get(key).ok_or_else(|| self.missing(&format!("rope scaling.{key}")))?;
            number(key, value)
        };
        let known: &[&str] = match kind.and_then(Value::as_str) {
            None | Some("default") => &[],
            Some("linear") => &["factor"],
            Some("llama3") => {
                &["factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings"]
            }
            Some(_) => {
                let value = kind.unwrap_or(&Value::Null);
                return Err(Self::wrong("rope_type", value, "expected default, linear or llama3"));
            }
        };
        let object =
            scaling.as_object().ok_or_else(|| Self::wrong("rope_scaling", scaling, "expected an object"))?;
        for (key, value) in object {
            let common = ["rope_type", "type", "rope_theta"].contains(&key.as_str());
            if !common && !known.contains(&key.as_str()) && !value.is_null() {
                return Err(Self::wrong(&format!("rope scaling.{key}"), value, "this key is not handled"));
            }
        }
        Ok(match known.len() {
            0 => RotaryScaling::None,
            1 => RotaryScaling::Linear { factor: field("factor")? },
            _ => RotaryScaling::Llama3 {
                factor: field("factor")?,
                low: field("low_freq_factor")?,
                high: field("high_freq_factor")?,
                original_context: field("original_max_position_embeddings")?,
            },
        })
    }

    /// Attention kind per layer: `layer_types` where the file has it, else `sliding(layer)`.
    ///
    /// Rotary 0 belongs to full layers, `sliding_rotary` to sliding ones.
    pub fn layers(
        &self,
        n_layers: usize,
        window: Option<usize>,
        sliding_rotary: usize,
        sliding: impl Fn(usize) -> bool,
    ) -> Result<Vec<LayerSpec>> {
        let named = self.get("layer_types");
        let is_sliding: Vec<bool> = match named {
            None => (0..n_layers).map(sliding).collect(),
            Some(value) => {
                let wrong = || {
                    let expected = format!("expected {n_layers} of full_attention or sliding_attention");
                    Self::wrong("layer_types", value, expected)
                };
                let kinds = value.as_array().filter(|a| a.len() == n_layers).ok_or_else(wrong)?;
                let kinds = kinds.iter().map(|k| match k.as_str() {
                    Some("full_attention") => Ok(false),
                    Some("sliding_attention") => Ok(true),
                    _ => Err(wrong()),
                });
                kinds.collect::<Result<_>>()?
            }
        };
        if window.is_none() && is_sliding.contains(&true) {
            return Err(self.missing("sliding_window"));
        }
        let spec =
            |s: bool| LayerSpec { window: window.filter(|_| s), rotary: if s { sliding_rotary } else { 0 } };
        Ok(is_sliding.into_iter().map(spec).collect())
    }

    /// Biases of a family whose configuration says which it has (`attention_bias`, `mlp_bias`).
    pub fn biases(&self) -> Result<Biases> {
        let attention = self.flag("attention_bias")?;
        Ok(Biases { qkv: attention, out: attention, mlp: self.flag("mlp_bias")? })
    }

    /// Relations between dimensions that every family has to satisfy.
    pub fn check_dimensions(&self, spec: &ModelSpec) -> Result<()> {
        if !spec.n_heads.is_multiple_of(spec.n_kv_heads) {
            let value = Value::from(spec.n_kv_heads);
            let expected = format!("it must divide num_attention_heads = {}", spec.n_heads);
            return Err(Self::wrong("num_key_value_heads", &value, expected));
        }
        if spec.d_head == 0 || !spec.d_head.is_multiple_of(2) {
            return Err(Self::wrong("head_dim", &Value::from(spec.d_head), "it must be even and positive"));
        }
        Ok(())
    }

    /// An error where the file has a key that was not read and is not harmless.
    pub fn refuse_unhandled(&self, harmless: &[&str]) -> Result<()> {
        let read = self.read.borrow();
        let Some(object) = self.value.as_object() else { return Ok(()) };
        let unhandled = object.iter().filter(|(key, value)| {
            let key = key.as_str();
            !value.is_null() && !read.contains(key) && !HARMLESS.contains(&key) && !harmless.contains(&key)
        });
        let keys: Vec<String> = unhandled.map(|(key, value)| format!("{key} = {value}")).collect();
        if keys.is_empty() { Ok(()) } else { Err(Error::ConfigUnhandled { family: self.family, keys }) }
    }
}

fn number(key: &str, value: &Value) -> Result<f64> {
    value.as_f64().filter(|v| v.is_finite()).ok_or_else(|| Config::wrong(key, value, "expected a number"))
}
