//! `adapter_config.json` of a LoRA adapter, typed, with every key either read, known to be harmless, or refused.
//!
//! Follows PEFT 0.21's `LoraConfig`. This file reads and checks the file alone; what the selections mean on a given
//! base model is `select.rs`.

use crate::error::Problem;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

/// The keys of `adapter_config.json` that decide what a LoRA adapter computes; the others are checked at load and
/// not kept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct LoraConfig {
    /// PEFT method, always `LORA` here.
    pub peft_type: String,
    /// PEFT's task type; `CAUSAL_LM` or none.
    pub task_type: Option<String>,
    /// The base model that the adapter says it was trained on.
    pub base_model_name_or_path: Option<String>,
    /// That model's revision.
    pub revision: Option<String>,
    /// The PEFT version that wrote the file.
    pub peft_version: Option<String>,
    /// Rank, unless `rank_pattern` says otherwise.
    pub r: usize,
    /// Numerator of the scale, unless `alpha_pattern` says otherwise.
    pub lora_alpha: f64,
    /// Dropout in training; without effect here.
    pub lora_dropout: f64,
    /// Whether the scale is `alpha/sqrt(r)` (rank-stabilised LoRA) rather than `alpha/r`.
    pub use_rslora: bool,
    /// Whether each adapted weight is rescaled to a learned norm per output (DoRA).
    pub use_dora: bool,
    /// Whether `lora_B` has a bias of its own.
    pub lora_bias: bool,
    /// Which of the base's biases were trained and saved.
    pub bias: BiasKind,
    /// Which modules carry a low-rank update.
    pub target_modules: Option<Selector>,
    /// Which of them do not after all.
    pub exclude_modules: Option<Selector>,
    /// Modules that are replaced as a whole.
    pub modules_to_save: Option<Vec<String>>,
    /// Layers that `target_modules` is limited to.
    pub layers_to_transform: Option<LayerIndexes>,
    /// Name of the list of layers that `layers_to_transform` counts in.
    pub layers_pattern: Option<Selector>,
    /// Rank by pattern over module paths; the first that matches counts.
    #[serde(deserialize_with = "null_is_default")]
    pub rank_pattern: Patterns<usize>,
    /// Alpha by pattern over module paths; the first that matches counts.
    #[serde(deserialize_with = "null_is_default")]
    pub alpha_pattern: Patterns<f64>,
    /// A statement about the weights' layout; PEFT corrects it by the module's kind, so it changes nothing.
    pub fan_in_fan_out: bool,
    /// How A and B were initialised; some ways change the base's weights too.
    pub init_lora_weights: InitWeights,
    /// Whether an update of the embedding applies to the output head that shares its weight.
    pub ensure_weight_tying: bool,
}

impl Default for LoraConfig {
    fn default() -> Self {
        Self {
            peft_type: "LORA".into(),
            task_type: None,
            base_model_name_or_path: None,
            revision: None,
            peft_version: None,
            r: 8,
            lora_alpha: 8.0,
            lora_dropout: 0.0,
            use_rslora: false,
            use_dora: false,
            lora_bias: false,
            bias: BiasKind::None,
            target_modules: None,
            exclude_modules: None,
            modules_to_save: None,
            layers_to_transform: None,
            layers_pattern: None,
            rank_pattern: Patterns::default(),
            alpha_pattern: Patterns::default(),
            fan_in_fan_out: false,
            init_lora_weights: InitWeights::Flag(true),
            ensure_weight_tying: false,
        }
    }
}

/// Which of the base's biases an adapter replaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BiasKind {
    /// None of them.
    #[default]
    None,
    /// Every bias of the model.
    All,
    /// Those of the adapted modules.
    LoraOnly,
}

/// A choice of modules.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Selector {
    /// One regular expression over the whole path, or a keyword such as `all-linear`.
    Pattern(String),
    /// Names, each a whole path or the end of one.
    Names(Vec<String>),
}

/// One layer or several.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum LayerIndexes {
    /// One layer.
    One(i64),
    /// Several; an empty list means no limit.
    Many(Vec<i64>),
}

