//! Heat maps: panels under one another, one colour scale, numbers in the cells.

use crate::canvas::{Anchor, Canvas, Paint, Rect, Stroke, TextStyle};
use crate::color::{Rgb, diverging, sequential};
use crate::figure::{HeatmapPanel, HeatmapScale};
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{GAP, MARGIN, draw_title};
use crate::scale::{Axis, Ends, NumberForm};

const LONGEST_LABEL: f64 = 210.0;
const SMALLEST_NUMBER: f64 = 7.5;
const TILT_DEGREES: f64 = -40.0;
const BAR_WIDTH: f64 = 14.0;
const SHORTEST_BAR: f64 = 150.0;

/// What a heat map shows.
pub(crate) struct Heatmap<'a> {
    pub(crate) title: &'a str,
    pub(crate) row_label: &'a str,
    pub(crate) col_label: &'a str,
    pub(crate) panels: &'a [HeatmapPanel],
    pub(crate) scale: HeatmapScale,
    pub(crate) unit: &'a str,
    pub(crate) annotate: bool,
}

/// Values at the ends of the colour scale, and the colour of each value between.
struct Colors {
    low: f64,
    high: f64,
    is_diverging: bool,
}

impl Colors {
    fn new(figure: &Heatmap<'_>) -> Self {
        match figure.scale {
            HeatmapScale::Sequential { min, max } => {
                Self { low: min, high: if max > min { max } else { min + 1.0 }, is_diverging: false }
            }
            HeatmapScale::Diverging { center, reach } => {
                let values = figure.panels.iter().flat_map(|p| &p.values).flatten().flatten();
                let farthest = values.map(|value| (value - center).abs()).fold(0.0, f64::max);
                let reach = reach.unwrap_or(farthest);
                let reach = if reach > 0.0 { reach } else { 1.0 };
                Self { low: center - reach, high: center + reach, is_diverging: true }
            }
        }
    }

    fn of(&self, value: f64) -> Rgb {
        // Halves are taken first, since the span of a legal scale may be twice what its ends are.
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        if self.is_diverging { diverging(2.0 * share - 1.0) } else { sequential(share) }
    }
}

/// Sizes that all panels share.
struct Layout {
    left: f64,
    cell: (f64, f64),
    tilted: bool,
    /// Room under a panel for its column labels.
    foot: f64,
    /// How the numbers in all cells are written.
    form: NumberForm,
}

/// Draws the figure; returns its size.
pub(crate) fn draw(canvas: &mut Canvas<'_>, figure: &Heatmap<'_>) -> (f64, f64) {
    let theme = canvas.theme();
    let colors = Colors::new(figure);
    let layout = Layout::new(canvas, figure);
    let n_columns = figure.panels.iter().map(|panel| panel.cols.len()).max().unwrap_or(0);
    let right = layout.left + n_columns as f64 * layout.cell.0;
    let bar_room = bar_room(canvas, &colors);
    let width = (right + bar_room).max(420.0);

    let top = draw_title(canvas, figure.title, width);
    let (mut y, mut last_row) = (top, top);
    for panel in figure.panels {
        if !panel.title.is_empty() {
            y += theme.label_size;
            let style = TextStyle::new(theme.label_size, Paint::Ink).bold();
            let title = shortened(&panel.title, right - layout.left, theme.label_size, Weight::Semibold);
            canvas.text((layout.left, y), &title, style);
            y += 8.0;
        }
        canvas.begin_group(&panel.title);
        draw_cells(canvas, figure, panel, (&layout, &colors), y);
        last_row = y + panel.rows.len() as f64 * layout.cell.1;
        draw_labels(canvas, panel, &layout, y);
        canvas.end_group();
        y = last_row + layout.foot + GAP;
    }
    let mut height = y - GAP;
    let style = TextStyle::new(theme.label_size, Paint::Muted).anchor(Anchor::Middle);
    if !figure.col_label.is_empty() {
        height += theme.label_size;
        canvas.text(((layout.left + right) / 2.0, height), figure.col_label, style);
    }
    let row_label = shortened(figure.row_label, last_row - top, theme.label_size, Weight::Regular);
    canvas.text((MARGIN + theme.label_size * 0.8, (top + last_row) / 2.0), &row_label, style.turned(-90.0));
    let bar_bottom = draw_bar(canvas, figure.unit, &colors, (right + 1.5 * GAP, top, last_row - top));
    (width, height.max(bar_bottom) + MARGIN)
}

