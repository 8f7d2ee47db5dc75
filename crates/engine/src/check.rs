//! The identities of the residual stream, checked on any loaded model (`lorascope check`).
//!
//! A reader of weights or a family description that is wrong in one place breaks at least one of them; they need no
//! reference, so they run on models that nobody has tested.

use crate::batch::{Batch, ModelId};
use crate::error::Result;
use crate::hook::{HookPoint, Site};
use crate::model::Model;
use crate::tap::{Capture, Edit, EditOp, Hooks};
use lorascope_kernels::Real;

/// Outcome of one identity on one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Check {
    /// What must hold.
    pub identity: &'static str,
    /// The model it was checked on.
    pub model: String,
    /// Largest violation over rows and layers, relative to the largest value involved.
    pub worst: f64,
    /// Largest violation allowed.
    pub tolerance: f64,
}

impl Check {
    /// Whether the identity holds.
    pub fn holds(&self) -> bool {
        self.worst <= self.tolerance
    }
}

/// Captured values of one sequence: `[row][value]`.
type Values<R> = Vec<Vec<R>>;

/// Runs all identities on one model over a sequence of tokens.
///
/// Memory grows with the square of the sequence for the patterns of one layer; a few dozen tokens are enough.
pub fn check<R: Real>(model: &Model<R>, which: ModelId, tokens: &[u32]) -> Result<Vec<Check>> {
    let spec = model.spec();
    let batch = Batch::new(spec, &[(which, tokens)])?;
    let rows: Vec<usize> = (0..batch.n_rows()).collect();
    let mut worst = [0.0f64; 6];
    for layer in 0..spec.n_layers {
        let sites = [
            Site::ResidPre, Site::AttnOut, Site::ResidMid, Site::MlpOut, Site::ResidPost, Site::Result, Site::Pattern,
        ];
        let at = |site| Capture { point: HookPoint::Layer(layer, site), rows: rows.clone() };
        let hooks = Hooks { captures: sites.map(at).to_vec(), edits: Vec::new() };
        let run = model.run(&batch, &hooks, &[])?;
        let [pre, attn, mid, mlp, post, result, pattern] = &run.captures[..] else {
            unreachable!("one list per capture");
        };
        worst[0] = worst[0].max(sum_error(&[pre, attn], mid));
        worst[1] = worst[1].max(sum_error(&[mid, mlp], post));
        worst[2] = worst[2].max(heads_error(result, attn, spec.d_model));
        let (sums, masked) = pattern_error(pattern, spec.n_heads, spec.layers[layer].window);
        worst[3] = worst[3].max(sums);
        worst[4] = worst[4].max(masked);
    }
    worst[5] = company_error(model, which, tokens)?;
    let epsilon = if size_of::<R>() == 4 { 1e-5 } else { 1e-12 };
    let identities = [
        ("resid_mid = resid_pre + attn_out", epsilon),
        ("resid_post = resid_mid + mlp_out", epsilon),
        ("attn_out = sum of result over heads (+ the same bias in every row)", epsilon),
        ("pattern rows sum to 1", epsilon),
        ("pattern is 0 outside the sliding window", 0.0),
        ("a row's result does not depend on the other rows, bit for bit", 0.0),
    ];
    let name = model.name(which).to_owned();
    let check = |((identity, tolerance), worst)| Check { identity, model: name.clone(), worst, tolerance };
    Ok(identities.into_iter().zip(worst).map(check).collect())
}

fn largest<R: Real>(values: &Values<R>) -> f64 {
    values.iter().flatten().map(|v| v.to_f64().abs()).fold(1e-30, f64::max)
}

/// `max |Σ parts − whole| / max |whole|`.
fn sum_error<R: Real>(parts: &[&Values<R>], whole: &Values<R>) -> f64 {
    let mut worst = 0.0f64;
    for (i, row) in whole.iter().enumerate() {
        for (j, v) in row.iter().enumerate() {
            let sum: f64 = parts.iter().map(|p| p[i][j].to_f64()).sum();
            worst = worst.max((sum - v.to_f64()).abs());
        }
    }
    worst / largest(whole)
}

/// Heads against the attention output. What remains must be the output's bias: equal in every row.
fn heads_error<R: Real>(result: &Values<R>, attn: &Values<R>, d_model: usize) -> f64 {
    let rest = |i: usize| -> Vec<f64> {
        let heads = |j: usize| result[i].chunks_exact(d_model).map(|h| h[j].to_f64()).sum::<f64>();
        (0..d_model).map(|j| attn[i][j].to_f64() - heads(j)).collect()
    };
    let first = rest(0);
    let error = |i| rest(i).iter().zip(&first).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let spread = (1..attn.len()).map(error).fold(0.0, f64::max);
    spread / largest(attn).max(largest(result))
}

/// Worst deviation of a pattern row's sum from 1, and largest weight on a key outside the window.
fn pattern_error<R: Real>(pattern: &Values<R>, n_heads: usize, window: Option<usize>) -> (f64, f64) {
    let (mut sums, mut masked) = (0.0f64, 0.0f64);
    for row in pattern {
        let n_keys = row.len() / n_heads;
        for head in row.chunks_exact(n_keys.max(1)) {
            sums = sums.max((head.iter().map(|v| v.to_f64()).sum::<f64>() - 1.0).abs());
            let hidden = window.map_or(0, |w| n_keys.saturating_sub(w));
            masked = masked.max(head[..hidden].iter().map(|v| v.to_f64().abs()).fold(0.0, f64::max));
        }
    }
    (sums, masked)
}

/// The last token's final state alone, in a batch with every other model, and with an edit that does nothing.
fn company_error<R: Real>(model: &Model<R>, which: ModelId, tokens: &[u32]) -> Result<f64> {
    let spec = model.spec();
    let last = tokens.len() - 1;
    let alone = Batch::new(spec, &[(which, tokens)])?;
    let row = alone.row_of(0, last).unwrap_or(0);
    let one = model.run(&alone, &Hooks::default(), &[row])?.readout;
    let shorter = &tokens[..tokens.len().div_ceil(2)];
    let mut sequences: Vec<(ModelId, &[u32])> = (0..model.n_models()).map(|m| (m, shorter)).collect();
    sequences.push((which, tokens));
    let together = Batch::new(spec, &sequences)?;
    let row = together.row_of(sequences.len() - 1, last).unwrap_or(0);
    let point = HookPoint::Layer(0, Site::ResidPre);
    let nothing = Edit { point, row, units: 0..spec.d_model, op: EditOp::Scale(R::ONE) };
    let hooks = Hooks { captures: Vec::new(), edits: vec![nothing] };
    let other = model.run(&together, &hooks, &[row])?.readout;
    let differences = one.data.iter().zip(&other.data).map(|(a, b)| (a.to_f64() - b.to_f64()).abs());
    Ok(differences.fold(0.0, f64::max))
}
