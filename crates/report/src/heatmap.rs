//! Heat maps: panels in a grid, one colour scale, numbers in the cells.

use crate::canvas::{Anchor, Canvas, Paint, Rect, Stroke, TextStyle};
use crate::color::{Rgb, text_on};
use crate::colorbar::Colors;
use crate::figure::{HeatmapPanel, HeatmapScale};
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{GAP, MARGIN, draw_title};
use crate::scale::NumberForm;

const LONGEST_LABEL: f64 = 210.0;
const SMALLEST_NUMBER: f64 = 7.5;
const TILT_DEGREES: f64 = -40.0;
/// Most panels side by side.
const MOST_COLUMNS: usize = 4;
/// Height that the rows of a panel without numbers share, as long as they stay legible.
const PANEL_HEIGHT: f64 = 520.0;
/// A row that is lower than this cannot have a label of its own.
const LOWEST_LABELLED: f64 = 14.0;
/// A row of which only every second or third has a label.
const LOWEST_ROW: f64 = 11.0;

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

/// Sizes that all panels share.
struct Layout {
    /// Panels side by side.
    n_columns: usize,
    /// Left edge of the first panel's cells.
    left: f64,
    /// From one panel's left edge to the next one's.
    pitch: f64,
    cell: (f64, f64),
    /// Whether all panels have the same rows, so that those of the first in line are labelled only.
    same_rows: bool,
    /// Every which row and column has a label.
    every: (usize, usize),
    tilted: bool,
    /// Room under a panel for its column labels.
    foot: f64,
    /// How the numbers in all cells are written.
    form: NumberForm,
}

/// Draws the figure; returns its size.
pub(crate) fn draw(canvas: &mut Canvas<'_>, figure: &Heatmap<'_>) -> (f64, f64) {
    let theme = canvas.theme();
    let values = figure.panels.iter().flat_map(|panel| &panel.values).flatten().flatten().copied();
    let colors = Colors::new(figure.scale, values);
    let layout = Layout::new(canvas, figure);
    let panel_width = most_cols(figure) as f64 * layout.cell.0;
    let right = layout.left + (layout.n_columns - 1) as f64 * layout.pitch + panel_width;
    let width = (right + colors.bar_room(canvas)).max(420.0);

    let top = draw_title(canvas, figure.title, width);
    let title_room =
        if figure.panels.iter().any(|panel| !panel.title.is_empty()) { theme.label_size + 8.0 } else { 0.0 };
    let (mut y, mut last_row) = (top, top);
    for line in figure.panels.chunks(layout.n_columns) {
        for (column, panel) in line.iter().enumerate() {
            let x = layout.left + column as f64 * layout.pitch;
            let style = TextStyle::new(theme.label_size, Paint::Ink).bold();
            let title = shortened(&panel.title, panel_width, theme.label_size, Weight::Semibold);
            if !title.is_empty() {
                canvas.text((x, y + theme.label_size), &title, style);
            }
            canvas.begin_group(&panel.title);
            draw_cells(canvas, figure, panel, (&layout, &colors), (x, y + title_room));
            draw_labels(canvas, panel, (&layout, column == 0), (x, y + title_room));
            canvas.end_group();
        }
        let n_rows = line.iter().map(|panel| panel.rows.len()).max().unwrap_or(0);
        last_row = y + title_room + n_rows as f64 * layout.cell.1;
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
    let bar_bottom = colors.draw_bar(canvas, figure.unit, (right, top, last_row - top));
    (width, height.max(bar_bottom) + MARGIN)
}

/// Columns of the widest panel.
fn most_cols(figure: &Heatmap<'_>) -> usize {
    figure.panels.iter().map(|panel| panel.cols.len()).max().unwrap_or(1).max(1)
}

/// Whether all labels are whole numbers, so that a reader can fill in those left out.
fn are_numbers<'a>(mut labels: impl Iterator<Item = &'a String>) -> bool {
    labels.all(|label| label.parse::<u32>().is_ok())
}

