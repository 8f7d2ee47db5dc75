//! Attention of a layer: queries of a block of rows against the keys and values of all rows that they see.
//!
//! Rows of one segment see the same earlier rows, so for each key/value head their keys are packed once and every query
//! head of the group is one matrix product against them, and one more against the values.

use super::Pass;
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::module::Module;
use crate::spec::ModelSpec;
use crate::weights::{LayerWeights, NormWeights, PerModel};
use lorascope_kernels::{
    MatMut, MatRef, Packed, Real, Write, matmul, rms_norm, scale_assign, softcap, softmax_masked,
};
use rayon::prelude::*;
use std::ops::Range;

/// Queries of one segment that are worked on together; bounds the scores that exist at a time.
const QUERIES: usize = 128;

/// Keys (after rotary) and values of a layer, for all rows: `[rows, n_kv_heads · d_head]`.
pub(super) struct Keys<R> {
    pub k: Mat<R>,
    pub v: Mat<R>,
}

/// Consecutive rows of one segment with the rows that they see.
struct Chunk {
    /// Rows of the batch.
    rows: Range<usize>,
    /// Position of the first row.
    position: usize,
    /// Rows that the last of them sees, in the order of positions.
    keys: Vec<Range<usize>>,
}

impl Chunk {
    fn n_keys(&self) -> usize {
        self.position + self.rows.len()
    }

    /// Keys that query `i` of the chunk sees.
    fn visible(&self, i: usize, window: Option<usize>) -> Range<usize> {
        let end = self.position + i + 1;
        window.map_or(0, |w| end.saturating_sub(w))..end
    }
}

impl<R: Real> Pass<'_, '_, R> {
    /// `hook_attn_out`, as added: `[rows, d_model]`.
    pub(super) fn attention(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        resid_pre: &Mat<R>,
        cache: &mut Keys<R>,
    ) -> Mat<R> {
        let q = self.queries_keys_values(layer, w, first_row, resid_pre, cache);
        let mut z = self.mix_values(layer, first_row, &q, cache);
        self.tap.at(HookPoint::Layer(layer, Site::Z), first_row, &mut z);

        let o = w.linear(Module::O);
        let mut out = self.linear(layer, Module::O, o, first_row, &z);
        self.scratch.give(q);
        let mut scales = None;
        if let Some((post_norm, _)) = &w.post_norms {
            let (normalized, scale) = self.norm(post_norm, first_row, &out);
            self.scratch.give(std::mem::replace(&mut out, normalized));
            scales = Some(scale);
        }
        self.head_results(layer, w, first_row, &z, scales.as_deref(), &mut out);
        self.scratch.give(z);
        self.tap.at(HookPoint::Layer(layer, Site::AttnOut), first_row, &mut out);
        out
    }

    /// Queries after rotary, `[rows, n_heads · d_head]`; keys and values go into the cache.
    fn queries_keys_values(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        resid_pre: &Mat<R>,
        cache: &mut Keys<R>,
    ) -> Mat<R> {
        let at = |site| HookPoint::Layer(layer, site);
        let (x, _) = self.norm(&w.norm_1, first_row, resid_pre);
        let mut q = self.linear(layer, Module::Q, w.linear(Module::Q), first_row, &x);
        let mut k = self.linear(layer, Module::K, w.linear(Module::K), first_row, &x);
        let mut v = self.linear(layer, Module::V, w.linear(Module::V), first_row, &x);
        self.scratch.give(x);
        if let Some((q_norm, k_norm)) = &w.qk_norms {
            self.norm_heads(q_norm, first_row, &mut q);
            self.norm_heads(k_norm, first_row, &mut k);
        }
        self.tap.at(at(Site::Q), first_row, &mut q);
        self.tap.at(at(Site::K), first_row, &mut k);
        self.tap.at(at(Site::V), first_row, &mut v);
        let rotary = self.model.spec().layers[layer].rotary;
        if let Some(table) = self.rotary.get(rotary) {
            let position = |i| self.batch.row(first_row + i).position;
            q.for_rows(|i, row| table.rotate(row, position(i)));
            k.for_rows(|i, row| table.rotate(row, position(i)));
            self.tap.at(at(Site::RotQ), first_row, &mut q);
            self.tap.at(at(Site::RotK), first_row, &mut k);
        }
        let span = first_row * k.cols..(first_row + k.rows) * k.cols;
        cache.k.data[span.clone()].copy_from_slice(&k.data);
        cache.v.data[span].copy_from_slice(&v.data);
        self.scratch.give(k);
        self.scratch.give(v);
        q
    }

