//! How one head differs between two models on one prompt, exactly: which products of queries and keys changed its scores and
//! through what, and which factor changed what it writes.
//!
//! Scores. With `Δq = q − q'` and `Δk = k − k'` (first model minus second, after rotary, which is linear),
//! `q·k − q'·k' = Δq·k' + q'·Δk + Δq·Δk`. Of Δq, `q_adapter` is what the two adapters' factors of the query projection add to the
//! models' own inputs (hook_lora_out), `q_inputs` the rest: the base's weights on changed inputs (and weights or biases that an
//! adapter replaces outright); Δk likewise. Before softmax and before any soft cap.
//!
//! Writes. A head writes `Σ_t p_t v_t·u / σ` along the decision direction u, taken back through its slice of the output projection.
//! With Δ as above, and the second model's values primed, its change is `Σ Δp v'·u'/σ' + Σ p' Δv·u'/σ' + Σ Δp Δv·u'/σ'`, plus
//! what the adapters' change of the output projection reads of z, plus the change of the norms' scales (and of a replaced final
//! norm or output matrix).

use super::layout::WRITE_PARTS;
use super::measure::{Chunk, Read, score_sites};
use lorascope_engine::{Module, Site};
use lorascope_kernels::dot;

/// Parts of scores by span, then parts of the write.
pub(super) fn of_head(chunk: &Chunk, read: &Read, i: usize, pair: [usize; 2], head: usize) -> Vec<f32> {
    let mut numbers = by_span(chunk, read.layer, i, pair, head);
    numbers.extend(writes(chunk, read, pair, head).map(|v| v as f32));
    numbers
}

/// `a − b`, where what is missing is zero.
fn minus(a: Option<&[f32]>, b: Option<&[f32]>, part: &std::ops::Range<usize>) -> Vec<f32> {
    let of = |v: Option<&[f32]>, i: usize| v.map_or(0.0, |v| v[i]);
    part.clone().map(|i| of(a, i) - of(b, i)).collect()
}

/// The parts of the change of a head's score of each key, scaled as scores are: `[key][part]`, the parts in the order of
/// the layout.
pub(super) fn scores(chunk: &Chunk, layer: usize, [one, two]: [usize; 2], head: usize) -> Vec<Vec<f64>> {
    let spec = chunk.spec();
    let (query, key) = score_sites(spec);
    let own = head * spec.d_head..(head + 1) * spec.d_head;
    let kv_head = head / spec.group();
    let of_kv = kv_head * spec.d_head..(kv_head + 1) * spec.d_head;
    let rows = [chunk.decision_row(one), chunk.decision_row(two)];
    let q = rows.map(|row| chunk.at(layer, query, row));
    let dq = minus(q[0], q[1], &own);
    let base_q = &q[1].unwrap_or_default()[own.clone()];
    let lora_q = rows.map(|row| chunk.at(layer, Site::LoraOut(Module::Q), row));
    let adapter_q = minus(lora_q[0], lora_q[1], &own);
    let scaled = |a: &[f32], b: &[f32]| spec.attn_scale * dot(a, b);
    let of_key = |(&row, &base_row): (&usize, &usize)| {
        let k = [row, base_row].map(|row| chunk.at(layer, key, row));
        let dk = minus(k[0], k[1], &of_kv);
        let base_k = &k[1].unwrap_or_default()[of_kv.clone()];
        let (q_part, k_part, both) = (scaled(&dq, base_k), scaled(base_q, &dk), scaled(&dq, &dk));
        if spec.qk_norm {
            return vec![q_part, k_part, both];
        }
        let lora_k = [row, base_row].map(|row| chunk.at(layer, Site::LoraOut(Module::K), row));
        let adapter_k = minus(lora_k[0], lora_k[1], &of_kv);
        let (q_adapter, k_adapter) = (scaled(&adapter_q, base_k), scaled(base_q, &adapter_k));
        vec![q_adapter, q_part - q_adapter, k_adapter, k_part - k_adapter, both]
    };
    chunk.keys[one].iter().zip(&chunk.keys[two]).map(of_key).collect()
}

