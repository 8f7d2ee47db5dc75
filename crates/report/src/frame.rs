//! Where things stand: title, legend, a grid of panels with common axes, axis names.

use crate::canvas::{Anchor, Canvas, Paint, Rect, Stroke, TextStyle};
use crate::fonts::{Weight, shortened, text_width};
use crate::scale::Axis;

/// Free space between parts.
pub(crate) const GAP: f64 = 12.0;
/// Space around everything.
pub(crate) const MARGIN: f64 = 16.0;

/// Draws the figure's title; returns the y at which the next thing may begin.
pub(crate) fn draw_title(canvas: &mut Canvas<'_>, title: &str, width: f64) -> f64 {
    let size = canvas.theme().title_size;
    let mut y = MARGIN;
    for line in wrapped(title, width - 2.0 * MARGIN, size) {
        y += size * 1.25;
        canvas.text((MARGIN, y), &line, TextStyle::new(size, Paint::Ink).bold());
    }
    y + GAP
}

/// `text` in lines no wider than `limit`, broken at spaces; a word wider than that is shortened.
fn wrapped(text: &str, limit: f64, size: f64) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        let word = shortened(word, limit, size, Weight::Semibold);
        let longer = lines.last().map(|line| format!("{line} {word}"));
        match longer.filter(|line| text_width(line, size, Weight::Semibold) <= limit) {
            Some(line) => {
                lines.pop();
                lines.push(line);
            }
            None => lines.push(word),
        }
    }
    lines
}

/// A grid of equal panels.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    pub(crate) n_panels: usize,
    pub(crate) n_columns: usize,
    /// Left edge of the first panel's plot area.
    left: f64,
    /// Top of the first panel, its title included.
    top: f64,
    plot_width: f64,
    plot_height: f64,
    title_height: f64,
    /// Room under each row of panels for tick labels.
    foot: f64,
}

impl Grid {
    /// Fits `n_panels` panels into the theme's width; `left` is room for the y axis' labels, `foot` that
    /// for the x axis' labels.
    pub(crate) fn new(canvas: &Canvas<'_>, n_panels: usize, (left, top): (f64, f64), foot: f64) -> Self {
        let n_columns = match n_panels {
            1 => 1,
            2 | 4 => 2,
            3 | 5..=9 => 3,
            _ => 4,
        };
        let theme = canvas.theme();
        let room = theme.width - left - MARGIN - (n_columns - 1) as f64 * GAP;
        let plot_height = match n_columns {
            1 => 340.0,
            2 => 230.0,
            _ => 185.0,
        };
        let title_height = theme.label_size * 1.9;
        Self {
            n_panels,
            n_columns,
            left,
            top,
            plot_width: room / n_columns as f64,
            plot_height,
            title_height,
            foot,
        }
    }

    /// Plot area of panel `index`.
    pub(crate) fn plot(&self, index: usize) -> Rect {
        let (row, column) = (index / self.n_columns, index % self.n_columns);
        Rect {
            x: self.left + column as f64 * (self.plot_width + GAP),
            y: self.top + self.title_height + row as f64 * (self.title_height + self.plot_height + self.foot),
            width: self.plot_width,
            height: self.plot_height,
        }
    }

    /// Whether panel `index` stands in the first column, where the y axis has its labels.
    pub(crate) fn is_leftmost(&self, index: usize) -> bool {
        index.is_multiple_of(self.n_columns)
    }

    /// Whether no panel stands under panel `index`, so that the x axis has its labels there.
    pub(crate) fn is_lowest(&self, index: usize) -> bool {
        index + self.n_columns >= self.n_panels
    }

    /// The y under all panels and their tick labels.
    pub(crate) fn bottom(&self) -> f64 {
        let last = self.plot(self.n_panels - 1);
        last.y + last.height + self.foot
    }