    /// RMSNorm of each head by itself.
    fn norm_heads(&self, w: &PerModel<NormWeights<R>>, first_row: usize, x: &mut Mat<R>) {
        let (crate::spec::NormKind::Rms { eps, .. } | crate::spec::NormKind::Layer { eps }) =
            self.model.spec().norm;
        let (d_head, eps) = (self.model.spec().d_head, R::from_f64(eps));
        x.for_rows(|i, row| {
            let own = w.of(self.batch.row(first_row + i).model);
            let mut normalized = vec![R::ZERO; d_head];
            for head in row.chunks_exact_mut(d_head) {
                rms_norm(head, &own.weight, eps, &mut normalized);
                head.copy_from_slice(&normalized);
            }
        });
    }

    /// `hook_z`: `[rows, n_heads · d_head]`.
    fn mix_values(&mut self, layer: usize, first_row: usize, q: &Mat<R>, cache: &Keys<R>) -> Mat<R> {
        let chunks = self.chunks(first_row..first_row + q.rows);
        let watched = [Site::AttnScores, Site::Pattern].map(|s| self.tap.wants(HookPoint::Layer(layer, s)));
        let mut z = self.scratch.mat(q.rows, q.cols);
        let mixer = Mixer { spec: self.model.spec(), layer, first_row, q, cache };
        let mut place = |chunk: &Chunk, heads: Vec<Vec<R>>| mixer.place(chunk, &heads, &mut z);
        if watched.contains(&true) {
            for chunk in &chunks {
                let patterns = self.watched_patterns(&mixer, chunk);
                place(chunk, mixer.values(chunk, &patterns));
            }
        } else {
            let mixed: Vec<Vec<Vec<R>>> = chunks.par_iter().map(|chunk| mixer.heads(chunk)).collect();
            for (chunk, heads) in chunks.iter().zip(mixed) {
                place(chunk, heads);
            }
        }
        z
    }

