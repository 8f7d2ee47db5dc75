//! Architectures of GGUF that are read here, their tensor names in Hugging Face's spelling, and what llama.cpp's converter
//! (`convert_hf_to_gguf.py`, `modify_tensors` of each model class) did to the values.

use super::{GgufProblem, Metadata};
use crate::view::View;

/// `general.architecture`. (Mistral models have the architecture `llama`.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arch {
    Llama,
    Qwen2,
    Qwen3,
    Gemma2,
    Gemma3,
    Gpt2,
}

/// Where a tensor of the file goes.
#[derive(Debug, PartialEq)]
pub(super) enum Target {
    /// To this Hugging Face name, once the conversion is undone.
    Tensor { name: String, conversion: Conversion },
    /// Factors on the rotary frequencies (`rope_freqs.weight`): they become part of the config.
    RopeFactors,
    /// Not a tensor of this architecture.
    Unknown,
}

/// What llama.cpp's converter did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Conversion {
    Nothing,
    /// Halves of each query head interleaved.
    QueryHeads,
    /// Halves of each key head interleaved.
    KeyHeads,
    /// One added.
    PlusOne,
    /// Transposed.
    Transposed,
}

impl Arch {
    pub(super) fn of(metadata: &Metadata) -> Result<Self, GgufProblem> {
        const KEY: &str = "general.architecture";
        let arch =
            metadata.get_str(KEY).ok_or(GgufProblem::Metadata { key: KEY.into(), wanted: "a text" })?;
        let all = [Self::Llama, Self::Qwen2, Self::Qwen3, Self::Gemma2, Self::Gemma3, Self::Gpt2];
        let known = all.into_iter().find(|known| known.key() == arch);
        known.ok_or_else(|| GgufProblem::Architecture { arch: arch.into() })
    }

    /// Prefix of the architecture's metadata keys.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::Gemma2 => "gemma2",
            Self::Gemma3 => "gemma3",
            Self::Gpt2 => "gpt2",
        }
    }

    pub(super) fn is_gemma(self) -> bool {
        matches!(self, Self::Gemma2 | Self::Gemma3)
    }

    /// Where the tensor `name` goes.
    pub(super) fn target(self, name: &str) -> Target {
        if name == "rope_freqs.weight" {
            return Target::RopeFactors;
        }
        self.tensor(name).unwrap_or(Target::Unknown)
    }

    fn tensor(self, name: &str) -> Option<Target> {
        let (stem, kind) = name.rsplit_once('.')?;
        if !matches!(kind, "weight" | "bias") {
            return None;
        }
        let (module, part) = match stem.strip_prefix("blk.") {
            Some(rest) => {
                let (layer, part) = rest.split_once('.')?;
                let layer: usize = layer.parse().ok()?;
                (self.in_layer(layer, part)?, part)
            }
            None => (self.outside_layers(stem)?.to_owned(), stem),
        };
        let conversion = self.conversion(part, kind);
        Some(Target::Tensor { name: format!("{module}.{kind}"), conversion })
    }

    fn outside_layers(self, stem: &str) -> Option<&'static str> {
        let gpt2 = self == Self::Gpt2;
        Some(match stem {
            "token_embd" if gpt2 => "transformer.wte",
            "position_embd" if gpt2 => "transformer.wpe",
            "output_norm" if gpt2 => "transformer.ln_f",
            "token_embd" => "model.embed_tokens",
            "output_norm" => "model.norm",
            "output" => "lm_head",
            _ => return None,
        })
    }

    fn in_layer(self, layer: usize, part: &str) -> Option<String> {
        if self == Self::Gpt2 {
            let module = match part {
                "attn_norm" => "ln_1",
                "attn_qkv" => "attn.c_attn",
                "attn_output" => "attn.c_proj",
                "ffn_norm" => "ln_2",
                "ffn_up" => "mlp.c_fc",
                "ffn_down" => "mlp.c_proj",
                _ => return None,
            };
            return Some(format!("transformer.h.{layer}.{module}"));
        }
        let module = match part {
            "attn_norm" => "input_layernorm",
            "attn_q" => "self_attn.q_proj",
            "attn_k" => "self_attn.k_proj",
            "attn_v" => "self_attn.v_proj",
            "attn_output" => "self_attn.o_proj",
            "attn_q_norm" if matches!(self, Self::Qwen3 | Self::Gemma3) => "self_attn.q_norm",
            "attn_k_norm" if matches!(self, Self::Qwen3 | Self::Gemma3) => "self_attn.k_norm",
            "ffn_norm" if self.is_gemma() => "pre_feedforward_layernorm",
            "post_attention_norm" if self.is_gemma() => "post_attention_layernorm",
            "post_ffw_norm" if self.is_gemma() => "post_feedforward_layernorm",
            "ffn_norm" => "post_attention_layernorm",
            "ffn_gate" => "mlp.gate_proj",
            "ffn_up" => "mlp.up_proj",
            "ffn_down" => "mlp.down_proj",
            _ => return None,
        };
        Some(format!("model.layers.{layer}.{module}"))
    }

    fn conversion(self, part: &str, kind: &str) -> Conversion {
        match (self, part) {
            (Self::Llama, "attn_q") => Conversion::QueryHeads,
            (Self::Llama, "attn_k") => Conversion::KeyHeads,
            (Self::Gemma2 | Self::Gemma3, _) if part.ends_with("_norm") && kind == "weight" => {
                Conversion::PlusOne
            }
            (Self::Gpt2, "attn_qkv" | "attn_output" | "ffn_up" | "ffn_down") if kind == "weight" => {
                Conversion::Transposed
            }
            _ => Conversion::Nothing,
        }
    }
}

