//! Curves with intervals, in panels that share both axes.

use crate::canvas::{Canvas, Paint, Rect, Stroke};
use crate::figure::{LinePanel, Series};
use crate::frame::{Grid, draw_title, draw_x_axis, draw_y_axis, x_of, y_axis_room, y_of};
use crate::legend::{self, Sample};
use crate::scale::{Axis, Ends};

/// Opacity of an interval band: several may lie over one another.
const BAND: f64 = 0.16;

/// What a figure of curves shows.
pub(crate) struct Lines<'a> {
    pub(crate) title: &'a str,
    pub(crate) x_label: &'a str,
    pub(crate) y_label: &'a str,
    pub(crate) panels: &'a [LinePanel],
    pub(crate) zero_line: bool,
}

/// Draws the figure; returns its size.
pub(crate) fn draw(canvas: &mut Canvas<'_>, figure: &Lines<'_>) -> (f64, f64) {
    let theme = canvas.theme();
    let all = || figure.panels.iter().flat_map(|panel| &panel.series);
    let mut top = draw_title(canvas, figure.title, theme.width);
    top =
        legend::draw(canvas, top, &legend::entries(all().map(|s| (s.name.as_str(), s.color))), Sample::Line);

    let zero = figure.zero_line.then_some(0.0);
    let y_values = all().flat_map(|s| [&s.y, &s.lo, &s.hi]).flatten().flatten().copied().chain(zero);
    let y_axis = Axis::over(y_values, Ends::Round, 5);
    let left = y_axis_room(canvas, &y_axis);
    let grid = Grid::new(canvas, figure.panels.len(), (left, top), theme.tick_size * 1.9);
    let n_ticks = (grid.plot(0).width / 45.0) as usize;
    let x_axis = Axis::over(all().flat_map(|s| &s.x).copied(), Ends::Whole, n_ticks);

    for (index, panel) in figure.panels.iter().enumerate() {
        let plot = grid.plot(index);
        canvas.begin_group(&panel.title);
        grid.draw_panel_title(canvas, index, &panel.title);
        draw_y_axis(canvas, plot, &y_axis, grid.is_leftmost(index));
        draw_x_axis(canvas, plot, &x_axis, grid.is_lowest(index));
        if figure.zero_line {
            let y = y_of(plot, &y_axis, 0.0);
            let stroke = Stroke { dashes: Some("4 3"), ..Stroke::new(Paint::Muted, 1.2) };
            canvas.line((plot.x, y), (plot.x + plot.width, y), stroke);
        }
        let drawing = Plot { plot, x_axis: &x_axis, y_axis: &y_axis };
        for series in &panel.series {
            drawing.band(canvas, series);
        }
        for series in &panel.series {
            drawing.curve(canvas, series);
        }
        canvas.end_group();
    }
    (theme.width, grid.draw_axis_names(canvas, figure.x_label, figure.y_label))
}

/// One panel's plot area and axes.
struct Plot<'a> {
    plot: Rect,
    x_axis: &'a Axis,
    y_axis: &'a Axis,
}

impl Plot<'_> {
    fn point(&self, x: f64, y: f64) -> (f64, f64) {
        (x_of(self.plot, self.x_axis, x), y_of(self.plot, self.y_axis, y))
    }

    /// Bands over each unbroken run of intervals; a single one is a vertical line.
    fn band(&self, canvas: &mut Canvas<'_>, series: &Series) {
        let ends = series.x.iter().zip(series.lo.iter().zip(&series.hi));
        let intervals: Vec<_> = ends.map(|(&x, (lo, hi))| lo.zip(*hi).map(|(lo, hi)| (x, lo, hi))).collect();
        for run in unbroken(&intervals) {
            let paint = Paint::Series(series.color);
            if let [(x, lo, hi)] = run[..] {
                canvas.line(self.point(x, lo), self.point(x, hi), Stroke::new(paint, 1.2));
                continue;
            }
            let upper = run.iter().map(|&(x, _, hi)| self.point(x, hi));
            let lower = run.iter().rev().map(|&(x, lo, _)| self.point(x, lo));
            canvas.polygon(&upper.chain(lower).collect::<Vec<_>>(), paint, BAND);
        }
    }

    /// A curve over each unbroken run of values; a single one is a dot.
    fn curve(&self, canvas: &mut Canvas<'_>, series: &Series) {
        let values: Vec<_> = series.x.iter().zip(&series.y).map(|(&x, y)| y.map(|y| (x, y))).collect();
        let dashes = canvas.theme().dashes(series.color);
        for run in unbroken(&values) {
            let points: Vec<_> = run.iter().map(|&(x, y)| self.point(x, y)).collect();
            match points[..] {
                [point] => canvas.dot(point, 2.5, Paint::Series(series.color)),
                _ => canvas
                    .polyline(&points, Stroke { dashes, ..Stroke::new(Paint::Series(series.color), 1.9) }),
            }
        }
    }
}

/// The runs of neighbours that are all defined.
fn unbroken<T: Copy>(values: &[Option<T>]) -> Vec<Vec<T>> {
    let runs = values.split(Option::is_none).filter(|run| !run.is_empty());
    runs.map(|run| run.iter().copied().flatten().collect()).collect()
}

#[cfg(test)]
mod tests {
    use super::unbroken;

    #[test]
    fn gaps_split_a_curve() {
        let values = [None, Some(1), Some(2), None, None, Some(3), None];
        assert_eq!(unbroken(&values), [vec![1, 2], vec![3]]);
        assert!(unbroken::<u8>(&[None, None]).is_empty());
    }
}
