//! Interventions as Python describes them, as edits of the engine.

use crate::error::plain;
use crate::shape::Shape;
use lorascope_engine::{Batch, Edit, EditOp, HookPoint, Model};
use pyo3::prelude::*;
use pyo3::pybacked::PyBackedBytes;
use std::ops::Range;

/// One intervention in one group of prompts.
#[derive(FromPyObject)]
#[pyo3(from_item_all)]
pub(crate) struct Intervention {
    /// The hook point.
    name: String,
    /// The group.
    group: usize,
    /// Positions; every one if none are named.
    positions: Option<Vec<usize>>,
    /// A head; all if none is named.
    head: Option<usize>,
    /// Units within the row or within the head; all if none are named.
    units: Option<(usize, usize)>,
    /// `set`, `add` or `scale`.
    op: String,
    /// What `scale` multiplies by.
    factor: f32,
    /// Numbers in the machine's byte order, `[sequences, positions, units]`.
    values: Option<PyBackedBytes>,
}

impl Intervention {
    /// As edits of rows. `first` is the group's first sequence in the batch.
    pub fn edits(
        &self,
        model: &Model<f32>,
        which: usize,
        batch: &Batch,
        first: usize,
        (n, length): (usize, usize),
        edits: &mut Vec<Edit<f32>>,
    ) -> PyResult<()> {
        let point: HookPoint = self.name.parse().map_err(plain)?;
        let shape = Shape::of(model, which, point).map_err(plain)?;
        let positions = self.positions.clone().unwrap_or_else(|| (0..length).collect());
        let mut numbers = self.numbers();
        for sequence in 0..n {
            for &position in &positions {
                let row = batch.row_of(first + sequence, position).ok_or_else(|| {
                    plain(format!(
                        "intervention at `{point}`: position {position} is beyond the prompt of {length} tokens"
                    ))
                })?;
                let units = self
                    .units_of(&shape, position)
                    .map_err(|why| plain(format!("intervention at `{point}`: {why}")))?;
                let op = match self.op.as_str() {
                    "scale" => EditOp::Scale(self.factor),
                    op => {
                        let values: Vec<f32> = numbers.by_ref().take(units.len()).collect();
                        if op == "add" { EditOp::Add(values) } else { EditOp::Set(values) }
                    }
                };
                edits.push(Edit { point, row, units, op });
            }
        }
        match numbers.next() {
            None => Ok(()),
            Some(_) => Err(plain(format!("intervention at `{point}`: more values than units"))),
        }
    }

    /// Its group, of so many.
    pub fn group_of(&self, n: usize) -> PyResult<usize> {
        if self.group < n { Ok(self.group) } else { Err(plain(format!("group {} of {n}", self.group))) }
    }

    fn numbers(&self) -> impl Iterator<Item = f32> + '_ {
        let bytes: &[u8] = self.values.as_deref().unwrap_or_default();
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_ne_bytes(*b))
    }

    fn units_of(&self, shape: &Shape, position: usize) -> Result<Range<usize>, String> {
        let width = shape.width(position);
        let whole = match (self.head, shape) {
            (None, _) => 0..width,
            (Some(head), Shape::Fixed(dims)) => match dims[..] {
                [heads, each] if head < heads => head * each..(head + 1) * each,
                [heads, _] => return Err(format!("head {head} of {heads}")),
                _ => return Err("its values belong to no head".to_owned()),
            },
            (Some(head), Shape::PerKey(heads)) if head < *heads => {
                head * (position + 1)..(head + 1) * (position + 1)
            }
            (Some(head), Shape::PerKey(heads)) => return Err(format!("head {head} of {heads}")),
        };
        match self.units {
            None => Ok(whole),
            Some((from, to)) if from < to && to <= whole.len() => Ok(whole.start + from..whole.start + to),
            Some((from, to)) => {
                Err(format!("units {from} to {to} are not within the {} values there", whole.len()))
            }
        }
    }
}
