//! Axes: the range that shows all data, round ticks, and numbers as text.

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
    /// The axis ends at the first and last value (layers).
    Tight,
}

impl Axis {
    /// An axis over `values` with about `n_ticks` ticks. Without values it spans 0 to 1; a single value is
    /// put in its middle. Whole numbers get whole ticks.
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
        let least = (min.abs().max(max.abs()) * 1e-9).max(f64::MIN_POSITIVE * 1e16);
        if max - min < least {
            let half = if min == 0.0 { 0.5 } else { min.abs() * 0.5 };
            (min, max) = (min - half, max + half);
        }
        let mut step = round_step((max - min) / n_ticks.max(1) as f64);
        if whole && ends == Ends::Tight {
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

/// A number for a reader: three significant digits or so, never longer than its cell.
pub(crate) fn short_number(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        a if a < 0.001 => scientific(value),
        a if a < 0.0995 => with_minus(format!("{value:.3}")),
        a if a < 99.5 => with_minus(format!("{value:.2}")),
        a if a < 9999.5 => with_minus(format!("{value:.0}")),
        _ => scientific(value),
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
        assert_eq!(labels(&[-1.3, 2.1], Ends::Round, 5), ["−2", "−1", "0", "1", "2", "3"]);
        assert_eq!(labels(&[0.0, 29.0], Ends::Tight, 6), ["0", "5", "10", "15", "20", "25"]);
        assert_eq!(labels(&[0.0, 2.0], Ends::Tight, 6), ["0", "1", "2"], "no layer 0.5");
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
    fn numbers_are_short() {
        let shown = [0.0, -0.0, 0.5, -12.3456, 0.01234, 1.2e-7, 123.4, -1e20, 0.0996].map(short_number);
        assert_eq!(shown, ["0", "0", "0.50", "−12.35", "0.012", "1.2e−7", "123", "−1e20", "0.10"]);
    }
}
