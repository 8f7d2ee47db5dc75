//! Llama 1 to 3 and what shares its code: SmolLM2, TinyLlama, Vicuna.

use super::names::LLAMA;
use super::{Config, Family};
use crate::error::Result;
use crate::spec::{Mlp, ModelSpec, NormKind, Positions};
use serde_json::json;

pub(super) const FAMILY: Family =
    Family { model_type: "llama", spec, names: LLAMA, harmless_keys: &["is_llama_config"] };

fn spec(c: &Config) -> Result<ModelSpec> {
    c.only("pretraining_tp", json!(1))?;
    c.only("rope_interleaved", json!(false))?;
    common(c, FAMILY.model_type, 10_000.0)
}

/// What Llama, Mistral, Qwen2 and Qwen3 have in common: full attention in all layers, gated MLP, RMSNorm.
pub(super) fn common(c: &Config, family: &'static str, theta: f64) -> Result<ModelSpec> {
    let (n_layers, d_model) = (c.count("num_hidden_layers")?, c.count("hidden_size")?);
    let n_heads = c.count("num_attention_heads")?;
    let d_head = c.count_or_none("head_dim")?.unwrap_or(d_model / n_heads);
    Ok(ModelSpec {
        family,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: c.count_or_none("num_key_value_heads")?.unwrap_or(n_heads),
        d_head,
        d_mlp: c.count("intermediate_size")?,
        d_vocab: c.count("vocab_size")?,
        n_ctx: c.count("max_position_embeddings")?,
        norm: NormKind::Rms { eps: c.number_or_none("rms_norm_eps")?.unwrap_or(1e-6), unit_offset: false },
        post_norms: false,
        qk_norm: false,
        attn_scale: (d_head as f64).powf(-0.5),
        attn_softcap: None,
        final_softcap: None,
        embed_scale: 1.0,
        positions: Positions::Rotary(vec![c.rotary(theta)?]),
        layers: c.layers(n_layers, None, 0, |_| false)?,
        mlp: Mlp::Gated(c.activation("hidden_act")?),
        biases: c.biases()?,
        tied_embeddings: c.flag("tie_word_embeddings")?,
    })
}