    /// Draws the panel's title above its plot area.
    pub(crate) fn draw_panel_title(&self, canvas: &mut Canvas<'_>, index: usize, title: &str) {
        let (plot, size) = (self.plot(index), canvas.theme().label_size);
        let title = shortened(title, plot.width, size, Weight::Semibold);
        canvas.text((plot.x, plot.y - size * 0.5), &title, TextStyle::new(size, Paint::Ink).bold());
    }

    /// Draws the axis names: x under the panels, y along their left side. Returns the figure's height.
    pub(crate) fn draw_axis_names(&self, canvas: &mut Canvas<'_>, x_label: &str, y_label: &str) -> f64 {
        let size = canvas.theme().label_size;
        let (first, last_column) = (self.plot(0), self.plot(self.n_columns.min(self.n_panels) - 1));
        let style = TextStyle::new(size, Paint::Muted).anchor(Anchor::Middle);
        let center = (first.x + last_column.x + last_column.width) / 2.0;
        let mut bottom = self.bottom();
        if !x_label.is_empty() {
            bottom += size;
            canvas.text((center, bottom), x_label, style);
        }
        let lowest = self.plot(self.n_panels - 1);
        let height = lowest.y + lowest.height - first.y;
        let y_label = shortened(y_label, height, size, Weight::Regular);
        canvas.text((MARGIN + size * 0.8, first.y + height / 2.0), &y_label, style.turned(-90.0));
        bottom + MARGIN
    }
}

/// Room that the y axis' name and labels need left of the first panel.
pub(crate) fn y_axis_room(canvas: &Canvas<'_>, axis: &Axis) -> f64 {
    let theme = canvas.theme();
    let width = |&tick: &f64| text_width(&axis.label(tick), theme.tick_size, Weight::Regular);
    MARGIN + theme.label_size * 1.5 + axis.ticks.iter().map(width).fold(0.0, f64::max) + 8.0
}

/// Draws horizontal grid lines, with labels if `labelled`.
pub(crate) fn draw_y_axis(canvas: &mut Canvas<'_>, plot: Rect, axis: &Axis, labelled: bool) {
    let size = canvas.theme().tick_size;
    for &tick in &axis.ticks {
        let y = y_of(plot, axis, tick);
        canvas.line((plot.x, y), (plot.x + plot.width, y), Stroke::new(Paint::Grid, 1.0));
        if labelled {
            let style = TextStyle::new(size, Paint::Muted).anchor(Anchor::End);
            canvas.text((plot.x - 6.0, y + size * 0.36), &axis.label(tick), style);
        }
    }
}

/// Draws the x axis' line and small ticks, with labels if `labelled`.
pub(crate) fn draw_x_axis(canvas: &mut Canvas<'_>, plot: Rect, axis: &Axis, labelled: bool) {
    let size = canvas.theme().tick_size;
    let bottom = plot.y + plot.height;
    canvas.line((plot.x, bottom), (plot.x + plot.width, bottom), Stroke::new(Paint::Muted, 1.0));
    for &tick in &axis.ticks {
        let x = x_of(plot, axis, tick);
        canvas.line((x, bottom), (x, bottom + 4.0), Stroke::new(Paint::Muted, 1.0));
        if labelled {
            let style = TextStyle::new(size, Paint::Muted).anchor(Anchor::Middle);
            let label = axis.label(tick);
            // The last label of a panel and the first of the next share the gap between them.
            let over = (text_width(&label, size, Weight::Regular) + size * 0.5 - GAP).max(0.0) / 2.0;
            let within = x.max(plot.x + over).min(plot.x + plot.width - over);
            canvas.text((within, bottom + 5.0 + size), &label, style);
        }
    }
}

/// Pixel column of `value`.
pub(crate) fn x_of(plot: Rect, axis: &Axis, value: f64) -> f64 {
    plot.x + axis.share(value) * plot.width
}

/// Pixel row of `value`.
pub(crate) fn y_of(plot: Rect, axis: &Axis, value: f64) -> f64 {
    plot.y + (1.0 - axis.share(value)) * plot.height
}
