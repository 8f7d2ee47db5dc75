//! Matrices that a pass is done with, kept for its next layer. Fresh memory costs a page fault every 4 KiB and a pass
//! over it to set it to zero, which together took a quarter of a forward pass.

use crate::mat::Mat;
use crate::number::Number;

/// Buffers waiting to be used again.
#[derive(Debug, Default)]
pub(super) struct Scratch<R> {
    free: Vec<Vec<R>>,
}

impl<R: Number> Scratch<R> {
    /// A matrix whose numbers are arbitrary: whoever asks for it writes all of it.
    pub fn mat(&mut self, rows: usize, cols: usize) -> Mat<R> {
        let n = rows * cols;
        // One of this very length needs no zeros; else the smallest that suffices, else the largest, which grows.
        let sufficient = self.free.partition_point(|b| b.capacity() < n);
        let exact = self.free[sufficient..].iter().position(|b| b.len() == n).map(|i| sufficient + i);
        let place = exact.unwrap_or(sufficient).min(self.free.len().saturating_sub(1));
        let mut data = if self.free.is_empty() { Vec::new() } else { self.free.remove(place) };
        data.resize(n, R::ZERO);
        Mat { data, rows, cols }
    }

    /// Takes a matrix back.
    pub fn give(&mut self, mat: Mat<R>) {
        let place = self.free.partition_point(|b| b.capacity() < mat.data.capacity());
        self.free.insert(place, mat.data);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_sufficient_buffer_comes_back_in_the_shape_asked_for() {
        let mut scratch = Scratch::<f32>::default();
        let (small, large) = (scratch.mat(2, 3), scratch.mat(40, 50));
        let (at_small, at_large) = (small.data.as_ptr(), large.data.as_ptr());
        scratch.give(large);
        scratch.give(small);
        let again = scratch.mat(3, 2);
        assert_eq!((again.data.as_ptr(), again.data.len(), again.rows, again.cols), (at_small, 6, 3, 2));
        assert_eq!(scratch.mat(7, 9).data.as_ptr(), at_large);
        assert_eq!(scratch.mat(5, 5).data, vec![0.0; 25]);
    }
}
