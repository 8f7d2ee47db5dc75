//! What a run can be asked for, as data: values to read, and values to change.
//!
//! A [`Capture`] asks for the values of a hook point at some rows; an [`Edit`] replaces, shifts or scales some of them. When and how
//! often that happens is for [`crate::tap`].

use crate::hook::HookPoint;
use crate::mat::Mat;
use crate::number::Number;
use std::ops::Range;
use std::sync::Arc;

/// Asks for the values of a hook point at rows of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The place.
    pub point: HookPoint,
    /// Rows; prefixes are shared, so positions of several sequences can be the same row, which may be named often.
    pub rows: Vec<usize>,
}

/// Changes values of a hook point at one row, before anything downstream reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit<R> {
    /// The place.
    pub point: HookPoint,
    /// The row.
    pub row: usize,
    /// Which of the row's values: a head's slice, a neuron, or all (see [`HookPoint::width`]).
    pub units: Range<usize>,
    /// What happens to them.
    pub op: EditOp<R>,
}

/// What an edit does to the values that it names.
#[derive(Clone, Debug, PartialEq)]
pub enum EditOp<R> {
    /// Replaces them.
    Set(Vec<R>),
    /// Replaces them by the same values of an earlier row of the batch (of another model, another prompt), which must
    /// have as many: at points with one value per key, rows of the same position only.
    CopyFrom(usize),
    /// Adds to them.
    Add(Vec<R>),
    /// Multiplies them; 0 ablates.
    Scale(R),
    /// Adds a difference between two earlier rows: what a change of some place would add to the residual stream, put in
    /// at one reader of it (path patching).
    Shift(Shift),
    /// Replaces only their part within a subspace by that of an earlier row: `t += Σ_i u_i (u_i · (s − t))` over the
    /// rows `u_i` of `basis`, which must be orthonormal.
    CopyAlong {
        /// The row that is copied from.
        source: usize,
        /// `[dimension, units]`.
        basis: Arc<Mat<R>>,
    },
}

/// The difference that [`EditOp::Shift`] adds: values of one earlier row at a place minus those of another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shift {
    /// The place, at or before that of the edit.
    pub point: HookPoint,
    /// Which of its values; as many as the edit has units.
    pub units: Range<usize>,
    /// The row that is added.
    pub plus: usize,
    /// The row that is subtracted.
    pub minus: usize,
}

impl<R> Edit<R> {
    /// Places and rows whose values it reads.
    pub(crate) fn sources(&self) -> Vec<(HookPoint, usize)> {
        match &self.op {
            EditOp::CopyFrom(row) | EditOp::CopyAlong { source: row, .. } => vec![(self.point, *row)],
            EditOp::Shift(shift) => vec![(shift.point, shift.plus), (shift.point, shift.minus)],
            EditOp::Set(_) | EditOp::Add(_) | EditOp::Scale(_) => Vec::new(),
        }
    }
}

/// Everything that a run is asked to read and to change.
#[derive(Clone, Debug, Default)]
pub struct Hooks<R> {
    /// What to read.
    pub captures: Vec<Capture>,
    /// What to change, in the order of application where several concern the same values.
    pub edits: Vec<Edit<R>>,
}

/// Whether an edit's own numbers fit its units.
pub(crate) fn check_operand<R: Number>(edit: &Edit<R>) -> std::result::Result<(), String> {
    let n = edit.units.len();
    match &edit.op {
        EditOp::Set(values) | EditOp::Add(values) if values.len() != n => {
            Err(format!("{} values for {n} units", values.len()))
        }
        EditOp::Shift(shift) if shift.units.len() != n => {
            Err(format!("a difference of {} values for {n} units", shift.units.len()))
        }
        EditOp::CopyAlong { basis, .. } if basis.cols != n => {
            Err(format!("directions of {} values for {n} units", basis.cols))
        }
        EditOp::CopyAlong { basis, .. } => check_orthonormal(basis),
        _ => Ok(()),
    }
}

/// Directions that are not orthonormal would be copied more or less than once.
fn check_orthonormal<R: Number>(basis: &Mat<R>) -> std::result::Result<(), String> {
    const TOLERANCE: f64 = 1e-4;
    for i in 0..basis.rows {
        for j in 0..=i {
            let product = lorascope_kernels::dot(basis.row(i), basis.row(j));
            let expected = if i == j { 1.0 } else { 0.0 };
            // A product that is not a number is refused too.
            if (product - expected).abs() > TOLERANCE || product.is_nan() {
                return Err(format!(
                    "directions {j} and {i} have the product {product:.3e} instead of {expected}"
                ));
            }
        }
    }
    Ok(())
}

/// `t += Σ_i u_i (u_i · (s − t))`.
pub(crate) fn copy_along<R: Number>(target: &mut [R], source: &[R], basis: &Mat<R>) {
    let difference: Vec<R> = source.iter().zip(&*target).map(|(&s, &t)| s - t).collect();
    for i in 0..basis.rows {
        let along = R::from_f64(lorascope_kernels::dot(basis.row(i), &difference));
        target.iter_mut().zip(basis.row(i)).for_each(|(t, &u)| *t += along * u);
    }
}
