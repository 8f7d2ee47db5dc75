//! A small SVG writer: rectangles, lines, paths and text, with every text escaped.
//!
//! Colours are written twice: as attributes, which make the file complete on its own, and as classes
//! (`ink`, `grid`, `c0` …), by which a page's style sheet may override them for dark screens.

use std::fmt::Write;

use crate::color::Rgb;
use crate::figure::ColorKey;
use crate::fonts::{FAMILY, Weight};
use crate::theme::Theme;

/// What something is painted with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Paint {
    Ink,
    Muted,
    Grid,
    Paper,
    Series(ColorKey),
    Fixed(Rgb),
}

/// Where a text stands relative to its point.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

/// How a text looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TextStyle {
    pub(crate) size: f64,
    pub(crate) weight: Weight,
    pub(crate) paint: Paint,
    pub(crate) anchor: Anchor,
    /// Degrees, clockwise, about the text's point.
    pub(crate) turn: f64,
}

impl TextStyle {
    pub(crate) fn new(size: f64, paint: Paint) -> Self {
        Self { size, weight: Weight::Regular, paint, anchor: Anchor::Start, turn: 0.0 }
    }

    pub(crate) fn anchor(self, anchor: Anchor) -> Self {
        Self { anchor, ..self }
    }

    pub(crate) fn bold(self) -> Self {
        Self { weight: Weight::Semibold, ..self }
    }

    pub(crate) fn turned(self, turn: f64) -> Self {
        Self { turn, ..self }
    }
}

/// How a line looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stroke {
    pub(crate) paint: Paint,
    pub(crate) width: f64,
    pub(crate) dashes: Option<&'static str>,
    /// 0 invisible to 1 solid.
    pub(crate) opacity: f64,
}

impl Stroke {
    pub(crate) fn new(paint: Paint, width: f64) -> Self {
        Self { paint, width, dashes: None, opacity: 1.0 }
    }
}

/// An axis-parallel rectangle.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rect {
    pub(crate) x: f64,
    pub(crate) y: f64,
    pub(crate) width: f64,
    pub(crate) height: f64,
}

/// A drawing in progress. Writing into its `String` can't fail, which is why results are dropped.
pub(crate) struct Canvas<'a> {
    body: String,
    theme: &'a Theme,
}

impl<'a> Canvas<'a> {
    pub(crate) fn new(theme: &'a Theme) -> Self {
        Self { body: String::new(), theme }
    }

