//! Low-rank updates whose factors lie on the device that multiplies.

use lorascope_kernels::{Placed, PlacedUpdate};
use std::any::Any;
use std::ops::Range;

/// A low-rank update with factors of a device's own kind of matrix.
pub(crate) struct LowRank<'a, M> {
    pub rows: Range<usize>,
    pub a: &'a M,
    pub b: &'a M,
    pub factor: f32,
    pub scale: f32,
}

impl<'a, M: Placed<f32>> LowRank<'a, M> {
    pub fn of(update: &PlacedUpdate<'a, f32>) -> Self {
        let PlacedUpdate { ref rows, a, b, factor, scale } = *update;
        let own = |placed: &'a dyn Placed<f32>| (placed as &dyn Any).downcast_ref::<M>();
        let (Some(a), Some(b)) = (own(a), own(b)) else { unreachable!("one device serves the process") };
        Self { rows: rows.clone(), a, b, factor, scale }
    }

    /// Its rows among some, counted from the first of those.
    pub fn within(&self, rows: &Range<usize>) -> Range<usize> {
        let start = self.rows.start.max(rows.start);
        start - rows.start..self.rows.end.min(rows.end).max(start) - rows.start
    }
}
