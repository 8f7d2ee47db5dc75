//! Attention over the tokens of prompts: every head of every model at one row, for a reader to look through. Drawn still, it
//! is the mean over all heads for the first prompt and model.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::by_prompt::{inflated, packed};
use crate::canvas::{Canvas, Paint, Rect, TextStyle};
use crate::color::{sequential, text_on};
use crate::fonts::{Weight, shortened, text_width};
use crate::frame::{GAP, MARGIN, draw_title};

/// Attention of all heads of some models on some prompts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionRows {
    /// Names of the models.
    pub models: Vec<String>,
    /// Layers of each.
    pub n_layers: usize,
    /// Heads of each layer.
    pub n_heads: usize,
    /// The prompts with their tokens.
    pub prompts: Vec<AttentionPrompt>,
    /// Base64 of zlib of a byte for each weight, `[prompt][model][layer][head][token]`: `round(255 · √weight)`. What is read
    /// back, `(byte / 255)²`, differs from the weight by at most `√weight / 255 + 4e-6`.
    pub weights: String,
}

/// A prompt as its tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttentionPrompt {
    /// Its id.
    pub id: String,
    /// Text of every token that the row sees, itself last.
    pub tokens: Vec<String>,
    /// Names of its spans.
    pub spans: Vec<String>,
    /// For each token which of them it belongs to.
    pub span_of: Vec<usize>,
}

/// A weight between 0 and 1 as a byte; see [`AttentionRows::weights`].
fn to_byte(weight: f32) -> u8 {
    (weight.clamp(0.0, 1.0).sqrt() * 255.0).round() as u8
}

fn from_byte(byte: u8) -> f64 {
    (f64::from(byte) / 255.0).powi(2)
}

/// Packs weights in the order of [`AttentionRows::weights`].
pub fn pack_weights(weights: impl Iterator<Item = f32>) -> String {
    let bytes: Vec<u8> = weights.map(to_byte).collect();
    STANDARD.encode(packed(&bytes))
}

impl AttentionRows {
    fn n_weights(&self) -> Option<usize> {
        let tokens: usize = self.prompts.iter().map(|prompt| prompt.tokens.len()).sum();
        self.models.len().checked_mul(self.n_layers)?.checked_mul(self.n_heads)?.checked_mul(tokens)
    }

    fn bytes(&self) -> Option<Vec<u8>> {
        inflated(&self.weights, self.n_weights()?)
    }

    /// What is wrong with it, if anything.
    pub(crate) fn problem(&self) -> Option<&'static str> {
        if self.models.is_empty() || self.n_layers == 0 || self.n_heads == 0 {
            return Some("there are no heads");
        }
        if self.prompts.is_empty() || self.prompts.iter().any(|prompt| prompt.tokens.is_empty()) {
            return Some("there are no prompts, or one without tokens");
        }
        let fits = |p: &AttentionPrompt| {
            p.span_of.len() == p.tokens.len() && p.span_of.iter().all(|&span| span < p.spans.len())
        };
        if !self.prompts.iter().all(fits) {
            return Some("tokens and spans of a prompt do not belong together");
        }
        if self.bytes().is_none() {
            return Some("there are more or fewer weights than heads and tokens");
        }
        None
    }

    /// For each prompt and model, the mean over all heads of the weight on each token.
    fn means(&self) -> Vec<Vec<Vec<f64>>> {
        let bytes = self.bytes().unwrap_or_default();
        let mut rest = bytes.as_slice();
        let heads = self.n_layers * self.n_heads;
        let mut model = |n: usize| {
            let mut sums = vec![0.0; n];
            for _ in 0..heads {
                let (row, after) = rest.split_at(n.min(rest.len()));
                rest = after;
                sums.iter_mut().zip(row).for_each(|(sum, byte)| *sum += from_byte(*byte));
            }
            sums.iter().map(|sum| sum / heads as f64).collect()
        };
        let of_prompt = |p: &AttentionPrompt| self.models.iter().map(|_| model(p.tokens.len())).collect();
        self.prompts.iter().map(of_prompt).collect()
    }

    /// Mean over heads of the weight on each span: `[prompt id, model, span, mass]`.
    pub(crate) fn span_masses(&self) -> Vec<(&str, &str, &str, f64)> {
        let means = self.means();
        let mut found = Vec::new();
        for (prompt, of_models) in self.prompts.iter().zip(&means) {
            for (model, weights) in self.models.iter().zip(of_models) {
                let mut masses: BTreeMap<usize, f64> = BTreeMap::new();
                for (&span, weight) in prompt.span_of.iter().zip(weights) {
                    *masses.entry(span).or_default() += weight;
                }
                let row = |(span, mass): (usize, f64)| {
                    (prompt.id.as_str(), model.as_str(), prompt.spans[span].as_str(), mass)
                };
                found.extend(masses.into_iter().map(row));
            }
        }
        found
    }
}

