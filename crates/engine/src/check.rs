//! The identities of the residual stream, checked on any loaded model (`lorascope check`).
//!
//! A reader of weights or a family description that is wrong in one place breaks at least one of them; they need no
//! reference, so they run on models that nobody has tested.

use crate::batch::{Batch, ModelId};
use crate::branch::{Birth, Branch};
use crate::error::Result;
use crate::hook::{HookPoint, Site};
use crate::model::Model;
use crate::module::Module;
use crate::number::Number;
use crate::request::{Capture, Edit, EditOp, Hooks};

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
pub fn check<R: Number>(model: &Model<R>, which: ModelId, tokens: &[u32]) -> Result<Vec<Check>> {
    let spec = model.spec();
    let batch = Batch::new(spec, &[(which, tokens)])?;
    let rows: Vec<usize> = (0..batch.n_rows()).collect();
    let mut worst = [0.0f64; 7];
    for layer in 0..spec.n_layers {
        let sites = [
            Site::ResidPre,
            Site::AttnOut,
            Site::ResidMid,
            Site::MlpOut,
            Site::ResidPost,
            Site::Result,
            Site::Pattern,
        ];
        let at = |site| Capture { point: HookPoint::Layer(layer, site), rows: rows.clone() };
        let hooks = Hooks { captures: sites.map(at).to_vec(), edits: Vec::new() };
        let run = model.run(&batch, &hooks, &[])?;
        let [pre, attn, mid, mlp, post, result, pattern] = &run.captures[..] else {
            unreachable!("one list per capture");
        };
        worst[0] = worse(worst[0], sum_error(&[pre, attn], mid));
        worst[1] = worse(worst[1], sum_error(&[mid, mlp], post));
        let weights = model.weights().layer(spec, layer)?;
        let o = weights.linear(Module::O);
        let of_b = o.low_rank(which).and_then(|update| update.bias.as_deref());
        let biases = [o.bias.of(which).as_deref(), of_b];
        worst[2] = worse(worst[2], heads_error(result, attn, &biases));
        let (sums, masked) = pattern_error(pattern, spec.n_heads, spec.layers[layer].window);
        worst[3] = worse(worst[3], sums);
        worst[4] = worse(worst[4], masked);
    }
    worst[5] = company_error(model, which, tokens)?;
    worst[6] = branch_error(model, which, tokens)?;
    let epsilon = if size_of::<R>() == 4 { 1e-5 } else { 1e-12 };
    let identities = [
        ("resid_mid = resid_pre + attn_out", epsilon),
        ("resid_post = resid_mid + mlp_out", epsilon),
        ("attn_out = sum of result over heads + biases", epsilon),
        ("pattern rows sum to 1", epsilon),
        ("pattern is 0 outside the sliding window", 0.0),
        ("a row's result does not depend on the other rows, bit for bit", 0.0),
        ("a patched run is the whole run under the same edit, bit for bit", 0.0),
    ];
    let name = model.name(which).to_owned();
    let check = |((identity, tolerance), worst)| Check { identity, model: name.clone(), worst, tolerance };
    Ok(identities.into_iter().zip(worst).map(check).collect())
}

