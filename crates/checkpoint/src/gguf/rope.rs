//! Llama 3's rotary scaling, recovered. llama.cpp's converter keeps only its outcome, a factor per frequency
//! (`rope_freqs.weight`); Hugging Face's config has the four parameters. Linear and yarn scalings stay parameters in GGUF
//! and are not here.
//!
//! The rule (`transformers`, `_compute_llama3_parameters`): for wavelength `w = 2 pi theta^(2i/d)` the frequency is
//! divided by 1 if `w < original / high`, by `factor` if `w > original / low`, and between the two by
//! `1 / ((1 - s) / factor + s)` with `s = (original / w - low) / (high - low)`. Only the ratios `original / high` and
//! `original / low` matter, so `low` = 1 may be chosen; `s` is linear in `1 / w`, so two frequencies in between give
//! the rest.

use super::GgufProblem;
use serde_json::{Value, json};

/// What the values of the file, f32 rounded from f32 arithmetic, may differ by.
const TOLERANCE: f64 = 1e-4;

/// `high_freq_factor` of all Llama 3 models.
const PUBLISHED_HIGH: f64 = 4.0;

#[derive(Clone, Copy, Debug, PartialEq)]
struct Llama3 {
    factor: f64,
    high: f64,
    original: f64,
}

impl Llama3 {
    fn divisor(&self, wavelength: f64) -> f64 {
        if wavelength < self.original / self.high {
            1.0
        } else if wavelength > self.original {
            self.factor
        } else {
            let s = (self.original / wavelength - 1.0) / (self.high - 1.0);
            1.0 / ((1.0 - s) / self.factor + s)
        }
    }
}

/// The config's `rope_scaling` that gives `factors` (one per pair of a head's dimensions) with base `theta` and a longest
/// text of `context`; `None` if they are all 1.
pub(super) fn llama3_scaling(
    factors: &[f32],
    theta: f64,
    head_dim: u64,
    context: u64,
) -> Result<Option<Value>, GgufProblem> {
    if factors.len() as u64 * 2 != head_dim {
        return Err(GgufProblem::RopeFactors);
    }
    let factors: Vec<f64> = factors.iter().map(|f| f64::from(*f)).collect();
    if factors.iter().any(|f| !f.is_finite() || *f < 1.0 - TOLERANCE) {
        return Err(GgufProblem::RopeFactors);
    }
    let factor = tidy(factors.iter().copied().fold(1.0, f64::max));
    if factor <= 1.0 + TOLERANCE {
        return Ok(None);
    }
    let n = factors.len() as f64;
    let wavelengths: Vec<f64> =
        (0..factors.len()).map(|i| std::f64::consts::TAU * theta.powf(i as f64 / n)).collect();
    let scaling = fit(&factors, &wavelengths, factor).ok_or(GgufProblem::RopeFactors)?;
    let follows =
        factors.iter().zip(&wavelengths).all(|(f, w)| (scaling.divisor(*w) / f - 1.0).abs() < TOLERANCE);
    if !follows {
        return Err(GgufProblem::RopeFactors);
    }
    // Hugging Face wants an original length of at most the model's; it only scales the two bounds.
    let original = scaling.original.min(context as f64);
    let stretch = original / scaling.original;
    let whole = original.fract() == 0.0;
    Ok(Some(json!({
        "rope_type": "llama3",
        "factor": scaling.factor,
        "low_freq_factor": stretch,
        "high_freq_factor": scaling.high * stretch,
        "original_max_position_embeddings": if whole { json!(original as u64) } else { json!(original) },
    })))
}

