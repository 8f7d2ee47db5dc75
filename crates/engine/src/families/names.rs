//! Where a family's weights are in a checkpoint.

use crate::module::Module;

/// Tensor names of a family; `{l}` stands for the layer.
#[derive(Debug)]
pub struct Names {
    /// Token embedding.
    pub embed: &'static str,
    /// Learned positions.
    pub positions: Option<&'static str>,
    /// Output matrix of untied models.
    pub unembed: &'static str,
    /// Final norm (module path: `.weight`, and `.bias` for LayerNorm).
    pub final_norm: &'static str,
    /// Norm before attention.
    pub norm_1: &'static str,
    /// Norm before the MLP.
    pub norm_2: &'static str,
    /// Norms after attention and after the MLP.
    pub post_norms: Option<(&'static str, &'static str)>,
    /// Norms of each head's query and key.
    pub qk_norms: Option<(&'static str, &'static str)>,
    /// A layer's linear maps.
    pub linear: fn(Module) -> Option<LinearSource>,
    /// Tensors (suffixes of names) that hold no parameters of the computation.
    pub ignored: &'static [&'static str],
}

/// A linear map in a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LinearSource {
    /// Module path; `{l}` stands for the layer.
    pub path: &'static str,
    /// Stored `[in, out]` instead of `[out, in]` (GPT-2).
    pub transposed: bool,
    /// Which outputs of the stored matrix.
    pub part: Part,
}

/// Which of a fused matrix's outputs belong to a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of them.
    Whole,
    /// The i-th third (GPT-2's fused query, key, value).
    Third(usize),
}

impl Part {
    /// The stored matrix's outputs that belong to a module with `n_out` outputs.
    pub fn outputs(self, n_out: usize) -> std::ops::Range<usize> {
        match self {
            Part::Whole => 0..n_out,
            Part::Third(i) => i * n_out..(i + 1) * n_out,
        }
    }

    /// How many outputs the stored matrix has in all.
    pub fn stored_outputs(self, n_out: usize) -> usize {
        match self {
            Part::Whole => n_out,
            Part::Third(_) => 3 * n_out,
        }
    }
}

impl LinearSource {
    const fn plain(path: &'static str) -> Self {
        Self { path, transposed: false, part: Part::Whole }
    }

    /// The module path in a layer.
    pub fn path(&self, layer: usize) -> String {
        in_layer(self.path, layer)
    }
}

/// Fills in the layer.
pub fn in_layer(pattern: &str, layer: usize) -> String {
    pattern.replace("{l}", &layer.to_string())
}

/// The linear maps of every family that descends from Llama.
pub(super) fn llama_linear(module: Module) -> Option<LinearSource> {
    Some(LinearSource::plain(match module {
        Module::Q => "model.layers.{l}.self_attn.q_proj",
        Module::K => "model.layers.{l}.self_attn.k_proj",
        Module::V => "model.layers.{l}.self_attn.v_proj",
        Module::O => "model.layers.{l}.self_attn.o_proj",
        Module::Gate => "model.layers.{l}.mlp.gate_proj",
        Module::Up => "model.layers.{l}.mlp.up_proj",
        Module::Down => "model.layers.{l}.mlp.down_proj",
    }))
}

/// Names of Llama, Mistral and Qwen2; others differ in their norms.
pub(super) const LLAMA: Names = Names {
    embed: "model.embed_tokens",
    positions: None,
    unembed: "lm_head",
    final_norm: "model.norm",
    norm_1: "model.layers.{l}.input_layernorm",
    norm_2: "model.layers.{l}.post_attention_layernorm",
    post_norms: None,
    qk_norms: None,
    linear: llama_linear,
    ignored: &[".rotary_emb.inv_freq"],
};

/// Names of Gemma-2; Gemma-3 adds norms of queries and keys.
pub(super) const GEMMA: Names = Names {
    norm_2: "model.layers.{l}.pre_feedforward_layernorm",
    post_norms: Some((
        "model.layers.{l}.post_attention_layernorm",
        "model.layers.{l}.post_feedforward_layernorm",
    )),
    ..LLAMA
};

/// Where the families with norms of queries and keys have them.
pub(super) const QK_NORMS: (&str, &str) =
    ("model.layers.{l}.self_attn.q_norm", "model.layers.{l}.self_attn.k_norm");
