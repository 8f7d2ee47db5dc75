//! Qwen2 and Qwen2.5: Llama with biases on query, key and value.

use super::names::LLAMA;
use super::{Config, Family, llama};
use crate::error::Result;
use crate::spec::{Biases, ModelSpec};

pub(super) const FAMILY: Family = Family {
    model_type: "qwen2",
    spec,
    names: LLAMA,
    harmless_keys: &["use_mrope"], // written as false by some releases of text-only models
};

fn spec(c: &Config) -> Result<ModelSpec> {
    let mut spec = llama::common(c, FAMILY.model_type, 10_000.0)?;
    spec.layers = windows(c, spec.n_layers)?;
    spec.biases = Biases { qkv: true, out: false, mlp: false };
    Ok(spec)
}

/// Qwen's sliding windows: off by default; where on, the layers from `max_window_layers` up have one.
pub(super) fn windows(c: &Config, n_layers: usize) -> Result<Vec<crate::spec::LayerSpec>> {
    let window = c.count_or_none("sliding_window")?;
    let on = c.flag("use_sliding_window")?;
    let first = c.count_or_none("max_window_layers")?.unwrap_or(n_layers);
    c.layers(n_layers, window.filter(|_| on), 0, |l| on && window.is_some() && l >= first)
}
