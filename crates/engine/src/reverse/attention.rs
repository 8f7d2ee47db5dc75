//! The way back through attention: from the gradient of z to those of queries, keys and values.
//!
//! Scores and patterns are computed again from the queries and keys. With P the pattern, S its scores (after scale and cap) and V
//! the values: `dV = Pᵀ dz`, `dP = dz Vᵀ`, `dS = P ⊙ (dP − Σ P dP)`, and from dS, through cap and scale, `dq = dS K`, `dK = dSᵀ q`.

use super::rules::SoftmaxRule;
use super::walk::{KeyGradients, Walk};
use crate::forward::attention::{Chunk, Keys, Mixer, PackedHead, pack};
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::number::Number;
use lorascope_kernels::{
    MatMut, MatRef, Packed, Write, add_assign, matmul, scale_assign, softcap_backward, softmax_backward,
    softmax_masked,
};
use rayon::prelude::*;
use std::ops::Range;

/// Chunks that are worked on together; bounds the scores that exist at a time.
const CHUNKS: usize = 4;
/// Rows that a transposition turns together: a cache line of f32.
const TURNED_ROWS: usize = 16;

/// A chunk's query heads of one key/value head: `[query and head, key]`, and the keys and values themselves.
struct Group<R> {
    /// Scores after scale and cap, edits included.
    scores: Mat<R>,
    /// The same before edits, where there are any.
    computed_scores: Option<Mat<R>>,
    /// Softmax of the scores, edits included.
    pattern: Mat<R>,
    /// The same before edits, where there are any.
    computed_pattern: Option<Mat<R>>,
    /// Gradient of the pattern, then of the scores.
    gradient: Mat<R>,
    /// Gradient of the values, `[key, d_head]`.
    of_values: Mat<R>,
}

impl<R: Number> Walk<'_, '_, R> {
    /// The gradient of a block's queries (after rotary); those of the keys and values that they see are added to `reached`.
    pub(super) fn attend(
        &mut self,
        layer: usize,
        keys: &Keys<R>,
        rows: &Range<usize>,
        queries: &Mat<R>,
        dz: &Mat<R>,
        reached: &mut KeyGradients<R>,
    ) -> Mat<R> {
        let spec = self.pass.model.spec();
        let mixer = Mixer { spec, layer, first_row: rows.start, q: queries, cache: keys };
        let mut dq = Mat::zeros(queries.rows, queries.cols);
        for chunks in Chunk::lines(self.batch, rows.clone()).chunks(CHUNKS) {
            let pairs: Vec<(&Chunk, usize)> =
                chunks.iter().flat_map(|c| (0..spec.n_kv_heads).map(move |g| (c, g))).collect();
            let packed: Vec<Vec<PackedHead<R>>> =
                chunks.par_iter().map(|chunk| pack(spec, chunk, keys)).collect();
            let of = |i: usize| &packed[i / spec.n_kv_heads][i % spec.n_kv_heads];
            let mut groups: Vec<Group<R>> = pairs
                .par_iter()
                .enumerate()
                .map(|(i, &(chunk, g))| {
                    let scores = mixer.group_scores(chunk, g, &of(i).keys);
                    Group {
                        pattern: Mat::default(),
                        gradient: Mat::default(),
                        of_values: Mat::default(),
                        computed_scores: None,
                        computed_pattern: None,
                        scores,
                    }
                })
                .collect();
            self.put_in_edited(Site::AttnScores, layer, &mixer, chunks, &mut groups);
            groups.par_iter_mut().zip(&pairs).for_each(|(group, (chunk, _))| {
                group.pattern = group.scores.clone();
                let heads = spec.group();
                for (i, row) in group.pattern.data.chunks_exact_mut(chunk.n_keys().max(1)).enumerate() {
                    softmax_masked(row, chunk.visible(i / heads, mixer.window()));
                }
            });
            self.put_in_edited(Site::Pattern, layer, &mixer, chunks, &mut groups);
            groups.par_iter_mut().zip(&pairs).for_each(|(group, &(chunk, g))| {
                self.through_values(&mixer, chunk, g, dz, group);
            });
            self.tap_gradients(Site::Pattern, layer, &mixer, chunks, &mut groups);
            groups.par_iter_mut().zip(&pairs).for_each(|(group, (chunk, _))| {
                self.through_softmax(&mixer, chunk, group);
            });
            self.tap_gradients(Site::AttnScores, layer, &mixer, chunks, &mut groups);
            let of_scores: Vec<(Mat<R>, Mat<R>)> = groups
                .par_iter_mut()
                .zip(&pairs)
                .map(|(group, &(chunk, g))| self.through_scores(&mixer, chunk, g, group))
                .collect();
            // One after the other: chunks share keys.
            for ((group, (of_queries, of_keys)), (chunk, g)) in groups.iter().zip(&of_scores).zip(&pairs) {
                let part = g * spec.d_head..(g + 1) * spec.d_head;
                for (i, row) in chunk.keys.iter().cloned().flatten().enumerate() {
                    add_assign(&mut reached.keys.row_mut(row)[part.clone()], of_keys.row(i));
                    add_assign(&mut reached.values.row_mut(row)[part.clone()], group.of_values.row(i));
                }
                let width = spec.group() * spec.d_head;
                for (i, row) in chunk.rows.clone().enumerate() {
                    dq.row_mut(row - rows.start)[g * width..(g + 1) * width]
                        .copy_from_slice(&of_queries.data[i * width..(i + 1) * width]);
                }
            }
        }
        dq
    }

