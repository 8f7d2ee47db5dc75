//! The largest components of every update, and the words that they write.

use super::alignment::{TokenPair, before_norm, norm_after, writes};
use super::tables::COMPONENTS;
use super::variants::{Block, Variant};
use crate::error::Result;
use crate::subject::Subject;
use lorascope_engine::{Mat, Module, States};
use lorascope_record::{Table, row};

/// One component of one update.
pub(super) struct Component {
    pub model: usize,
    layer: usize,
    module: Module,
    index: usize,
    value: f64,
    share: f64,
    square: f64,
    cosine_w: Option<f64>,
    /// What it adds to the residual stream, up to a positive factor; `None` where the module does not write there.
    written: Option<Vec<f64>>,
}

/// The largest components of every adapter's update of a block.
pub(super) fn of_block(
    subject: &Subject,
    variants: &[Variant],
    block: &Block,
    readouts: &[Mat<f64>],
    most: usize,
) -> Result<Vec<Component>> {
    let mut found = Vec::new();
    for change in block.changes.iter().filter(|c| variants[c.variant].control.is_none()) {
        let model = variants[change.variant].model;
        let w = if writes(block.module) {
            Some(before_norm(subject, block, model, readouts)?.row(0).to_vec())
        } else {
            None
        };
        for (index, share) in change.svd.shares().into_iter().enumerate().take(most.min(change.svd.rank())) {
            let value = change.svd.values[index];
            let u = change.svd.output(index);
            let (cosine_w, written) = match &w {
                None => (None, None),
                Some(w) => {
                    let size = w.iter().map(|v| v * v).sum::<f64>().sqrt();
                    let along: f64 = u.iter().zip(w).map(|(u, w)| u * w).sum();
                    let direction: Vec<f64> = u.iter().copied().collect();
                    let written = match norm_after(subject, block.layer, block.module) {
                        None => direction,
                        Some(norm) => {
                            // These norms have no bias and no centring: forwards and back are the same product.
                            let one = Mat { rows: 1, cols: direction.len(), data: direction };
                            subject.model.pull_back_norm(norm, &[model], &one)?.directions.data
                        }
                    };
                    ((size > 0.0).then(|| along / size), Some(written))
                }
            };
            let (layer, module) = (block.layer, block.module);
            let square = value * value;
            found.push(Component { model, layer, module, index, value, share, square, cosine_w, written });
        }
    }
    Ok(found)
}

/// The table of one model's components; the vocabulary passes by once for all of them. `total` is the squared norm of all of
/// the model's updates.
pub(super) fn table(
    subject: &Subject,
    model: usize,
    components: &[&Component],
    total: f64,
    tokens: usize,
) -> Result<Table> {
    let writers: Vec<&[f64]> = components.iter().filter_map(|c| c.written.as_deref()).collect();
    let mut named = words(subject, model, &writers, tokens)?.into_iter();
    let mut table = Table::new(&COMPONENTS);
    for c in components {
        let words = c.written.as_ref().and_then(|_| named.next());
        let sign = words.as_ref().map_or(1.0, |w| w.sign);
        let (promotes, suppresses) = words.map(|w| (w.promotes, w.suppresses)).unzip();
        table.push(&row![
            subject.model.name(model),
            c.layer,
            c.module.name(),
            c.index,
            promotes,
            suppresses,
            c.value,
            c.share,
            c.square / total,
            c.cosine_w.map(|cosine| sign * cosine)
        ])?;
    }
    table.sort_by_keys();
    Ok(table)
}

/// What a direction says in words, as JSON.
struct Named {
    promotes: String,
    suppresses: String,
    /// −1 where the direction was turned round for it.
    sign: f64,
}

/// What each direction promotes and suppresses, turned so that the token with the largest logit is promoted.
fn words(subject: &Subject, model: usize, directions: &[&[f64]], tokens: usize) -> Result<Vec<Named>> {
    if directions.is_empty() {
        return Ok(Vec::new());
    }
    // The sign needs one token even where none is to be listed.
    let top = tokens.max(1);
    let (n, d) = (directions.len(), subject.model.spec().d_model);
    let mut both = Mat::zeros(2 * n, d);
    for (i, direction) in directions.iter().enumerate() {
        // At the length of a normalised state, so that the norm's epsilon is nothing beside it.
        let length = direction.iter().map(|v| v * v).sum::<f64>().sqrt().max(f64::MIN_POSITIVE);
        let scale = (d as f64).sqrt() / length;
        for (k, v) in direction.iter().enumerate() {
            both.row_mut(2 * i)[k] = (v * scale) as f32;
            both.row_mut(2 * i + 1)[k] = -(v * scale) as f32;
        }
    }
    let mut normalized = subject.model.final_norm(model, &both);
    // What is left without the final norm's bias, which is no part of the direction.
    for i in 0..n {
        for k in 0..d {
            let half = (normalized.row(2 * i)[k] - normalized.row(2 * i + 1)[k]) / 2.0;
            normalized.row_mut(2 * i)[k] = half;
            normalized.row_mut(2 * i + 1)[k] = -half;
        }
    }
    let states = States { model, normalized, tokens: vec![Vec::new(); 2 * n], reference: Vec::new(), top };
    let found = subject.model.next_tokens(&states)?;
    let text = |i: usize, sign: f64| {
        let listed = found[i].top.iter().take(tokens);
        let listed = listed.map(|&(t, logit)| (subject.tokenizer.token_text(t), sign * logit));
        serde_json::to_string(&listed.collect::<Vec<_>>()).unwrap_or_default()
    };
    let largest = |i: usize| found[i].top.first().map_or(0.0, |t| t.1);
    let named = |i: usize| {
        let (own, turned) = (2 * i, 2 * i + 1);
        let (up, down, sign) =
            if largest(turned) > largest(own) { (turned, own, -1.0) } else { (own, turned, 1.0) };
        Named { promotes: text(up, 1.0), suppresses: text(down, -1.0), sign }
    };
    Ok((0..n).map(named).collect())
}

/// The most frequent pair of deciding tokens, in words.
pub(super) fn first_pair(subject: &Subject, pairs: &[TokenPair]) -> String {
    let text = |token: u32| subject.tokenizer.token_text(token);
    pairs.first().map_or_else(String::new, |p| format!("{:?} over {:?}", text(p.b), text(p.a)))
}
