//! The legend: one entry a model, in a row above the panels, where it can't cover data.

use crate::canvas::{Canvas, Paint, Rect, Stroke, TextStyle};
use crate::figure::ColorKey;
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{GAP, MARGIN};

const SWATCH: f64 = 22.0;
const LONGEST_NAME: f64 = 260.0;

/// Shape of the sample beside a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sample {
    /// A piece of the curve.
    Line,
    /// A filled square.
    Box,
}

/// Names with their colours, each name once, in order of appearance.
pub(crate) fn entries<'a>(series: impl Iterator<Item = (&'a str, ColorKey)>) -> Vec<(&'a str, ColorKey)> {
    let mut entries: Vec<(&str, ColorKey)> = Vec::new();
    for (name, color) in series {
        if !entries.iter().any(|&(known, _)| known == name) {
            entries.push((name, color));
        }
    }
    entries
}

/// Draws the legend from `top`, in as many lines as it needs; returns the y below it.
pub(crate) fn draw(canvas: &mut Canvas<'_>, top: f64, entries: &[(&str, ColorKey)], sample: Sample) -> f64 {
    let theme = canvas.theme();
    let (size, width) = (theme.label_size, theme.width);
    let (mut x, mut y) = (MARGIN, top + size);
    for &(name, color) in entries {
        let name = shortened(name, LONGEST_NAME, size, Weight::Regular);
        let entry_width = SWATCH + 6.0 + text_width(&name, size, Weight::Regular);
        if x > MARGIN && x + entry_width > width - MARGIN {
            (x, y) = (MARGIN, y + size * 1.6);
        }
        draw_sample(canvas, (x, y - size * 0.36), color, sample);
        canvas.text((x + SWATCH + 6.0, y), &name, TextStyle::new(size, Paint::Ink));
        x += entry_width + 2.0 * GAP;
    }
    y + GAP
}

fn draw_sample(canvas: &mut Canvas<'_>, (x, y): (f64, f64), color: ColorKey, sample: Sample) {
    let dashes = canvas.theme().dashes(color);
    let paint = Paint::Series(color);
    match sample {
        Sample::Line => canvas.line((x, y), (x + SWATCH, y), Stroke { dashes, ..Stroke::new(paint, 2.5) }),
        Sample::Box => {
            canvas.rect(Rect { x: x + SWATCH - 12.0, y: y - 6.0, width: 12.0, height: 12.0 }, paint, 1.0)
        }
    }
}