    /// The gradients of the pattern and of the values.
    fn through_values(&self, mixer: &Mixer<R>, chunk: &Chunk, g: usize, dz: &Mat<R>, group: &mut Group<R>) {
        let spec = mixer.spec;
        let (n, n_keys) = (group.pattern.rows, chunk.n_keys());
        let dz = heads_of(dz, chunk, mixer.first_row, g * spec.group(), spec.group(), spec.d_head);
        let values = gather(&mixer.cache.v, chunk, g, spec.d_head);
        group.gradient = Mat::zeros(n, n_keys);
        matmul(group.gradient.view_mut(), dz.view(), &Packed::from_output_rows(values.view()), Write::Set);
        group.of_values = transposed_product(&group.pattern, &dz);
        if self.rules.halved_attention {
            scale_assign(&mut group.gradient.data, R::from_f64(0.5));
            scale_assign(&mut group.of_values.data, R::from_f64(0.5));
        }
    }

    /// From the gradient of the pattern to that of the scores.
    fn through_softmax(&self, mixer: &Mixer<R>, chunk: &Chunk, group: &mut Group<R>) {
        let (n_keys, heads) = (chunk.n_keys().max(1), mixer.spec.group());
        match self.rules.softmax {
            SoftmaxRule::Frozen => group.gradient.data.fill(R::ZERO),
            SoftmaxRule::Exact => {
                let pattern = group.computed_pattern.as_ref().unwrap_or(&group.pattern);
                let rows =
                    group.gradient.data.chunks_exact_mut(n_keys).zip(pattern.data.chunks_exact(n_keys));
                rows.for_each(|(gradient, pattern)| softmax_backward(pattern, gradient));
            }
            SoftmaxRule::Softened(temperature) => {
                let inverse = R::from_f64(1.0 / temperature);
                let mut softened = group.scores.clone();
                scale_assign(&mut softened.data, inverse);
                let rows =
                    group.gradient.data.chunks_exact_mut(n_keys).zip(softened.data.chunks_exact_mut(n_keys));
                rows.enumerate().for_each(|(i, (gradient, scores))| {
                    softmax_masked(scores, chunk.visible(i / heads, mixer.window()));
                    // With respect to the softened scores, as the method's authors have it: not divided by the temperature.
                    softmax_backward(scores, gradient);
                });
            }
        }
    }

    /// From the gradient of the scores to those of queries and keys: `[query and head, d_head]`, `[key, d_head]`.
    fn through_scores(
        &self,
        mixer: &Mixer<R>,
        chunk: &Chunk,
        g: usize,
        group: &mut Group<R>,
    ) -> (Mat<R>, Mat<R>) {
        let spec = mixer.spec;
        let gradient = &mut group.gradient;
        if let Some(cap) = spec.attn_softcap {
            let scores = group.computed_scores.as_ref().unwrap_or(&group.scores);
            softcap_backward(&scores.data, R::from_f64(cap), &mut gradient.data);
        }
        // An edit's scores may be minus infinity, where no gradient goes.
        let scale = spec.attn_scale * if self.rules.halved_attention { 0.5 } else { 1.0 };
        scale_assign(&mut gradient.data, R::from_f64(scale));
        let (keys, heads) = (gather(&mixer.cache.k, chunk, g, spec.d_head), spec.group());
        let queries = heads_of(mixer.q, chunk, mixer.first_row, g * heads, heads, spec.d_head);
        let mut of_queries = Mat::zeros(gradient.rows, spec.d_head);
        matmul(of_queries.view_mut(), gradient.view(), &Packed::from_input_rows(keys.view()), Write::Set);
        (of_queries, transposed_product(gradient, &queries))
    }

