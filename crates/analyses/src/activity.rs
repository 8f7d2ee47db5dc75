//! Is an adapter active? What its file covers, how large its changes are, how far they move the next-token distribution,
//! and what a merge in bf16 would leave of them.
//!
//! Not an [`Analysis`](crate::Analysis) of prompts: one prompt is enough to show that an adapter acts at all.

mod bf16;
pub(crate) mod change;

pub use bf16::Bf16Merge;

use crate::context::Progress;
use crate::error::{Error, Result};
use bf16::Sums;
use change::{Measured, Place, measure, places};
use lorascope_engine::{Adapter, Batch, Hooks, Mat, Model};
use rayon::prelude::*;
use serde::Serialize;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

/// Movements of the logits below this, relative to the largest |logit|, can't be told from rounding in f32: so far apart
/// are f32 and f64 on the reference models (Hugging Face, tiny Gemma-2: 8e-6; tiny Llama: 4e-6).
pub const LOGIT_PRECISION: f64 = 1e-5;

/// Tokens whose logits are computed together; bounds the packed rows of the output matrix.
const TOKENS: usize = 4096;

/// What is known about one adapter.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Activity {
    /// Name of the adapter.
    pub adapter: String,
    /// SHA-256 of `adapter_model.safetensors`.
    pub sha256: String,
    /// SHA-256 of `adapter_config.json`.
    pub config_sha256: String,
    /// Tensors in its file; all of them are used.
    pub keys: usize,
    /// Numbers in these tensors.
    pub parameters: usize,
    /// Modules that carry a low-rank update, as PEFT counts them.
    pub adapted: usize,
    /// Weights and biases that it replaces as a whole.
    pub replaced: usize,
    /// Oddities of the file that a reader should know.
    pub notes: Vec<String>,
    /// Every weight and bias that it changes.
    pub changes: Vec<ChangedWeight>,
    /// Of these, those where the change is exactly zero: `layer 3 attn.q_proj`, or a module path.
    pub inert: Vec<String>,
    /// ‖ΔW‖_F over everything that it changes.
    pub delta_norm: f64,
    /// How far it moves the next token's distribution.
    pub logits: LogitMovement,
    /// What a merge in bf16 would leave of it; `None` for an adapter that changes nothing.
    pub merge: Option<MergeSummary>,
    /// The conclusion.
    #[serde(flatten)]
    pub verdict: Verdict,
}

/// How an adapter changes a weight.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ChangeKind {
    /// `W + s·B·A`.
    LowRank,
    /// DoRA: rows of `W + s·B·A` rescaled to learned norms.
    Dora,
    /// A weight of its own plus `s·B·A`.
    ReplacedWithLowRank,
    /// A weight of its own.
    Replaced,
    /// An embedding plus a low-rank update.
    Embedding,
    /// A bias, replaced or added to.
    Bias,
}

impl ChangeKind {
    /// A word for tables.
    pub fn label(self) -> &'static str {
        match self {
            ChangeKind::LowRank => "low-rank",
            ChangeKind::Dora => "DoRA",
            ChangeKind::ReplacedWithLowRank => "replaced + low-rank",
            ChangeKind::Replaced => "replaced",
            ChangeKind::Embedding => "embedding",
            ChangeKind::Bias => "bias",
        }
    }
}

/// One weight that an adapter changes. A part of a fused matrix (GPT-2's query, key, value) counts by itself.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ChangedWeight {
    /// Its layer, for the linear maps of layers and their biases.
    pub layer: Option<usize>,
    /// The module in the layer (`attn.q_proj`), or its path in the checkpoint.
    pub module: String,
    /// How it is changed.
    pub kind: ChangeKind,
    /// Rank of the update, where it has factors.
    pub rank: Option<usize>,
    /// The factor s.
    pub scale: Option<f64>,
    /// `‖s·B·A‖_F`, from the factors alone: `‖BA‖² = tr((BᵀB)(AAᵀ))`.
    pub factor_norm: Option<f64>,
    /// ‖ΔW‖_F of the whole change, summed weight by weight. With plain LoRA this is the norm from the factors; DoRA and
    /// weights of its own change more.
    pub delta_norm: f64,
    /// ‖W‖_F of the base's weight.
    pub weight_norm: f64,
    /// ‖ΔW‖ / ‖W‖; `None` where the base has zeros or nothing (a new bias).
    pub ratio: Option<f64>,
    /// What a merge in bf16 would leave of the change; `None` where nothing changes.
    pub merge: Option<Bf16Merge>,
}

