//! Colour maps that are even to the eye: straight paths in Oklab (Björn Ottosson, 2020, "A perceptual
//! color space for image processing"), where equal steps look equal. Both arms of the diverging map have
//! the same lightness, so that neither side looks stronger, also in grey print.

use std::fmt;

use serde::Serialize;

/// A colour in sRGB, 8 bits a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rgb(pub u8, pub u8, pub u8);

impl Serialize for Rgb {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Rgb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02X}{:02X}{:02X}", self.0, self.1, self.2)
    }
}

/// Lightness of the middle of the diverging map and of the light end of the sequential one.
const LIGHT: f64 = 0.97;
/// Lightness of both ends of the diverging map.
const DIVERGING_END: f64 = 0.50;
/// Chroma at both ends of the diverging map: the most that sRGB holds at this lightness in both hues.
const DIVERGING_CHROMA: f64 = 0.125;
/// Hue angles in degrees: blue below the centre, vermilion above it.
const DIVERGING_HUES: (f64, f64) = (250.0, 38.0);
/// Lightness, chroma and hue of the dark end of the sequential map.
const SEQUENTIAL_END: (f64, f64, f64) = (0.38, 0.11, 255.0);

/// Colour of `t` in [-1, 1]; 0 is almost white. Beyond the ends the colour of the end.
pub fn diverging(t: f64) -> Rgb {
    let (t, hue) = if t < 0.0 { (-t, DIVERGING_HUES.0) } else { (t, DIVERGING_HUES.1) };
    ramp(t, DIVERGING_END, DIVERGING_CHROMA, hue)
}

/// Colour of `t` in [0, 1], light to dark. Beyond the ends the colour of the end.
pub fn sequential(t: f64) -> Rgb {
    let (lightness, chroma, hue) = SEQUENTIAL_END;
    ramp(t, lightness, chroma, hue)
}

/// From the light grey at 0 straight to the given colour at 1.
fn ramp(t: f64, lightness: f64, chroma: f64, hue_degrees: f64) -> Rgb {
    let t = t.clamp(0.0, 1.0);
    let hue = hue_degrees.to_radians();
    oklab_to_srgb(LIGHT + (lightness - LIGHT) * t, chroma * t * hue.cos(), chroma * t * hue.sin())
}

/// Oklab to sRGB, by the matrices of the source above.
fn oklab_to_srgb(lightness: f64, a: f64, b: f64) -> Rgb {
    let l = (lightness + 0.396_337_777_4 * a + 0.215_803_757_3 * b).powi(3);
    let m = (lightness - 0.105_561_345_8 * a - 0.063_854_172_8 * b).powi(3);
    let s = (lightness - 0.089_484_177_5 * a - 1.291_485_548_0 * b).powi(3);
    Rgb(
        gamma_encoded(4.076_741_662_1 * l - 3.307_711_591_3 * m + 0.230_969_929_2 * s),
        gamma_encoded(-1.268_438_004_6 * l + 2.609_757_401_1 * m - 0.341_319_396_5 * s),
        gamma_encoded(-0.004_196_086_3 * l - 0.703_418_614_7 * m + 1.707_614_701_0 * s),
    )
}

/// A linear channel in [0, 1] as an 8-bit sRGB value (IEC 61966-2-1).
fn gamma_encoded(linear: f64) -> u8 {
    let linear = linear.clamp(0.0, 1.0);
    let encoded = if linear <= 0.003_130_8 { 12.92 * linear } else { 1.055 * linear.powf(1.0 / 2.4) - 0.055 };
    (encoded * 255.0).round() as u8
}

impl Rgb {
    /// Relative luminance, 0 black to 1 white (WCAG 2.1).
    pub fn luminance(self) -> f64 {
        let linear = |channel: u8| {
            let c = f64::from(channel) / 255.0;
            if c <= 0.040_45 { c / 12.92 } else { ((c + 0.055) / 1.055).powf(2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }

    /// Contrast ratio of two colours, 1 to 21 (WCAG 2.1).
    pub fn contrast(self, other: Self) -> f64 {
        let (a, b) = (self.luminance() + 0.05, other.luminance() + 0.05);
        a.max(b) / a.min(b)
    }
}

/// Black or white, whichever is easier to read on `fill`.
pub(crate) fn text_on(fill: Rgb) -> Rgb {
    let (dark, light) = (Rgb(0x1F, 0x23, 0x28), Rgb(0xFF, 0xFF, 0xFF));
    if fill.contrast(dark) >= fill.contrast(light) { dark } else { light }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_is_light_and_the_ends_are_the_hues() {
        assert_eq!(diverging(0.0), Rgb(0xF5, 0xF5, 0xF5));
        assert_eq!(sequential(0.0), diverging(0.0));
        let (low, high) = (diverging(-1.0), diverging(1.0));
        assert!(low.2 > low.0 + 80, "below the centre is blue: {low}");
        assert!(high.0 > high.2 + 80, "above the centre is red: {high}");
        assert_eq!(diverging(-9.0), low, "beyond the end is the end");
    }

    #[test]
    fn both_arms_darken_evenly_and_alike() {
        for step in 1..=20 {
            let (t, before) = (f64::from(step) / 20.0, f64::from(step - 1) / 20.0);
            assert!(diverging(t).luminance() < diverging(before).luminance());
            assert!(diverging(-t).luminance() < diverging(-before).luminance());
            assert!(sequential(t).luminance() < sequential(before).luminance());
            let ratio = diverging(t).contrast(diverging(-t));
            assert!(ratio < 1.2, "arms differ in brightness at {t}: {ratio}");
        }
    }

    #[test]
    fn no_colour_of_a_map_is_cut_off_at_the_edge_of_srgb() {
        for step in -20..=20 {
            let Rgb(r, g, b) = diverging(f64::from(step) / 20.0);
            assert!([r, g, b].iter().all(|&channel| channel > 0 && channel < 255), "{r} {g} {b}");
        }
    }

    #[test]
    fn contrast_has_its_published_extremes() {
        assert!((Rgb(0, 0, 0).contrast(Rgb(255, 255, 255)) - 21.0).abs() < 1e-9);
        assert!((Rgb(9, 9, 9).contrast(Rgb(9, 9, 9)) - 1.0).abs() < 1e-12);
    }
}
