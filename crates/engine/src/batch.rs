//! What goes through a model together: rows, and which earlier rows each of them sees.
//!
//! A *row* is one token column of one model. Sequences of one model that begin alike share the rows of their
//! common prefix, so the batch is a forest of tokens, one tree per model and first token. It is stored as
//! *segments*: unbranched runs of rows that follow a parent segment. Rows are grouped by model, parents before
//! children, so everything that a row sees lies before it.
//!
//! Patched runs are *branches* of these trees ([`crate::branch`]): their rows come after all others, copy rows of a
//! sequence from one position on, and exist only from the place on at which they differ.

use crate::branch::{Birth, Branch};
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
    /// The row before its first one in its sequences; `None` at position 0.
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
    /// Rows that an earlier run computed and whose keys and values were kept; they come first.
    pub(crate) n_kept: usize,
    /// Rows of sequences, kept ones included; those after them belong to branches.
    pub(crate) n_trunk: usize,
    /// For each row of a branch, the row that it copies, which comes before it; itself if what it begins with is given to the run.
    pub(crate) origins: Vec<usize>,
    /// Rows of branches by where they come into being, in that order, one after the other.
    pub(crate) births: Vec<(Birth, Range<usize>)>,
    /// The rows of each branch.
    pub(crate) branches: Vec<Range<usize>>,
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
        Self::with_branches(spec, sequences, &[])
    }

    /// The same with branches of these sequences.
    ///
    /// Errors: as [`Batch::new`]; a branch of a sequence, position or layer that does not exist, or of sequences that
    /// are not yet one at its first position.
    pub fn with_branches(
        spec: &ModelSpec,
        sequences: &[(ModelId, &[u32])],
        branches: &[Branch],
    ) -> Result<Self> {
        let together: Vec<(ModelId, usize, &[u32])> = sequences.iter().map(|&(m, t)| (m, 0, t)).collect();
        Self::apart(spec, &together)?.branched(spec, branches)
    }

    /// A batch without branches, with branches.
    ///
    /// Errors: as [`Batch::with_branches`].
    pub fn branched(mut self, spec: &ModelSpec, branches: &[Branch]) -> Result<Self> {
        self.add_branches(spec, branches)?;
        Ok(self)
    }

    /// [`Batch::new`] where only sequences of one group share rows: each is `(model, group, tokens)`. A row that two prompts
    /// share has one gradient, the sum of what both make of it; apart, each has its own.
    ///
    /// Errors: as [`Batch::new`].
    pub fn apart(spec: &ModelSpec, sequences: &[(ModelId, usize, &[u32])]) -> Result<Self> {
        for (i, (_, _, tokens)) in sequences.iter().enumerate() {
            check_sequence(spec, i, tokens)?;
        }
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        let place = |i: usize| (sequences[i].0, sequences[i].1);
        order.sort_by_key(|&i| place(i));
        let mut batch = Batch {
            rows: Vec::new(),
            segments: Vec::new(),
            sequences: vec![Vec::new(); sequences.len()],
            runs: Vec::new(),
            n_kept: 0,
            n_trunk: 0,
            origins: Vec::new(),
            births: Vec::new(),
            branches: Vec::new(),
        };
        for of_group in order.chunk_by(|&a, &b| place(a) == place(b)) {
            let all: Vec<(usize, &[u32])> = of_group.iter().map(|&i| (i, sequences[i].2)).collect();
            batch.add_tree(sequences[of_group[0]].0, None, &all);
        }
        batch.n_trunk = batch.rows.len();
        Ok(batch)
    }

    /// Sequences that go on where sequences of an earlier batch ended, whose keys and values were kept: each names one of
    /// those, its group (only within one are rows shared), and the tokens that follow it.
    ///
    /// Errors: as [`Batch::with_branches`]; a sequence that the earlier batch does not have.
    pub(crate) fn going_on(
        spec: &ModelSpec,
        kept: &Batch,
        sequences: &[(usize, usize, &[u32])],
        branches: &[Branch],
    ) -> Result<Self> {
        let mut batch = kept.clone();
        batch.n_kept = kept.rows.len();
        batch.sequences = vec![Vec::new(); sequences.len()];
        let mut starts = Vec::with_capacity(sequences.len());
        for (i, (of, _, tokens)) in sequences.iter().enumerate() {
            let last = kept.sequences.get(*of).and_then(|ranges| ranges.last()).map(|range| range.end - 1);
            let Some(start) = last else {
                let why = format!("it goes on sequence {of}, which was not kept");
                return Err(Error::BadSequence { sequence: i, why });
            };
            check_tokens(spec, i, kept.row(start).position + 1, tokens)?;
            starts.push(start);
        }
        let mut order: Vec<usize> = (0..sequences.len()).collect();
        let place = |i: usize| (kept.row(starts[i]).model, starts[i], sequences[i].1);
        order.sort_by_key(|&i| place(i));
        for of_start in order.chunk_by(|&a, &b| place(a) == place(b)) {
            let start = starts[of_start[0]];
            let all: Vec<(usize, &[u32])> = of_start.iter().map(|&i| (i, sequences[i].2)).collect();
            batch.add_tree(kept.row(start).model, Some(start), &all);
        }
        batch.n_trunk = batch.rows.len();
        batch.add_branches(spec, branches)?;
        Ok(batch)
    }

    /// Adds sequences (index and tokens) of one model that all follow the row `start`, or begin at position 0.
    fn add_tree(&mut self, model: ModelId, start: Option<usize>, sequences: &[(usize, &[u32])]) {
        let mut nodes = vec![Node { token: 0, children: Vec::new() }]; // node 0 stands before all tokens
        let mut child_of: HashMap<(usize, u32), usize> = HashMap::new();
        let mut ends = Vec::with_capacity(sequences.len());
        for (_, tokens) in sequences {
            let mut at = 0;
            for &token in *tokens {
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
        let first_position = start.map_or(0, |row| self.rows[row].position + 1);
        let mut row_of_node = vec![usize::MAX; nodes.len()];
        let mut todo: Vec<(usize, Option<usize>, usize)> =
            nodes[0].children.iter().rev().map(|&c| (c, start, first_position)).collect();
        while let Some((first, parent, mut position)) = todo.pop() {
            let (mut at, mut before, mut joins) = (first, parent, false);
            loop {
                row_of_node[at] = self.rows.len();
                self.push_row(Row { model, token: nodes[at].token, position }, before, joins);
                position += 1;
                (before, joins) = (Some(row_of_node[at]), true);
                match nodes[at].children[..] {
                    [only] => at = only,
                    _ => break,
                }
            }
            let children = nodes[at].children.iter().rev();
            todo.extend(children.map(|&c| (c, before, position)));
        }
        for (&(i, _), &end) in sequences.iter().zip(&ends) {
            self.sequences[i] = self.ranges_up_to(row_of_node[end]);
        }
    }

    /// The rows from the beginning of a sequence to `last`, as ranges in the order of positions.
    fn ranges_up_to(&self, last: usize) -> Vec<Range<usize>> {
        let part_up_to = |row: usize| self.segment_of(row).rows.start..row + 1;
        let parts = std::iter::successors(Some(last), |&row| self.segment_of(row).parent).map(part_up_to);
        let mut ranges: Vec<_> = parts.collect();
        ranges.reverse();
        ranges
    }

    /// The segment that a row belongs to.
    pub(crate) fn segment_of(&self, row: usize) -> &Segment {
        &self.segments[self.segments.partition_point(|s| s.rows.end <= row)]
    }

    /// The row that comes before a row in its sequences; `None` at position 0.
    pub(crate) fn before(&self, row: usize) -> Option<usize> {
        let segment = self.segment_of(row);
        if row > segment.rows.start { Some(row - 1) } else { segment.parent }
    }

    /// Puts a row at the end: in the segment that ends there if it follows its last row, else in one of its own.
    pub(crate) fn push_row(&mut self, row: Row, parent: Option<usize>, joins_last: bool) {
        let at = self.rows.len();
        self.rows.push(row);
        match self.segments.last_mut() {
            Some(last) if joins_last => last.rows.end = at + 1,
            _ => self.segments.push(Segment { parent, rows: at..at + 1 }),
        }
        match self.runs.last_mut() {
            Some((model, rows)) if *model == row.model => rows.end = at + 1,
            _ => self.runs.push((row.model, at..at + 1)),
        }
    }

    /// Segments that have rows in a range, in order.
    pub(crate) fn segments_within(&self, rows: Range<usize>) -> &[Segment] {
        let first = self.segments.partition_point(|s| s.rows.end <= rows.start);
        let n = self.segments[first..].partition_point(|s| s.rows.start < rows.end);
        &self.segments[first..first + n]
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
        let first = self.runs.partition_point(|(_, r)| r.end <= rows.start);
        let within = self.runs[first..].iter().take_while(|(_, r)| r.start < rows.end);
        within.map(|(m, r)| (*m, clip(r))).filter(|(_, r)| !r.is_empty()).collect()
    }
    /// The models of its runs.
    pub(crate) fn models(&self) -> Vec<ModelId> {
        self.runs.iter().map(|(model, _)| *model).collect()
    }
    /// Rows that `row` sees, itself included, as ranges in the order of positions: the keys of its attention.
    pub fn keys_of(&self, row: usize) -> Vec<Range<usize>> {
        self.ranges_up_to(row)
    }
    /// Tokens of a row's sequence up to it, its own included.
    pub fn tokens_to(&self, row: usize) -> Vec<u32> {
        self.ranges_up_to(row).into_iter().flatten().map(|r| self.rows[r].token).collect()
    }
    /// Number of sequences.
    pub(crate) fn n_sequences(&self) -> usize {
        self.sequences.len()
    }
    /// The row of a sequence's last token.
    pub(crate) fn end_of(&self, sequence: usize) -> Option<usize> {
        self.sequences.get(sequence)?.last().map(|range| range.end - 1)
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
    check_tokens(spec, sequence, 0, tokens)
}

/// Whether `tokens` can come after `before` others.
fn check_tokens(spec: &ModelSpec, sequence: usize, before: usize, tokens: &[u32]) -> Result<()> {
    let n = before + tokens.len();
    let why = if tokens.is_empty() {
        "it has no tokens".to_owned()
    } else if n > spec.n_ctx {
        format!("it has {n} tokens, but the model's context is {}", spec.n_ctx)
    } else if let Some(token) = tokens.iter().find(|&&t| t as usize >= spec.d_vocab) {
        format!("token {token} is outside the vocabulary of {} tokens", spec.d_vocab)
    } else {
        return Ok(());
    };
    Err(Error::BadSequence { sequence, why })
}
