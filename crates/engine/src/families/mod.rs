//! Model families as data: which config keys mean what, and what the tensors are called.
//!
//! A family is one file with a [`Family`] value and one line in [`FAMILIES`]. No family file holds arithmetic; new
//! mathematics becomes a variant in [`crate::spec`] and one arm in the forward pass.

mod config;
mod gemma2;
mod gemma3;
mod gpt2;
mod llama;
mod mistral;
mod names;
mod qwen2;
mod qwen3;

pub use config::Config;
pub use names::{LinearSource, Names, in_layer};

use crate::error::{Error, Result};
use crate::spec::ModelSpec;

/// One supported family.
#[derive(Debug)]
pub struct Family {
    /// Name, equal to the `model_type` values that it takes.
    pub model_type: &'static str,
    /// Reads the configuration.
    pub spec: fn(&Config) -> Result<ModelSpec>,
    /// Where its weights are.
    pub names: Names,
    /// Keys that do not change the computation, beyond those that no family cares about.
    pub harmless_keys: &'static [&'static str],
}

/// All supported families.
pub const FAMILIES: &[&Family] = &[
    &gemma2::FAMILY,
    &gemma3::FAMILY,
    &gpt2::FAMILY,
    &llama::FAMILY,
    &mistral::FAMILY,
    &qwen2::FAMILY,
    &qwen3::FAMILY,
];

/// Finds the family of a `config.json` and reads the model's specification from it.
///
/// A key that is neither read by the family nor known to be harmless is an error: it may change the computation.
pub fn read_spec(config: &serde_json::Value) -> Result<(&'static Family, ModelSpec)> {
    let given = config.get("model_type").and_then(|v| v.as_str()).unwrap_or("(none)");
    let family = FAMILIES.iter().find(|f| f.model_type == given).ok_or_else(|| Error::UnsupportedFamily {
        given: given.to_owned(),
        supported: FAMILIES.iter().map(|f| f.model_type).collect(),
    })?;
    let reader = Config::new(family.model_type, config);
    let spec = (family.spec)(&reader)?;
    reader.check_dimensions(&spec)?;
    reader.refuse_unhandled(family.harmless_keys)?;
    Ok((family, spec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Positions, RotaryScaling};
    use serde_json::json;

    fn llama() -> serde_json::Value {
        json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 4,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 512, "rms_norm_eps": 1e-5,
            "max_position_embeddings": 128, "hidden_act": "silu", "rope_theta": 1e4, "architectures": ["LlamaForCausalLM"]
        })
    }

    fn refusal(change: impl Fn(&mut serde_json::Value)) -> String {
        let mut config = llama();
        change(&mut config);
        match read_spec(&config) {
            Ok((_, spec)) => panic!("accepted: {spec:?}"),
            Err(e) => e.to_string(),
        }
    }

    #[test]
    fn family_names_are_unique() {
        let mut names: Vec<_> = FAMILIES.iter().map(|f| f.model_type).collect();
        names.dedup();
        assert_eq!(names.len(), FAMILIES.len());
        assert!(names.is_sorted());
    }

    #[test]
    fn both_spellings_of_rope_mean_the_same() {
        let mut old = llama();
        old["rope_scaling"] = json!({"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
        let mut new = llama();
        new.as_object_mut().unwrap().remove("rope_theta");
        new["rope_parameters"] = json!({"rope_theta": 1e4, "rope_type": "llama3", "factor": 8.0,
            "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 32});
        let (old, new) = (read_spec(&old).unwrap().1, read_spec(&new).unwrap().1);
        assert_eq!(old, new);
        let Positions::Rotary(ropes) = old.positions else { panic!("rotary") };
        assert!(matches!(ropes[0].scaling, RotaryScaling::Llama3 { factor: 8.0, .. }));
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        assert_eq!(
            refusal(|c| c["model_type"] = json!("mamba")),
            "model_type `mamba` is not supported; supported are gemma2, gemma3_text, gpt2, llama, mistral, qwen2, qwen3"
        );
        assert_eq!(
            refusal(|c| c["residual_multiplier"] = json!(0.22)),
            "config.json of this llama model has keys that lorascope does not handle and that may change the \
             computation: residual_multiplier = 0.22"
        );
        assert_eq!(
            refusal(|c| {
                c.as_object_mut().unwrap().remove("hidden_size");
            }),
            "config.json has no `hidden_size`, which a llama model needs"
        );
        assert_eq!(
            refusal(|c| c["hidden_act"] = json!("relu")),
            "config.json: `hidden_act` is \"relu\"; expected silu, gelu_pytorch_tanh or gelu_new"
        );
        assert_eq!(
            refusal(|c| c["num_key_value_heads"] = json!(3)),
            "config.json: `num_key_value_heads` is 3; it must divide num_attention_heads = 4"
        );
        assert_eq!(
            refusal(|c| c["rope_scaling"] = json!({"rope_type": "yarn", "factor": 2.0})),
            "config.json: `rope_type` is \"yarn\"; expected default, linear or llama3"
        );
        assert_eq!(
            refusal(|c| c["hidden_size"] = json!(-3)),
            "config.json: `hidden_size` is -3; expected a whole number from 1 to 16777216"
        );
        assert_eq!(
            refusal(|c| c["rms_norm_eps"] = json!("tiny")),
            "config.json: `rms_norm_eps` is \"tiny\"; expected a number"
        );
    }
}
