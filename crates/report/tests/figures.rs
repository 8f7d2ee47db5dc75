//! Every kind of figure: structure of the SVG, size and contents of the PNG, gaps, extremes, refusals.

#![allow(clippy::unwrap_used, reason = "a helper of these tests may fail them")]

mod common;

use common::{MODELS, SCENARIOS, circuits};
use lorascope_report::{
    ColorKey, Error, Figure, FigureKind, HeatmapPanel, HeatmapScale, LinePanel, PNG_SCALE, Series, Theme,
    figure_csv, render_pdf, render_png, render_svg,
};
use resvg::tiny_skia::Pixmap;

fn svg(figure: &Figure) -> String {
    render_svg(figure, &Theme::default()).unwrap()
}

fn count(text: &str, pattern: &str) -> usize {
    text.matches(pattern).count()
}

/// Pixels, and how many of them are not background.
fn painted(svg: &str) -> (Pixmap, usize) {
    let image = Pixmap::decode_png(&render_png(svg).unwrap()).unwrap();
    let n_painted =
        image.pixels().iter().filter(|p| (p.red(), p.green(), p.blue()) != (255, 255, 255)).count();
    (image, n_painted)
}

fn number_after(svg: &str, attribute: &str) -> f32 {
    let start = svg.find(attribute).unwrap() + attribute.len();
    svg[start..].split('"').next().unwrap().parse().unwrap()
}

fn lines(series: Vec<Series>) -> Figure {
    let panels = vec![LinePanel { title: "p".to_owned(), series }];
    let (x_label, y_label) = ("layer".to_owned(), "delta".to_owned());
    let kind = FigureKind::Lines { x_label, y_label, panels, zero_line: false };
    Figure { name: "f".to_owned(), title: "t".to_owned(), caption: "c".to_owned(), by_prompt: None, kind }
}

fn heatmap(values: Vec<Vec<Option<f64>>>, scale: HeatmapScale) -> Figure {
    let names = |n: usize| (0..n).map(|i| i.to_string()).collect();
    let panel = HeatmapPanel {
        title: String::new(),
        rows: names(values.len()),
        cols: names(values[0].len()),
        values,
        intervals: Vec::new(),
    };
    let kind = FigureKind::Heatmap {
        row_label: "r".to_owned(),
        col_label: "c".to_owned(),
        panels: vec![panel],
        scale,
        unit: "nat".to_owned(),
        annotate: true,
    };
    Figure { name: "h".to_owned(), title: "t".to_owned(), caption: "c".to_owned(), by_prompt: None, kind }
}

fn all_kinds() -> [Figure; 7] {
    [
        circuits::small_circuit(),
        circuits::circuit_difference(),
        circuits::ranked("ranked", &["a", "b"], 40, &MODELS[..2]),
        common::trajectories(&MODELS, &SCENARIOS, 30),
        common::decisions(&MODELS, &SCENARIOS),
        common::heads(30, 9),
        common::bars(&MODELS, &SCENARIOS),
    ]
}

#[test]
fn every_kind_becomes_a_png_of_the_right_size_with_something_in_it() {
    for figure in all_kinds() {
        let svg = svg(&figure);
        let (image, n_painted) = painted(&svg);
        let size = |attribute| (number_after(&svg, attribute) * PNG_SCALE).ceil() as u32;
        assert_eq!((image.width(), image.height()), (size("width=\""), size("height=\"")), "{}", figure.name);
        assert!(n_painted > 20_000, "{}: {n_painted} pixels", figure.name);
    }
}

#[test]
fn text_is_drawn_in_the_embedded_fonts() {
    let figure = |title: &str| Figure { title: title.to_owned(), ..lines(vec![one_series(&[0.0, 1.0])]) };
    let (_, without) = painted(&svg(&figure("")));
    let (_, latin) = painted(&svg(&figure("Probability")));
    let (_, symbols) = painted(&svg(&figure("→ ∑ ■")));
    assert!(latin > without + 1000 && symbols > without + 500, "{without} {latin} {symbols}");
}

fn one_series(y: &[f64]) -> Series {
    Series::new("m", ColorKey::Model(0), (0..y.len()).map(|x| x as f64).collect(), y)
}

