//! Rows that a batch keeps apart although they compute the same.
//!
//! Prompts that stand apart ([`Batch::apart`]) have gradients of their own. What a model computes for a beginning that they share
//! is the same, by the independence of rows bit for bit, so the way there computes it once; only on the way back does each prompt
//! have rows of its own, for which the tape is spread out again.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::forward::tape::{Block, Step};
use crate::forward::{attention::Keys, block_rows};
use crate::hook::HookPoint;
use crate::mat::Mat;
use crate::number::Number;
use crate::request::{Capture, Hooks};
use crate::spec::ModelSpec;
use std::collections::{BTreeSet, HashMap};
use std::ops::Range;

/// What is left of a batch when rows that compute the same are one.
#[derive(Debug)]
pub(crate) struct Joined {
    /// Each row once.
    pub batch: Batch,
    /// Of each row of the whole batch, which of those it is.
    rows: Vec<usize>,
    /// The whole batch's rows in blocks, cut where a tree by itself would be cut: what it computes does not depend on its company.
    blocks: Vec<Range<usize>>,
}

/// What was asked of a batch, asked of its joined rows: values come out in the places that were asked for.
pub(crate) struct JoinedRun<R> {
    pub joined: Joined,
    pub hooks: Hooks<R>,
    pub readout: Vec<usize>,
}

impl<R: Number> JoinedRun<R> {
    /// `None` where nothing can be joined: rows compute different things, some are edited, or are none of the batch's.
    pub fn of(spec: &ModelSpec, whole: &Batch, hooks: &Hooks<R>, readout: &[usize]) -> Result<Option<Self>> {
        if !hooks.edits.is_empty() {
            return Ok(None);
        }
        let Some(joined) = Joined::of(spec, whole, block_rows::<R>())? else { return Ok(None) };
        let capture = |c: &Capture| Some(Capture { point: c.point, rows: joined.rows(&c.rows)? });
        let captures: Option<Vec<Capture>> = hooks.captures.iter().map(capture).collect();
        Ok(captures.zip(joined.rows(readout)).map(|(captures, readout)| Self {
            hooks: Hooks { captures, edits: Vec::new() },
            readout,
            joined,
        }))
    }
}

impl Joined {
    /// `None` where no rows compute the same, or not all of them are computed for their own sake. Blocks have at most `block` rows, as those
    /// of the pass.
    fn of(spec: &ModelSpec, whole: &Batch, block: usize) -> Result<Option<Self>> {
        let roots: Vec<usize> =
            whole.segments().iter().filter(|s| s.parent.is_none()).map(|s| s.rows.start).collect();
        let mut beginnings = BTreeSet::new();
        let is_new = |&root: &usize| beginnings.insert((whole.row(root).model, whole.row(root).token));
        if whole.n_kept > 0 || whole.n_trunk < whole.n_rows() || roots.iter().all(is_new) {
            return Ok(None);
        }
        let ends: Vec<usize> = (0..whole.n_sequences()).filter_map(|s| whole.end_of(s)).collect();
        let tokens: Vec<Vec<u32>> = ends.iter().map(|&end| whole.tokens_to(end)).collect();
        let sequences: Vec<_> =
            ends.iter().zip(&tokens).map(|(&end, t)| (whole.row(end).model, t.as_slice())).collect();
        let batch = Batch::new(spec, &sequences)?;
        let mut rows = vec![0; whole.n_rows()];
        for (s, tokens) in tokens.iter().enumerate() {
            for position in 0..tokens.len() {
                if let (Some(of_whole), Some(row)) = (whole.row_of(s, position), batch.row_of(s, position)) {
                    rows[of_whole] = row;
                }
            }
        }
        let mut blocks: Vec<Range<usize>> = Vec::new();
        for (i, &root) in roots.iter().enumerate() {
            let end = roots.get(i + 1).copied().unwrap_or(whole.n_rows());
            match blocks.last_mut() {
                Some(Range { start, end: last }) if end - *start <= block => *last = end,
                _ => blocks.extend((root..end).step_by(block).map(|start| start..end.min(start + block))),
            }
        }
        Ok(Some(Self { batch, rows, blocks }))
    }

