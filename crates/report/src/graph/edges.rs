//! Edges: width by size, colour and end by sign, line style by what became of them.

use crate::canvas::{Canvas, Paint, Stroke};
use crate::color::diverging;
use crate::graph::data::{Change, GraphEdge, GraphPanel};
use crate::graph::described;
use crate::graph::layout::Layout;
use crate::graph::route::{Curve, routes};

const THINNEST: f64 = 0.7;
const WIDEST: f64 = 4.5;
/// More edges than this are drawn fainter, the weaker the more so.
const CROWD: f64 = 30.0;
const FAINTEST: f64 = 0.3;

/// From weights to widths, for all panels.
pub(super) struct Widths {
    /// Size of a weight that has the full width.
    pub(super) reach: f64,
}

impl Widths {
    pub(super) fn new(panels: &[GraphPanel], reach: Option<f64>) -> Self {
        let weights = panels.iter().flat_map(|panel| &panel.edges).filter_map(|edge| edge.weight);
        let reach = reach.unwrap_or_else(|| weights.map(f64::abs).fold(0.0, f64::max));
        Self { reach: if reach > 0.0 { reach } else { 1.0 } }
    }

    /// Share of the full width, 0 to 1.
    fn share(&self, weight: Option<f64>) -> f64 {
        (weight.unwrap_or(0.0).abs() / self.reach).min(1.0)
    }

    pub(super) fn of(&self, weight: Option<f64>) -> f64 {
        THINNEST + (WIDEST - THINNEST) * self.share(weight)
    }
}

/// Draws a panel's edges, the strongest on top.
pub(super) fn draw(
    canvas: &mut Canvas<'_>,
    panel: &GraphPanel,
    layout: &Layout,
    widths: &Widths,
    (x, y): (f64, f64),
) {
    let faintest = (CROWD / panel.edges.len() as f64).clamp(FAINTEST, 0.85);
    let mut routed: Vec<(usize, &GraphEdge, Curve)> = panel
        .edges
        .iter()
        .enumerate()
        .zip(routes(panel, layout))
        .filter_map(|((index, edge), curve)| Some((index, edge, curve?)))
        .collect();
    routed.sort_by(|a, b| widths.share(a.1.weight).total_cmp(&widths.share(b.1.weight)));
    for (index, edge, curve) in routed {
        let opacity = faintest + (0.95 - faintest) * widths.share(edge.weight);
        let curve = curve.map(|(px, py)| (x + px, y + py));
        let title = described(&edge.name(), edge.weight, edge.interval, edge.change);
        canvas.begin_part("edge", index, &title);
        // Opacity in steps, so that it does not fill the file with digits.
        let look = (widths.of(edge.weight), (opacity * 100.0).round() / 100.0);
        draw_edge(canvas, curve, (edge.weight, edge.change), look);
        canvas.end_group();
    }
}

/// One edge: a point at its end raises, a bar lowers.
pub(super) fn draw_edge(
    canvas: &mut Canvas<'_>,
    [a, b, c, d]: Curve,
    (weight, change): (Option<f64>, Option<Change>),
    (width, opacity): (f64, f64),
) {
    let sign = weight.filter(|weight| *weight != 0.0).map(f64::signum);
    let paint = sign.map_or(Paint::Muted, |sign| Paint::Fixed(diverging(sign)));
    let (dx, dy) = (d.0 - c.0, d.1 - c.1);
    let length = dx.hypot(dy).max(1e-9);
    let (ux, uy) = (dx / length, dy / length);
    // A point at `along` pixels before the end and `aside` pixels beside the line.
    let near = |along: f64, aside: f64| (d.0 - ux * along - uy * aside, d.1 - uy * along + ux * aside);
    let head = 4.0 + width * 0.9;
    let before_end = if sign == Some(1.0) { head * 0.8 } else { 1.0 };
    let back = (ux * before_end, uy * before_end);
    let curve = [a, b, (c.0 - back.0, c.1 - back.1), (d.0 - back.0, d.1 - back.1)];
    let stroke = Stroke { dashes: change.and_then(Change::dashes), opacity, ..Stroke::new(paint, width) };
    canvas.curve(curve, Stroke { width: (width * 100.0).round() / 100.0, ..stroke });
    let half = head * if sign == Some(1.0) { 0.55 } else { 0.7 };
    match sign {
        Some(1.0) => canvas.polygon(&[near(0.0, 0.0), near(head, half), near(head, -half)], paint, opacity),
        Some(_) => {
            canvas.line(near(1.0, half), near(1.0, -half), Stroke { opacity, ..Stroke::new(paint, 2.0) })
        }
        None => {}
    }
}
