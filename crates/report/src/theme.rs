//! Fonts, sizes and colours of every figure and of the page, in one place.

use crate::color::Rgb;
use crate::figure::ColorKey;
use crate::fonts::FAMILY;
use serde::Serialize;

/// Look of figures. Lengths are in CSS pixels, 96 to the inch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Theme {
    /// Font families, the first of which is embedded.
    pub family: &'static str,
    /// Largest width of a figure.
    pub width: f64,
    /// Size of the figure's title.
    pub title_size: f64,
    /// Size of panel titles, axis names and legend.
    pub label_size: f64,
    /// Size of tick labels.
    pub tick_size: f64,
    /// Text.
    pub ink: Rgb,
    /// Tick labels and axes.
    pub muted: Rgb,
    /// Grid lines.
    pub grid: Rgb,
    /// Background.
    pub paper: Rgb,
    /// The base model.
    pub base: Rgb,
    /// Adapters in order; after the last one the colours begin again, with another dash pattern.
    pub models: Vec<Rgb>,
}

impl Default for Theme {
    /// For paper and light screens. Model colours after Okabe & Ito (2008, "Color Universal Design"),
    /// darkened where the original is too light for a thin line on white.
    fn default() -> Self {
        Self {
            family: FAMILY,
            width: 960.0,
            title_size: 17.0,
            label_size: 13.0,
            tick_size: 11.5,
            ink: Rgb(0x1F, 0x23, 0x28),
            muted: Rgb(0x5A, 0x62, 0x6C),
            grid: Rgb(0xE3, 0xE6, 0xEA),
            paper: Rgb(0xFF, 0xFF, 0xFF),
            base: Rgb(0x9A, 0xA0, 0xA6),
            models: vec![
                Rgb(0x00, 0x72, 0xB2),
                Rgb(0xD5, 0x5E, 0x00),
                Rgb(0x00, 0x8F, 0x68),
                Rgb(0xC2, 0x5A, 0x96),
                Rgb(0xB8, 0x86, 0x00),
                Rgb(0x3A, 0x9B, 0xD1),
                Rgb(0x6B, 0x4F, 0xA0),
                Rgb(0x6E, 0x5A, 0x3C),
            ],
        }
    }
}

impl Theme {
    /// For dark screens; the page switches to it by itself. Sizes are those of the default.
    pub fn dark() -> Self {
        Self {
            ink: Rgb(0xE8, 0xEA, 0xED),
            muted: Rgb(0xA8, 0xAF, 0xB8),
            grid: Rgb(0x33, 0x39, 0x42),
            paper: Rgb(0x16, 0x19, 0x1E),
            base: Rgb(0x9A, 0xA0, 0xA6),
            models: vec![
                Rgb(0x4D, 0xA3, 0xDF),
                Rgb(0xF0, 0x7F, 0x2A),
                Rgb(0x2F, 0xB8, 0x8D),
                Rgb(0xE0, 0x86, 0xB8),
                Rgb(0xE0, 0xB0, 0x30),
                Rgb(0x7C, 0xC8, 0xF0),
                Rgb(0xA5, 0x8B, 0xD8),
                Rgb(0xB8, 0xA0, 0x7C),
            ],
            ..Self::default()
        }
    }

    /// Colour of a series.
    pub fn color(&self, key: ColorKey) -> Rgb {
        match key {
            ColorKey::Base => self.base,
            ColorKey::Reference(_) => self.muted,
            // A theme without model colours draws every model in ink.
            ColorKey::Model(index) => *self.models.get(index % self.models.len().max(1)).unwrap_or(&self.ink),
        }
    }

    /// SVG dash pattern of a series: solid until the colours begin again. References are never solid.
    pub(crate) fn dashes(&self, key: ColorKey) -> Option<&'static str> {
        match key {
            ColorKey::Base => None,
            ColorKey::Model(index) => {
                [None, Some("7 3"), Some("2 2.5")][(index / self.models.len().max(1)) % 3]
            }
            ColorKey::Reference(index) => Some(["7 3", "2 2.5", "9 3 2 3"][index % 3]),
        }
    }
}