    /// The joined rows of some of the whole batch; `None` if it has not all of them.
    fn rows(&self, rows: &[usize]) -> Option<Vec<usize>> {
        rows.iter().map(|&row| self.rows.get(row).copied()).collect()
    }

    /// An error about a joined row, about the first row of the whole batch that it stands for.
    pub fn explained(&self, mut error: Error) -> Error {
        if let Error::NonFiniteActivation { row, .. } | Error::BadHook { row, .. } = &mut error {
            *row = self.rows.iter().position(|joined| joined == row).unwrap_or(*row);
        }
        error
    }

    /// Values at joined rows, at every row of the whole batch.
    pub fn spread_values<R: Number>(
        &self,
        values: &HashMap<(HookPoint, usize), Vec<R>>,
    ) -> HashMap<(HookPoint, usize), Vec<R>> {
        let mut points: HashMap<usize, Vec<(HookPoint, &Vec<R>)>> = HashMap::new();
        values.iter().for_each(|(&(point, row), v)| points.entry(row).or_default().push((point, v)));
        let of_row = |(row, joined): (usize, &usize)| {
            let here = points.get(joined).map(Vec::as_slice).unwrap_or_default();
            here.iter().map(move |&(point, v)| ((point, row), v.clone()))
        };
        self.rows.iter().enumerate().flat_map(of_row).collect()
    }

    /// A matrix with a row for each joined row, as one with a row for each of the whole batch.
    pub fn spread<R: Number>(&self, joined: &Mat<R>) -> Mat<R> {
        joined.gather(&self.rows)
    }

    /// Keys and values of all rows.
    pub fn spread_keys<R: Number>(&self, keys: &Keys<R>) -> Keys<R> {
        Keys::of(self.spread(&keys.k), self.spread(&keys.v))
    }

    /// The whole batch's blocks of a layer's steps, last first, each made when its turn comes.
    pub fn spread_blocks<'t, R: Number>(
        &'t self,
        tape: &'t [Block<R>],
    ) -> impl Iterator<Item = Block<R>> + 't {
        self.blocks.iter().rev().map(|rows| self.spread_block(tape, rows.clone()))
    }

    fn spread_block<R: Number>(&self, tape: &[Block<R>], rows: Range<usize>) -> Block<R> {
        // For each row the block on the tape that has it, and its place there.
        let places: Vec<(usize, usize)> = self.rows[rows.clone()]
            .iter()
            .map(|&joined| {
                let block = tape.partition_point(|block| block.rows.end <= joined);
                (block, joined - tape[block].rows.start)
            })
            .collect();
        let n_steps = tape.first().map_or(0, |block| block.steps.len());
        let steps = (0..n_steps).map(|s| spread_step(&places, &|block| &tape[block].steps[s])).collect();
        Block { rows, steps }
    }
}

