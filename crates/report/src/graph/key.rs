//! What the signs of a graph mean; only those that occur are explained.

use std::collections::BTreeSet;

use crate::canvas::{Canvas, Paint, Rect, Stroke, TextStyle};
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{GAP, MARGIN};
use crate::graph::Graph;
use crate::graph::data::Change;
use crate::graph::edges::{Widths, draw_edge};
use crate::scale::NumberForm;

const SAMPLE: f64 = 34.0;

/// The picture beside an explanation.
#[derive(Debug, Clone, Copy)]
enum Sample {
    /// An edge of this weight.
    Edge(f64),
    /// A plain line of the width of this weight.
    Width(f64),
    /// The line style of this change.
    Change(Change),
    /// The outline of a component.
    Outline,
    /// None: the text says all.
    Text,
}

/// Draws the key from `top`, in as many lines as `width` makes necessary; returns the y below it.
pub(super) fn draw(
    canvas: &mut Canvas<'_>,
    figure: &Graph<'_>,
    widths: &Widths,
    (top, width): (f64, f64),
) -> f64 {
    let size = canvas.theme().label_size;
    let entries = entries(figure, widths);
    if entries.is_empty() {
        return top;
    }
    let (mut x, mut y) = (MARGIN, top + size);
    for (sample, text) in entries {
        let sample_width = if matches!(sample, Sample::Text) { 0.0 } else { SAMPLE + 6.0 };
        let text = shortened(&text, width - 2.0 * MARGIN - sample_width, size, Weight::Regular);
        let entry_width = sample_width + text_width(&text, size, Weight::Regular);
        if x > MARGIN && x + entry_width > width - MARGIN {
            (x, y) = (MARGIN, y + size * 1.6);
        }
        draw_sample(canvas, sample, widths, (x, y - size * 0.36));
        canvas.text((x + sample_width, y), &text, TextStyle::new(size, Paint::Ink));
        x += entry_width + 1.6 * GAP;
    }
    y + 1.5 * GAP
}

fn entries(figure: &Graph<'_>, widths: &Widths) -> Vec<(Sample, String)> {
    let nodes = || figure.panels.iter().flat_map(|panel| &panel.nodes);
    let edges = || figure.panels.iter().flat_map(|panel| &panel.edges);
    let mut entries = Vec::new();
    if edges().any(|edge| edge.weight.is_some_and(|weight| weight > 0.0)) {
        entries.push((Sample::Edge(1.0), "positive".to_owned()));
    }
    if edges().any(|edge| edge.weight.is_some_and(|weight| weight < 0.0)) {
        entries.push((Sample::Edge(-1.0), "negative".to_owned()));
    }
    if edges().any(|edge| edge.weight.is_some()) {
        let sizes = [widths.reach / 4.0, widths.reach];
        let form = NumberForm::of(sizes.into_iter());
        if !figure.edge_scale.0.is_empty() {
            entries.push((Sample::Text, format!("{}:", figure.edge_scale.0)));
        }
        entries.extend(sizes.map(|size| (Sample::Width(size), form.text(size))));
    }
    let changes: BTreeSet<_> = nodes().map(|n| n.change).chain(edges().map(|e| e.change)).flatten().collect();
    let present = Change::ALL.into_iter().filter(|change| changes.contains(change));
    entries.extend(present.map(|change| (Sample::Change(change), change.name().to_owned())));
    if nodes().any(|node| !node.member) {
        entries.push((Sample::Outline, "in the circuit".to_owned()));
    }
    if edges().any(|edge| edge.input.is_some()) {
        entries.push((Sample::Text, "enters at the left: q, middle: k, right: v".to_owned()));
    }
    entries
}

fn draw_sample(canvas: &mut Canvas<'_>, sample: Sample, widths: &Widths, (x, y): (f64, f64)) {
    let end = (x + SAMPLE, y);
    match sample {
        Sample::Edge(weight) => {
            let third = SAMPLE / 3.0;
            let curve = [(x, y), (x + third, y), (x + 2.0 * third, y), end];
            draw_edge(canvas, curve, (Some(weight), None), (2.2, 1.0));
        }
        Sample::Width(weight) => {
            let width = (widths.of(Some(weight)) * 100.0).round() / 100.0;
            canvas.line((x, y), end, Stroke::new(Paint::Muted, width));
        }
        Sample::Change(change) => {
            let stroke = Stroke { dashes: change.dashes(), ..Stroke::new(Paint::Ink, 1.8) };
            canvas.line((x, y), end, stroke);
        }
        Sample::Outline => {
            let rect = Rect { x: x + 2.0, y: y - 7.0, width: SAMPLE - 4.0, height: 14.0 };
            canvas.frame(rect, 3.0, Stroke::new(Paint::Ink, 1.3));
        }
        Sample::Text => {}
    }
}
