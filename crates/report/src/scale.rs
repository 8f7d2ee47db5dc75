//! Axes: the range that shows all data, round ticks, and numbers as text.

/// Below this a span's own arithmetic runs out of bits; such values are zero to a reader.
const SMALLEST_SPAN: f64 = 1e-290;

/// A linear map from values to pixels, with its ticks.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Axis {
    /// Value at the lower end.
    pub(crate) min: f64,
    /// Value at the upper end.
    pub(crate) max: f64,
    /// Values that get a label, ascending.
    pub(crate) ticks: Vec<f64>,
    /// Distance of two ticks.
    step: f64,
}

/// What the values are, which decides where the axis may end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ends {
    /// The axis ends at round numbers, with room around the data.
    Round,
    /// The axis ends at the first and last value.
    Tight,
    /// As `Tight`; and if all values are whole (layers), so are the ticks.
    Whole,
}

impl Axis {
    /// An axis over `values` with about `n_ticks` ticks. Without values it spans 0 to 1; a single value is
    /// put in its middle.
    pub(crate) fn over(values: impl Iterator<Item = f64>, ends: Ends, n_ticks: usize) -> Self {
        let (mut min, mut max, mut whole) = (f64::INFINITY, f64::NEG_INFINITY, true);
        for value in values {
            (min, max) = (min.min(value), max.max(value));
            whole &= value.fract() == 0.0;
        }
        if min > max {
            (min, max, whole) = (0.0, 1.0, false);
        }
        // Closer than this, values can't be told apart on paper and ticks would repeat themselves.
        let least = (min.abs().max(max.abs()) * 1e-9).max(SMALLEST_SPAN);
        if max - min < least {
            let half = if min.abs() < SMALLEST_SPAN { 0.5 } else { min.abs() * 0.5 };
            (min, max) = (min - half, max + half);
        }
        let mut step = round_step((max - min) / n_ticks.max(1) as f64);
        if whole && ends == Ends::Whole {
            step = step.max(1.0);
        }
        if ends == Ends::Round {
            (min, max) = ((min / step).floor() * step, (max / step).ceil() * step);
        }
        let (first, last) = ((min / step - 1e-6).ceil() as i64, (max / step + 1e-6).floor() as i64);
        let ticks = (first..=last).map(|i| i as f64 * step).collect();
        Self { min, max, ticks, step }
    }

    /// Position of `value` between 0 (lower end) and 1 (upper end).
    pub(crate) fn share(&self, value: f64) -> f64 {
        (value - self.min) / (self.max - self.min)
    }

    /// The tick's label, with as many decimals as the step needs.
    pub(crate) fn label(&self, tick: f64) -> String {
        let largest = self.min.abs().max(self.max.abs());
        if !(1e-3..1e6).contains(&largest) {
            // A tick that differs from zero by rounding alone is zero.
            return if tick.abs() < self.step * 1e-6 { "0".to_owned() } else { scientific(tick) };
        }
        let decimals = (-self.step.log10()).ceil().clamp(0.0, 9.0) as usize;
        with_minus(format!("{tick:.decimals$}"))
    }
}

/// The largest of 1, 2, 5 times a power of ten that is not much below `rough`.
fn round_step(rough: f64) -> f64 {
    let power = 10_f64.powf(rough.log10().floor());
    let factor = match rough / power {
        f if f < 1.5 => 1.0,
        f if f < 3.5 => 2.0,
        f if f < 7.5 => 5.0,
        _ => 10.0,
    };
    factor * power
}

/// `value` as `1.5e−7`, at most two decimals, trailing zeros dropped.
fn scientific(value: f64) -> String {
    let text = format!("{value:.2e}");
    let Some((digits, exponent)) = text.split_once('e') else { return with_minus(text) };
    let digits = digits.trim_end_matches('0').trim_end_matches('.');
    with_minus(format!("{digits}e{exponent}"))
}

/// How the numbers of one figure are written: all alike, so that they can be compared at a glance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NumberForm {
    /// With this many decimals.
    Decimals(usize),
    /// As `1.5e−7`.
    Scientific,
}