impl Conversion {
    /// The view that undoes the conversion of a tensor stored with `shape`; `None` if the shape does not allow it.
    pub(super) fn view(
        self,
        metadata: &Metadata,
        arch: Arch,
        shape: &[usize],
    ) -> Result<Option<View>, GgufProblem> {
        let heads = match self {
            Self::Nothing => return Ok(Some(View::AsStored)),
            Self::PlusOne => return Ok(Some(View::LessOne)),
            Self::Transposed => return Ok((shape.len() == 2).then_some(View::Transposed)),
            Self::QueryHeads => head_count(metadata, arch)?,
            Self::KeyHeads => kv_head_count(metadata, arch)?,
        };
        let (n_rows, heads) = (shape.first().copied().unwrap_or(0) as u64, heads.max(1));
        let fits = shape.len() <= 2 && n_rows > 0 && n_rows.is_multiple_of(2 * heads);
        Ok(fits.then_some(View::Interleaved { head_dim: (n_rows / heads) as usize }))
    }

    /// The Hugging Face shape of a tensor stored with `shape`.
    pub(super) fn shape(self, shape: &[usize]) -> Vec<usize> {
        let mut shape = shape.to_vec();
        if self == Self::Transposed {
            shape.reverse();
        }
        shape
    }
}

/// Query heads of every layer.
pub(super) fn head_count(metadata: &Metadata, arch: Arch) -> Result<u64, GgufProblem> {
    let key = format!("{}.attention.head_count", arch.key());
    let heads = metadata.get_u64(&key).filter(|n| (1..=1 << 20).contains(n));
    heads.ok_or(GgufProblem::Metadata { key, wanted: "one number of heads, the same for all layers" })
}

/// Key and value heads; where the metadata have none, as many as query heads.
pub(super) fn kv_head_count(metadata: &Metadata, arch: Arch) -> Result<u64, GgufProblem> {
    let key = format!("{}.attention.head_count_kv", arch.key());
    if metadata.get(&key).is_none() {
        return head_count(metadata, arch);
    }
    let heads = metadata.get_u64(&key).filter(|n| (1..=1 << 20).contains(n));
    heads.ok_or(GgufProblem::Metadata { key, wanted: "one number of heads, the same for all layers" })
}

#[cfg(test)]
mod tests {
    use super::{Arch, Conversion, Target};

    #[test]
    fn names_follow_the_family() {
        let name = |arch: Arch, name: &str| match arch.target(name) {
            Target::Tensor { name, conversion } => (name, conversion),
            other => panic!("{name}: {other:?}"),
        };
        let nothing = Conversion::Nothing;
        assert_eq!(
            name(Arch::Llama, "blk.3.attn_q.weight"),
            ("model.layers.3.self_attn.q_proj.weight".into(), Conversion::QueryHeads)
        );
        assert_eq!(
            name(Arch::Qwen2, "blk.0.attn_k.bias"),
            ("model.layers.0.self_attn.k_proj.bias".into(), nothing)
        );
        assert_eq!(
            name(Arch::Qwen3, "blk.0.ffn_norm.weight"),
            ("model.layers.0.post_attention_layernorm.weight".into(), nothing)
        );
        assert_eq!(
            name(Arch::Gemma2, "blk.0.ffn_norm.weight"),
            ("model.layers.0.pre_feedforward_layernorm.weight".into(), Conversion::PlusOne)
        );
        assert_eq!(
            name(Arch::Gpt2, "blk.1.attn_qkv.weight"),
            ("transformer.h.1.attn.c_attn.weight".into(), Conversion::Transposed)
        );
        assert_eq!(
            name(Arch::Gpt2, "blk.1.attn_qkv.bias"),
            ("transformer.h.1.attn.c_attn.bias".into(), nothing)
        );
        assert_eq!(Arch::Llama.target("blk.0.attn_q_norm.weight"), Target::Unknown);
        assert_eq!(Arch::Llama.target("blk.x.attn_q.weight"), Target::Unknown);
        assert_eq!(Arch::Llama.target("rope_freqs.weight"), Target::RopeFactors);
    }
}