impl ChangedWeight {
    /// `layer 3 attn.q_proj`, or the path of a module outside the layers.
    pub fn place(&self) -> String {
        self.layer.map_or_else(|| self.module.clone(), |layer| format!("layer {layer} {}", self.module))
    }
}

/// How far an adapter moves the distribution of the token after a prompt.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LogitMovement {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// max |logit(adapter) − logit(base)| over the vocabulary.
    pub max: f64,
    /// Mean of the same.
    pub mean: f64,
    /// The base's largest |logit|, as a scale.
    pub scale: f64,
    /// KL(base ‖ adapter) of the next token, in nats.
    pub kl: f64,
    /// The base's most probable token.
    pub top_base: u32,
    /// The adapter's most probable token.
    pub top_adapter: u32,
}

/// A number over all changed weights.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    /// The smallest.
    pub min: f64,
    /// The middle one (mean of the middle two).
    pub median: f64,
    /// The largest.
    pub max: f64,
    /// The same number of all changed weights taken as one vector.
    pub overall: f64,
}

/// A merge in bf16, over all changed weights; see [`Bf16Merge`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct MergeSummary {
    /// Share of the update that survives.
    pub retained: Spread,
    /// Distance from the true weights relative to the update.
    pub error: Spread,
    /// The part of it that rounding the base alone costs.
    pub base_error: Spread,
    /// Share of the changed weights that end up as they were.
    pub unchanged: Spread,
}

/// Does the adapter act?
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "verdict", content = "why", rename_all = "snake_case")]
pub enum Verdict {
    /// It moves logits by more than rounding can.
    Active,
    /// It changes weights, but moves no logit of the prompt by more than rounding in f32 may ([`LOGIT_PRECISION`]).
    BelowPrecision(String),
    /// It changes no weight at all.
    DoesNothing(String),
}

/// Examines every adapter of a model. The prompt `tokens` shows how far adapters move the next token's distribution.
///
/// # Errors
/// A prompt that the model can't take, weights that can't be read or are not finite, a wish to stop.
pub fn adapter_activity(
    model: &Model<f32>,
    tokens: &[u32],
    progress: &dyn Progress,
) -> Result<Vec<Activity>> {
    let states = final_states(model, tokens)?;
    let base = next_logits(model, 0, &states)?;
    let examine = |(i, adapter): (usize, &Adapter)| {
        let logits = movement(&base, &next_logits(model, i + 1, &states)?, tokens.len());
        let changes = measure_all(model, adapter, progress)?;
        Ok(conclude(adapter, changes, logits))
    };
    model.adapters().iter().enumerate().map(examine).collect()
}

/// Final normalised state of every model at the prompt's last token, one row per model.
fn final_states(model: &Model<f32>, tokens: &[u32]) -> Result<Mat<f32>> {
    let sequences: Vec<(usize, &[u32])> = (0..model.n_models()).map(|m| (m, tokens)).collect();
    let batch = Batch::new(model.spec(), &sequences)?;
    let last = |s: usize| batch.row_of(s, tokens.len() - 1);
    let last = |s: usize| last(s).unwrap_or_else(|| unreachable!("every token of a sequence has a row"));
    let rows: Vec<usize> = (0..model.n_models()).map(last).collect();
    Ok(model.run(&batch, &Hooks::default(), &rows)?.readout)
}

/// Logits of the whole vocabulary after the prompt.
fn next_logits(model: &Model<f32>, which: usize, states: &Mat<f32>) -> Result<Vec<f32>> {
    let state = states.gather(&[which]);
    let vocabulary: Vec<u32> = (0..model.spec().d_vocab as u32).collect();
    let blocks = vocabulary.par_chunks(TOKENS).map(|block| Ok(model.logits_of(which, &state, block)?.data));
    Ok(blocks.collect::<Result<Vec<_>>>()?.concat())
}

