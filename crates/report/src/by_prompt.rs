//! What a figure shows, prompt by prompt: the same cells as its averages, for the page's prompt picker and for the list
//! of a cell's prompts. Values are packed, because there may be a thousand prompts of ten thousand cells.

use std::io::{Read, Write};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::ZlibDecoder;
use flate2::write::ZlibEncoder;
use serde::{Deserialize, Serialize};

use crate::figure::FigureKind;

/// A figure's values of single prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ByPrompt {
    /// Ids of the prompts.
    pub prompts: Vec<String>,
    /// Base64 of zlib of little-endian f32, `[prompt][panel][row][column]`; NaN where a prompt has no part in a cell.
    pub values: String,
}

/// One cell of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// Which panel.
    pub panel: usize,
    /// Row of a heat map; series of lines and bars; 0 for the nodes of a graph, 1 for its edges.
    pub row: usize,
    /// Column of a heat map; point of a line; group of bars; which node or edge.
    pub col: usize,
}

impl ByPrompt {
    /// Asks `value` for every prompt and every cell of `kind`; `None` where a prompt has no part in a cell.
    pub fn new(
        kind: &FigureKind,
        prompts: Vec<String>,
        mut value: impl FnMut(usize, Cell) -> Option<f64>,
    ) -> Self {
        let shape = shape(kind);
        let mut bytes = Vec::new();
        for prompt in 0..prompts.len() {
            for (panel, lengths) in shape.iter().enumerate() {
                for (row, &n) in lengths.iter().enumerate() {
                    for col in 0..n {
                        let found = value(prompt, Cell { panel, row, col }).unwrap_or(f64::NAN);
                        bytes.extend((found as f32).to_le_bytes());
                    }
                }
            }
        }
        Self { prompts, values: STANDARD.encode(packed(&bytes)) }
    }

    /// The values as [`ByPrompt::new`] was given them, each rounded to f32, prompt by prompt; `None` if they are not
    /// what it writes for `kind`.
    pub fn unpacked(&self, kind: &FigureKind) -> Option<Vec<Vec<Option<f32>>>> {
        let n_cells: usize = shape(kind).iter().flatten().sum();
        let bytes = inflated(&self.values, self.prompts.len().checked_mul(n_cells)?.checked_mul(4)?)?;
        let values: Vec<_> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        let cell = |value: &f32| (!value.is_nan()).then_some(*value);
        let prompt = |i: usize| values[i * n_cells..(i + 1) * n_cells].iter().map(cell).collect();
        Some((0..self.prompts.len()).map(prompt).collect())
    }
}

/// Lengths of the rows of each panel.
fn shape(kind: &FigureKind) -> Vec<Vec<usize>> {
    match kind {
        FigureKind::Lines { panels, .. } => {
            panels.iter().map(|panel| panel.series.iter().map(|series| series.x.len()).collect()).collect()
        }
        FigureKind::Heatmap { panels, .. } => {
            panels.iter().map(|panel| vec![panel.cols.len(); panel.rows.len()]).collect()
        }
        FigureKind::Bars { panels, .. } | FigureKind::HorizontalBars { panels, .. } => {
            panels.iter().map(|panel| vec![panel.groups.len(); panel.series.len()]).collect()
        }
        FigureKind::Graph { panels, .. } => {
            panels.iter().map(|panel| vec![panel.nodes.len(), panel.edges.len()]).collect()
        }
        // Every prompt is in it already.
        FigureKind::Attention(_) => Vec::new(),
    }
}

/// What [`packed`] and base64 made of `n` bytes; `None` if it is not that.
pub(crate) fn inflated(base64: &str, n: usize) -> Option<Vec<u8>> {
    let packed = STANDARD.decode(base64).ok()?;
    let mut bytes = Vec::new();
    // One byte more than there should be, so that what is too long is seen without being read.
    ZlibDecoder::new(packed.as_slice()).take(n as u64 + 1).read_to_end(&mut bytes).ok()?;
    (bytes.len() == n).then_some(bytes)
}

pub(crate) fn packed(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // Writing into a Vec can't fail.
    let _ = encoder.write_all(bytes);
    encoder.finish().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{HeatmapPanel, HeatmapScale};

    fn map(rows: usize, cols: usize) -> FigureKind {
        let names = |n: usize| (0..n).map(|i| i.to_string()).collect();
        let panel = || HeatmapPanel {
            title: String::new(),
            rows: names(rows),
            cols: names(cols),
            values: vec![vec![None; cols]; rows],
            intervals: Vec::new(),
        };
        FigureKind::Heatmap {
            row_label: String::new(),
            col_label: String::new(),
            panels: vec![panel(), panel()],
            scale: HeatmapScale::Diverging { center: 0.0, reach: None },
            unit: String::new(),
            annotate: false,
        }
    }

    #[test]
    fn what_goes_in_comes_out_in_the_order_of_the_cells() {
        let kind = map(2, 3);
        let value = |prompt: usize, Cell { panel, row, col }: Cell| {
            (col != 1).then_some((1000 * prompt + 100 * panel + 10 * row + col) as f64)
        };
        let slices = ByPrompt::new(&kind, vec!["a".to_owned(), "b".to_owned()], value);
        let out = slices.unpacked(&kind).unwrap();
        assert_eq!(out[0][..4], [Some(0.0), None, Some(2.0), Some(10.0)]);
        assert_eq!(out[1][6..], [Some(1100.0), None, Some(1102.0), Some(1110.0), None, Some(1112.0)]);
    }

    #[test]
    fn values_of_another_shape_are_refused() {
        let slices = ByPrompt::new(&map(2, 3), vec!["a".to_owned()], |_, _| Some(1.0));
        assert!(slices.unpacked(&map(2, 2)).is_none());
        assert!(slices.unpacked(&map(2, 4)).is_none());
        let cut = ByPrompt { values: slices.values[..4].to_owned(), ..slices };
        assert!(cut.unpacked(&map(2, 3)).is_none());
    }
}
