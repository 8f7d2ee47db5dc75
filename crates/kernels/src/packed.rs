//! Weight matrices in the layout that the products read: panels of [`PANEL`] outputs, inner dimension first.

use crate::device::{Device, DeviceError, Placed};
use crate::{MatRef, Real};
use rayon::prelude::*;
use std::sync::{Arc, OnceLock};

/// Outputs in a panel: a matrix takes memory for its outputs rounded up to a multiple of this.
pub const PANEL: usize = 16;

/// One inner index of a panel. Aligned to a cache line, since a vector that lies across two takes two loads.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(C, align(64))]
pub(crate) struct Lane<R>(pub [R; PANEL]);

/// A weight matrix `[n_out, n_in]` in panels.
#[derive(Clone, Debug)]
pub struct Packed<R> {
    n_out: usize,
    n_in: usize,
    /// `[panel][k]`, the last panel padded with zeros.
    pub(crate) panels: Vec<Lane<R>>,
    /// Whether a device may hold a copy, and the copy once there is one.
    may_be_placed: bool,
    placed: OnceLock<Arc<dyn Placed<R>>>,
}

impl<R: Real> Packed<R> {
    /// Room for an `[n_out, n_in]` matrix, all zeros.
    pub fn zeros(n_out: usize, n_in: usize) -> Self {
        let panels = vec![Lane([R::ZERO; PANEL]); n_out.div_ceil(PANEL) * n_in];
        Self { n_out, n_in, panels, may_be_placed: false, placed: OnceLock::new() }
    }

    /// The same matrix, of which a device may keep a copy: for weights that are multiplied by many times.
    pub fn on_device(mut self) -> Self {
        self.may_be_placed = true;
        self
    }

    pub(crate) fn may_be_placed(&self) -> bool {
        self.may_be_placed
    }

    /// The device's copy, made when it is first asked for.
    pub(crate) fn placed_on(&self, device: &dyn Device<R>) -> Result<&dyn Placed<R>, DeviceError> {
        if let Some(placed) = self.placed.get() {
            return Ok(placed.as_ref());
        }
        let made = Arc::from(device.place(self)?);
        Ok(self.placed.get_or_init(|| made).as_ref())
    }

    /// Packs a matrix whose rows are outputs: `w[o][k]` (the layout of a linear map in a checkpoint).
    pub fn from_output_rows(w: MatRef<R>) -> Self {
        let mut packed = Self::zeros(w.rows(), w.cols());
        packed.fill_output_rows(w);
        packed
    }

    /// Packs a matrix whose rows are inputs: `w[k][o]` (the layout of values in attention, and of GPT-2's weights).
    pub fn from_input_rows(w: MatRef<R>) -> Self {
        let mut packed = Self::zeros(w.cols(), w.rows());
        for (p, panel) in packed.panels.chunks_exact_mut(w.rows().max(1)).enumerate() {
            let first = p * PANEL;
            let width = PANEL.min(w.cols() - first);
            for (k, Lane(lane)) in panel.iter_mut().enumerate() {
                lane[..width].copy_from_slice(&w.row(k)[first..first + width]);
            }
        }
        packed
    }

    /// Overwrites the matrix from rows that are outputs; see [`Packed::from_output_rows`].
    pub fn fill_output_rows(&mut self, w: MatRef<R>) {
        assert_eq!((w.rows(), w.cols()), (self.n_out, self.n_in), "shape of the matrix to pack");
        self.placed = OnceLock::new();
        for (p, panel) in self.panels.chunks_exact_mut(w.cols().max(1)).enumerate() {
            let first = p * PANEL;
            for o in first..w.rows().min(first + PANEL) {
                let row = w.row(o);
                for (Lane(lane), &value) in panel.iter_mut().zip(row) {
                    lane[o - first] = value;
                }
            }
        }
    }

