//! What goes through a model together: rows, and which earlier rows each of them sees.
//!
//! A *row* is one token column of one model. Sequences of one model that begin alike share the rows of their
//! common prefix, so the batch is a forest of tokens, one tree per model and first token. It is stored as
//! *segments*: unbranched runs of rows that follow a parent segment. Rows are grouped by model, parents before
//! children, so everything that a row sees lies before it.

use crate::error::{Error, Result};
use crate::spec::ModelSpec;
use std::collections::HashMap;
use std::ops::Range;

/// Index of a model of a comparison: 0 is the base, 1… are the adapters in the order in which they were loaded.
pub type ModelId = usize;

/// A row of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The model that runs it.
    pub model: ModelId,
    /// Its input token.
    pub token: u32,
    /// Its position in the sequence, from 0.
    pub position: usize,
}

/// An unbranched run of rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The segment that comes before this one in its sequences.
    pub parent: Option<usize>,
    /// Its rows in the batch.
    pub rows: Range<usize>,
}

/// Rows ready to run; see the module's description.
#[derive(Clone, Debug)]
pub struct Batch {
    rows: Vec<Row>,
    segments: Vec<Segment>,
    /// For each sequence, the row of each of its tokens, as ranges of rows that follow one another.
    sequences: Vec<Vec<Range<usize>>>,
    runs: Vec<(ModelId, Range<usize>)>,
}

/// A node of the token tree while it is built.
struct Node {
    token: u32,
    children: Vec<usize>,
}

impl Batch {
    /// Puts sequences (model and tokens) together, sharing prefixes within each model.
    ///
    /// Errors: an empty sequence, one longer than the model's context, a token outside the vocabulary.
    pub fn new(spec: &ModelSpec, sequences: &[(ModelId, &[u32])]) -> Result<Self> {
        for (i, (_, tokens)) in sequences.iter().enumerate() {
            check_sequence(spec, i, tokens)?;
        }
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        order.sort_by_key(|&i| sequences[i].0);
        let mut batch = Batch {
            rows: Vec::new(),
            segments: Vec::new(),
            sequences: vec![Vec::new(); sequences.len()],
            runs: Vec::new(),
        };
        for of_model in order.chunk_by(|&a, &b| sequences[a].0 == sequences[b].0) {
            let model = sequences[of_model[0]].0;
            let first = batch.rows.len();
            batch.add_model(model, of_model, sequences);
            batch.runs.push((model, first..batch.rows.len()));
        }
        Ok(batch)
    }

    fn add_model(&mut self, model: ModelId, of_model: &[usize], sequences: &[(ModelId, &[u32])]) {
        let mut nodes = vec![Node { token: 0, children: Vec::new() }]; // node 0 stands before all tokens
        let mut child_of: HashMap<(usize, u32), usize> = HashMap::new();
        let mut ends = Vec::with_capacity(of_model.len());
        for &i in of_model {
            let mut at = 0;
            for &token in sequences[i].1 {
                at = *child_of.entry((at, token)).or_insert_with(|| {
                    nodes.push(Node { token, children: Vec::new() });
                    let new = nodes.len() - 1;
                    nodes[at].children.push(new);
                    new
                });
            }
            ends.push(at);
        }
        // Depth first, so that a segment's rows follow one another and parents come first.
        let mut row_of_node = vec![usize::MAX; nodes.len()];
        let mut todo: Vec<(usize, Option<usize>, usize)> =
            nodes[0].children.iter().rev().map(|&c| (c, None, 0)).collect();
        while let Some((start, parent, position)) = todo.pop() {
            let first = self.rows.len();
            let (mut at, mut position) = (start, position);
            loop {
                row_of_node[at] = self.rows.len();
                self.rows.push(Row { model, token: nodes[at].token, position });
                position += 1;
                match nodes[at].children[..] {
                    [only] => at = only,
                    _ => break,
                }
            }
            let segment = self.segments.len();
            self.segments.push(Segment { parent, rows: first..self.rows.len() });
            let children = nodes[at].children.iter().rev();
            todo.extend(children.map(|&c| (c, Some(segment), position)));
        }
        for (&i, &end) in of_model.iter().zip(&ends) {
            self.sequences[i] = self.ranges_up_to(row_of_node[end]);
        }
    }

    /// The rows from the beginning of a sequence to `last`, as ranges in the order of positions.
    fn ranges_up_to(&self, last: usize) -> Vec<Range<usize>> {
        let segment = &self.segments[self.segment_of(last)];
        let ancestors = std::iter::successors(segment.parent, |&s| self.segments[s].parent);
        let before = ancestors.map(|s| self.segments[s].rows.clone());
        let mut ranges: Vec<_> = std::iter::once(segment.rows.start..last + 1).chain(before).collect();
        ranges.reverse();
        ranges
    }

    /// The segment that a row belongs to.
    fn segment_of(&self, row: usize) -> usize {
        self.segments.partition_point(|s| s.rows.end <= row)
    }

    /// Number of rows.
    pub fn n_rows(&self) -> usize {
        self.rows.len()
    }
    /// A row.
    pub fn row(&self, row: usize) -> Row {
        self.rows[row]
    }
    /// All segments, ordered by their rows.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }
    /// Consecutive rows of one model each, in order.
    pub fn runs(&self) -> &[(ModelId, Range<usize>)] {
        &self.runs
    }
    /// The parts of [`Batch::runs`] inside `rows`, relative to `rows.start`.
    pub fn runs_within(&self, rows: Range<usize>) -> Vec<(ModelId, Range<usize>)> {
        let clip = |r: &Range<usize>| {
            r.start.clamp(rows.start, rows.end) - rows.start..r.end.clamp(rows.start, rows.end) - rows.start
        };
        self.runs.iter().map(|(m, r)| (*m, clip(r))).filter(|(_, r)| !r.is_empty()).collect()
    }
    /// Rows that `row` sees, itself included, as ranges in the order of positions: the keys of its attention.
    pub fn keys_of(&self, row: usize) -> Vec<Range<usize>> {
        self.ranges_up_to(row)
    }
    /// The row of a sequence's token at `position`; `None` past its end.
    pub fn row_of(&self, sequence: usize, position: usize) -> Option<usize> {
        let mut left = position;
        for range in self.sequences.get(sequence)? {
            if left < range.len() {
                return Some(range.start + left);
            }
            left -= range.len();
        }
        None
    }
}

fn check_sequence(spec: &ModelSpec, sequence: usize, tokens: &[u32]) -> Result<()> {
    let why = if tokens.is_empty() {
        "it has no tokens".to_owned()
    } else if tokens.len() > spec.n_ctx {
        format!("it has {} tokens, but the model's context is {}", tokens.len(), spec.n_ctx)
    } else if let Some(token) = tokens.iter().find(|&&t| t as usize >= spec.d_vocab) {
        format!("token {token} is outside the vocabulary of {} tokens", spec.d_vocab)
    } else {
        return Ok(());
    };
    Err(Error::BadSequence { sequence, why })
}