    /// The chunks that a block of rows consists of.
    fn chunks(&self, block: Range<usize>) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for segment in self.batch.segments() {
            let rows = segment.rows.start.max(block.start)..segment.rows.end.min(block.end);
            for start in rows.clone().step_by(QUERIES) {
                let rows = start..rows.end.min(start + QUERIES);
                let keys = self.batch.keys_of(rows.end - 1);
                chunks.push(Chunk { position: self.batch.row(start).position, rows, keys });
            }
        }
        chunks
    }

    /// Patterns of all heads of a chunk, `[head][query · n_keys]`, with the taps on scores and pattern.
    fn watched_patterns(&mut self, mixer: &Mixer<R>, chunk: &Chunk) -> Vec<Vec<R>> {
        let (layer, n_keys) = (mixer.layer, chunk.n_keys());
        let mut heads = mixer.scores(chunk);
        let window = mixer.window();
        for i in 0..chunk.rows.len() {
            let visible = chunk.visible(i, window);
            for head in &mut heads {
                head[i * n_keys..i * n_keys + visible.start].fill(R::NEG_INFINITY);
            }
            self.tap_heads(HookPoint::Layer(layer, Site::AttnScores), chunk, i, &mut heads);
            for head in &mut heads {
                softmax_masked(&mut head[i * n_keys..(i + 1) * n_keys], visible.clone());
            }
            self.tap_heads(HookPoint::Layer(layer, Site::Pattern), chunk, i, &mut heads);
        }
        heads
    }

    /// Taps the keys up to its own position of query `i`, laid out `[head][key]`.
    fn tap_heads(&mut self, point: HookPoint, chunk: &Chunk, i: usize, heads: &mut [Vec<R>]) {
        let (row, seen, n_keys) = (chunk.rows.start + i, chunk.position + i + 1, chunk.n_keys());
        if self.tap.rows_wanted(point, row..row + 1).is_empty() {
            return;
        }
        let part = i * n_keys..i * n_keys + seen;
        let mut values: Vec<R> = heads.iter().flat_map(|h| h[part.clone()].iter().copied()).collect();
        self.tap.at_row(point, row, &mut values);
        for (head, new) in heads.iter_mut().zip(values.chunks_exact(seen)) {
            head[part.clone()].copy_from_slice(new);
        }
    }

    /// `hook_result` where somebody asks for it: each head's share of the output, as added. An edit of a head's
    /// result changes the output by the difference. The post-attention norm is frozen at its actual scale.
    fn head_results(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        z: &Mat<R>,
        scales: Option<&[R]>,
        out: &mut Mat<R>,
    ) {
        let point = HookPoint::Layer(layer, Site::Result);
        let (n_heads, d_head) = (self.model.spec().n_heads, self.model.spec().d_head);
        for row in self.tap.rows_wanted(point, first_row..first_row + z.rows) {
            let (i, model) = (row - first_row, self.batch.row(row).model);
            // One input row per head, everything but that head's z zero: the projection is linear.
            let mut alone = Mat::zeros(n_heads, z.cols);
            for head in 0..n_heads {
                let part = head * d_head..(head + 1) * d_head;
                alone.row_mut(head)[part.clone()].copy_from_slice(&z.row(i)[part]);
            }
            let mut results = self.linear_share(w.linear(Module::O), &alone, &vec![(model, 0..n_heads)]);
            if let (Some((post_norm, _)), Some(scales)) = (&w.post_norms, scales) {
                let weight = &post_norm.of(model).weight;
                results.for_rows(|_, row| {
                    row.iter_mut().zip(weight).for_each(|(v, &g)| *v = *v / scales[i] * g)
                });
            }
            let before = results.clone();
            self.tap.at_row(point, row, &mut results.data);
            for (old, new) in before.data.chunks_exact(out.cols).zip(results.data.chunks_exact(out.cols)) {
                if old != new {
                    out.row_mut(i).iter_mut().zip(old.iter().zip(new)).for_each(|(o, (&a, &b))| *o += b - a);
                }
            }
        }
    }
}

/// Scores, patterns and mixed values of chunks of one layer.
struct Mixer<'a, R> {
    spec: &'a ModelSpec,
    layer: usize,
    first_row: usize,
    q: &'a Mat<R>,
    cache: &'a Keys<R>,
}