/// The parameters that the frequencies in between determine; `None` if that is nonsense.
fn fit(factors: &[f64], wavelengths: &[f64], factor: f64) -> Option<Llama3> {
    let between: Vec<(f64, f64)> = factors
        .iter()
        .zip(wavelengths)
        .filter(|(f, _)| **f > 1.0 + TOLERANCE && **f < factor * (1.0 - TOLERANCE))
        .map(|(f, w)| (1.0 / w, (1.0 / f - 1.0 / factor) / (1.0 - 1.0 / factor)))
        .collect();
    let (Some((x0, s0)), Some((x1, s1))) = (between.first(), between.last()) else {
        return Some(sharp(factors, wavelengths, factor));
    };
    if between.len() == 1 {
        // One frequency leaves `high` open: that of every published model, and the original length that follows.
        let original = tidy((1.0 + (PUBLISHED_HIGH - 1.0) * s0) / x0);
        return Some(Llama3 { factor, high: PUBLISHED_HIGH, original });
    }
    // s = slope / w - offset, with slope = original / (high - 1) and offset = 1 / (high - 1).
    let slope = (s0 - s1) / (x0 - x1);
    let offset = slope * x0 - s0;
    let high = tidy(1.0 + 1.0 / offset);
    let original = tidy(slope * (high - 1.0));
    (high > 1.0 && original > 0.0 && original.is_finite()).then_some(Llama3 { factor, high, original })
}

/// Without a frequency in between, any bounds between the longest unscaled and the shortest scaled wavelength do.
fn sharp(factors: &[f64], wavelengths: &[f64], factor: f64) -> Llama3 {
    let scaled = factors.iter().position(|f| *f > 1.0 + TOLERANCE).unwrap_or(factors.len() - 1);
    let unscaled = if scaled == 0 { wavelengths[0] / 16.0 } else { wavelengths[scaled - 1] };
    let original = (PUBLISHED_HIGH * unscaled * wavelengths[scaled]).sqrt();
    Llama3 { factor, high: PUBLISHED_HIGH, original }
}

/// The whole number that a value is meant to be, if it is that close.
fn tidy(x: f64) -> f64 {
    let whole = x.round();
    if (x / whole - 1.0).abs() < 1e-3 { whole } else { x }
}

#[cfg(test)]
mod tests {
    use super::{Llama3, llama3_scaling};

    fn factors(scaling: Llama3, theta: f64, n: usize) -> Vec<f32> {
        let wavelength = |i: usize| std::f64::consts::TAU * theta.powf(i as f64 / n as f64);
        (0..n).map(|i| scaling.divisor(wavelength(i)) as f32).collect()
    }

    #[test]
    fn llama_3_parameters_come_back() {
        for (factor, original, theta, n) in
            [(8.0, 8192.0, 5e5, 64), (32.0, 8192.0, 5e5, 32), (8.0, 32.0, 1e4, 8)]
        {
            let file = factors(Llama3 { factor, high: 4.0, original }, theta, n);
            let scaling = llama3_scaling(&file, theta, 2 * n as u64, 131_072).unwrap().unwrap();
            assert_eq!(scaling["factor"], factor);
            assert_eq!(scaling["low_freq_factor"], 1.0);
            assert_eq!(scaling["high_freq_factor"], 4.0);
            assert_eq!(scaling["original_max_position_embeddings"], original as u64);
        }
    }

    #[test]
    fn a_scaling_without_a_frequency_in_between_keeps_its_effect() {
        let file = factors(Llama3 { factor: 8.0, high: 4.0, original: 32.0 }, 1e4, 4);
        assert_eq!(file, [1.0, 8.0, 8.0, 8.0]);
        let scaling = llama3_scaling(&file, 1e4, 8, 128).unwrap().unwrap();
        let original = scaling["original_max_position_embeddings"].as_f64().unwrap();
        assert_eq!(factors(Llama3 { factor: 8.0, high: 4.0, original }, 1e4, 4), file);
    }

    #[test]
    fn other_factors_are_refused_and_ones_are_nothing() {
        assert_eq!(llama3_scaling(&[1.0; 16], 1e4, 32, 4096).unwrap(), None);
        let mut file = factors(Llama3 { factor: 8.0, high: 4.0, original: 8192.0 }, 5e5, 64);
        file[0] = 2.0;
        assert!(llama3_scaling(&file, 5e5, 128, 131_072).is_err());
        assert!(llama3_scaling(&[1.0, f32::NAN], 5e5, 4, 131_072).is_err());
        assert!(llama3_scaling(&[4.0, 1.0], 5e5, 4, 131_072).is_err());
    }
}