impl Layout {
    fn new(canvas: &Canvas<'_>, figure: &Heatmap<'_>) -> Self {
        let theme = canvas.theme();
        let panels = figure.panels;
        let width = |label: &String| text_width(label, theme.tick_size, Weight::Regular).min(LONGEST_LABEL);
        let widest = |labels: &mut dyn Iterator<Item = &String>| labels.map(width).fold(0.0, f64::max);
        let row_width = widest(&mut panels.iter().flat_map(|panel| &panel.rows));
        let col_width = widest(&mut panels.iter().flat_map(|panel| &panel.cols));
        let n_rows = panels.iter().map(|panel| panel.rows.len()).max().unwrap_or(1).max(1);
        let same_rows = panels.windows(2).all(|pair| pair[0].rows == pair[1].rows);
        let has_intervals = panels.iter().any(|panel| !panel.intervals.is_empty());

        let name_room = if figure.row_label.is_empty() { 0.0 } else { theme.label_size * 1.6 };
        let mut left = MARGIN + name_room + row_width + 10.0;
        let between = if same_rows { 1.8 * GAP } else { row_width + 10.0 + 1.8 * GAP };
        let cell_width = |n_columns: usize| {
            let cells = theme.width - left - 110.0 - (n_columns - 1) as f64 * between;
            cells / (n_columns * most_cols(figure)) as f64
        };
        let narrowest = match (figure.annotate, has_intervals) {
            (true, true) => 80.0,
            (true, false) => 40.0,
            (false, _) => 16.0,
        };
        let fitting = (1..=panels.len().min(MOST_COLUMNS)).rev().find(|&n| cell_width(n) >= narrowest);
        // As many lines as that needs, filled evenly: two and two rather than three and one.
        let n_columns = panels.len().div_ceil(panels.len().div_ceil(fitting.unwrap_or(1)));
        let mut cell_width = cell_width(n_columns).clamp(15.0, 98.0);
        let numbered_rows = are_numbers(panels.iter().flat_map(|panel| &panel.rows));
        let cell_height = match (figure.annotate, has_intervals) {
            (true, true) => 46.0,
            (true, false) => 36.0,
            (false, _) => {
                let lowest = if numbered_rows { LOWEST_ROW } else { LOWEST_LABELLED };
                cell_width.clamp(16.0, 28.0).min((PANEL_HEIGHT / n_rows as f64).max(lowest))
            }
        };
        if !figure.annotate {
            cell_width = cell_width.min((2.5 * cell_height).max(24.0));
        }
        let every_row = (LOWEST_LABELLED / cell_height - 1e-9).ceil().max(1.0) as usize;
        let numbered_cols = are_numbers(panels.iter().flat_map(|panel| &panel.cols));
        let too_wide = col_width > cell_width - 6.0;
        let tilted = too_wide && !numbered_cols;
        let every_col =
            if too_wide && numbered_cols { ((col_width + 6.0) / cell_width).ceil() as usize } else { 1 };
        let tilt = TILT_DEGREES.abs().to_radians();
        // A tilted label hangs to the lower left; the first one must not leave the drawing.
        if tilted {
            left = left.max(MARGIN + name_room + col_width * tilt.cos() - cell_width / 2.0);
        }
        let foot = if tilted { col_width * tilt.sin() + 16.0 } else { theme.tick_size * 2.0 };
        let form = NumberForm::of(panels.iter().flat_map(|p| &p.values).flatten().flatten().copied());
        let pitch = most_cols(figure) as f64 * cell_width + between;
        let (cell, every) = ((cell_width, cell_height), (every_row, every_col));
        Self { n_columns, left, pitch, cell, same_rows, every, tilted, foot, form }
    }

    /// The cell of a panel whose first cell's corner is `(x, y)`.
    fn cell(&self, (x, y): (f64, f64), row: usize, col: usize) -> Rect {
        let (width, height) = self.cell;
        Rect { x: x + col as f64 * width, y: y + row as f64 * height, width, height }
    }
}

fn draw_cells(
    canvas: &mut Canvas<'_>,
    figure: &Heatmap<'_>,
    panel: &HeatmapPanel,
    (layout, colors): (&Layout, &Colors),
    corner: (f64, f64),
) {
    for (row, values) in panel.values.iter().enumerate() {
        for (col, value) in values.iter().enumerate() {
            let cell = layout.cell(corner, row, col);
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
    let paint = Paint::Fixed(text_on(fill));
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

/// Labels the columns, and the rows where the panel is first in line or has rows of its own.
fn draw_labels(
    canvas: &mut Canvas<'_>,
    panel: &HeatmapPanel,
    (layout, is_first): (&Layout, bool),
    corner: (f64, f64),
) {
    let size = canvas.theme().tick_size;
    let style = TextStyle::new(size, Paint::Ink);
    let rows = if is_first || !layout.same_rows { panel.rows.as_slice() } else { &[] };
    for (row, label) in rows.iter().enumerate().step_by(layout.every.0) {
        let cell = layout.cell(corner, row, 0);
        let label = shortened(label, LONGEST_LABEL, size, Weight::Regular);
        let y = cell.y + cell.height / 2.0 + size * 0.36;
        canvas.text((cell.x - 8.0, y), &label, style.anchor(Anchor::End));
    }
    for (col, label) in panel.cols.iter().enumerate().step_by(layout.every.1) {
        let foot = layout.cell(corner, panel.rows.len(), col);
        let (center, bottom) = (foot.x + layout.cell.0 / 2.0, foot.y);
        let label = shortened(label, LONGEST_LABEL, size, Weight::Regular);
        if layout.tilted {
            let style = style.anchor(Anchor::End).turned(TILT_DEGREES);
            canvas.text((center + size * 0.35, bottom + size), &label, style);
        } else {
            canvas.text((center, bottom + 5.0 + size), &label, style.anchor(Anchor::Middle));
        }
    }
}
