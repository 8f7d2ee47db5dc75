//! GPT-2: LayerNorm, learned positions, fused and transposed projections.

use super::names::{LinearSource, Names, Part};
use super::{Config, Family};
use crate::error::Result;
use crate::module::Module;
use crate::spec::{Biases, LayerSpec, Mlp, ModelSpec, NormKind, Positions};
use serde_json::json;

pub(super) const FAMILY: Family = Family {
    model_type: "gpt2",
    spec,
    names: Names {
        embed: "transformer.wte",
        positions: Some("transformer.wpe"),
        unembed: "lm_head",
        final_norm: "transformer.ln_f",
        norm_1: "transformer.h.{l}.ln_1",
        norm_2: "transformer.h.{l}.ln_2",
        post_norms: None,
        qk_norms: None,
        linear,
        // Causal masks that old files carry as tensors.
        ignored: &[".attn.bias", ".attn.masked_bias"],
    },
    harmless_keys: &[
        "n_ctx",
        "reorder_and_upcast_attn",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
    ],
};

fn linear(module: Module) -> Option<LinearSource> {
    let source = |path, part| Some(LinearSource { path, transposed: true, part });
    match module {
        Module::Q => source("transformer.h.{l}.attn.c_attn", Part::Third(0)),
        Module::K => source("transformer.h.{l}.attn.c_attn", Part::Third(1)),
        Module::V => source("transformer.h.{l}.attn.c_attn", Part::Third(2)),
        Module::O => source("transformer.h.{l}.attn.c_proj", Part::Whole),
        Module::Gate => None,
        Module::Up => source("transformer.h.{l}.mlp.c_fc", Part::Whole),
        Module::Down => source("transformer.h.{l}.mlp.c_proj", Part::Whole),
    }
}

fn spec(c: &Config) -> Result<ModelSpec> {
    c.only("add_cross_attention", json!(false))?;
    c.only("scale_attn_by_inverse_layer_idx", json!(false))?;
    let (n_layers, d_model, n_heads) = (c.count("n_layer")?, c.count("n_embd")?, c.count("n_head")?);
    let d_head = d_model / n_heads;
    let scaled = c.flag_or("scale_attn_weights", true)?;
    Ok(ModelSpec {
        family: FAMILY.model_type,
        n_layers,
        d_model,
        n_heads,
        n_kv_heads: n_heads,
        d_head,
        d_mlp: c.count_or_none("n_inner")?.unwrap_or(4 * d_model),
        d_vocab: c.count("vocab_size")?,
        n_ctx: c.count("n_positions")?,
        norm: NormKind::Layer { eps: c.number_or_none("layer_norm_epsilon")?.unwrap_or(1e-5) },
        post_norms: false,
        qk_norm: false,
        attn_scale: if scaled { (d_head as f64).powf(-0.5) } else { 1.0 },
        attn_softcap: None,
        final_softcap: None,
        embed_scale: 1.0,
        positions: Positions::Learned,
        layers: vec![LayerSpec { window: None, rotary: 0 }; n_layers],
        mlp: Mlp::Plain(c.activation("activation_function")?),
        biases: Biases { qkv: true, out: true, mlp: true },
        tied_embeddings: c.flag_or("tie_word_embeddings", true)?,
    })
}
