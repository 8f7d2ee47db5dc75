//! Gemma-3, text models: Gemma-2 without soft caps, with norms of queries and keys and two rotary bases.

use super::names::{GEMMA, Names, QK_NORMS};
use super::{Config, Family, gemma2};
use crate::error::Result;
use crate::spec::{ModelSpec, Positions};

pub(super) const FAMILY: Family = Family {
    model_type: "gemma3_text",
    spec,
    names: Names { qk_norms: Some(QK_NORMS), ..GEMMA },
    harmless_keys: &["hidden_act"],
};

fn spec(c: &Config) -> Result<ModelSpec> {
    let mut spec = gemma2::common(c, FAMILY.model_type)?;
    spec.qk_norm = true;
    spec.positions = Positions::Rotary(c.rotary_pair(1e6, 1e4)?);
    let window = c.count_or_none("sliding_window")?;
    // Both spellings are in use; every `pattern`-th layer is full.
    let pattern = c.count_or_none("sliding_window_pattern")?;
    let pattern = c.count_or_none("_sliding_window_pattern")?.or(pattern).unwrap_or(6);
    spec.layers = c.layers(spec.n_layers, window, 1, |l| !(l + 1).is_multiple_of(pattern))?;
    Ok(spec)
}