/// One step of some rows, from the steps of the blocks where they are. Every block of a layer takes the same steps.
fn spread_step<'t, R: Number>(places: &[(usize, usize)], of_block: &dyn Fn(usize) -> &'t Step<R>) -> Step<R> {
    let gather = |part: &dyn Fn(&'t Step<R>) -> Option<&'t Mat<R>>| -> Option<Mat<R>> {
        let cols = part(of_block(places.first()?.0))?.cols;
        let mut data = Vec::with_capacity(places.len() * cols);
        for &(block, at) in places {
            data.extend_from_slice(part(of_block(block))?.row(at));
        }
        Some(Mat { data, rows: places.len(), cols })
    };
    let all = |part: &dyn Fn(&'t Step<R>) -> Option<&'t Mat<R>>| {
        gather(part).unwrap_or_else(|| unreachable!("blocks of a layer take the same steps"))
    };
    match of_block(places.first().map_or(0, |p| p.0)) {
        Step::Tap(site) => Step::Tap(*site),
        Step::Norm { scale, .. } => {
            let of_norm = |step: &'t Step<R>| match step {
                Step::Norm { input, scales, .. } => Some((input, scales)),
                _ => None,
            };
            let scale_of = |&(block, at): &(usize, usize)| of_norm(of_block(block)).map(|(_, s)| s[at]);
            Step::Norm {
                scale: *scale,
                input: all(&|step| of_norm(step).map(|(input, _)| input)),
                scales: places.iter().filter_map(scale_of).collect(),
            }
        }
        Step::Linear { module, .. } => Step::Linear { module: *module, input: None, features: Vec::new() },
        Step::HeadNorm { slot, .. } => Step::HeadNorm {
            slot: *slot,
            input: all(&|step| match step {
                Step::HeadNorm { input, .. } => Some(input),
                _ => None,
            }),
        },
        Step::Rotate(slot) => Step::Rotate(*slot),
        Step::Attend { .. } => Step::Attend {
            queries: all(&|step| match step {
                Step::Attend { queries } => Some(queries),
                _ => None,
            }),
        },
        Step::Activate { .. } => Step::Activate {
            gate: gather(&|step| match step {
                Step::Activate { gate, .. } => gate.as_ref(),
                _ => None,
            }),
            up: all(&|step| match step {
                Step::Activate { up, .. } => Some(up),
                _ => None,
            }),
        },
        Step::Results(site) => Step::Results(*site),
        Step::Add => Step::Add,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::read_spec;

    const BLOCK: usize = 512;

    fn spec() -> ModelSpec {
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 2000, "hidden_act": "silu"
        });
        read_spec(&config).unwrap().1
    }

    #[test]
    fn rows_that_compute_the_same_are_one() {
        let spec = spec();
        let groups: [(usize, usize, &[u32]); 4] =
            [(0, 0, &[1, 2, 3]), (0, 1, &[1, 2, 4, 5]), (1, 0, &[1, 2, 3]), (0, 0, &[1, 2, 6])];
        let whole = Batch::apart(&spec, &groups).unwrap();
        let joined = Joined::of(&spec, &whole, BLOCK).unwrap().unwrap();
        assert_eq!((whole.n_rows(), joined.batch.n_rows()), (11, 9));
        for row in 0..whole.n_rows() {
            let one = joined.rows[row];
            assert_eq!(joined.batch.row(one), whole.row(row));
            assert_eq!(joined.batch.tokens_to(one), whole.tokens_to(row));
        }
        assert_eq!(joined.rows(&[0, 11]), None, "it has no twelfth row");
    }

    #[test]
    fn what_shares_nothing_stays_as_it_is() {
        let spec = spec();
        let together = Batch::new(&spec, &[(0, &[1, 2]), (0, &[1, 3]), (1, &[1, 2])]).unwrap();
        assert!(Joined::of(&spec, &together, BLOCK).unwrap().is_none());
        let apart = Batch::apart(&spec, &[(0, 0, &[1, 2]), (0, 1, &[2, 2])]).unwrap();
        assert!(Joined::of(&spec, &apart, BLOCK).unwrap().is_none());
    }

    #[test]
    fn trees_are_cut_where_they_would_be_alone() {
        let spec = spec();
        let long: Vec<u32> = (0..BLOCK as u32 + 7).map(|i| i % 8).collect();
        let groups: [(usize, usize, &[u32]); 4] =
            [(0, 0, &long), (0, 1, &long[..9]), (0, 2, &long[..500]), (0, 3, &long[..8])];
        let whole = Batch::apart(&spec, &groups).unwrap();
        let joined = Joined::of(&spec, &whole, BLOCK).unwrap().unwrap();
        let end = BLOCK + 7;
        // The end of the first tree has company, but the beginning of no other tree is parted from its end.
        assert_eq!(joined.blocks, [0..BLOCK, BLOCK..end + 9, end + 9..end + 517]);
    }
}