#[test]
fn trajectories_have_one_curve_and_band_for_each_model_and_scenario() {
    let text = svg(&common::trajectories(&MODELS, &SCENARIOS, 30));
    assert_eq!(count(&text, "fill=\"none\" stroke-linejoin"), 25);
    assert_eq!(count(&text, "fill-opacity=\"0.16\""), 25);
    for name in MODELS.iter().chain(&SCENARIOS) {
        assert_eq!(count(&text, &format!(">{name}</text>")), 1, "{name} is named once");
    }
    assert_eq!(count(&text, "stroke-dasharray=\"4 3\""), 5, "a zero line in every panel");
    assert!(text.contains("role=\"img\" aria-labelledby=\"lens-trajectories-title lens-trajectories-desc\""));
}

#[test]
fn equal_figures_give_equal_bytes_also_through_json() {
    for figure in all_kinds() {
        let json = serde_json::to_string(&figure).unwrap();
        let back: Figure = serde_json::from_str(&json).unwrap();
        assert_eq!(back, figure);
        assert_eq!(svg(&back), svg(&figure));
    }
}

#[test]
fn nan_is_a_gap_in_a_curve() {
    let whole = svg(&lines(vec![one_series(&[0.0, 1.0, 2.0, 3.0, 4.0])]));
    assert_eq!(count(&whole, "stroke-linejoin"), 1);
    let y = [0.0, 1.0, f64::NAN, 3.0, f64::NAN];
    let gap = svg(&lines(vec![one_series(&y).with_interval(&y.map(|v| v - 1.0), &y.map(|v| v + 1.0))]));
    assert_eq!(
        (count(&gap, "stroke-linejoin"), count(&gap, "<circle")),
        (1, 1),
        "a run of two, and a single point"
    );
    assert_eq!(count(&gap, "fill-opacity"), 1);
    assert!(!gap.contains("NaN") && !gap.contains("inf"));
    painted(&svg(&lines(vec![one_series(&[f64::NAN, f64::NAN])])));
}

#[test]
fn an_undefined_cell_is_struck_through_and_has_no_number() {
    let scale = HeatmapScale::Sequential { min: 0.0, max: 1.0 };
    let text = svg(&heatmap(vec![vec![Some(0.25), None]], scale));
    assert_eq!(count(&text, "stroke-width=\"0.7\""), 1);
    assert!(text.contains(">0.25</text>"));
}

#[test]
fn extreme_values_are_drawn_with_finite_coordinates() {
    for y in [vec![1e300, -1e300], vec![5e-324, 0.0], vec![0.0], vec![7.0, 7.0], vec![1e-30, 2e-30]] {
        let text = svg(&lines(vec![one_series(&y)]));
        assert!(!text.contains("NaN") && !text.contains("inf"), "{y:?}");
        painted(&text);
        for scale in [
            HeatmapScale::Diverging { center: 0.0, reach: None },
            HeatmapScale::Diverging { center: 1.0, reach: Some(0.0) },
            HeatmapScale::Sequential { min: 0.0, max: 0.0 },
            HeatmapScale::Sequential { min: -1e300, max: 1e300 },
        ] {
            let text = svg(&heatmap(vec![y.iter().copied().map(Some).collect()], scale));
            assert!(!text.contains("NaN") && !text.contains("inf"), "{y:?} {scale:?}");
        }
    }
}

#[test]
fn ten_series_can_be_told_apart() {
    let series = (0..10).map(|i| {
        let color = common::color(i);
        Series { name: format!("model {i}"), color, ..one_series(&[0.0, i as f64]) }
    });
    let text = svg(&lines(series.collect()));
    let mut looks: Vec<_> = text
        .lines()
        .filter(|line| line.contains("stroke-linejoin"))
        .map(|l| l.split("stroke-linejoin").nth(1))
        .collect();
    assert_eq!(looks.len(), 10);
    looks.sort_unstable();
    looks.dedup();
    assert_eq!(looks.len(), 10, "colour and dashes together differ");
}

#[test]
fn a_diverging_scale_is_symmetric_about_its_centre() {
    let scale = HeatmapScale::Diverging { center: 0.5, reach: None };
    let text = svg(&heatmap(vec![vec![Some(0.1), Some(0.5), Some(0.9)]], scale));
    let full = [
        lorascope_report::diverging(-1.0),
        lorascope_report::diverging(0.0),
        lorascope_report::diverging(1.0),
    ];
    let cells: Vec<_> = text.lines().filter(|line| line.contains("height=\"35.00\"")).collect();
    assert_eq!(cells.len(), 3);
    for (cell, color) in cells.iter().zip(full) {
        assert!(cell.contains(&format!("fill=\"{color}\"")), "{cell} {color}");
    }
}