impl NumberForm {
    /// The form that shows two or three significant digits of the largest of `values`.
    pub(crate) fn of(values: impl Iterator<Item = f64>) -> Self {
        match values.map(f64::abs).fold(0.0, f64::max) {
            0.0 => Self::Decimals(0),
            largest if !(0.001..1e6).contains(&largest) => Self::Scientific,
            largest => {
                Self::Decimals((2.0 - largest.log10().floor()).clamp(0.0, 4.0) as usize).coarsened(largest)
            }
        }
    }

    /// Two decimals are enough from 0.1 up: a probability is `0.07`, not `0.070`.
    fn coarsened(self, largest: f64) -> Self {
        match self {
            Self::Decimals(decimals) if largest >= 0.1 => Self::Decimals(decimals.min(2)),
            form => form,
        }
    }

    /// `value` in this form.
    pub(crate) fn text(self, value: f64) -> String {
        match self {
            Self::Decimals(decimals) => with_minus(format!("{value:.decimals$}")),
            Self::Scientific => scientific(value),
        }
    }
}

/// With the minus sign of typography, and without the sign of a zero.
fn with_minus(text: String) -> String {
    let is_zero = !text.chars().any(|c| matches!(c, '1'..='9'));
    if is_zero { text.trim_start_matches('-').to_owned() } else { text.replace('-', "−") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(values: &[f64], ends: Ends, n_ticks: usize) -> Vec<String> {
        let axis = Axis::over(values.iter().copied(), ends, n_ticks);
        axis.ticks.iter().map(|&tick| axis.label(tick)).collect()
    }

    #[test]
    fn ticks_are_round_and_hold_the_data() {
        assert_eq!(labels(&[-3.3, 2.1], Ends::Round, 5), ["−4", "−3", "−2", "−1", "0", "1", "2", "3"]);
        assert_eq!(labels(&[0.0, 29.0], Ends::Whole, 6), ["0", "5", "10", "15", "20", "25"]);
        assert_eq!(labels(&[0.0, 2.0], Ends::Whole, 6), ["0", "1", "2"], "no layer 0.5");
        assert_eq!(labels(&[0.0, 1.0], Ends::Tight, 4), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&[0.0, 1.0], Ends::Round, 5), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
    }

    #[test]
    fn extreme_values_give_finite_axes() {
        for values in [
            vec![],
            vec![0.0],
            vec![-7.0],
            vec![1e300, -1e300],
            vec![5e-324, 1e-323],
            vec![1e300],
            vec![1.0, 1.0 + 1e-15],
            vec![1e-12, 3e-12],
        ] {
            let axis = Axis::over(values.iter().copied(), Ends::Round, 5);
            assert!(
                axis.min.is_finite() && axis.max.is_finite() && axis.min < axis.max,
                "{values:?}: {axis:?}"
            );
            assert!((2..=12).contains(&axis.ticks.len()), "{values:?}: {axis:?}");
            for &value in &values {
                assert!((0.0..=1.0).contains(&axis.share(value)), "{values:?}: {axis:?}");
            }
            let mut labels: Vec<_> = axis.ticks.iter().map(|&tick| axis.label(tick)).collect();
            labels.dedup();
            assert_eq!(labels.len(), axis.ticks.len(), "{values:?}: {labels:?}");
        }
    }

    #[test]
    fn numbers_of_one_figure_are_written_alike() {
        let shown = |values: &[f64]| {
            let form = NumberForm::of(values.iter().copied());
            values.iter().map(|&value| form.text(value)).collect::<Vec<_>>()
        };
        assert_eq!(shown(&[0.5, 0.0712, 1.0, -0.001]), ["0.50", "0.07", "1.00", "0.00"]);
        assert_eq!(shown(&[-12.345, 0.5]), ["−12.3", "0.5"]);
        assert_eq!(shown(&[4567.8, -1.0]), ["4568", "−1"]);
        assert_eq!(shown(&[0.0123, -0.004]), ["0.0123", "−0.0040"]);
        assert_eq!(shown(&[1.234e-7, -2e-8, 0.0]), ["1.23e−7", "−2e−8", "0e0"]);
        assert_eq!(shown(&[0.0, -0.0]), ["0", "0"]);
    }
}