fn movement(base: &[f32], adapter: &[f32], prompt_tokens: usize) -> LogitMovement {
    let distance = |(a, b): (&f32, &f32)| (f64::from(*a) - f64::from(*b)).abs();
    let distances = || base.iter().zip(adapter).map(distance);
    let (p, q) = (log_probabilities(base), log_probabilities(adapter));
    let kl: f64 = p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum();
    let top = |logits: &[f32]| {
        let larger = |best: usize, i: usize| if logits[i] > logits[best] { i } else { best };
        (1..logits.len()).fold(0, larger) as u32
    };
    LogitMovement {
        prompt_tokens,
        max: distances().fold(0.0, f64::max),
        mean: distances().sum::<f64>() / base.len() as f64,
        scale: base.iter().map(|v| f64::from(v.abs())).fold(0.0, f64::max),
        // Rounding can make the divergence of equal distributions a hair negative.
        kl: kl.max(0.0),
        top_base: top(base),
        top_adapter: top(adapter),
    }
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&v| f64::from(v - max).exp()).sum();
    let log_sum = f64::from(max) + sum.ln();
    logits.iter().map(|&v| f64::from(v) - log_sum).collect()
}

/// Measures all places, several at a time; each holds its factors and a few rows.
fn measure_all(model: &Model<f32>, adapter: &Adapter, progress: &dyn Progress) -> Result<Vec<Measured>> {
    let places = places(adapter);
    progress.begin(&format!("weights of {}", adapter.name), places.len() as u64);
    let done = AtomicU64::new(0);
    let measure = |place: &Place| {
        if progress.should_stop() {
            return Err(Error::Stopped);
        }
        let measured = measure(model, adapter, place)?;
        progress.at(done.fetch_add(1, Ordering::Relaxed) + 1);
        Ok(measured)
    };
    let measured = places.par_iter().map(measure).collect();
    progress.end();
    measured
}

fn conclude(adapter: &Adapter, changes: Vec<Measured>, logits: LogitMovement) -> Activity {
    let mut sums = Sums::default();
    changes.iter().for_each(|c| sums.add(&c.sums));
    let (peft, report) = (&adapter.peft, &adapter.peft.report);
    Activity {
        adapter: adapter.name.clone(),
        sha256: peft.sha256.clone(),
        config_sha256: peft.config_sha256.clone(),
        keys: report.keys,
        parameters: report.parameters,
        adapted: report.adapted,
        replaced: report.replaced_weights + report.replaced_biases,
        notes: report.notes.clone(),
        inert: changes.iter().filter(|c| c.inert.is_some()).map(|c| c.weight.place()).collect(),
        delta_norm: sums.delta.sqrt(),
        merge: summary(&changes, &sums),
        verdict: verdict(&changes, &logits),
        changes: changes.into_iter().map(|c| c.weight).collect(),
        logits,
    }
}

fn verdict(changes: &[Measured], logits: &LogitMovement) -> Verdict {
    if changes.iter().all(|c| c.inert.is_some()) {
        let reasons: BTreeSet<&str> = changes.iter().filter_map(|c| c.inert).collect();
        let reasons: Vec<&str> = reasons.into_iter().collect();
        let n = changes.len();
        return Verdict::DoesNothing(format!(
            "all of its {n} changes are exactly zero: {}",
            reasons.join("; ")
        ));
    }
    let precision = LOGIT_PRECISION * logits.scale;
    if logits.max == 0.0 {
        return Verdict::BelowPrecision(
            "it changes weights, but no logit of this prompt; another prompt may show more".to_owned(),
        );
    }
    if logits.max <= precision {
        let max = logits.max;
        return Verdict::BelowPrecision(format!(
            "it moves no logit by more than {max:.1e}, and rounding in f32 alone may move them by {precision:.1e}"
        ));
    }
    Verdict::Active
}

fn summary(changes: &[Measured], sums: &Sums) -> Option<MergeSummary> {
    let all = sums.merge()?;
    let merges: Vec<Bf16Merge> = changes.iter().filter_map(|c| c.weight.merge).collect();
    let spread = |of: fn(&Bf16Merge) -> f64| {
        let mut values: Vec<f64> = merges.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        let n = values.len();
        let median = f64::midpoint(values[(n - 1) / 2], values[n / 2]);
        Spread { min: values[0], median, max: values[n - 1], overall: of(&all) }
    };
    Some(MergeSummary {
        retained: spread(|m| m.retained),
        error: spread(|m| m.error),
        base_error: spread(|m| m.base_error),
        unchanged: spread(|m| m.unchanged),
    })
}
