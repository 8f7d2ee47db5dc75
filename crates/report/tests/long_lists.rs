//! Sweeps over all layers and heads, and long ranked lists: legible, and no taller than need be.

#![allow(clippy::unwrap_used, reason = "a helper of these tests may fail them")]

mod common;

use common::circuits::{components, ranked, sweep};
use lorascope_report::{Figure, FigureKind, Theme, figure_csv, render_svg};

fn svg(figure: &Figure) -> String {
    render_svg(figure, &Theme::default()).unwrap()
}

fn number(text: &str, attribute: &str) -> f64 {
    let start = text.find(attribute).unwrap() + attribute.len();
    text[start..].split('"').next().unwrap().parse().unwrap()
}

/// Width and height of the drawing.
fn size(svg: &str) -> (f64, f64) {
    (number(svg, " width=\""), number(svg, " height=\""))
}

/// Places of the texts that are exactly `text`.
fn places(svg: &str, text: &str) -> Vec<(f64, f64)> {
    let hits =
        svg.lines().filter(|line| line.starts_with("<text ") && line.contains(&format!(">{text}</text>")));
    hits.map(|line| (number(line, " x=\""), number(line, " y=\""))).collect()
}

#[test]
fn narrow_panels_stand_side_by_side() {
    let text = svg(&sweep("s", 4, 26, &components(8, &["attn", "MLP"]), Some(0.6)));
    let (width, height) = size(&text);
    assert!(width <= 960.0 && height < 700.0, "{width} by {height}");
    let first: Vec<_> = ["strategic", "deontological", "utilitarian", "hybrid"]
        .into_iter()
        .map(|model| places(&text, &format!("{model} → base"))[0])
        .collect();
    assert!(
        first.windows(2).all(|pair| pair[0].0 + 150.0 < pair[1].0 && pair[0].1 == pair[1].1),
        "{first:?}"
    );
    assert_eq!(places(&text, "25").len(), 1, "equal rows are labelled once");
    assert_eq!(places(&text, "H0").len(), 4);
}

#[test]
fn panels_with_rows_of_their_own_label_them() {
    let mut figure = sweep("s", 2, 6, &components(4, &[]), None);
    let FigureKind::Heatmap { panels, .. } = &mut figure.kind else { panic!() };
    panels[1].rows[0] = "embedding".to_owned();
    let text = svg(&figure);
    assert_eq!((places(&text, "embedding").len(), places(&text, "0").len()), (1, 2), "row and colour scale");
    assert_eq!(places(&text, "5").len(), 2);
    // The second panel's labels are right of the first panel's cells.
    assert!(places(&text, "embedding")[0].0 > places(&text, "H3")[0].0 + 50.0);
}

#[test]
fn many_layers_stay_legible_and_low() {
    let text = svg(&sweep("s", 4, 42, &components(16, &["attn", "MLP"]), Some(0.6)));
    let (width, height) = size(&text);
    assert!(width <= 960.0 && height < 1300.0, "{width} by {height}");
    assert_eq!(
        (places(&text, "2").len(), places(&text, "3").len()),
        (2, 0),
        "every second layer is numbered"
    );
    assert_eq!(places(&text, "H15").len(), 4, "names are never left out");
    let tall = svg(&sweep("s", 1, 30, &components(9, &["attn", "MLP"]), None));
    assert!(size(&tall).1 < 700.0 && places(&tall, "29").len() == 1);
}

#[test]
fn a_colour_scale_that_is_exceeded_says_so() {
    let cells = components(4, &["MLP"]);
    let whole = svg(&sweep("s", 1, 8, &cells, None));
    let cut = svg(&sweep("s", 1, 8, &cells, Some(0.7)));
    let points =
        |svg: &str| svg.lines().filter(|line| line.starts_with("<path") && line.contains("Z\"")).count();
    assert_eq!((points(&whole), points(&cut)), (0, 1), "only above");
}

#[test]
fn ranked_bars_keep_their_order_and_their_names() {
    let figure = ranked("r", &[""], 40, &["strategic"]);
    let text = svg(&figure);
    assert!(size(&text).1 < 900.0);
    let FigureKind::HorizontalBars { panels, .. } = &figure.kind else { panic!() };
    let heights: Vec<_> = panels[0].groups.iter().map(|group| places(&text, group)[0].1).collect();
    assert!(heights.windows(2).all(|pair| pair[1] - pair[0] > 13.0), "{heights:?}");
    let whiskers = text.matches("stroke-width=\"1.2\"").count();
    assert_eq!(whiskers, 3 * 40, "an interval with two caps for each");
    assert_eq!(figure_csv(&figure).unwrap().lines().count(), 41);
}

#[test]
fn bars_begin_at_zero_and_end_at_their_value() {
    let text = svg(&ranked("r", &[""], 40, &["strategic"]));
    let bars: Vec<_> =
        text.lines().filter(|line| line.starts_with("<rect") && line.contains("fill-c0")).collect();
    // The first is the legend's.
    let ends = |bar: &str| (number(bar, " x=\""), number(bar, " x=\"") + number(bar, " width=\""));
    assert_eq!(bars.len(), 41);
    let zero = places(&text, "0.0")[0].0;
    for bar in &bars[1..21] {
        assert!((ends(bar).0 - zero).abs() < 0.02 && ends(bar).1 > zero, "{bar}");
    }
    for bar in &bars[21..] {
        assert!((ends(bar).1 - zero).abs() < 0.02 && ends(bar).0 < zero, "{bar}");
    }
    let one = places(&text, "1.0")[0].0;
    let FigureKind::HorizontalBars { panels, .. } = ranked("r", &[""], 40, &["strategic"]).kind else {
        panic!()
    };
    let first = panels[0].series[0].values[0].unwrap();
    assert!((ends(bars[1]).1 - (zero + first * (one - zero))).abs() < 0.05);
}

#[test]
fn undefined_bars_are_left_out() {
    let mut figure = ranked("r", &["a", "b"], 10, &["x", "y"]);
    let FigureKind::HorizontalBars { panels, .. } = &mut figure.kind else { panic!() };
    let whole = svg(&ranked("r", &["a", "b"], 10, &["x", "y"]));
    panels[0].series[1].values[3] = None;
    let count = |svg: &str| svg.matches("<rect").count();
    assert_eq!(count(&whole) - count(&svg(&figure)), 1);
    assert!(figure_csv(&figure).unwrap().contains("a,L21.H7,y,,"));
}
