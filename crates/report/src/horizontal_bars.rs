//! Bars from zero to the left and right, one group under the other: long names stay level, and long
//! lists stay legible.

use crate::canvas::{Anchor, Canvas, Paint, Rect, Stroke, TextStyle};
use crate::figure::{BarPanel, BarSeries};
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{GAP, MARGIN, draw_title, draw_x_axis, x_of};
use crate::legend::{self, Sample};
use crate::scale::{Axis, Ends};

/// Longest group label that is still shown whole.
const LONGEST_LABEL: f64 = 210.0;
/// Narrowest plot area of panels side by side.
const NARROWEST: f64 = 190.0;
/// Least height of a group: a label and some air.
const LOWEST_GROUP: f64 = 17.0;
/// Height of each bar where several share a group.
const LOWEST_BAR: f64 = 7.0;

/// What a figure of horizontal bars shows.
pub(crate) struct HorizontalBars<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_label: &'a str,
    pub(crate) panels: &'a [BarPanel],
}

/// Draws the figure; returns its size.
pub(crate) fn draw(canvas: &mut Canvas<'_>, figure: &HorizontalBars<'_>) -> (f64, f64) {
    let theme = canvas.theme();
    let all = || figure.panels.iter().flat_map(|panel| &panel.series);
    let top = draw_title(canvas, figure.title, theme.width);
    let mut y =
        legend::draw(canvas, top, &legend::entries(all().map(|s| (s.name.as_str(), s.color))), Sample::Box);

    let label_width = |label: &String| text_width(label, theme.tick_size, Weight::Regular).min(LONGEST_LABEL);
    let labels =
        figure.panels.iter().flat_map(|panel| &panel.groups).map(label_width).fold(0.0, f64::max) + 10.0;
    let plot_width = |n: usize| (theme.width - 2.0 * MARGIN - (n - 1) as f64 * GAP) / n as f64 - labels;
    let fitting = (1..=figure.panels.len().min(3)).rev().find(|&n| plot_width(n) >= NARROWEST).unwrap_or(1);
    let n_columns = figure.panels.len().div_ceil(figure.panels.len().div_ceil(fitting));
    let plot_width = plot_width(n_columns);

    let values = all().flat_map(|s| &s.values).flatten().copied();
    let ends = all().flat_map(|s| &s.intervals).flatten().flat_map(|&(lo, hi)| [lo, hi]);
    let axis = Axis::over(values.chain(ends).chain([0.0]), Ends::Round, (plot_width / 70.0) as usize);
    let n_series = figure.panels.iter().map(|panel| panel.series.len()).max().unwrap_or(1);
    let group_height = LOWEST_GROUP.max(LOWEST_BAR * n_series as f64 + 5.0);

    for line in figure.panels.chunks(n_columns) {
        let n_groups = line.iter().map(|panel| panel.groups.len()).max().unwrap_or(0);
        if line.iter().any(|panel| !panel.title.is_empty()) {
            y += theme.label_size * 1.6;
        }
        for (column, panel) in line.iter().enumerate() {
            let x = MARGIN + labels + column as f64 * (labels + plot_width + GAP);
            let height = panel.groups.len() as f64 * group_height;
            let plot = Rect { x, y, width: plot_width, height };
            canvas.begin_group(&panel.title);
            let title = shortened(&panel.title, plot_width, theme.label_size, Weight::Semibold);
            if !title.is_empty() {
                let style = TextStyle::new(theme.label_size, Paint::Ink).bold();
                canvas.text((x, y - theme.label_size * 0.5), &title, style);
            }
            draw_panel(canvas, panel, plot, &axis);
            canvas.end_group();
        }
        y += n_groups as f64 * group_height + theme.tick_size * 2.0 + GAP;
    }
    if !figure.x_label.is_empty() {
        y += theme.label_size * 0.5;
        let style = TextStyle::new(theme.label_size, Paint::Muted).anchor(Anchor::Middle);
        canvas.text(((labels + theme.width) / 2.0, y), figure.x_label, style);
    }
    (theme.width, y + MARGIN)
}

fn draw_panel(canvas: &mut Canvas<'_>, panel: &BarPanel, plot: Rect, axis: &Axis) {
    let size = canvas.theme().tick_size;
    let bottom = plot.y + plot.height;
    for &tick in &axis.ticks {
        let x = x_of(plot, axis, tick);
        canvas.line((x, plot.y), (x, bottom), Stroke::new(Paint::Grid, 1.0));
    }
    draw_x_axis(canvas, plot, axis, true);
    let group_height = plot.height / panel.groups.len() as f64;
    let bar_height = group_height * 0.76 / panel.series.len() as f64;
    for (group, label) in panel.groups.iter().enumerate() {
        let top = plot.y + group as f64 * group_height;
        for (i, series) in panel.series.iter().enumerate() {
            let bar_top = top + group_height * 0.12 + i as f64 * bar_height;
            draw_bar(canvas, (plot, axis), (bar_top, bar_height), series, group);
        }
        let label = shortened(label, LONGEST_LABEL, size, Weight::Regular);
        let middle = top + group_height / 2.0 + size * 0.36;
        canvas.text((plot.x - 7.0, middle), &label, TextStyle::new(size, Paint::Ink).anchor(Anchor::End));
    }
    let zero = x_of(plot, axis, 0.0);
    canvas.line((zero, plot.y), (zero, bottom), Stroke::new(Paint::Muted, 1.0));
}

fn draw_bar(
    canvas: &mut Canvas<'_>,
    (plot, axis): (Rect, &Axis),
    (y, height): (f64, f64),
    series: &BarSeries,
    group: usize,
) {
    let Some(value) = series.values[group] else { return };
    let (end, zero) = (x_of(plot, axis, value), x_of(plot, axis, 0.0));
    let height = height - (height * 0.1).min(1.0);
    let bar = Rect { x: end.min(zero), y, width: (end - zero).abs(), height };
    canvas.rect(bar, Paint::Series(series.color), 1.0);
    if let Some(&Some((lo, hi))) = series.intervals.get(group) {
        let (middle, stroke) = (y + height / 2.0, Stroke::new(Paint::Ink, 1.2));
        let (low, high) = (x_of(plot, axis, lo), x_of(plot, axis, hi));
        let cap = (height * 0.25).min(4.0);
        canvas.line((low, middle), (high, middle), stroke);
        canvas.line((low, middle - cap), (low, middle + cap), stroke);
        canvas.line((high, middle - cap), (high, middle + cap), stroke);
    }
}
