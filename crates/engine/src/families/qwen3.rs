//! Qwen3 (dense): Qwen2 without biases, with norms of queries and keys.

use super::names::{LLAMA, Names, QK_NORMS};
use super::{Config, Family, llama, qwen2};
use crate::error::Result;
use crate::spec::ModelSpec;

pub(super) const FAMILY: Family = Family {
    model_type: "qwen3",
    spec,
    names: Names { qk_norms: Some(QK_NORMS), ..LLAMA },
    harmless_keys: &[],
};

fn spec(c: &Config) -> Result<ModelSpec> {
    let mut spec = llama::common(c, FAMILY.model_type, 10_000.0)?;
    if c.count_or_none("head_dim")?.is_none() {
        spec.d_head = 128; // the family's default, whatever hidden_size is
        spec.attn_scale = 128f64.powf(-0.5);
    }
    spec.qk_norm = true;
    spec.layers = qwen2::windows(c, spec.n_layers)?;
    Ok(spec)
}
