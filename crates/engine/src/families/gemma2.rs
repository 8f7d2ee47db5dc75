//! Gemma-2: sandwich norms, soft caps on scores and logits, alternating sliding windows, scaled embedding.

use super::names::GEMMA;
use super::{Config, Family};
use crate::error::Result;
use crate::spec::{Mlp, ModelSpec, NormKind, Positions};
use serde_json::json;

pub(super) const FAMILY: Family =
    Family { model_type: "gemma2", spec, names: GEMMA, harmless_keys: &["hidden_act"] };

fn spec(c: &Config) -> Result<ModelSpec> {
    let mut spec = common(c, FAMILY.model_type)?;
    spec.positions = Positions::Rotary(vec![c.rotary(10_000.0)?]);
    let window = c.count_or_none("sliding_window")?;
    // Without `layer_types`, even layers slide.
    spec.layers = c.layers(spec.n_layers, window, 0, |l| l % 2 == 0 && window.is_some())?;
    Ok(spec)
}

/// What Gemma-2 and Gemma-3 have in common.
pub(super) fn common(c: &Config, family: &'static str) -> Result<ModelSpec> {
    c.only("use_bidirectional_attention", json!(false))?;
    let (n_layers, d_model) = (c.count("num_hidden_layers")?, c.count("hidden_size")?);
    let n_heads = c.count("num_attention_heads")?;
    let scalar = c.number_or_none("query_pre_attn_scalar")?.unwrap_or(256.0);
    Ok(ModelSpec {
        family,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: c.count("num_key_value_heads")?,
        d_head: c.count_or_none("head_dim")?.unwrap_or(256),
        d_mlp: c.count("intermediate_size")?,
        d_vocab: c.count("vocab_size")?,
        n_ctx: c.count("max_position_embeddings")?,
        norm: NormKind::Rms { eps: c.number_or_none("rms_norm_eps")?.unwrap_or(1e-6), unit_offset: true },
        post_norms: true,
        qk_norm: false,
        attn_scale: scalar.powf(-0.5),
        attn_softcap: c.number_or_none("attn_logit_softcapping")?,
        final_softcap: c.number_or_none("final_logit_softcapping")?,
        // Hugging Face rounds the factor to the type of the weights; in f32 that is this.
        embed_scale: f64::from((d_model as f32).sqrt()),
        positions: Positions::Rotary(Vec::new()),
        layers: Vec::new(),
        mlp: Mlp::Gated(c.activation("hidden_activation")?),
        biases: c.biases()?,
        tied_embeddings: c.flag_or("tie_word_embeddings", true)?,
    })
}