    /// Puts in what edits made of scores or patterns.
    fn put_in_edited(
        &self,
        site: Site,
        layer: usize,
        mixer: &Mixer<R>,
        chunks: &[Chunk],
        groups: &mut [Group<R>],
    ) {
        let point = HookPoint::Layer(layer, site);
        for (chunk, groups) in chunks.iter().zip(groups.chunks_mut(mixer.spec.n_kv_heads)) {
            for i in 0..chunk.rows.len() {
                let Some(edited) = self.edited.get(&(point, chunk.rows.start + i)) else { continue };
                let seen = chunk.own(i) + 1;
                let mut new = edited.chunks_exact(seen);
                for group in &mut *groups {
                    let (target, computed) = match site {
                        Site::Pattern => (&mut group.pattern, &mut group.computed_pattern),
                        _ => (&mut group.scores, &mut group.computed_scores),
                    };
                    computed.get_or_insert_with(|| target.clone());
                    for h in 0..mixer.spec.group() {
                        if let Some(new) = new.next() {
                            target.row_mut(i * mixer.spec.group() + h)[..seen].copy_from_slice(new);
                        }
                    }
                }
            }
        }
    }

    /// The tap on gradients of scores or patterns, which are laid out `[head][key]` for each row.
    fn tap_gradients(
        &mut self,
        site: Site,
        layer: usize,
        mixer: &Mixer<R>,
        chunks: &[Chunk],
        groups: &mut [Group<R>],
    ) {
        let point = HookPoint::Layer(layer, site);
        if !self.tap.wants(point) {
            return;
        }
        for (chunk, groups) in chunks.iter().zip(groups.chunks_mut(mixer.spec.n_kv_heads)) {
            for row in self.tap.rows_wanted(point, chunk.rows.clone()) {
                let i = row - chunk.rows.start;
                let seen = chunk.own(i) + 1;
                let rows = i * mixer.spec.group()..(i + 1) * mixer.spec.group();
                let mut values = Vec::with_capacity(seen * mixer.spec.n_heads);
                for group in &*groups {
                    rows.clone().for_each(|r| values.extend_from_slice(&group.gradient.row(r)[..seen]));
                }
                self.tap.back_at_row(point, row, &mut values);
                let mut new = values.chunks_exact(seen);
                for group in &mut *groups {
                    for (r, new) in rows.clone().zip(&mut new) {
                        group.gradient.row_mut(r)[..seen].copy_from_slice(new);
                    }
                }
            }
        }
    }
}

/// `[key, d_head]` of one key/value head.
fn gather<R: Number>(from: &Mat<R>, chunk: &Chunk, g: usize, d_head: usize) -> Mat<R> {
    let part = g * d_head..(g + 1) * d_head;
    from.parts(chunk.keys.iter().cloned().flatten(), part).shaped(chunk.n_keys(), d_head)
}

/// `[query and head, d_head]` of some heads of a chunk's rows.
fn heads_of<R: Number>(
    from: &Mat<R>,
    chunk: &Chunk,
    first_row: usize,
    first_head: usize,
    heads: usize,
    d_head: usize,
) -> Mat<R> {
    let part = first_head * d_head..(first_head + heads) * d_head;
    let rows = chunk.rows.start - first_row..chunk.rows.end - first_row;
    from.parts(rows, part).shaped(chunk.rows.len() * heads, d_head)
}

/// `aᵀ b`.
pub(super) fn transposed_product<R: Number>(a: &Mat<R>, b: &Mat<R>) -> Mat<R> {
    let mut out = Mat::zeros(a.cols, b.cols);
    add_transposed_product(out.view_mut(), a.view(), b.view());
    out
}

/// `out += aᵀ b`, for `a` of shape `[rows, n]` and `b` of `[rows, m]`.
pub(super) fn add_transposed_product<R: Number>(out: MatMut<R>, a: MatRef<R>, b: MatRef<R>) {
    let (rows, n) = (a.rows(), a.cols());
    let mut turned = vec![R::ZERO; rows * n];
    // In stripes of rows that fit a cache line of the result, so that no line is fetched for one number alone.
    for start in (0..rows).step_by(TURNED_ROWS) {
        let end = rows.min(start + TURNED_ROWS);
        for j in 0..n {
            for i in start..end {
                turned[j * rows + i] = a.row(i)[j];
            }
        }
    }
    matmul(out, MatRef::new(&turned, n, rows), &Packed::from_input_rows(b), Write::AddScaled(R::ONE));
}
