//! Attention of a layer: queries of a block of rows against the keys and values of all rows that they see.
//!
//! Rows that stand together see the same earlier rows, so for each key/value head their keys are packed once, and the query
//! heads of the group are one matrix product against them, and one more against the values. That holds for the rows of a
//! segment, which follow one another, and for the patched rows of many branches, which all leave one prompt at one position.

use super::Pass;
use super::heirs::Wire;
use super::tape::{Slot, Step};
use crate::batch::Batch;
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::module::Module;
use crate::number::Number;
use crate::spec::ModelSpec;
use crate::weights::{LayerWeights, NormWeights, PerModel};
use lorascope_kernels::{
    MatMut, MatRef, Packed, Write, add_scaled_assign, dot_ordered, matmul, rms_norm, scale_assign, softcap,
    softmax_masked,
};
use rayon::prelude::*;
use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

/// Queries that are worked on together; bounds the scores that exist at a time.
const QUERIES: usize = 128;

/// Keys (after rotary) and values of a layer, for all rows: `[rows, n_kv_heads · d_head]`.
#[derive(Clone, Debug)]
pub(crate) struct Keys<R> {
    pub k: Mat<R>,
    pub v: Mat<R>,
    /// Keys and values up to a row, packed for products, one pair per key/value head: branches of one prompt share them.
    packed: HashMap<usize, Arc<Vec<PackedHead<R>>>>,
}

impl<R: Number> Keys<R> {
    pub fn new(rows: usize, width: usize) -> Self {
        Self::of(Mat::zeros(rows, width), Mat::zeros(rows, width))
    }
    pub fn of(k: Mat<R>, v: Mat<R>) -> Self {
        Self { k, v, packed: HashMap::new() }
    }
    /// Forgets what belongs to a layer that is over.
    pub fn forget_packed(&mut self) {
        self.packed.clear();
    }
}

/// Keys and values of one key/value head.
#[derive(Debug)]
pub(crate) struct PackedHead<R> {
    /// As outputs of a product.
    pub keys: Packed<R>,
    /// As inputs of a product.
    values: Packed<R>,
}

/// Rows that stand together and share keys.
pub(crate) struct Chunk {
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row.
    position: usize,
    /// Rows whose keys are shared, in the order of positions.
    pub keys: Vec<Range<usize>>,
    kin: Kin,
}

/// How the rows of a chunk stand to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kin {
    /// They follow one another in a sequence; the shared keys are those that the last of them sees, its own included.
    Line,
    /// They are at the same position, each the only one of its segment; the shared keys are those up to the row before, and
    /// each sees itself besides.
    Siblings,
}

impl Chunk {
    /// The chunks of a block of rows, siblings each by itself.
    pub fn lines(batch: &Batch, block: Range<usize>) -> Vec<Chunk> {
        let mut chunks = Vec::new();
        for segment in batch.segments_within(block.clone()) {
            let rows = segment.rows.start.max(block.start)..segment.rows.end.min(block.end);
            for start in rows.clone().step_by(QUERIES) {
                let rows = start..rows.end.min(start + QUERIES);
                chunks.push(Chunk::line(batch, rows));
            }
        }
        chunks
    }

    /// Rows that follow one another in a segment.
    fn line(batch: &Batch, rows: Range<usize>) -> Chunk {
        let keys = batch.keys_of(rows.end - 1);
        Chunk { position: batch.row(rows.start).position, rows, keys, kin: Kin::Line }
    }

    /// Scores of a query: one for each shared key, and the sibling's own.
    fn n_columns(&self) -> usize {
        self.n_keys() + usize::from(self.kin == Kin::Siblings)
    }

    pub fn n_keys(&self) -> usize {
        match self.kin {
            Kin::Line => self.position + self.rows.len(),
            Kin::Siblings => self.position,
        }
    }

    /// The column of query `i`'s own key.
    pub fn own(&self, i: usize) -> usize {
        match self.kin {
            Kin::Line => self.position + i,
            Kin::Siblings => self.position,
        }
    }

    /// Columns that query `i` of the chunk sees.
    pub fn visible(&self, i: usize, window: Option<usize>) -> Range<usize> {
        let end = self.own(i) + 1;
        window.map_or(0, |w| end.saturating_sub(w))..end
    }
}

