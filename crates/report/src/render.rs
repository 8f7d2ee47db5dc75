//! From a figure to its SVG file.

use crate::bars::{self, Bars};
use crate::canvas::Canvas;
use crate::error::Result;
use crate::figure::{Figure, FigureKind};
use crate::graph::{self, Graph};
use crate::heatmap::{self, Heatmap};
use crate::horizontal_bars::{self, HorizontalBars};
use crate::lines::{self, Lines};
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
    };
    Ok(canvas.finish(size, &figure.name, title, &figure.caption))
}
