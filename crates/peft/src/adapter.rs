//! An adapter as the rest of lorascope uses it: factors and replacements by module path, all checked.

use crate::config::LoraConfig;
use lorascope_checkpoint::StoredTensor;
use std::collections::BTreeMap;

/// The low-rank update of one linear map: it adds `scale · B · A · x` (plus `scale · bias`) to the map's output.
///
/// With a `magnitude` m (DoRA), the map's rows are rescaled as well: with W' = W + scale·B·A, the output is
/// `m / ‖W'‖ · W'·x + base bias`, ‖W'‖ taken per output row (Liu et al. 2024, and PEFT's `DoraLinearLayer`).
#[derive(Clone, Debug)]
pub struct LowRank {
    /// A, `[rank, in]`.
    pub a: StoredTensor,
    /// B, `[out, rank]`.
    pub b: StoredTensor,
    /// `alpha / rank`, or `alpha / sqrt(rank)` for rank-stabilised LoRA.
    pub scale: f64,
    /// Bias of B, `[out]`, scaled like B's output (`lora_bias`).
    pub bias: Option<StoredTensor>,
    /// DoRA's learned norms, `[out]`.
    pub magnitude: Option<StoredTensor>,
    /// Rank.
    pub rank: usize,
}

/// The low-rank update of an embedding: token `t` gets `scale · B · A[:, t]` on top of its row. Where the base scales
/// its embedding (Gemma's √d), the update is scaled likewise, as PEFT 0.21 does.
#[derive(Clone, Debug)]
pub struct EmbeddingLowRank {
    /// A, `[rank, rows]`.
    pub a: StoredTensor,
    /// B, `[d, rank]`.
    pub b: StoredTensor,
    /// As [`LowRank::scale`].
    pub scale: f64,
    /// Rank.
    pub rank: usize,
}

/// A LoRA adapter, checked against a base model's modules.
///
/// Input embedding and output head are separate modules here even where the base ties them: what is listed for one
/// is not meant for the other. Where PEFT applies a change to both (`ensure_weight_tying`, or embeddings saved because
/// the adapter touches them), both are listed.
#[derive(Clone, Debug)]
pub struct PeftAdapter {
    /// The configuration.
    pub config: LoraConfig,
    /// Updates of linear maps, by module path.
    pub low_rank: BTreeMap<String, LowRank>,
    /// Updates of embeddings, by module path.
    pub embeddings: BTreeMap<String, EmbeddingLowRank>,
    /// Weights that take the place of the base's, by module path, in the base's shape. A module can have both a
    /// replaced weight and an update on top of it.
    pub replaced_weights: BTreeMap<String, StoredTensor>,
    /// Biases that take the place of the base's, by module path.
    pub replaced_biases: BTreeMap<String, StoredTensor>,
    /// SHA-256 of `adapter_model.safetensors`, in hexadecimal.
    pub sha256: String,
    /// SHA-256 of `adapter_config.json`, in hexadecimal: alpha changes the adapter without changing its weights.
    pub config_sha256: String,
    /// What was found.
    pub report: Coverage,
}

impl PeftAdapter {
    /// Whether the adapter provably leaves every output as it is: no replacements, no DoRA, and every update has a
    /// zero factor or scale.
    pub fn does_nothing(&self) -> bool {
        let nothing_replaced = self.replaced_weights.is_empty() && self.replaced_biases.is_empty();
        nothing_replaced && self.report.inert.len() == self.low_rank.len() + self.embeddings.len()
    }
}

/// What an adapter's file covers; every tensor of the file is counted in exactly one place.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Tensors in the file; all of them are used.
    pub keys: usize,
    /// Numbers in these tensors.
    pub parameters: usize,
    /// Modules that carry an update.
    pub adapted: usize,
    /// Of these, linear maps stored `[out, in]`.
    pub linear: usize,
    /// Of these, linear maps stored `[in, out]` (GPT-2).
    pub conv1d: usize,
    /// Of these, embeddings.
    pub embeddings: usize,
    /// Adapted modules with a DoRA magnitude.
    pub dora: usize,
    /// Adapted modules whose B has a bias.
    pub lora_biases: usize,
    /// Replaced weights.
    pub replaced_weights: usize,
    /// Replaced biases.
    pub replaced_biases: usize,
    /// Adapted modules by rank.
    pub ranks: BTreeMap<usize, usize>,
    /// Paths of adapted modules whose update is exactly zero.
    pub inert: Vec<String>,
    /// Oddities that PEFT lets pass and a reader should know.
    pub notes: Vec<String>,
}
