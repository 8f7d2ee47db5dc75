//! A named tensor as it lies in a file.

use crate::Result;
use std::ops::Range;
use std::sync::Arc;

/// How the numbers of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DType {
    /// IEEE single precision.
    F32,
}

/// A tensor in its stored type, cheap to clone; its data are shared and usually memory-mapped.
#[derive(Clone, Debug)]
pub struct StoredTensor {
    name: String,
    shape: Vec<usize>,
    dtype: DType,
    values: Arc<Vec<f32>>,
}

impl StoredTensor {
    /// A tensor that owns f32 values (row-major); for tests and for tensors that are computed.
    pub fn from_f32(name: impl Into<String>, shape: &[usize], values: Vec<f32>) -> Self {
        assert_eq!(shape.iter().product::<usize>(), values.len());
        Self { name: name.into(), shape: shape.to_vec(), dtype: DType::F32, values: Arc::new(values) }
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
        self.dtype
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
        self.values.len() * 4
    }
    /// Widens rows `rows` to f32 into `out` (length `rows.len() * n_cols`).
    pub fn widen_rows(&self, rows: Range<usize>, out: &mut [f32]) -> Result<()> {
        let n = self.n_cols();
        out.copy_from_slice(&self.values[rows.start * n..rows.end * n]);
        Ok(())
    }
    /// The whole tensor as f32, row-major.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.n_rows() * self.n_cols()];
        self.widen_rows(0..self.n_rows(), &mut out)?;
        Ok(out)
    }
    /// Tells the system that the mapped pages of this tensor are not needed for now (a hint; the data stay valid).
    pub fn release_pages(&self) {}
}
