//! Cosines and sines of one rotary embedding, for the positions that a model has.

use crate::number::Number;
use crate::spec::Rotary;
use lorascope_kernels::{rotate_half, rotate_half_back};

/// `[position, pair]` tables.
#[derive(Debug)]
pub struct RotaryTable<R> {
    frequencies: Vec<f32>,
    cos: Vec<R>,
    sin: Vec<R>,
}

impl<R: Number> RotaryTable<R> {
    /// Tables for positions `0..n`. Angles are computed in f64 from frequencies rounded to f32, as the reference
    /// implementation rounds them.
    pub fn new(rotary: &Rotary, d_head: usize, n: usize) -> Self {
        let frequencies = rotary.inverse_frequencies(d_head);
        let angles = || (0..n).flat_map(|p| frequencies.iter().map(move |&f| p as f64 * f64::from(f)));
        let cos = angles().map(|a| R::from_f64(a.cos())).collect();
        let sin = angles().map(|a| R::from_f64(a.sin())).collect();
        Self { frequencies, cos, sin }
    }

    /// Rotates all heads of a row.
    pub fn rotate(&self, row: &mut [R], position: usize) {
        let half = self.frequencies.len();
        let part = position * half..(position + 1) * half;
        rotate_half(row, &self.cos[part.clone()], &self.sin[part]);
    }
    /// Turns all heads of a row back.
    pub fn rotate_back(&self, row: &mut [R], position: usize) {
        let half = self.frequencies.len();
        let part = position * half..(position + 1) * half;
        rotate_half_back(row, &self.cos[part.clone()], &self.sin[part]);
    }
}