/// How A and B were initialised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum InitWeights {
    /// PEFT's default (`true`), or both random (`false`).
    Flag(bool),
    /// A named way.
    Named(String),
}

/// A map from patterns to values that keeps the file's order, because the first pattern that matches counts.
#[derive(Clone, Debug, PartialEq)]
pub struct Patterns<T>(pub Vec<(String, T)>);

impl<T> Default for Patterns<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Serialize> Serialize for Patterns<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(k, v)| (k, v)))
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Patterns<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

struct InOrder<T>(PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for InOrder<T> {
    type Value = Patterns<T>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object from patterns to numbers")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Self::Value, M::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Patterns(entries))
    }
}

fn null_is_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

/// Keys that steer training, initialisation or bookkeeping only.
const HARMLESS: &[&str] = &[
    "auto_mapping",
    "corda_config",
    "eva_config",
    "inference_mode",
    "loftq_config",
    "lora_ga_config",
    "megatron_core",
    "qalora_group_size",
    "runtime_config",
    "velora_config",
];

/// Keys that change the computation in ways that lorascope doesn't have, and what each does.
const UNSUPPORTED: &[(&str, &str)] = &[
    ("alora_invocation_tokens", "activated LoRA adapts only the tokens after an invocation sequence"),
    ("arrow_config", "Arrow routes between adapters token by token"),
    ("kasa_config", "KaSA truncates the base's weights when the adapter is loaded"),
    ("layer_replication", "it builds a deeper base model from copies of layers"),
    ("megatron_config", "the adapter is split for Megatron"),
    ("monteclora_config", "MonteCLoRA perturbs the update at random"),
    ("target_parameters", "it adapts bare parameters rather than modules"),
    (
        "trainable_token_indices",
        "it replaces single rows of the embedding; train with `modules_to_save` instead",
    ),
    ("use_bdlora", "BD-LoRA makes the factors block-diagonal"),
    ("use_qalora", "QA-LoRA pools the adapter's input"),
];

/// Ways to initialise that leave the base's weights as they are.
const KEEPS_BASE: &[&str] = &["gaussian", "eva", "orthogonal", "mica"];

impl LoraConfig {
    /// Reads and checks the text of `adapter_config.json`.
    pub fn from_json(text: &str) -> Result<Self, Problem> {
        let keys: BTreeMap<String, Value> =
            serde_json::from_str(text).map_err(|e| Problem::Config { message: e.to_string() })?;
        check_peft_type(&keys)?;
        check_keys(&keys)?;
        let mut reader = serde_json::Deserializer::from_str(text);
        let config: Self = serde_path_to_error::deserialize(&mut reader)
            .map_err(|e| Problem::Config { message: format!("key `{}`: {}", e.path(), e.inner()) })?;
        config.check_values()?;
        Ok(config)
    }

    /// The scale that multiplies B·A for a module of rank `rank` and numerator `alpha`.
    pub fn scale(&self, alpha: f64, rank: usize) -> f64 {
        if self.use_rslora { alpha / (rank as f64).sqrt() } else { alpha / rank as f64 }
    }

    /// The keys that are read; a test holds this against the struct.
    fn is_read(key: &str) -> bool {
        READ.contains(&key)
    }

    fn check_values(&self) -> Result<(), Problem> {
        if let Some(task) = &self.task_type
            && task != "CAUSAL_LM"
        {
            return Err(Problem::BadValue {
                key: "task_type".into(),
                value: task.clone(),
                why: "only adapters of language models with their head (`CAUSAL_LM`) can be read",
            });
        }
        let ranks = self.rank_pattern.0.iter().map(|(k, r)| (format!("rank_pattern.{k}"), *r));
        for (key, rank) in std::iter::once(("r".to_owned(), self.r)).chain(ranks) {
            if rank == 0 {
                return Err(Problem::BadValue { key, value: "0".into(), why: "a rank must be at least 1" });
            }
        }
        self.check_init()?;
        self.check_layer_keys()?;
        if self.lora_bias && self.use_dora {
            return Err(Problem::BadValue {
                key: "lora_bias".into(),
                value: "true".into(),
                why: "PEFT has no `lora_bias` together with `use_dora`",
            });
        }
        Ok(())
    }

