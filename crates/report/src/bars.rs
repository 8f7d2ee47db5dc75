//! Bars in groups, from zero, with intervals.

use crate::canvas::{Anchor, Canvas, Paint, Rect, Stroke, TextStyle};
use crate::figure::{BarPanel, BarSeries};
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{Grid, draw_title, draw_y_axis, y_axis_room, y_of};
use crate::legend::{self, Sample};
use crate::scale::{Axis, Ends};

/// Longest group label that is still shown whole.
const LONGEST_LABEL: f64 = 150.0;
const TILT_DEGREES: f64 = -40.0;

/// What a figure of bars shows.
pub(crate) struct Bars<'a> {
    pub(crate) title: &'a str,
    pub(crate) y_label: &'a str,
    pub(crate) panels: &'a [BarPanel],
}

/// Draws the figure; returns its size.
pub(crate) fn draw(canvas: &mut Canvas<'_>, figure: &Bars<'_>) -> (f64, f64) {
    let theme = canvas.theme();
    let all = || figure.panels.iter().flat_map(|panel| &panel.series);
    let mut top = draw_title(canvas, figure.title, theme.width);
    top = legend::draw(canvas, top, &legend::entries(all().map(|s| (s.name.as_str(), s.color))), Sample::Box);

    let heights = all().flat_map(|s| &s.values).flatten().copied();
    let ends = all().flat_map(|s| &s.intervals).flatten().flat_map(|&(lo, hi)| [lo, hi]);
    let axis = Axis::over(heights.chain(ends).chain([0.0]), Ends::Round, 5);
    let left = y_axis_room(canvas, &axis);
    let width = |label: &String| text_width(label, theme.tick_size, Weight::Regular).min(LONGEST_LABEL);
    let widest = figure.panels.iter().flat_map(|panel| &panel.groups).map(width).fold(0.0, f64::max);
    let n_groups = figure.panels.iter().map(|panel| panel.groups.len()).max().unwrap_or(1).max(1);
    let flat = Grid::new(canvas, figure.panels.len(), (left, top), theme.tick_size * 2.0);
    let tilted = widest > flat.plot(0).width / n_groups as f64 - 6.0;
    let tilted_foot = widest * TILT_DEGREES.abs().to_radians().sin() + 2.0 * theme.tick_size;
    let grid = match tilted {
        true => Grid::new(canvas, figure.panels.len(), (left, top), tilted_foot),
        false => flat,
    };
    for (index, panel) in figure.panels.iter().enumerate() {
        let plot = grid.plot(index);
        canvas.begin_group(&panel.title);
        grid.draw_panel_title(canvas, index, &panel.title);
        draw_y_axis(canvas, plot, &axis, grid.is_leftmost(index));
        let group_width = plot.width / panel.groups.len() as f64;
        let bar_width = group_width * 0.8 / panel.series.len() as f64;
        for (group, label) in panel.groups.iter().enumerate() {
            let group_left = plot.x + group as f64 * group_width;
            for (i, series) in panel.series.iter().enumerate() {
                let x = group_left + group_width * 0.1 + i as f64 * bar_width;
                draw_bar(canvas, (plot, &axis), (x, bar_width), series, group);
            }
            let bottom = (group_left + group_width / 2.0, plot.y + plot.height);
            draw_group_label(canvas, bottom, label, tilted);
        }
        let zero = y_of(plot, &axis, 0.0);
        canvas.line((plot.x, zero), (plot.x + plot.width, zero), Stroke::new(Paint::Muted, 1.0));
        canvas.end_group();
    }
    (theme.width, grid.draw_axis_names(canvas, "", figure.y_label))
}

fn draw_bar(
    canvas: &mut Canvas<'_>,
    (plot, axis): (Rect, &Axis),
    (x, width): (f64, f64),
    series: &BarSeries,
    group: usize,
) {
    let Some(value) = series.values[group] else { return };
    let (end, zero) = (y_of(plot, axis, value), y_of(plot, axis, 0.0));
    let gap = (width * 0.1).min(2.0);
    let bar = Rect { x, y: end.min(zero), width: width - gap, height: (end - zero).abs() };
    canvas.rect(bar, Paint::Series(series.color), 1.0);
    if let Some(&Some((lo, hi))) = series.intervals.get(group) {
        let (center, stroke) = (x + (width - gap) / 2.0, Stroke::new(Paint::Ink, 1.2));
        let (low, high) = (y_of(plot, axis, lo), y_of(plot, axis, hi));
        let cap = (width * 0.2).min(4.0);
        canvas.line((center, low), (center, high), stroke);
        canvas.line((center - cap, low), (center + cap, low), stroke);
        canvas.line((center - cap, high), (center + cap, high), stroke);
    }
}

fn draw_group_label(canvas: &mut Canvas<'_>, (x, y): (f64, f64), label: &str, tilted: bool) {
    let size = canvas.theme().tick_size;
    let label = shortened(label, LONGEST_LABEL, size, Weight::Regular);
    let style = TextStyle::new(size, Paint::Ink);
    if tilted {
        canvas.text((x + size * 0.35, y + size), &label, style.anchor(Anchor::End).turned(TILT_DEGREES));
    } else {
        canvas.text((x, y + 5.0 + size), &label, style.anchor(Anchor::Middle));
    }
}
