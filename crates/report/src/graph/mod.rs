//! Circuits: components placed by layer, connections as curves between them.

mod data;
mod edges;
mod key;
mod layout;
mod route;

pub use data::{Change, GraphEdge, GraphNode, GraphPanel, GraphPlace, HeadInput};

use crate::canvas::{Anchor, Canvas, Paint, Rect, Stroke, TextStyle};
use crate::color::text_on;
use crate::colorbar::Colors;
use crate::figure::HeatmapScale;
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{GAP, MARGIN, draw_title};
use edges::Widths;
use layout::{Layout, label_text};

/// What a figure of circuits shows; a scale is its unit and the size that has the full colour or width.
pub(crate) struct Graph<'a> {
    pub(crate) title: &'a str,
    pub(crate) panels: &'a [GraphPanel],
    pub(crate) node_scale: (&'a str, Option<f64>),
    pub(crate) edge_scale: (&'a str, Option<f64>),
}

/// Draws the figure; returns its size.
pub(crate) fn draw(canvas: &mut Canvas<'_>, figure: &Graph<'_>) -> (f64, f64) {
    let theme = canvas.theme();
    let nodes = || figure.panels.iter().flat_map(|panel| &panel.nodes);
    let colors = Colors::new(
        HeatmapScale::Diverging { center: 0.0, reach: figure.node_scale.1 },
        nodes().filter_map(|node| node.weight),
    );
    let has_weights = nodes().any(|node| node.weight.is_some());
    let bar_room = if has_weights { colors.bar_room(canvas) } else { MARGIN };
    let widths = Widths::new(figure.panels, figure.edge_scale.1);

    let row_label = |layer: usize| text_width(&layer.to_string(), theme.tick_size, Weight::Regular);
    let row_labels = nodes().filter_map(|node| node.place.layer()).map(row_label).fold(0.0, f64::max) + 12.0;
    let left = MARGIN + theme.label_size * 1.6 + row_labels;
    let gap = row_labels + 1.5 * GAP;
    let layout = Layout::new(figure.panels, theme.width - left - bar_room, gap, theme.tick_size);
    let (panel_width, panel_height) = layout.size;
    let right = left + layout.n_columns as f64 * (panel_width + gap) - gap;
    let width = (right + bar_room).max(560.0);

    let mut y = draw_title(canvas, figure.title, width);
    y = key::draw(canvas, figure, &widths, (y, width));
    let titled = figure.panels.iter().any(|panel| !panel.title.is_empty());
    let (first, mut last) = (y, y);
    for (number, line) in figure.panels.chunks(layout.n_columns).enumerate() {
        if titled {
            y += theme.label_size * 1.8;
        }
        for (column, panel) in line.iter().enumerate() {
            let x = left + column as f64 * (panel_width + gap);
            canvas.begin_part("panel", number * layout.n_columns + column, &panel.title);
            let title = shortened(&panel.title, panel_width, theme.label_size, Weight::Semibold);
            if !title.is_empty() {
                let style = TextStyle::new(theme.label_size, Paint::Ink).bold();
                canvas.text((x, y - theme.label_size * 0.6), &title, style);
            }
            draw_rows(canvas, &layout, (x, y));
            edges::draw(canvas, panel, &layout, &widths, (x, y));
            for (index, node) in panel.nodes.iter().enumerate() {
                draw_node(canvas, (index, node), (&layout, &colors), (x, y));
            }
            canvas.end_group();
        }
        last = y + panel_height;
        y = last + 1.5 * GAP;
    }
    if !layout.rows.is_empty() {
        let style = TextStyle::new(theme.label_size, Paint::Muted).anchor(Anchor::Middle).turned(-90.0);
        canvas.text((MARGIN + theme.label_size * 0.8, (first + last) / 2.0), "layer", style);
    }
    let mut bottom = last;
    if has_weights {
        let top = if titled { first + theme.label_size * 1.8 } else { first };
        bottom = bottom.max(colors.draw_bar(canvas, figure.node_scale.0, (right, top, last - top)));
    }
    (width, bottom + MARGIN)
}

/// Layers' numbers, and a line between layers.
fn draw_rows(canvas: &mut Canvas<'_>, layout: &Layout, (x, y): (f64, f64)) {
    let size = canvas.theme().tick_size;
    for (index, &(layer, middle, bottom)) in layout.rows.iter().enumerate() {
        let style = TextStyle::new(size, Paint::Muted).anchor(Anchor::End);
        canvas.text((x - 8.0, y + middle + size * 0.36), &layer.to_string(), style);
        if index + 1 < layout.rows.len() {
            let (from, to) = ((x, y + bottom), (x + layout.size.0, y + bottom));
            canvas.line(from, to, Stroke::new(Paint::Grid, 1.0));
        }
    }
}

fn draw_node(
    canvas: &mut Canvas<'_>,
    (index, node): (usize, &GraphNode),
    (layout, colors): (&Layout, &Colors),
    (x, y): (f64, f64),
) {
    let Some(place) = layout.rect(node.place, &node.id) else { return };
    let rect = Rect { x: x + place.x, y: y + place.y, ..place };
    let title = described(&node.id, node.weight, node.interval, node.change);
    canvas.begin_part("node", index, &title);
    let (fill, ink) = match node.weight.map(|weight| colors.of(weight)) {
        Some(color) => (Paint::Fixed(color), Paint::Fixed(text_on(color))),
        None => (Paint::Grid, Paint::Ink),
    };
    canvas.rect(rect, fill, 1.0);
    if node.member {
        // A little outside, or the pattern would be lost on a fill of the ink's own lightness.
        let (x, y) = (rect.x - 1.5, rect.y - 1.5);
        let ring = Rect { x, y, width: rect.width + 3.0, height: rect.height + 3.0 };
        let dashes = node.change.and_then(Change::dashes);
        canvas.frame(ring, 3.0, Stroke { dashes, ..Stroke::new(Paint::Ink, 1.3) });
    }
    let size = layout.label_size;
    let text = label_text(layout.label, layout.form, &node.id, node.place, node.weight);
    let text = shortened(&text, rect.width - 2.0, size, Weight::Regular);
    let center = (rect.x + rect.width / 2.0, rect.y + rect.height / 2.0 + size * 0.36);
    canvas.text(center, &text, TextStyle::new(size, ink).anchor(Anchor::Middle));
    canvas.end_group();
}

/// A part in words, for the pointer and for screen readers.
fn described(
    name: &str,
    weight: Option<f64>,
    interval: Option<(f64, f64)>,
    change: Option<Change>,
) -> String {
    let weight = weight.map(|weight| format!(": {weight:.4}")).unwrap_or_default();
    let interval = interval.map(|(lo, hi)| format!(" ({lo:.4} to {hi:.4})")).unwrap_or_default();
    let change = change.map(|change| format!(", {}", change.name())).unwrap_or_default();
    format!("{name}{weight}{interval}{change}")
}