impl<R: Real> Mixer<'_, R> {
    fn window(&self) -> Option<usize> {
        self.spec.layers[self.layer].window
    }

    /// z of every head of a chunk, `[head][query · d_head]`, in parallel over key/value heads.
    fn heads(&self, chunk: &Chunk) -> Vec<Vec<R>> {
        let of_group = |g: usize| {
            let (keys, values) = (self.packed_keys(chunk, g), self.packed_values(chunk, g));
            let heads = g * self.spec.group()..(g + 1) * self.spec.group();
            heads
                .map(|head| {
                    let mut scores = self.head_scores(chunk, head, &keys);
                    let n_keys = chunk.n_keys();
                    for (i, row) in scores.chunks_exact_mut(n_keys).enumerate() {
                        softmax_masked(row, chunk.visible(i, self.window()));
                    }
                    self.head_values(chunk, &scores, &values)
                })
                .collect::<Vec<_>>()
        };
        (0..self.spec.n_kv_heads).into_par_iter().flat_map_iter(of_group).collect()
    }

    /// Scaled and capped scores of every head, `[head][query · n_keys]`; not masked yet.
    fn scores(&self, chunk: &Chunk) -> Vec<Vec<R>> {
        let of_head =
            |head: usize| self.head_scores(chunk, head, &self.packed_keys(chunk, head / self.spec.group()));
        (0..self.spec.n_heads).into_par_iter().map(of_head).collect()
    }

    /// z of every head from given patterns.
    fn values(&self, chunk: &Chunk, patterns: &[Vec<R>]) -> Vec<Vec<R>> {
        let of_head = |(head, pattern): (usize, &Vec<R>)| {
            self.head_values(chunk, pattern, &self.packed_values(chunk, head / self.spec.group()))
        };
        patterns.par_iter().enumerate().map(of_head).collect()
    }

    fn head_scores(&self, chunk: &Chunk, head: usize, keys: &Packed<R>) -> Vec<R> {
        let (n, d_head) = (chunk.rows.len(), self.spec.d_head);
        let first = (chunk.rows.start - self.first_row) * self.q.cols + head * d_head;
        let queries = MatRef::strided(&self.q.data[first..], n, d_head, self.q.cols);
        let mut scores = vec![R::ZERO; n * chunk.n_keys()];
        matmul(MatMut::new(&mut scores, n, chunk.n_keys()), queries, keys, Write::Set);
        scale_assign(&mut scores, R::from_f64(self.spec.attn_scale));
        if let Some(cap) = self.spec.attn_softcap {
            softcap(&mut scores, R::from_f64(cap));
        }
        scores
    }

    fn head_values(&self, chunk: &Chunk, pattern: &[R], values: &Packed<R>) -> Vec<R> {
        let (n, d_head) = (chunk.rows.len(), self.spec.d_head);
        let mut z = vec![R::ZERO; n * d_head];
        matmul(MatMut::new(&mut z, n, d_head), MatRef::new(pattern, n, chunk.n_keys()), values, Write::Set);
        z
    }

    /// Keys of one key/value head that the chunk sees, as outputs of a product.
    fn packed_keys(&self, chunk: &Chunk, kv_head: usize) -> Packed<R> {
        Packed::from_output_rows(MatRef::new(
            &self.gather(&self.cache.k, chunk, kv_head),
            chunk.n_keys(),
            self.spec.d_head,
        ))
    }

    /// Values of one key/value head that the chunk sees, as inputs of a product.
    fn packed_values(&self, chunk: &Chunk, kv_head: usize) -> Packed<R> {
        Packed::from_input_rows(MatRef::new(
            &self.gather(&self.cache.v, chunk, kv_head),
            chunk.n_keys(),
            self.spec.d_head,
        ))
    }

    fn gather(&self, from: &Mat<R>, chunk: &Chunk, kv_head: usize) -> Vec<R> {
        let part = kv_head * self.spec.d_head..(kv_head + 1) * self.spec.d_head;
        let rows = chunk.keys.iter().cloned().flatten();
        let mut out = Vec::with_capacity(chunk.n_keys() * self.spec.d_head);
        rows.for_each(|row| out.extend_from_slice(&from.row(row)[part.clone()]));
        out
    }

    /// Writes the heads' z of a chunk into the block's matrix.
    fn place(&self, chunk: &Chunk, heads: &[Vec<R>], z: &mut Mat<R>) {
        let d_head = self.spec.d_head;
        for (i, row) in chunk.rows.clone().enumerate() {
            let target = z.row_mut(row - self.first_row);
            for (part, head) in target.chunks_exact_mut(d_head).zip(heads) {
                part.copy_from_slice(&head[i * d_head..(i + 1) * d_head]);
            }
        }
    }
}
