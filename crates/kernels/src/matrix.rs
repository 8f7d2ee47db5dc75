//! Views of row-major matrices, whose rows may lie further apart than they are long.

/// A row-major matrix that is only read; rows may lie further apart than they are long.
#[derive(Clone, Copy, Debug)]
pub struct MatRef<'a, R> {
    pub(crate) data: &'a [R],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl<'a, R> MatRef<'a, R> {
    /// `rows × cols` without gaps. Panics when the slice has another length.
    pub fn new(data: &'a [R], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "length of a {rows} x {cols} matrix");
        Self { data, rows, cols, stride: cols }
    }
    /// `rows × cols` with row starts `stride` apart. Panics when the slice is too short.
    pub fn strided(data: &'a [R], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + cols <= data.len(), "strided matrix within its slice");
        Self { data, rows, cols, stride }
    }
    /// Some rows as one slice, where there are no gaps between them.
    pub fn contiguous(&self, rows: std::ops::Range<usize>) -> Option<&'a [R]> {
        (self.stride == self.cols).then(|| &self.data[rows.start * self.cols..rows.end * self.cols])
    }
    /// Row `i`.
    pub fn row(&self, i: usize) -> &'a [R] {
        &self.data[i * self.stride..i * self.stride + self.cols]
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Length of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }
}

/// A row-major matrix that is written; rows may lie further apart than they are long.
#[derive(Debug)]
pub struct MatMut<'a, R> {
    pub(crate) data: &'a mut [R],
    pub(crate) rows: usize,
    pub(crate) cols: usize,
    pub(crate) stride: usize,
}

impl<'a, R> MatMut<'a, R> {
    /// `rows × cols` without gaps. Panics when the slice has another length.
    pub fn new(data: &'a mut [R], rows: usize, cols: usize) -> Self {
        assert_eq!(data.len(), rows * cols, "length of a {rows} x {cols} matrix");
        Self { data, rows, cols, stride: cols }
    }
    /// `rows × cols` with row starts `stride` apart. Panics when the slice is too short.
    pub fn strided(data: &'a mut [R], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows == 0 || (rows - 1) * stride + cols <= data.len(), "strided matrix within its slice");
        assert!(cols <= stride || rows <= 1, "rows of an output matrix must not overlap");
        Self { data, rows, cols, stride }
    }
    /// Some rows, each writable.
    pub fn rows_mut(&mut self, rows: std::ops::Range<usize>) -> impl Iterator<Item = &mut [R]> {
        let cols = self.cols;
        self.data
            .chunks_mut(self.stride.max(1))
            .skip(rows.start)
            .take(rows.len())
            .map(move |row| &mut row[..cols])
    }
    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }
    /// Length of a row.
    pub fn cols(&self) -> usize {
        self.cols
    }
}
