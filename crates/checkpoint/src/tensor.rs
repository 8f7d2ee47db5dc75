//! A named tensor as it lies in a file, and how its rows become f32. Not here: where in the file it lies
//! (`safetensors`, `gguf`), what its numbers mean to a model.

use crate::bnb::FourBit;
use crate::bytes::Bytes;
use crate::dtype::{Blocked, DType};
use crate::view::View;
use crate::{Error, Result};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::Arc;

/// Numbers from which on widening is spread over threads, and the least that one thread gets; below this, starting
/// threads costs more than the copying.
const PARALLEL_FROM: usize = 1 << 17;
const PARALLEL_PIECE: usize = 1 << 15;

/// Numbers looked at in one go when searching for NaN and infinity.
const SCAN_PIECE: usize = 1 << 20;

/// Stored numbers in stored order.
#[derive(Clone, Debug)]
pub(crate) enum Store {
    /// Values in memory.
    Floats(Arc<Vec<f32>>),
    /// Bytes of a type whose blocks stand alone.
    Blocked(Blocked, Bytes),
    /// 4 bits with scales elsewhere.
    FourBit(FourBit),
}

impl Store {
    /// Widens `out.len()` numbers from stored number `start` on.
    pub(crate) fn widen_from(&self, start: usize, out: &mut [f32]) {
        match self {
            Store::Floats(values) => out.copy_from_slice(&values[start..start + out.len()]),
            Store::Blocked(blocked, bytes) => blocked.widen_from(bytes.as_slice(), start, out),
            Store::FourBit(weight) => weight.widen_from(start, out),
        }
    }

    /// The numbers as they lie in a file; `None` where they are in memory.
    fn bytes(&self) -> Option<&Bytes> {
        match self {
            Store::Floats(_) => None,
            Store::Blocked(_, bytes) => Some(bytes),
            Store::FourBit(weight) => Some(&weight.codes),
        }
    }

    fn dtype(&self) -> DType {
        match self {
            Store::Floats(_) => DType::F32,
            Store::Blocked(blocked, _) => blocked.dtype,
            Store::FourBit(weight) => weight.dtype,
        }
    }
}

/// A tensor in its stored type, cheap to clone; its data are shared and usually memory-mapped.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    name: String,
    shape: Vec<usize>,
    store: Store,
    view: View,
}

impl StoredTensor {
    /// A tensor that owns f32 values (row-major); for tests and for tensors that are computed.
    ///
    /// # Panics
    /// If `values` is not as long as `shape` says.
    pub fn from_f32(name: impl Into<String>, shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len(), "values must fill the shape");
        Self::new(name.into(), shape.to_vec(), Store::Floats(Arc::new(values)), View::AsStored)
    }

    /// The caller has checked that `store` holds the product of `shape` and that `view` fits `shape`.
    pub(crate) fn new(name: String, shape: Vec<usize>, store: Store, view: View) -> Self {
        Self { name, shape, store, view }
    }

    pub(crate) fn renamed(self, name: String) -> Self {
        Self { name, ..self }
    }

    /// Whether both tensors store the same numbers in the same way.
    pub(crate) fn same_bytes(&self, other: &Self) -> bool {
        match (&self.store, &other.store) {
            (Store::Blocked(mine, a), Store::Blocked(theirs, b)) => {
                (mine.dtype, self.view, &self.shape) == (theirs.dtype, other.view, &other.shape)
                    && a.as_slice() == b.as_slice()
            }
            _ => false,
        }
    }

    /// The tensor's Hugging Face name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Row-major shape, outermost dimension first, as Hugging Face writes it (`[out, in]` for a linear map).
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// How the numbers are stored.
    pub fn dtype(&self) -> DType {
        self.store.dtype()
    }

    /// Number of rows: the product of all dimensions but the last (1 for a vector).
    pub fn n_rows(&self) -> usize {
        self.shape.iter().rev().skip(1).product()
    }

    /// Length of a row: the last dimension.
    pub fn n_cols(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// Bytes that the stored data take.
    pub fn n_bytes(&self) -> usize {
        match &self.store {
            Store::Floats(values) => values.len() * 4,
            Store::Blocked(_, bytes) => bytes.len(),
            Store::FourBit(weight) => weight.n_bytes(),
        }
    }

    /// Widens rows `rows` to f32 into `out` (length `rows.len() * n_cols`), over several threads when there are many.
    ///
    /// # Errors
    /// [`Error::Rows`] if the tensor has no such rows or `out` has another length.
    pub fn widen_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let n_cols = self.n_cols();
        let fits = rows.start <= rows.end && rows.end <= self.n_rows() && out.len() == rows.len() * n_cols;
        if !fits {
            return Err(Error::Rows {
                tensor: self.name.clone(),
                start: rows.start,
                end: rows.end,
                n_rows: self.n_rows(),
                n_cols,
                n_out: out.len(),
            });
        }
        if out.len() < PARALLEL_FROM || n_cols == 0 {
            self.view.widen(&self.store, &self.shape, rows, out);
            return Ok(());
        }
        let rows_each = self.view.rows_together(PARALLEL_PIECE.div_ceil(n_cols));
        out.par_chunks_mut(rows_each * n_cols).enumerate().for_each(|(i, out)| {
            let first = rows.start + i * rows_each;
            self.view.widen(&self.store, &self.shape, first..first + out.len() / n_cols, out);
        });
        Ok(())
    }

    /// The whole tensor as f32, row-major.
    ///
    /// # Errors
    /// None for a tensor from a checkpoint; the result is there because reading may learn to fail.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.n_rows() * self.n_cols()];
        self.widen_rows(0..self.n_rows(), &mut out)?;
        Ok(out)
    }

    /// Row-major position of the first NaN or infinity, if there is one.
    ///
    /// # Errors
    /// As [`StoredTensor::to_f32`].
    pub fn first_non_finite(&self) -> Result<Option<usize>> {
        let (n_rows, n_cols) = (self.n_rows(), self.n_cols());
        if n_cols == 0 {
            return Ok(None);
        }
        let rows_each = (SCAN_PIECE / n_cols).max(1);
        let mut piece = vec![0.0; rows_each.min(n_rows) * n_cols];
        for first in (0..n_rows).step_by(rows_each) {
            let end = n_rows.min(first + rows_each);
            let piece = &mut piece[..(end - first) * n_cols];
            self.widen_rows(first..end, piece)?;
            if let Some(at) = piece.iter().position(|x| !x.is_finite()) {
                return Ok(Some(first * n_cols + at));
            }
        }
        Ok(None)
    }

    /// Tells the system that these rows will be needed soon, so that it reads them from the file meanwhile (a hint).
    pub fn expect_rows(&self, rows: Range<usize>) {
        let Some(bytes) = self.store.bytes() else { return };
        let place = |row: usize| bytes.len() * row.min(self.n_rows()) / self.n_rows().max(1);
        bytes.expect(place(rows.start)..place(rows.end));
    }

    /// Tells the system that the mapped pages of this tensor are not needed for now (a hint; the data stay valid).
    pub fn release_pages(&self) {
        if let Some(bytes) = self.store.bytes() {
            bytes.release();
        }
    }
}