/// Mean change of the scores of a span's tokens, relative to the mean over all keys by the second model's pattern: a change that
/// all scores share changes no pattern.
fn by_span(chunk: &Chunk, layer: usize, i: usize, pair: [usize; 2], head: usize) -> Vec<f32> {
    let (spans, layout, prompt) = (chunk.setup.spans, chunk.setup.layout, chunk.prompts[i]);
    let n_parts = layout.score_parts.len();
    let pattern = chunk.pattern(layer, pair[1], head);
    let n = pattern.len();
    let seen = chunk.spec().layers[layer].window.map_or(0, |w| n.saturating_sub(w));
    let mut sums = vec![vec![0.0f64; n_parts]; spans.n()];
    let mut sizes = vec![0usize; spans.n()];
    let mut shared = vec![0.0f64; n_parts];
    for (t, parts) in scores(chunk, layer, pair, head).into_iter().enumerate().skip(seen) {
        let span = spans.at(prompt, t);
        sizes[span] += 1;
        for (p, part) in parts.into_iter().enumerate() {
            sums[span][p] += part;
            shared[p] += f64::from(pattern[t]) * part;
        }
    }
    let mut numbers = Vec::with_capacity(layout.per_change());
    for (span, (sums, size)) in sums.into_iter().zip(sizes).enumerate() {
        for (sum, shared) in sums.into_iter().zip(&shared) {
            // A span outside the window has no scores.
            let change = if size == 0 { 0.0 } else { sum / size as f64 - shared };
            numbers.push(if spans.has(prompt, span) { change as f32 } else { f32::NAN });
        }
    }
    numbers
}

/// The parts of the change of what a head writes along the decision direction.
pub(super) fn writes(
    chunk: &Chunk,
    read: &Read,
    [one, two]: [usize; 2],
    head: usize,
) -> [f64; WRITE_PARTS.len()] {
    let (layer, spec) = (read.layer, chunk.spec());
    let own = head * spec.d_head..(head + 1) * spec.d_head;
    let kv_head = head / spec.group();
    let of_kv = kv_head * spec.d_head..(kv_head + 1) * spec.d_head;
    let [u, base_u] = [one, two].map(|s| chunk.direction_of[s]);
    let (scale, base_scale) = (chunk.scale(layer, one), chunk.scale(layer, two));
    let direction = &read.both.row(base_u)[own.clone()];
    let patterns = [one, two].map(|s| chunk.pattern(layer, s, head));
    let mut z = vec![0.0f64; spec.d_head];
    let [mut of_pattern, mut of_adapter, mut of_values, mut of_both] = [0.0f64; 4];
    for (t, (&row, &base_row)) in chunk.keys[one].iter().zip(&chunk.keys[two]).enumerate() {
        let (p, base_p) = (f64::from(patterns[0][t]), f64::from(patterns[1][t]));
        if p == 0.0 && base_p == 0.0 {
            continue;
        }
        let v = [row, base_row].map(|row| chunk.at(layer, Site::V, row));
        let dv = minus(v[0], v[1], &of_kv);
        let lora = [row, base_row].map(|row| chunk.at(layer, Site::LoraOut(Module::V), row));
        let adapter = dot(&minus(lora[0], lora[1], &of_kv), direction);
        let changed = dot(&dv, direction);
        let base_v = &v[1].unwrap_or_default()[of_kv.clone()];
        of_pattern += (p - base_p) * dot(base_v, direction);
        of_adapter += base_p * adapter;
        of_values += base_p * (changed - adapter);
        of_both += (p - base_p) * changed;
        let own_v = &v[0].unwrap_or_default()[of_kv.clone()];
        z.iter_mut().zip(own_v).for_each(|(z, &v)| *z += p * f64::from(v));
    }
    let through = |m: &lorascope_engine::Mat<f64>, row: usize| -> f64 {
        z.iter().zip(&m.row(row)[own.clone()]).map(|(z, u)| z * u).sum()
    };
    let changed = through(&read.adapter, u) - through(&read.adapter, base_u);
    let written = (through(&read.base, u) + through(&read.adapter, u)) / scale;
    let frozen = (through(&read.base, base_u) + through(&read.adapter, base_u) + changed) / base_scale;
    let parts = [of_pattern, of_adapter, of_values, of_both, changed].map(|v| v / base_scale);
    let [pattern, v_adapter, v_inputs, both, o_adapter] = parts;
    [pattern, v_adapter, v_inputs, both, o_adapter, written - frozen]
}