impl<R: Number> Pass<'_, '_, R> {
    /// `hook_z`, before its tap: `[rows, n_heads · d_head]`.
    pub(super) fn attend(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        resid_pre: &Mat<R>,
        cache: &mut Keys<R>,
    ) -> Mat<R> {
        let q = self.queries_keys_values(layer, w, first_row, resid_pre, cache);
        let z = self.mix_values(layer, first_row, &q, cache);
        self.record(|| Step::Attend { queries: q.clone() });
        self.scratch.give(q);
        z
    }

    /// `hook_attn_out` from z, as added, before its tap: `[rows, d_model]`.
    pub(super) fn project_heads(
        &mut self,
        layer: usize,
        w: &LayerWeights<R>,
        first_row: usize,
        mut z: Mat<R>,
    ) -> Mat<R> {
        self.tap(layer, Site::Z, first_row, &mut z);
        self.heirs.keep(Wire::Z, first_row, &z);
        let mut out = self.linear(layer, Module::O, w.linear(Module::O), first_row, &z);
        self.low_rank_results(layer, w, first_row, &z, &mut out);
        let mut scales = None;
        if let Some((post_norm, _)) = &w.post_norms {
            let (normalized, scale) = self.norm(layer, Site::Ln1PostScale, post_norm, first_row, &out);
            self.scratch.give(std::mem::replace(&mut out, normalized));
            scales = Some(scale);
        }
        self.head_results(layer, w, first_row, &z, scales.as_deref(), &mut out);
        self.scratch.give(z);
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
        let (x, _) = self.norm(layer, Site::Ln1Scale, &w.norm_1, first_row, resid_pre);
        let mut q = self.linear(layer, Module::Q, w.linear(Module::Q), first_row, &x);
        let mut k = self.linear(layer, Module::K, w.linear(Module::K), first_row, &x);
        let mut v = self.linear(layer, Module::V, w.linear(Module::V), first_row, &x);
        self.scratch.give(x);
        self.head_inputs(layer, Module::Q, w, first_row, resid_pre, &mut q);
        self.head_inputs(layer, Module::K, w, first_row, resid_pre, &mut k);
        self.head_inputs(layer, Module::V, w, first_row, resid_pre, &mut v);
        if let Some((q_norm, k_norm)) = &w.qk_norms {
            self.norm_heads(Slot::Q, q_norm, first_row, &mut q);
            self.norm_heads(Slot::K, k_norm, first_row, &mut k);
        }
        self.tap(layer, Site::Q, first_row, &mut q);
        self.tap(layer, Site::K, first_row, &mut k);
        self.tap(layer, Site::V, first_row, &mut v);
        let rotary = self.model.spec().layers[layer].rotary;
        if let Some(table) = self.rotary.get(rotary) {
            let position = |i| self.batch.row(first_row + i).position;
            q.for_rows(|i, row| table.rotate(row, position(i)));
            k.for_rows(|i, row| table.rotate(row, position(i)));
            self.record(|| Step::Rotate(Slot::Q));
            self.record(|| Step::Rotate(Slot::K));
            self.tap(layer, Site::RotQ, first_row, &mut q);
            self.tap(layer, Site::RotK, first_row, &mut k);
        }
        let span = first_row * k.cols..(first_row + k.rows) * k.cols;
        cache.k.data[span.clone()].copy_from_slice(&k.data);
        cache.v.data[span].copy_from_slice(&v.data);
        self.scratch.give(k);
        self.scratch.give(v);
        q
    }

