//! Visits: outside code that a run calls with the values of a hook point, to read or to change them.
//!
//! An edit is data, checked before anything runs; a [`Visit`] is code, of which only the place is known. It is called exactly once,
//! with all the rows that it names, after the edits of these rows and before anything downstream reads them. What the engine promises
//! of rows holds for those that a visit does not name, bit for bit; within its rows the visitor answers for what it does: nothing keeps
//! it from moving what a later token knows into an earlier one.
//!
//! Blocks of rows grow where a visit needs it, so that its rows are there together; by the independence of rows that changes no bit.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::forward::{Progress, Run};
use crate::hook::HookPoint;
use crate::model::Model;
use crate::number::Number;
use crate::request::Hooks;
use std::ops::Range;
use std::sync::Arc;

/// Code that reads or changes activations.
pub trait Visitor<R>: Send + Sync {
    /// The values of the rows of `visit`, in order, one slice each. Called on the thread that runs the model.
    ///
    /// # Errors
    /// Why the run can't go on; it ends there.
    fn visit(&self, visit: &Visit<R>, values: &mut [&mut [R]]) -> std::result::Result<(), String>;
}

/// A call of a visitor that a run is asked to make.
#[derive(Clone)]
pub struct Visit<R> {
    /// The place.
    pub point: HookPoint,
    /// The rows, which follow one another in the batch; no rows of branches.
    pub rows: Range<usize>,
    /// What is called.
    pub visitor: Arc<dyn Visitor<R>>,
}

impl<R> std::fmt::Debug for Visit<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "visit of `{}`, rows {:?}", self.point, self.rows)
    }
}

impl<R: Number> Model<R> {
    /// [`Model::run_with_progress`] with visits, which happen in the order given where they concern the same rows of a point.
    ///
    /// # Errors
    /// As [`Model::run`]; what a visitor refuses; a visit that did not happen exactly once.
    pub fn run_visited(
        &self,
        batch: &Batch,
        hooks: &Hooks<R>,
        visits: &[Visit<R>],
        readout: &[usize],
        progress: Progress,
    ) -> Result<Run<R>> {
        if batch.n_kept > 0 {
            return Err(Error::OtherBatch);
        }
        self.check_readout(batch, readout)?;
        R::run_visited(self, batch, hooks, visits, readout, progress)
    }
}