#[test]
fn markup_in_names_is_text() {
    let bad = "<script>alert('x')</script> & \"q\" \u{0}";
    let mut figure = lines(vec![Series { name: bad.to_owned(), ..one_series(&[0.0, 1.0]) }]);
    (figure.title, figure.caption) = (bad.to_owned(), bad.to_owned());
    let text = svg(&figure);
    assert!(!text.contains("<script"));
    assert!(
        text.contains("&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;q&quot; \u{FFFD}</title>")
    );
    painted(&text);
}

#[test]
fn what_cannot_be_drawn_is_refused_and_named() {
    let refusal = |figure: &Figure| render_svg(figure, &Theme::default()).unwrap_err();
    let short = Series { x: vec![0.0], ..one_series(&[0.0, 1.0]) };
    let error = refusal(&lines(vec![short]));
    assert_eq!(error.to_string(), "figure `f`, panel `p`, series `m`: 2 values for 1 positions");
    let half = Series { lo: vec![None, None], ..one_series(&[0.0, 1.0]) };
    assert!(matches!(refusal(&lines(vec![half])), Error::LengthMismatch { .. }));
    assert!(matches!(refusal(&lines(vec![one_series(&[f64::INFINITY])])), Error::NotDrawable { .. }));
    assert!(matches!(refusal(&lines(Vec::new())), Error::Empty { .. }));
    let named = Figure { name: "../x".to_owned(), ..lines(vec![one_series(&[0.0])]) };
    assert!(matches!(refusal(&named), Error::BadName { .. }));
    let ragged = heatmap(vec![vec![None, None], vec![None]], HeatmapScale::Sequential { min: 0.0, max: 1.0 });
    assert!(matches!(refusal(&ragged), Error::LengthMismatch { of: "columns", .. }));
    assert!(matches!(render_png("no drawing"), Err(Error::Raster { .. })));
    assert!(matches!(
        render_png("<svg xmlns='http://www.w3.org/2000/svg' width='99999' height='9'/>"),
        Err(Error::Raster { .. })
    ));
}

#[test]
fn numbers_behind_a_figure_are_complete() {
    let csv = figure_csv(&common::trajectories(&MODELS, &SCENARIOS, 30)).unwrap();
    assert_eq!(csv.lines().count(), 1 + 5 * 5 * 30);
    assert!(csv.starts_with("panel,series,x,y,lo,hi\nCC_continue,base,0.0,"));
    assert_eq!(figure_csv(&common::decisions(&MODELS, &SCENARIOS)).unwrap().lines().count(), 26);
    assert_eq!(
        figure_csv(&lines(vec![one_series(&[f64::NAN])])).unwrap(),
        "panel,series,x,y,lo,hi\np,m,0.0,,,\n"
    );
}

#[test]
fn a_pdf_holds_text_as_text_and_is_the_same_each_time() {
    let figure = common::decisions(&MODELS, &SCENARIOS);
    let pdf = render_pdf(&svg(&figure), &figure.title).unwrap();
    assert!(pdf.starts_with(b"%PDF-1."));
    let holds = |text: &[u8]| pdf.windows(text.len()).any(|window| window == text);
    assert!(holds(b"OpenSans"), "the font is embedded under its name");
    assert!(!holds(b"/CreationDate"), "nothing depends on the day");
    assert_eq!(pdf, render_pdf(&svg(&figure), &figure.title).unwrap());
    assert!(render_pdf("no drawing", "t").is_err());
}

#[test]
fn a_png_says_its_resolution() {
    let png = render_png(&svg(&lines(vec![one_series(&[0.0, 1.0])]))).unwrap();
    assert_eq!(&png[37..41], b"pHYs");
    assert_eq!(u32::from_be_bytes(png[41..45].try_into().unwrap()), 11_811, "300 dots to the inch");
}

#[test]
fn attention_is_drawn_token_by_token() {
    let figure = common::prompts::attention();
    let svg = svg(&figure);
    assert_eq!(count(&svg, ">another<") + count(&svg, "> another<"), 3);
    assert!(svg.contains("&lt;b&gt;player&lt;/b&gt;") && !svg.contains("<b>"));
    let csv = figure_csv(&figure).unwrap();
    assert_eq!(csv.lines().count(), 1 + 2 * MODELS.len() * 2, "prompts, models, spans");
}
