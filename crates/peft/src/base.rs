//! What the loader must know of the base model: its modules' paths, kinds and shapes. Not their weights.

/// What a module of the base model computes, as far as adapters care.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ModuleKind {
    /// `torch.nn.Linear`: weight `[out, in]`.
    Linear,
    /// GPT-2's `Conv1D`, a linear map stored transposed: weight `[in, out]`.
    Conv1d,
    /// A table of rows: weight `[rows, d]`.
    Embedding,
    /// LayerNorm or RMSNorm: weight `[d]`. Cannot carry a low-rank update, can be replaced as a whole.
    Norm,
}

/// One module of the base model that holds parameters.
///
/// A model whose output head shares the embedding's weight still lists `lm_head` (as a [`ModuleKind::Linear`] of the
/// embedding's shape): PEFT sees the head as a module of its own, and an adapter can change one and not the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BaseModule {
    /// Hugging Face module path: `model.layers.0.self_attn.q_proj`, `lm_head`, `transformer.h.0.attn.c_attn`.
    pub path: String,
    /// What the module computes.
    pub kind: ModuleKind,
    /// Shape of its weight as stored (`Linear` `[out, in]`, `Conv1d` `[in, out]`).
    pub shape: Vec<usize>,
    /// Whether it has a bias (of the output's length).
    pub has_bias: bool,
}

impl BaseModule {
    /// Length of the module's input (`Embedding`: the number of rows), as PEFT counts it.
    pub fn n_in(&self) -> usize {
        match self.kind {
            ModuleKind::Linear => self.shape.get(1).copied().unwrap_or(0),
            _ => self.shape.first().copied().unwrap_or(0),
        }
    }

    /// Length of the module's output, as PEFT counts it; also the length of its bias.
    pub fn n_out(&self) -> usize {
        match self.kind {
            ModuleKind::Linear | ModuleKind::Norm => self.shape.first().copied().unwrap_or(0),
            _ => self.shape.get(1).copied().unwrap_or(0),
        }
    }

    /// Whether this is the output head, which `all-linear` leaves alone.
    pub fn is_output_head(&self) -> bool {
        self.path == OUTPUT_HEAD
    }
}

/// The output head's path in every family that lorascope reads.
pub(crate) const OUTPUT_HEAD: &str = "lm_head";

/// Facts about the base model that are not in its list of modules.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BaseIdentity {
    /// Hub id or folder that the base was loaded from; only compared with the adapter's own word, never trusted.
    pub name_or_path: Option<String>,
    /// The vocabulary that the base's `config.json` names.
    pub vocab_size: Option<usize>,
    /// Whether the output head shares the input embedding's weight (`tie_word_embeddings`).
    pub tied_embeddings: bool,
}
