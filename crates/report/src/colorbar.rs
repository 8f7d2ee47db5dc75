//! From values to colours, and the bar that says which value has which colour.

use crate::canvas::{Anchor, Canvas, Paint, Rect, Stroke, TextStyle};
use crate::color::{Rgb, diverging, sequential};
use crate::figure::HeatmapScale;
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{GAP, MARGIN};
use crate::scale::{Axis, Ends};

const BAR_WIDTH: f64 = 14.0;
const SHORTEST_BAR: f64 = 150.0;
/// Height of the points at the ends of the bar, which say that values lie beyond.
const POINT: f64 = 9.0;

/// Values at the ends of the colour scale, and the colour of each value between.
pub(crate) struct Colors {
    low: f64,
    high: f64,
    is_diverging: bool,
    /// Whether values lie below and above the scale.
    beyond: (bool, bool),
}

impl Colors {
    /// The scale for these values.
    pub(crate) fn new(scale: HeatmapScale, values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high, is_diverging) = match scale {
            HeatmapScale::Sequential { min, max } => (min, if max > min { max } else { min + 1.0 }, false),
            HeatmapScale::Diverging { center, reach } => {
                let farthest = values.clone().map(|value| (value - center).abs()).fold(0.0, f64::max);
                let reach = reach.unwrap_or(farthest);
                let reach = if reach > 0.0 { reach } else { 1.0 };
                (center - reach, center + reach, true)
            }
        };
        // What rounding alone puts outside is not outside.
        let slack = (high / 2.0 - low / 2.0) * 1e-9;
        let beyond = values.fold((false, false), |(below, above), v| {
            (below | (v < low - slack), above | (v > high + slack))
        });
        Self { low, high, is_diverging, beyond }
    }

    /// Colour of `value`; beyond an end it is the end's.
    pub(crate) fn of(&self, value: f64) -> Rgb {
        // Halves are taken first, since the span of a legal scale may be twice what its ends are.
        let share = (value / 2.0 - self.low / 2.0) / (self.high / 2.0 - self.low / 2.0);
        if self.is_diverging { diverging(2.0 * share - 1.0) } else { sequential(share) }
    }

    /// Ticks of the bar.
    fn axis(&self) -> Axis {
        Axis::over([self.low, self.high].into_iter(), Ends::Tight, 4)
    }

    /// Room that the bar needs right of the panels, margin included.
    pub(crate) fn bar_room(&self, canvas: &Canvas<'_>) -> f64 {
        let theme = canvas.theme();
        1.5 * GAP + BAR_WIDTH + 6.0 + self.widest_label(canvas) + 8.0 + theme.label_size + MARGIN
    }

    fn widest_label(&self, canvas: &Canvas<'_>) -> f64 {
        let (axis, size) = (self.axis(), canvas.theme().tick_size);
        let width = |&tick: &f64| text_width(&axis.label(tick), size, Weight::Regular);
        axis.ticks.iter().map(width).fold(0.0, f64::max)
    }

    /// Draws the bar right of the panels, whose right edge and top are given with the height that the
    /// panels leave for it; returns the y of its lower end. An end beyond which values lie is a point.
    pub(crate) fn draw_bar(
        &self,
        canvas: &mut Canvas<'_>,
        unit: &str,
        (right, top, room): (f64, f64, f64),
    ) -> f64 {
        const N_STEPS: usize = 64;
        let (tick_size, label_size) = (canvas.theme().tick_size, canvas.theme().label_size);
        let x = right + 1.5 * GAP;
        let height = room.clamp(SHORTEST_BAR, 300.0);
        let top = if self.beyond.1 { top + POINT } else { top };
        let axis = self.axis();
        for step in 0..N_STEPS {
            let share = (step as f64 + 0.5) / N_STEPS as f64;
            let value = self.low * (1.0 - share) + self.high * share;
            let y = top + height * (1.0 - (step + 1) as f64 / N_STEPS as f64);
            // A hair taller than a step, or the renderer leaves light seams between steps.
            let slice = Rect { x, y, width: BAR_WIDTH, height: height / N_STEPS as f64 + 0.4 };
            canvas.rect(slice, Paint::Fixed(self.of(value)), 1.0);
        }
        let mut point = |y: f64, tip: f64, value: f64| {
            let corners = [(x, y), (x + BAR_WIDTH, y), (x + BAR_WIDTH / 2.0, tip)];
            canvas.polygon(&corners, Paint::Fixed(self.of(value)), 1.0);
        };
        if self.beyond.1 {
            point(top, top - POINT + 1.0, self.high);
        }
        if self.beyond.0 {
            point(top + height, top + height + POINT - 1.0, self.low);
        }
        for &tick in &axis.ticks {
            let y = top + height * (1.0 - axis.share(tick));
            let label = axis.label(tick);
            canvas.line((x + BAR_WIDTH, y), (x + BAR_WIDTH + 4.0, y), Stroke::new(Paint::Muted, 1.0));
            let style = TextStyle::new(tick_size, Paint::Muted);
            canvas.text((x + BAR_WIDTH + 6.0, y + tick_size * 0.36), &label, style);
        }
        let unit = shortened(unit, height, label_size, Weight::Regular);
        let style = TextStyle::new(label_size, Paint::Muted).anchor(Anchor::Middle).turned(-90.0);
        let unit_x = x + BAR_WIDTH + 6.0 + self.widest_label(canvas) + 8.0 + label_size * 0.8;
        canvas.text((unit_x, top + height / 2.0), &unit, style);
        top + height + if self.beyond.0 { POINT } else { 0.0 }
    }
}