    /// Packs rows `o..` that `fill(rows, buffer)` widens from their stored type, in parallel, panel by panel: no
    /// widened copy of the whole matrix ever exists. The room of `spent`, a matrix of the same shape that nobody needs any more, is
    /// taken again: room that the system has to give anew costs as much time as the packing.
    pub fn from_stored<E: Send>(
        n_out: usize,
        n_in: usize,
        spent: Option<Self>,
        fill: impl Fn(std::ops::Range<usize>, &mut [R]) -> Result<(), E> + Sync,
    ) -> Result<Self, E> {
        let mut packed = match spent {
            Some(spent) if (spent.n_out, spent.n_in) == (n_out, n_in) => spent,
            _ => Self::zeros(n_out, n_in),
        };
        (packed.may_be_placed, packed.placed) = (false, OnceLock::new());
        packed.panels.par_chunks_exact_mut(n_in.max(1)).enumerate().try_for_each_init(
            || vec![R::ZERO; PANEL * n_in],
            |buffer, (p, panel)| {
                let first = p * PANEL;
                let width = PANEL.min(n_out - first);
                fill(first..first + width, &mut buffer[..width * n_in])?;
                // Square blocks, so that every cache line is read once, whatever the length of the rows.
                for (block, lanes) in panel.chunks_mut(PANEL).enumerate() {
                    for o in 0..width {
                        let row = &buffer[o * n_in + block * PANEL..][..lanes.len()];
                        lanes.iter_mut().zip(row).for_each(|(Lane(lane), &value)| lane[o] = value);
                    }
                }
                Ok(())
            },
        )?;
        Ok(packed)
    }

    /// Number of outputs.
    pub fn n_out(&self) -> usize {
        self.n_out
    }
    /// Number of inputs.
    pub fn n_in(&self) -> usize {
        self.n_in
    }
    /// Bytes that the panels take.
    pub fn n_bytes(&self) -> usize {
        std::mem::size_of_val(self.panels.as_slice())
    }
    /// The panels' numbers, `[panel][k][output within the panel]`, [`PANEL`] at a time; the last panel is padded with zeros.
    pub fn numbers(&self) -> &[R] {
        const { assert!(size_of::<Lane<R>>() == PANEL * size_of::<R>(), "lanes without gaps") };
        // SAFETY: a lane is an array of numbers and nothing else, and lanes of a slice follow one another.
        unsafe { std::slice::from_raw_parts(self.panels.as_ptr().cast(), self.panels.len() * PANEL) }
    }
    /// One weight; slow, for checks.
    pub fn at(&self, output: usize, input: usize) -> R {
        self.panels[output / PANEL * self.n_in + input].0[output % PANEL]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_layouts_and_the_stored_form_pack_alike() {
        let (n_out, n_in) = (37, 21);
        let w: Vec<f32> = (0..n_out * n_in).map(|i| (i as f32 * 0.7).sin()).collect();
        let transposed: Vec<f32> = (0..n_in * n_out).map(|i| w[(i % n_out) * n_in + i / n_out]).collect();
        let a = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
        let b = Packed::from_input_rows(MatRef::new(&transposed, n_in, n_out));
        let widen = |rows: std::ops::Range<usize>, out: &mut [f32]| {
            out.copy_from_slice(&w[rows.start * n_in..rows.end * n_in]);
            Ok::<(), ()>(())
        };
        let of_ones = |n_out| {
            let mut ones = Packed::zeros(n_out, n_in);
            ones.fill_output_rows(MatRef::new(&vec![1.0; n_out * n_in], n_out, n_in));
            ones
        };
        let fresh = Packed::from_stored(n_out, n_in, None, widen).unwrap();
        let again = Packed::from_stored(n_out, n_in, Some(of_ones(n_out)), widen).unwrap();
        let other = Packed::from_stored(n_out, n_in, Some(of_ones(n_out + 1)), widen).unwrap();
        assert_eq!(a.panels, b.panels);
        for stored in [fresh, again, other] {
            assert_eq!(a.panels, stored.panels);
        }
        assert_eq!(b.at(36, 20), w[36 * n_in + 20]);
        assert_eq!(b.numbers().len(), 48 * n_in);
        assert_eq!(b.numbers()[(36 / PANEL * n_in + 20) * PANEL + 36 % PANEL], w[36 * n_in + 20]);
    }
}