    /// RMSNorm of each head by itself.
    fn norm_heads(&mut self, slot: Slot, w: &PerModel<NormWeights<R>>, first_row: usize, x: &mut Mat<R>) {
        self.record(|| Step::HeadNorm { slot, input: x.clone() });
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

    /// Each head's pattern times its values: `[rows, n_heads · d_head]`.
    fn mix_values(&mut self, layer: usize, first_row: usize, q: &Mat<R>, cache: &mut Keys<R>) -> Mat<R> {
        let chunks = self.chunks(first_row..first_row + q.rows);
        let spec = self.model.spec();
        pack_shared(spec, &chunks, cache);
        let watched = [Site::AttnScores, Site::Pattern].map(|s| self.tap.wants(HookPoint::Layer(layer, s)));
        let mut z = self.scratch.mat(q.rows, q.cols);
        let mixer = Mixer { spec, layer, first_row, q, cache };
        if watched.contains(&true) {
            // Visitors see all queries of a sequence together.
            let visited = [Site::AttnScores, Site::Pattern];
            let visited = visited.iter().any(|&s| self.tap.is_visited(HookPoint::Layer(layer, s)));
            for together in chunks.chunks(if visited { chunks.len().max(1) } else { 1 }) {
                let packed: Vec<_> = together.iter().map(|chunk| mixer.packed(chunk)).collect();
                let scores = together.iter().zip(&packed).map(|(chunk, packed)| mixer.scores(chunk, packed));
                let mut patterns: Vec<Vec<Mat<R>>> = scores.collect();
                self.watch_patterns(&mixer, together, &mut patterns);
                for ((chunk, packed), patterns) in together.iter().zip(&packed).zip(patterns) {
                    let rows = chunk.rows.start - first_row..chunk.rows.end - first_row;
                    let own = &mut z.data[rows.start * z.cols..rows.end * z.cols];
                    mixer.place(&mixer.values(chunk, packed, patterns), own);
                }
            }
        } else {
            // The chunks are the block's rows, one after the other.
            let (cols, mut rest) = (z.cols, &mut z.data[..]);
            let mut places = Vec::with_capacity(chunks.len());
            for chunk in &chunks {
                debug_assert_eq!(chunk.rows.start, first_row + q.rows - rest.len() / cols);
                let (own, after) = rest.split_at_mut(chunk.rows.len() * cols);
                places.push(own);
                rest = after;
            }
            let mixed = chunks.par_iter().zip(places);
            mixed.for_each(|(chunk, own)| mixer.place(&mixer.mix(chunk), own));
        }
        z
    }

    /// The chunks that a block of rows consists of.
    fn chunks(&self, block: Range<usize>) -> Vec<Chunk> {
        let mut chunks: Vec<Chunk> = Vec::new();
        for segment in self.batch.segments_within(block.clone()) {
            let position = |row: usize| self.batch.row(row).position;
            if let (1, Some(parent)) = (segment.rows.len(), segment.parent) {
                let keys = self.batch.keys_of(parent);
                let row = segment.rows.clone();
                match chunks.last_mut() {
                    Some(last)
                        if last.kin == Kin::Siblings && last.keys == keys && last.rows.len() < QUERIES =>
                    {
                        last.rows.end = row.end;
                    }
                    _ => chunks.push(Chunk {
                        position: position(row.start),
                        rows: row,
                        keys,
                        kin: Kin::Siblings,
                    }),
                }
                continue;
            }
            let rows = segment.rows.start.max(block.start)..segment.rows.end.min(block.end);
            for start in rows.clone().step_by(QUERIES) {
                let rows = start..rows.end.min(start + QUERIES);
                chunks.push(Chunk::line(self.batch, rows));
            }
        }
        chunks
    }

    /// From scores to patterns of all heads of some chunks, with the taps on both. `groups` has the matrices of each chunk.
    fn watch_patterns(&mut self, mixer: &Mixer<R>, chunks: &[Chunk], groups: &mut [Vec<Mat<R>>]) {
        for (chunk, groups) in chunks.iter().zip(groups.iter_mut()) {
            for i in 0..chunk.rows.len() {
                let start = chunk.visible(i, mixer.window()).start;
                mixer.for_heads(i, groups, |row| row[..start].fill(R::NEG_INFINITY));
            }
        }
        self.tap_heads(HookPoint::Layer(mixer.layer, Site::AttnScores), mixer, chunks, groups);
        for (chunk, groups) in chunks.iter().zip(groups.iter_mut()) {
            for i in 0..chunk.rows.len() {
                let visible = chunk.visible(i, mixer.window());
                mixer.for_heads(i, groups, |row| softmax_masked(row, visible.clone()));
            }
        }
        self.tap_heads(HookPoint::Layer(mixer.layer, Site::Pattern), mixer, chunks, groups);
    }

    /// Taps what queries have for the keys up to their own positions, each laid out `[head][key]`.
    fn tap_heads(
        &mut self,
        point: HookPoint,
        mixer: &Mixer<R>,
        chunks: &[Chunk],
        groups: &mut [Vec<Mat<R>>],
    ) {
        let (mut rows, mut values) = (Vec::new(), Vec::new());
        for (chunk, groups) in chunks.iter().zip(groups.iter_mut()) {
            for row in self.tap.rows_wanted(point, chunk.rows.clone()) {
                let i = row - chunk.rows.start;
                let seen = chunk.own(i) + 1;
                let mut own = Vec::with_capacity(seen * mixer.spec.n_heads);
                mixer.for_heads(i, groups, |row| own.extend_from_slice(&row[..seen]));
                rows.push(row);
                values.push(own);
            }
        }
        if rows.is_empty() {
            return;
        }
        let mut slices: Vec<&mut [R]> = values.iter_mut().map(Vec::as_mut_slice).collect();
        self.tap.at_rows(point, &rows, &mut slices);
        let mut new = rows.into_iter().zip(values).peekable();
        for (chunk, groups) in chunks.iter().zip(groups.iter_mut()) {
            while let Some((row, values)) = new.next_if(|(row, _)| chunk.rows.contains(row)) {
                let i = row - chunk.rows.start;
                let mut new = values.chunks_exact(chunk.own(i) + 1);
                mixer.for_heads(i, groups, |row| {
                    if let Some(new) = new.next() {
                        row[..new.len()].copy_from_slice(new);
                    }
                });
            }
        }
    }
}

/// Packs the keys and values that siblings share, where a block before has not done so.
fn pack_shared<R: Number>(spec: &ModelSpec, chunks: &[Chunk], cache: &mut Keys<R>) {
    let shared = |c: &&Chunk| c.kin == Kin::Siblings && !c.keys.is_empty();
    let mut missing: Vec<&Chunk> = chunks.iter().filter(shared).collect();
    missing.retain(|c| c.last_key().is_some_and(|k| !cache.packed.contains_key(&k)));
    missing.dedup_by_key(|c| c.last_key());
    let packed: Vec<_> = missing.par_iter().map(|c| (c.last_key(), Arc::new(pack(spec, c, cache)))).collect();
    cache.packed.extend(packed.into_iter().filter_map(|(key, packed)| Some((key?, packed))));
}

impl Chunk {
    /// The last row whose key is shared.
    fn last_key(&self) -> Option<usize> {
        self.keys.last().map(|range| range.end - 1)
    }
}

/// The shared keys and values of a chunk, for every key/value head.
pub(crate) fn pack<R: Number>(spec: &ModelSpec, chunk: &Chunk, cache: &Keys<R>) -> Vec<PackedHead<R>> {
    let gather = |from: &Mat<R>, kv_head: usize| {
        let part = kv_head * spec.d_head..(kv_head + 1) * spec.d_head;
        let mut out = Vec::with_capacity(chunk.n_keys() * spec.d_head);
        chunk
            .keys
            .iter()
            .cloned()
            .flatten()
            .for_each(|row| out.extend_from_slice(&from.row(row)[part.clone()]));
        out
    };
    let of_head = |kv_head: usize| PackedHead {
        keys: Packed::from_output_rows(MatRef::new(&gather(&cache.k, kv_head), chunk.n_keys(), spec.d_head)),
        values: Packed::from_input_rows(MatRef::new(&gather(&cache.v, kv_head), chunk.n_keys(), spec.d_head)),
    };
    (0..spec.n_kv_heads).into_par_iter().map(of_head).collect()
}

/// Scores, patterns and mixed values of chunks of one layer.
///
/// The query heads of one key/value head are worked on together: a matrix of a *group* has a row for each query
/// and head, query by query. A query's own key comes last and by itself, after the product with the keys before it, so that a
/// row has the same bits whether its keys are shared or its own.
pub(crate) struct Mixer<'a, R> {
    pub spec: &'a ModelSpec,
    pub layer: usize,
    pub first_row: usize,
    pub q: &'a Mat<R>,
    pub cache: &'a Keys<R>,
}