impl Layout {
    fn new(canvas: &Canvas<'_>, figure: &Heatmap<'_>) -> Self {
        let theme = canvas.theme();
        let width = |label: &String| text_width(label, theme.tick_size, Weight::Regular).min(LONGEST_LABEL);
        let widest = |labels: &mut dyn Iterator<Item = &String>| labels.map(width).fold(0.0, f64::max);
        let row_width = widest(&mut figure.panels.iter().flat_map(|panel| &panel.rows));
        let col_width = widest(&mut figure.panels.iter().flat_map(|panel| &panel.cols));
        let n_columns = figure.panels.iter().map(|panel| panel.cols.len()).max().unwrap_or(1).max(1);
        let name_room = if figure.row_label.is_empty() { 0.0 } else { theme.label_size * 1.6 };
        let mut left = MARGIN + name_room + row_width + 10.0;
        let cell_width = ((theme.width - left - 110.0) / n_columns as f64).clamp(15.0, 98.0);
        let has_intervals = figure.panels.iter().any(|panel| !panel.intervals.is_empty());
        let cell_height = match (figure.annotate, has_intervals) {
            (true, true) => 46.0,
            (true, false) => 36.0,
            (false, _) => cell_width.clamp(16.0, 28.0),
        };
        let tilted = col_width > cell_width - 6.0;
        let tilt = TILT_DEGREES.abs().to_radians();
        // A tilted label hangs to the lower left; the first one must not leave the drawing.
        if tilted {
            left = left.max(MARGIN + name_room + col_width * tilt.cos() - cell_width / 2.0);
        }
        let foot = if tilted { col_width * tilt.sin() + 16.0 } else { theme.tick_size * 2.0 };
        let form = NumberForm::of(figure.panels.iter().flat_map(|p| &p.values).flatten().flatten().copied());
        Self { left, cell: (cell_width, cell_height), tilted, foot, form }
    }

    fn cell(&self, top: f64, row: usize, col: usize) -> Rect {
        let (width, height) = self.cell;
        Rect { x: self.left + col as f64 * width, y: top + row as f64 * height, width, height }
    }
}

fn draw_cells(
    canvas: &mut Canvas<'_>,
    figure: &Heatmap<'_>,
    panel: &HeatmapPanel,
    (layout, colors): (&Layout, &Colors),
    top: f64,
) {
    for (row, values) in panel.values.iter().enumerate() {
        for (col, value) in values.iter().enumerate() {
            let cell = layout.cell(top, row, col);
            let inner = Rect { width: cell.width - 1.0, height: cell.height - 1.0, ..cell };
            let Some(value) = *value else {
                draw_missing(canvas, inner);
                continue;
            };
            let fill = colors.of(value);
            canvas.rect(inner, Paint::Fixed(fill), 1.0);
            if figure.annotate {
                let interval = panel.intervals.get(row).and_then(|row| row[col]);
                draw_number(canvas, (inner, fill), layout.form, (value, interval));
            }
        }
    }
}

/// An undefined cell: no colour of the scale, and a stroke through it.
fn draw_missing(canvas: &mut Canvas<'_>, cell: Rect) {
    canvas.rect(cell, Paint::Grid, 1.0);
    let (right, bottom) = (cell.x + cell.width, cell.y + cell.height);
    canvas.line((cell.x, bottom), (right, cell.y), Stroke::new(Paint::Muted, 0.7));
}

/// The value, and its interval under it, in black or white, whichever is easier to read on the cell. What
/// does not fit is left out: the table beside the figure has it.
fn draw_number(
    canvas: &mut Canvas<'_>,
    (cell, fill): (Rect, Rgb),
    form: NumberForm,
    (value, interval): (f64, Option<(f64, f64)>),
) {
    let (dark, light) = (Rgb(0x1F, 0x23, 0x28), Rgb(0xFF, 0xFF, 0xFF));
    let paint = Paint::Fixed(if fill.contrast(dark) >= fill.contrast(light) { dark } else { light });
    let (center, middle) = (cell.x + cell.width / 2.0, cell.y + cell.height / 2.0);
    let mut put = |text: &str, wanted: f64, weight: Weight, y: f64| {
        let size = wanted.min(wanted * (cell.width - 5.0) / text_width(text, wanted, weight));
        if size >= SMALLEST_NUMBER {
            let style = TextStyle { weight, ..TextStyle::new((size * 10.0).floor() / 10.0, paint) };
            canvas.text((center, y), text, style.anchor(Anchor::Middle));
        }
    };
    match interval {
        None => put(&form.text(value), 12.5, Weight::Regular, middle + 4.5),
        Some((lo, hi)) => {
            put(&form.text(value), 13.0, Weight::Semibold, middle - 1.0);
            put(&format!("{} to {}", form.text(lo), form.text(hi)), 10.0, Weight::Regular, middle + 13.0);
        }
    }
}

