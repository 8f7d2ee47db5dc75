//! Mistral: Llama with a sliding window in every layer (version 0.1; later ones have none).

use super::names::LLAMA;
use super::{Config, Family, llama};
use crate::error::Result;
use crate::spec::ModelSpec;

pub(super) const FAMILY: Family = Family { model_type: "mistral", spec, names: LLAMA, harmless_keys: &[] };

fn spec(c: &Config) -> Result<ModelSpec> {
    let mut spec = llama::common(c, FAMILY.model_type, 10_000.0)?;
    let window = c.count_or_none("sliding_window")?;
    for layer in &mut spec.layers {
        layer.window = window;
    }
    Ok(spec)
}
