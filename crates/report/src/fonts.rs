//! The embedded fonts, and how wide a text is in them.
//!
//! One font serves measuring, the PNG and the page, so a label that fits in one fits in all. Characters
//! that it lacks (Chinese, say) are shown by a browser in a font of its own, and as a box in the PNG.

use std::sync::OnceLock;

use ttf_parser::Face;

/// Family name as it stands in SVG and CSS.
pub(crate) const FAMILY: &str = "Open Sans, DejaVu Sans, Verdana, sans-serif";
/// Family that the rasteriser takes where a drawing names none.
pub(crate) const MAIN_FAMILY: &str = "Open Sans";

const REGULAR: &[u8] = include_bytes!("../assets/fonts/OpenSans-Regular.ttf");
const SEMIBOLD: &[u8] = include_bytes!("../assets/fonts/OpenSans-Semibold.ttf");
const SYMBOLS: &[u8] = include_bytes!("../assets/fonts/DejaVuSans-Symbols.ttf");

/// Fonts that drawings use.
pub(crate) const ALL: [&[u8]; 3] = [REGULAR, SEMIBOLD, SYMBOLS];
/// The same glyphs, compressed for the page: regular and semibold.
pub(crate) const WEB: [&[u8]; 2] = [
    include_bytes!("../assets/fonts/OpenSans-Regular.woff2"),
    include_bytes!("../assets/fonts/OpenSans-Semibold.woff2"),
];

/// Stroke weight of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    Regular,
    Semibold,
}

/// Width of `text` at `size` pixels, without kerning.
pub(crate) fn text_width(text: &str, size: f64, weight: Weight) -> f64 {
    static FACES: OnceLock<[Option<Face<'static>>; 3]> = OnceLock::new();
    let faces = FACES.get_or_init(|| ALL.map(|bytes| Face::parse(bytes, 0).ok()));
    let first = match weight {
        Weight::Regular => &faces[0],
        Weight::Semibold => &faces[1],
    };
    let advance = |c: char| {
        let known = |face: &Face<'_>| {
            let advance = face.glyph_hor_advance(face.glyph_index(c)?)?;
            Some(f64::from(advance) / f64::from(face.units_per_em()))
        };
        // A square for what neither font has: the widest that another font is likely to need.
        first.as_ref().and_then(known).or_else(|| faces[2].as_ref().and_then(known)).unwrap_or(1.0)
    };
    text.chars().map(advance).sum::<f64>() * size
}

/// `text`, or its beginning, `…` and its end, so that it is no wider than `limit`. Both ends are kept,
/// because names of models often differ at the end only.
pub(crate) fn shortened(text: &str, limit: f64, size: f64, weight: Weight) -> String {
    if text_width(text, size, weight) <= limit {
        return text.to_owned();
    }
    let chars: Vec<char> = text.chars().collect();
    let keeping = |n: usize| -> String {
        let (head, tail) = (n.div_ceil(2), n / 2);
        chars[..head].iter().chain(&['…']).chain(&chars[chars.len() - tail..]).collect()
    };
    let fits = |n: &usize| text_width(&keeping(*n), size, weight) <= limit;
    keeping((0..chars.len()).rev().find(fits).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_embedded_font_is_readable() {
        for bytes in ALL {
            assert!(Face::parse(bytes, 0).unwrap().number_of_glyphs() > 100);
        }
    }

    #[test]
    fn widths_are_those_of_the_font() {
        // Open Sans Regular: zero is 1171 of 2048 units, and all digits are as wide.
        assert!((text_width("0", 2048.0, Weight::Regular) - 1171.0).abs() < 0.5);
        assert!(
            (text_width("17", 10.0, Weight::Regular) - text_width("00", 10.0, Weight::Regular)).abs() < 1e-9
        );
        assert!(text_width("model", 10.0, Weight::Semibold) > text_width("model", 10.0, Weight::Regular));
        assert!((text_width("→", 10.0, Weight::Regular) - 8.38).abs() < 0.01, "from the symbol font");
    }

    #[test]
    fn long_names_are_shortened_to_what_fits() {
        let long = "a-very-long-adapter-name-with-seed-17";
        let short = shortened(long, 100.0, 12.0, Weight::Regular);
        let (head, tail) = short.split_once('…').unwrap();
        assert!(long.starts_with(head) && long.ends_with(tail), "{short}");
        assert!(tail.ends_with("17") && head.starts_with("a-very"), "{short}");
        assert!(text_width(&short, 12.0, Weight::Regular) <= 100.0);
        assert_eq!(shortened("base", 100.0, 12.0, Weight::Regular), "base");
    }
}