impl<R: Number> Mixer<'_, R> {
    pub fn window(&self) -> Option<usize> {
        self.spec.layers[self.layer].window
    }

    /// Shared keys and values of a chunk, packed.
    fn packed(&self, chunk: &Chunk) -> Arc<Vec<PackedHead<R>>> {
        let ready = chunk.last_key().filter(|_| chunk.kin == Kin::Siblings);
        let ready = ready.and_then(|key| self.cache.packed.get(&key));
        ready.cloned().unwrap_or_else(|| Arc::new(pack(self.spec, chunk, self.cache)))
    }

    /// z of every group of a chunk: `[group][query and head, d_head]`.
    fn mix(&self, chunk: &Chunk) -> Vec<Mat<R>> {
        let packed = self.packed(chunk);
        let of_group = |g: usize| {
            let mut pattern = self.group_scores(chunk, g, &packed[g].keys);
            for (i, row) in pattern.data.chunks_exact_mut(pattern.cols).enumerate() {
                softmax_masked(row, chunk.visible(i / self.spec.group(), self.window()));
            }
            self.group_values(chunk, g, pattern, &packed[g].values)
        };
        (0..self.spec.n_kv_heads).into_par_iter().map(of_group).collect()
    }

    /// Scaled and capped scores of every group; not masked yet.
    fn scores(&self, chunk: &Chunk, packed: &[PackedHead<R>]) -> Vec<Mat<R>> {
        let groups = packed.par_iter().enumerate();
        groups.map(|(g, packed)| self.group_scores(chunk, g, &packed.keys)).collect()
    }

    /// z of every group from given patterns.
    fn values(&self, chunk: &Chunk, packed: &[PackedHead<R>], patterns: Vec<Mat<R>>) -> Vec<Mat<R>> {
        let groups = patterns.into_par_iter().zip(packed).enumerate();
        groups.map(|(g, (pattern, packed))| self.group_values(chunk, g, pattern, &packed.values)).collect()
    }

    /// Calls `f` for every head of query `i`, in order, with its row.
    pub fn for_heads(&self, i: usize, groups: &mut [Mat<R>], mut f: impl FnMut(&mut [R])) {
        for group in groups {
            (0..self.spec.group()).for_each(|h| f(group.row_mut(i * self.spec.group() + h)));
        }
    }

    /// `[query and head, columns]`.
    pub fn group_scores(&self, chunk: &Chunk, g: usize, keys: &Packed<R>) -> Mat<R> {
        let (n, group, d_head) = (chunk.rows.len(), self.spec.group(), self.spec.d_head);
        let (n_keys, columns) = (chunk.n_keys(), chunk.n_columns());
        let part = g * group * d_head..(g + 1) * group * d_head;
        let own = chunk.rows.start - self.first_row..chunk.rows.end - self.first_row;
        let queries = self.q.parts(own, part).shaped(n * group, d_head);
        let mut scores = Mat::zeros(n * group, columns);
        matmul(
            MatMut::strided(&mut scores.data, n * group, n_keys, columns),
            queries.view(),
            keys,
            Write::Set,
        );
        if chunk.kin == Kin::Siblings {
            for r in 0..n * group {
                let key = &self.cache.k.row(chunk.rows.start + r / group)[g * d_head..(g + 1) * d_head];
                scores.row_mut(r)[n_keys] = dot_ordered(queries.row(r), key);
            }
        }
        scale_assign(&mut scores.data, R::from_f64(self.spec.attn_scale));
        if let Some(cap) = self.spec.attn_softcap {
            softcap(&mut scores.data, R::from_f64(cap));
        }
        scores
    }

    /// `[query and head, d_head]`.
    fn group_values(&self, chunk: &Chunk, g: usize, mut pattern: Mat<R>, values: &Packed<R>) -> Mat<R> {
        let (group, d_head) = (self.spec.group(), self.spec.d_head);
        let own: Vec<R> = (0..pattern.rows)
            .map(|r| std::mem::replace(&mut pattern.row_mut(r)[chunk.own(r / group)], R::ZERO))
            .collect();
        let mut z = Mat::zeros(pattern.rows, d_head);
        let shared = MatRef::strided(&pattern.data, pattern.rows, chunk.n_keys(), pattern.cols);
        matmul(z.view_mut(), shared, values, Write::Set);
        for (r, weight) in own.into_iter().enumerate() {
            let value = &self.cache.v.row(chunk.rows.start + r / group)[g * d_head..(g + 1) * d_head];
            add_scaled_assign(z.row_mut(r), weight, value);
        }
        z
    }

    /// Writes the groups' z of a chunk into its rows of the block's matrix.
    pub fn place(&self, groups: &[Mat<R>], z: &mut [R]) {
        let width = self.spec.group() * self.spec.d_head;
        for (i, row) in z.chunks_exact_mut((width * groups.len()).max(1)).enumerate() {
            for (part, group) in row.chunks_exact_mut(width).zip(groups) {
                part.copy_from_slice(&group.data[i * width..(i + 1) * width]);
            }
        }
    }
}