/// The larger violation; one that is not a number is the worst of all (`f64::max` would forget it).
fn worse(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

fn largest<R: Number>(values: &Values<R>) -> f64 {
    values.iter().flatten().map(|v| v.to_f64().abs()).fold(1e-30, f64::max)
}

/// `max |Σ parts − whole| / max |whole|`.
fn sum_error<R: Number>(parts: &[&Values<R>], whole: &Values<R>) -> f64 {
    let mut worst = 0.0f64;
    for (i, row) in whole.iter().enumerate() {
        for (j, v) in row.iter().enumerate() {
            let sum: f64 = parts.iter().map(|p| p[i][j].to_f64()).sum();
            worst = worse(worst, (sum - v.to_f64()).abs());
        }
    }
    worst / largest(whole)
}

/// Heads and the biases of the output projection (the model's, the adapter's) against the attention output.
///
/// No family has both a bias there and a norm after attention, through which the bias would have to go.
fn heads_error<R: Number>(result: &Values<R>, attn: &Values<R>, biases: &[Option<&[R]>]) -> f64 {
    let mut worst = 0.0f64;
    for (heads, out) in result.iter().zip(attn) {
        for (j, v) in out.iter().enumerate() {
            let shares = heads.chunks_exact(out.len()).map(|h| h[j].to_f64()).sum::<f64>();
            let bias: f64 = biases.iter().flatten().map(|b| b[j].to_f64()).sum();
            worst = worse(worst, (shares + bias - v.to_f64()).abs());
        }
    }
    worst / largest(attn).max(largest(result))
}

/// Worst deviation of a pattern row's sum from 1, and largest weight on a key outside the window.
fn pattern_error<R: Number>(pattern: &Values<R>, n_heads: usize, window: Option<usize>) -> (f64, f64) {
    let (mut sums, mut masked) = (0.0f64, 0.0f64);
    for row in pattern {
        let n_keys = row.len() / n_heads;
        for head in row.chunks_exact(n_keys.max(1)) {
            sums = worse(sums, (head.iter().map(|v| v.to_f64()).sum::<f64>() - 1.0).abs());
            let hidden = window.map_or(0, |w| n_keys.saturating_sub(w));
            masked = worse(masked, head[..hidden].iter().map(|v| v.to_f64().abs()).fold(0.0, worse));
        }
    }
    (sums, masked)
}

/// The last token's final state alone, in a batch with every other model, and with an edit that does nothing.
fn company_error<R: Number>(model: &Model<R>, which: ModelId, tokens: &[u32]) -> Result<f64> {
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
    Ok(difference(&one.data, &other.data))
}

/// Patches of every stage of the middle layer, at the middle and at the last position: as branches, all together, and each as
/// a whole run of its own.
fn branch_error<R: Number>(model: &Model<R>, which: ModelId, tokens: &[u32]) -> Result<f64> {
    let (spec, last) = (model.spec(), tokens.len() - 1);
    let sites = [Site::ResidPre, Site::Z, Site::AttnOut, Site::MlpPost, Site::MlpOut];
    let patches: Vec<(HookPoint, usize)> = sites
        .iter()
        .flat_map(|&site| [tokens.len() / 2, last].map(|p| (HookPoint::Layer(spec.n_layers / 2, site), p)))
        .collect();
    let sequences = [(which, tokens)];
    let branch = |&(point, from): &(HookPoint, usize)| {
        let birth = Birth::before(point).unwrap_or_else(|| unreachable!("these are places of a layer"));
        Branch { sequences: vec![0], from, birth }
    };
    let branches: Vec<Branch> = patches.iter().map(branch).collect();
    let together = Batch::with_branches(spec, &sequences, &branches)?;
    // One value of each, so that nothing becomes trivial.
    let edit = |point, row| Edit { point, row, units: 0..1, op: EditOp::Scale(R::from_f64(-2.0)) };
    let row = |b: usize, position: usize| together.branch_row(b, 0, position).unwrap_or_default();
    let edits = patches.iter().enumerate().map(|(b, &(point, from))| edit(point, row(b, from))).collect();
    let ends: Vec<usize> = (0..patches.len()).map(|b| row(b, last)).collect();
    let patched = model.run(&together, &Hooks { captures: Vec::new(), edits }, &ends)?.readout;
    let whole = Batch::new(spec, &sequences)?;
    let mut worst = 0.0;
    for (b, &(point, from)) in patches.iter().enumerate() {
        let hooks = Hooks { captures: Vec::new(), edits: vec![edit(point, from)] };
        let alone = model.run(&whole, &hooks, &[last])?.readout;
        worst = worse(worst, difference(patched.row(b), alone.row(0)));
    }
    Ok(worst)
}

/// `max |a − b|`.
fn difference<R: Number>(a: &[R], b: &[R]) -> f64 {
    a.iter().zip(b).map(|(a, b)| (a.to_f64() - b.to_f64()).abs()).fold(0.0, worse)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRONG: f64 = 1e-3;

    /// Nine rows of four values.
    fn values(seed: f64) -> Values<f64> {
        (0..9).map(|i| (0..4).map(|j| (seed + f64::from(i * 4 + j)).sin()).collect()).collect()
    }

    fn sum(a: &Values<f64>, b: &Values<f64>) -> Values<f64> {
        a.iter().zip(b).map(|(a, b)| a.iter().zip(b).map(|(x, y)| x + y).collect()).collect()
    }

    /// The last value of the last row, changed.
    fn with(mut values: Values<f64>, change: impl Fn(f64) -> f64) -> Values<f64> {
        if let Some(v) = values.last_mut().and_then(|row| row.last_mut()) {
            *v = change(*v);
        }
        values
    }

    #[test]
    fn a_sum_that_is_off_in_one_value_is_seen() {
        let (a, b) = (values(0.0), values(0.5));
        let whole = sum(&a, &b);
        assert_eq!(sum_error(&[&a, &b], &whole), 0.0);
        let relative = WRONG / largest(&whole);
        assert!((sum_error(&[&a, &with(b.clone(), |v| v + WRONG)], &whole) - relative).abs() < 1e-9);
        assert!(sum_error(&[&a, &b], &with(whole.clone(), |v| v - WRONG)) > 0.9 * relative);
        assert!(sum_error(&[&a, &b], &with(whole.clone(), |_| f64::NAN)).is_nan(), "NaN is not forgotten");
        assert!(sum_error(&[&with(a, |_| f64::NAN), &b], &whole).is_nan());
    }

    #[test]
    fn heads_that_do_not_add_up_are_seen() {
        let (one, two, bias) = (values(0.0), values(0.5), [0.7, 0.0, -0.1, 0.2]);
        let results: Values<f64> =
            one.iter().zip(&two).map(|(a, b)| [a.clone(), b.clone()].concat()).collect();
        let add_bias = |row: Vec<f64>| row.iter().zip(bias).map(|(v, b)| v + b).collect();
        let biased: Values<f64> = sum(&one, &two).into_iter().map(add_bias).collect();
        let error =
            |results: &Values<f64>, out: &Values<f64>| heads_error(results, out, &[Some(&bias), None]);
        assert!(error(&results, &biased) < 1e-15);
        assert!(heads_error(&results, &sum(&one, &two), &[None, None]) < 1e-15);
        assert!(heads_error(&results, &biased, &[]) > 0.1, "a bias that should not be there");
        assert!(error(&results, &sum(&one, &two)) > 0.1, "a bias that is missing");
        assert!(error(&with(results.clone(), |v| v + WRONG), &biased) > WRONG / 3.0);
        assert!(error(&results, &with(biased.clone(), |v| v + WRONG)) > WRONG / 3.0);
        assert!(error(&results, &with(biased, |_| f64::NAN)).is_nan());
    }

    #[test]
    fn patterns_that_do_not_sum_to_one_or_look_past_the_window_are_seen() {
        // Two heads; row i has i + 1 keys; all weight on the two nearest.
        let row = |n: usize| {
            let near = |k: usize| {
                if n == 1 {
                    1.0
                } else if k + 2 >= n {
                    0.5
                } else {
                    0.0
                }
            };
            (0..2).flat_map(|_| (0..n).map(near)).collect::<Vec<f64>>()
        };
        let pattern: Values<f64> = (1..6).map(row).collect();
        assert_eq!(pattern_error(&pattern, 2, None), (0.0, 0.0));
        assert_eq!(pattern_error(&pattern, 2, Some(2)), (0.0, 0.0));
        assert_eq!(pattern_error(&pattern, 2, Some(1)), (0.0, 0.5), "one key further than the window");
        let (sums, masked) = pattern_error(&with(pattern.clone(), |v| v + WRONG), 2, Some(2));
        assert!((sums - WRONG).abs() < 1e-15 && masked == 0.0);
        assert!(pattern_error(&with(pattern, |_| f64::NAN), 2, None).0.is_nan());
    }

    #[test]
    fn what_is_not_a_number_does_not_hold() {
        let check = |worst, tolerance| Check { identity: "", model: String::new(), worst, tolerance };
        assert!(check(0.0, 0.0).holds() && check(1e-6, 1e-5).holds());
        assert!(!check(1e-300, 0.0).holds() && !check(1e-4, 1e-5).holds() && !check(f64::NAN, 1.0).holds());
        assert!(difference(&[1.0, f64::NAN, 2.0], &[1.0, 1.0, 2.0]).is_nan());
        assert_eq!(difference(&[1.0, 3.0], &[1.5, 3.0]), 0.5);
    }
}