/// Draws the first prompt on the first model; returns the size.
pub(crate) fn draw(canvas: &mut Canvas<'_>, title: &str, rows: &AttentionRows) -> (f64, f64) {
    let theme = canvas.theme();
    let width = theme.width;
    let mut y = draw_title(canvas, title, width);
    let means = rows.means();
    let (Some(prompt), Some(weights)) = (rows.prompts.first(), means.first().and_then(|m| m.first())) else {
        return (width, y);
    };
    let size = theme.tick_size;
    let about = format!("{}, {}: mean over all heads", prompt.id, rows.models[0]);
    canvas.text((MARGIN, y + size), &about, TextStyle::new(theme.label_size, Paint::Ink).bold());
    y += 2.0 * GAP + size;
    let most = weights.iter().copied().fold(f64::MIN_POSITIVE, f64::max);
    let (mut x, height) = (MARGIN, size * 1.7);
    for (token, weight) in prompt.tokens.iter().zip(weights) {
        let text = shortened(&shown(token), width / 3.0, size, Weight::Regular);
        let own = text_width(&text, size, Weight::Regular) + 4.0;
        if x + own > width - MARGIN {
            (x, y) = (MARGIN, y + height + 3.0);
        }
        // The root, because most of the mass is on a few tokens.
        let fill = sequential((weight / most).sqrt());
        canvas.rect(Rect { x, y, width: own - 1.0, height }, Paint::Fixed(fill), 1.0);
        let style = TextStyle::new(size, Paint::Fixed(text_on(fill)));
        canvas.text((x + 1.5, y + height * 0.7), &text, style);
        x += own;
        if token.ends_with('\n') {
            (x, y) = (MARGIN, y + height + 3.0);
        }
    }
    (width, y + height + MARGIN)
}

/// A token as it is shown: spaces and line ends made visible where they are all it is.
fn shown(token: &str) -> String {
    let plain: String = token.chars().map(|c| if c == '\n' { '⏎' } else { c }).collect();
    if plain.trim().is_empty() { plain.replace(' ', "·") } else { plain }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_come_back_within_the_stated_error() {
        for i in 0..=10_000 {
            let weight = i as f32 / 10_000.0;
            let back = from_byte(to_byte(weight));
            let allowed = f64::from(weight).sqrt() / 255.0 + 4e-6;
            assert!((back - f64::from(weight)).abs() <= allowed, "{weight}: {back}");
        }
    }

    #[test]
    fn masses_of_spans_are_means_over_heads() {
        let prompt = AttentionPrompt {
            id: "p".to_owned(),
            tokens: ["a", "b", "c"].map(str::to_owned).into(),
            spans: ["one", "two"].map(str::to_owned).into(),
            span_of: vec![0, 1, 0],
        };
        let rows = AttentionRows {
            models: vec!["base".to_owned()],
            n_layers: 1,
            n_heads: 2,
            prompts: vec![prompt],
            weights: pack_weights([1.0, 0.0, 0.0, 0.0, 1.0, 0.0].into_iter()),
        };
        assert_eq!(rows.problem(), None);
        assert_eq!(rows.span_masses(), [("p", "base", "one", 0.5), ("p", "base", "two", 0.5)]);
        let short = AttentionRows { weights: pack_weights([1.0].into_iter()), ..rows };
        assert!(short.problem().is_some());
    }
}
