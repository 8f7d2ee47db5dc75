//! From a figure to its SVG file.

use crate::attention;
use crate::bars::{self, Bars};
use crate::canvas::Canvas;
use crate::downloads::figure_csv;
use crate::error::Result;
use crate::figure::{Figure, FigureKind};
use crate::graph::{self, Graph};
use crate::heatmap::{self, Heatmap};
use crate::horizontal_bars::{self, HorizontalBars};
use crate::lines::{self, Lines};
use crate::raster::{render_pdf, render_png};
use crate::theme::Theme;

/// Draws `figure` as a complete SVG file; equal figures give equal bytes.
///
/// # Errors
/// Those of [`Figure::check`].
pub fn render_svg(figure: &Figure, theme: &Theme) -> Result<String> {
    figure.check()?;
    let mut canvas = Canvas::new(theme);
    let title = figure.title.as_str();
    let size = match &figure.kind {
        FigureKind::Lines { x_label, y_label, panels, zero_line } => {
            lines::draw(&mut canvas, &Lines { title, x_label, y_label, panels, zero_line: *zero_line })
        }
        FigureKind::Heatmap { row_label, col_label, panels, scale, unit, annotate } => {
            let (scale, annotate) = (*scale, *annotate);
            heatmap::draw(
                &mut canvas,
                &Heatmap { title, row_label, col_label, panels, scale, unit, annotate },
            )
        }
        FigureKind::Bars { y_label, panels } => bars::draw(&mut canvas, &Bars { title, y_label, panels }),
        FigureKind::HorizontalBars { x_label, panels } => {
            horizontal_bars::draw(&mut canvas, &HorizontalBars { title, x_label, panels })
        }
        FigureKind::Graph { panels, node_unit, node_reach, edge_unit, edge_reach } => {
            let (node_scale, edge_scale) =
                ((node_unit.as_str(), *node_reach), (edge_unit.as_str(), *edge_reach));
            graph::draw(&mut canvas, &Graph { title, panels, node_scale, edge_scale })
        }
        FigureKind::Attention(rows) => attention::draw(&mut canvas, title, rows),
    };
    Ok(canvas.finish(size, &figure.name, title, &figure.caption))
}

/// The figure as files for papers, each with the ending of its name: drawn as SVG, PNG and PDF, and its numbers as CSV.
///
/// # Errors
/// Those of [`render_svg`], [`render_png`] and [`figure_csv`].
pub fn figure_files(figure: &Figure, theme: &Theme) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let svg = render_svg(figure, theme)?;
    Ok(vec![
        ("png", render_png(&svg)?),
        ("pdf", render_pdf(&svg, &figure.title)?),
        ("csv", figure_csv(figure)?.into_bytes()),
        ("svg", svg.into_bytes()),
    ])
}