    fn check_init(&self) -> Result<(), Problem> {
        match &self.init_lora_weights {
            InitWeights::Flag(_) => Ok(()),
            InitWeights::Named(name) if KEEPS_BASE.contains(&name.as_str()) => Ok(()),
            InitWeights::Named(name) => Err(Problem::Unsupported {
                key: "init_lora_weights",
                value: name.clone(),
                why: "this initialisation (PiSSA, OLoRA, CorDA, LoftQ, LoRA-GA or an unknown one) changes the base's \
                      weights too; save the adapter with `path_initial_model_for_weight_conversion`",
            }),
        }
    }

    fn check_layer_keys(&self) -> Result<(), Problem> {
        let by_pattern = matches!(self.target_modules, Some(Selector::Pattern(_)));
        let has_layers = self.layers_to_transform.is_some();
        let wrong = |key: &str, why| Problem::BadValue { key: key.into(), value: "set".into(), why };
        if by_pattern && has_layers {
            return Err(wrong("layers_to_transform", "it can't be used when `target_modules` is a string"));
        }
        if by_pattern && self.layers_pattern.is_some() {
            return Err(wrong("layers_pattern", "it can't be used when `target_modules` is a string"));
        }
        let names_layers = match &self.layers_pattern {
            None => false,
            Some(Selector::Pattern(p)) => !p.is_empty(),
            Some(Selector::Names(names)) => !names.is_empty(),
        };
        if names_layers && !has_layers {
            return Err(wrong("layers_pattern", "it needs `layers_to_transform`"));
        }
        Ok(())
    }
}

const READ: &[&str] = &[
    "alpha_pattern",
    "base_model_name_or_path",
    "bias",
    "ensure_weight_tying",
    "exclude_modules",
    "fan_in_fan_out",
    "init_lora_weights",
    "layers_pattern",
    "layers_to_transform",
    "lora_alpha",
    "lora_bias",
    "lora_dropout",
    "modules_to_save",
    "peft_type",
    "peft_version",
    "r",
    "rank_pattern",
    "revision",
    "target_modules",
    "task_type",
    "use_dora",
    "use_rslora",
];

fn check_peft_type(keys: &BTreeMap<String, Value>) -> Result<(), Problem> {
    match keys.get("peft_type") {
        Some(Value::String(name)) if name == "LORA" => Ok(()),
        Some(other) => Err(Problem::PeftType { peft_type: plain(other) }),
        None => Err(Problem::Config { message: "key `peft_type` is missing".into() }),
    }
}

fn check_keys(keys: &BTreeMap<String, Value>) -> Result<(), Problem> {
    for (key, value) in keys {
        if LoraConfig::is_read(key) || HARMLESS.contains(&key.as_str()) || is_off(value) {
            continue;
        }
        return Err(match UNSUPPORTED.iter().find(|(name, _)| name == key) {
            Some((key, why)) => Problem::Unsupported { key, value: plain(value), why },
            None => Problem::UnknownKey { key: key.clone(), value: plain(value) },
        });
    }
    Ok(())
}

/// Python's notion of a value that switches nothing on.
fn is_off(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_field_is_on_the_list_of_read_keys() {
        let Value::Object(map) = serde_json::to_value(LoraConfig::default()).unwrap() else { panic!() };
        let fields: Vec<&str> = map.keys().map(String::as_str).collect();
        assert_eq!(fields, READ);
    }

    #[test]
    fn patterns_keep_the_order_of_the_file() {
        let config =
            LoraConfig::from_json(r#"{"peft_type": "LORA", "rank_pattern": {"z": 2, "a": 3}}"#).unwrap();
        assert_eq!(config.rank_pattern.0, vec![("z".to_owned(), 2), ("a".to_owned(), 3)]);
    }

    #[test]
    fn scale_divides_by_the_rank_or_by_its_root() {
        let mut config = LoraConfig::default();
        assert_eq!(config.scale(16.0, 4), 4.0);
        config.use_rslora = true;
        assert_eq!(config.scale(16.0, 4), 8.0);
    }
}