fn draw_labels(canvas: &mut Canvas<'_>, panel: &HeatmapPanel, layout: &Layout, top: f64) {
    let size = canvas.theme().tick_size;
    let style = TextStyle::new(size, Paint::Ink);
    for (row, label) in panel.rows.iter().enumerate() {
        let cell = layout.cell(top, row, 0);
        let label = shortened(label, LONGEST_LABEL, size, Weight::Regular);
        let y = cell.y + cell.height / 2.0 + size * 0.36;
        canvas.text((layout.left - 8.0, y), &label, style.anchor(Anchor::End));
    }
    let bottom = layout.cell(top, panel.rows.len(), 0).y;
    for (col, label) in panel.cols.iter().enumerate() {
        let center = layout.cell(top, 0, col).x + layout.cell.0 / 2.0;
        let label = shortened(label, LONGEST_LABEL, size, Weight::Regular);
        if layout.tilted {
            let style = style.anchor(Anchor::End).turned(TILT_DEGREES);
            canvas.text((center + size * 0.35, bottom + size), &label, style);
        } else {
            canvas.text((center, bottom + 5.0 + size), &label, style.anchor(Anchor::Middle));
        }
    }
}

/// Ticks of the colour scale.
fn bar_axis(colors: &Colors) -> Axis {
    Axis::over([colors.low, colors.high].into_iter(), Ends::Tight, 4)
}

/// Room that the colour scale needs right of the cells.
fn bar_room(canvas: &Canvas<'_>, colors: &Colors) -> f64 {
    let (theme, axis) = (canvas.theme(), bar_axis(colors));
    let width = |&tick: &f64| text_width(&axis.label(tick), theme.tick_size, Weight::Regular);
    let labels = axis.ticks.iter().map(width).fold(0.0, f64::max);
    1.5 * GAP + BAR_WIDTH + 6.0 + labels + 8.0 + theme.label_size + MARGIN
}

/// Draws the colour scale at `(x, top)`; returns the y of its lower end.
fn draw_bar(canvas: &mut Canvas<'_>, unit: &str, colors: &Colors, (x, top, room): (f64, f64, f64)) -> f64 {
    const N_STEPS: usize = 64;
    let (tick_size, label_size) = (canvas.theme().tick_size, canvas.theme().label_size);
    let height = room.clamp(SHORTEST_BAR, 300.0);
    let axis = bar_axis(colors);
    for step in 0..N_STEPS {
        let share = (step as f64 + 0.5) / N_STEPS as f64;
        let value = colors.low * (1.0 - share) + colors.high * share;
        let y = top + height * (1.0 - (step + 1) as f64 / N_STEPS as f64);
        // A hair taller than a step, or the renderer leaves light seams between steps.
        let slice = Rect { x, y, width: BAR_WIDTH, height: height / N_STEPS as f64 + 0.4 };
        canvas.rect(slice, Paint::Fixed(colors.of(value)), 1.0);
    }
    let mut widest: f64 = 0.0;
    for &tick in &axis.ticks {
        let y = top + height * (1.0 - axis.share(tick));
        let label = axis.label(tick);
        canvas.line((x + BAR_WIDTH, y), (x + BAR_WIDTH + 4.0, y), Stroke::new(Paint::Muted, 1.0));
        canvas.text(
            (x + BAR_WIDTH + 6.0, y + tick_size * 0.36),
            &label,
            TextStyle::new(tick_size, Paint::Muted),
        );
        widest = widest.max(text_width(&label, tick_size, Weight::Regular));
    }
    let unit = shortened(unit, height, label_size, Weight::Regular);
    let style = TextStyle::new(label_size, Paint::Muted).anchor(Anchor::Middle).turned(-90.0);
    canvas.text((x + BAR_WIDTH + 6.0 + widest + 8.0 + label_size * 0.8, top + height / 2.0), &unit, style);
    top + height
}
