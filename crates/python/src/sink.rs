//! Activations on their way into arrays: written once, where Python will see them.

use crate::shape::{Shape, fill};
use lorascope_engine::{Batch, HookPoint, Visit, Visitor};
use std::sync::{Arc, Mutex, PoisonError};

/// Where the rows of a batch go: group, sequence in the group, position. A row that prompts share goes to several places.
pub(crate) struct Places {
    of_row: Vec<Vec<(usize, usize, usize)>>,
    /// Sequences and length of each group.
    pub groups: Vec<(usize, usize)>,
}

impl Places {
    /// Places of all rows; `groups` has the number of sequences of each group, and their length.
    pub fn new(batch: &Batch, groups: Vec<(usize, usize)>) -> Self {
        let mut of_row = vec![Vec::new(); batch.n_rows()];
        let mut first = 0;
        for (group, &(n, length)) in groups.iter().enumerate() {
            for sequence in 0..n {
                for position in 0..length {
                    if let Some(row) = batch.row_of(first + sequence, position) {
                        of_row[row].push((group, sequence, position));
                    }
                }
            }
            first += n;
        }
        Self { of_row, groups }
    }
}

/// One point's arrays, one for each group.
pub(crate) struct Sink {
    shape: Shape,
    places: Arc<Places>,
    arrays: Mutex<Vec<Vec<f32>>>,
}

impl Sink {
    /// Room for the values of a point.
    pub fn new(point: HookPoint, shape: Shape, places: Arc<Places>) -> Self {
        let array =
            |&(n, length): &(usize, usize)| vec![fill(point); shape.array(n, length).iter().product()];
        let arrays = Mutex::new(places.groups.iter().map(array).collect());
        Self { shape, places, arrays }
    }

    /// The visits that fill it.
    pub fn visits(self: &Arc<Self>, point: HookPoint, batch: &Batch) -> Vec<Visit<f32>> {
        /// Rows of a visit at most, so that blocks stay small.
        const ROWS: usize = 256;
        let mut visits = Vec::new();
        for segment in batch.segments() {
            for start in segment.rows.clone().step_by(ROWS) {
                let rows = start..segment.rows.end.min(start + ROWS);
                visits.push(Visit { point, rows, visitor: self.clone() });
            }
        }
        visits
    }

    /// The arrays with their shapes.
    pub fn take(&self) -> Vec<(Vec<usize>, Vec<f32>)> {
        let arrays = std::mem::take(&mut *self.arrays.lock().unwrap_or_else(PoisonError::into_inner));
        let shapes = self.places.groups.iter().map(|&(n, length)| self.shape.array(n, length));
        shapes.zip(arrays).collect()
    }
}

impl Visitor<f32> for Sink {
    fn visit(&self, visit: &Visit<f32>, values: &mut [&mut [f32]]) -> Result<(), String> {
        let mut arrays = self.arrays.lock().unwrap_or_else(PoisonError::into_inner);
        for (row, values) in visit.rows.clone().zip(values) {
            for &(group, sequence, position) in &self.places.of_row[row] {
                let (_, length) = self.places.groups[group];
                self.shape.scatter((sequence, position, length), values, &mut arrays[group]);
            }
        }
        Ok(())
    }
}