    pub(crate) fn theme(&self) -> &'a Theme {
        self.theme
    }

    pub(crate) fn rect(&mut self, rect: Rect, fill: Paint, opacity: f64) {
        let Rect { x, y, width, height } = rect;
        let fill = self.painted("fill", fill);
        let _ = write!(
            self.body,
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" {fill}{}/>"#,
            opacity_attribute("fill-opacity", opacity)
        );
        self.body.push('\n');
    }

    pub(crate) fn line(&mut self, from: (f64, f64), to: (f64, f64), stroke: Stroke) {
        let ((x1, y1), (x2, y2)) = (from, to);
        let stroke = self.stroked(stroke);
        let _ =
            writeln!(self.body, r#"<line x1="{x1:.2}" y1="{y1:.2}" x2="{x2:.2}" y2="{y2:.2}" {stroke}/>"#);
    }

    pub(crate) fn polyline(&mut self, points: &[(f64, f64)], stroke: Stroke) {
        let stroke = self.stroked(stroke);
        let path = path_of(points);
        let _ = writeln!(self.body, r#"<path d="{path}" fill="none" stroke-linejoin="round" {stroke}/>"#);
    }

    pub(crate) fn polygon(&mut self, points: &[(f64, f64)], fill: Paint, opacity: f64) {
        let fill = self.painted("fill", fill);
        let opacity = opacity_attribute("fill-opacity", opacity);
        let _ = writeln!(self.body, r#"<path d="{}Z" {fill}{opacity}/>"#, path_of(points));
    }

    pub(crate) fn dot(&mut self, (x, y): (f64, f64), radius: f64, fill: Paint) {
        let fill = self.painted("fill", fill);
        let _ = writeln!(self.body, r#"<circle cx="{x:.2}" cy="{y:.2}" r="{radius}" {fill}/>"#);
    }

    /// A cubic Bézier curve: its start, two control points, its end.
    pub(crate) fn curve(&mut self, points: [(f64, f64); 4], stroke: Stroke) {
        let [a, b, c, d] = points.map(|(x, y)| format!("{x:.2} {y:.2}"));
        let stroke = self.stroked(stroke);
        let _ = writeln!(self.body, r#"<path d="M{a}C{b} {c} {d}" fill="none" {stroke}/>"#);
    }

    /// The outline of a rectangle with round corners.
    pub(crate) fn frame(&mut self, rect: Rect, radius: f64, stroke: Stroke) {
        let Rect { x, y, width, height } = rect;
        let stroke = self.stroked(stroke);
        let _ = writeln!(
            self.body,
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" rx="{radius}" fill="none" {stroke}/>"#
        );
    }

    pub(crate) fn text(&mut self, (x, y): (f64, f64), text: &str, style: TextStyle) {
        let anchor = match style.anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let weight = if style.weight == Weight::Semibold { r#" font-weight="600""# } else { "" };
        let fill = self.painted("fill", style.paint);
        let _ = write!(self.body, r#"<text x="{x:.2}" y="{y:.2}" font-size="{}""#, style.size);
        let _ = write!(self.body, r#" text-anchor="{anchor}"{weight} {fill}"#);
        if style.turn != 0.0 {
            let _ = write!(self.body, r#" transform="rotate({} {x:.2} {y:.2})""#, style.turn);
        }
        let _ = writeln!(self.body, ">{}</text>", escaped(text));
    }

    /// Begins a group that a pointer or screen reader can name; [`Canvas::end_group`] ends it.
    pub(crate) fn begin_group(&mut self, title: &str) {
        let _ = writeln!(self.body, "<g><title>{}</title>", escaped(title));
    }

    /// A group that the page's script finds again: its kind as a class, and which one it is.
    pub(crate) fn begin_part(&mut self, kind: &str, index: usize, title: &str) {
        let title = escaped(title);
        let _ = writeln!(self.body, r#"<g class="{kind}" data-index="{index}"><title>{title}</title>"#);
    }

    pub(crate) fn end_group(&mut self) {
        self.body.push_str("</g>\n");
    }

    /// The whole SVG file; `name` makes its ids unique on a page.
    pub(crate) fn finish(self, size: (f64, f64), name: &str, title: &str, description: &str) -> String {
        let (width, height) = (size.0.ceil(), size.1.ceil());
        let paper = self.painted("fill", Paint::Paper);
        let (title, description) = (escaped(title), escaped(description));
        format!(
            r#"<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" font-family="{FAMILY}" role="img" aria-labelledby="{name}-title {name}-desc">
<title id="{name}-title">{title}</title>
<desc id="{name}-desc">{description}</desc>
<rect width="{width}" height="{height}" {paper}/>
{}</svg>
"#,
            self.body
        )
    }

    fn painted(&self, attribute: &str, paint: Paint) -> String {
        let (class, color) = match paint {
            Paint::Ink => ("ink".to_owned(), self.theme.ink),
            Paint::Muted => ("muted".to_owned(), self.theme.muted),
            Paint::Grid => ("grid".to_owned(), self.theme.grid),
            Paint::Paper => ("paper".to_owned(), self.theme.paper),
            Paint::Series(ColorKey::Base) => ("base".to_owned(), self.theme.base),
            Paint::Series(ColorKey::Reference(_)) => ("muted".to_owned(), self.theme.muted),
            Paint::Series(key @ ColorKey::Model(index)) => {
                (format!("c{}", index % self.theme.models.len().max(1)), self.theme.color(key))
            }
            Paint::Fixed(color) => return format!(r#"{attribute}="{color}""#),
        };
        format!(r#"class="{attribute}-{class}" {attribute}="{color}""#)
    }

    fn stroked(&self, stroke: Stroke) -> String {
        let dashes = stroke.dashes.map(|d| format!(r#" stroke-dasharray="{d}""#)).unwrap_or_default();
        let opacity = opacity_attribute("stroke-opacity", stroke.opacity);
        format!(
            r#"{} stroke-width="{}"{dashes}{opacity}"#,
            self.painted("stroke", stroke.paint),
            stroke.width
        )
    }
}

fn opacity_attribute(name: &str, opacity: f64) -> String {
    if opacity < 1.0 { format!(r#" {name}="{opacity}""#) } else { String::new() }
}

fn path_of(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        let _ = write!(path, "{}{x:.2} {y:.2}", if i == 0 { 'M' } else { 'L' });
    }
    path
}

/// `text` for XML: markup escaped, characters that XML 1.0 forbids shown as U+FFFD.
pub(crate) fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\t' | '\n' | '\r' => out.push(' '),
            '\0'..='\u{1F}' | '\u{FFFE}' | '\u{FFFF}' => out.push('\u{FFFD}'),
            c => out.push(c),
        }
    }
    out
}
