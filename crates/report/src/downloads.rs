//! What a figure shows, as numbers: for its fall-back table on the page and as a CSV file.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::error::{Error, Result};
use crate::figure::{Figure, FigureKind};
use crate::graph::{Change, HeadInput};

/// A figure's numbers in long form.
pub(crate) struct Numbers {
    pub(crate) columns: Vec<&'static str>,
    pub(crate) rows: Vec<Vec<String>>,
}

/// The figure's numbers as CSV, one line a value, floats in shortest round-trip form.
///
/// # Errors
/// [`Error::Csv`] if the library refuses.
pub fn figure_csv(figure: &Figure) -> Result<String> {
    let refused = |source| Error::Csv { figure: figure.name.clone(), source };
    let numbers = numbers_of(figure);
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(&numbers.columns).map_err(refused)?;
    for row in &numbers.rows {
        writer.write_record(row).map_err(refused)?;
    }
    let bytes = writer.into_inner().map_err(|failed| refused(failed.into_error().into()))?;
    String::from_utf8(bytes).map_err(|error| refused(std::io::Error::other(error).into()))
}

/// The figure's numbers, one row a value.
pub(crate) fn numbers_of(figure: &Figure) -> Numbers {
    let text = |value: Option<f64>| value.map(|v| format!("{v:?}")).unwrap_or_default();
    let ends = |interval: Option<(f64, f64)>| [text(interval.map(|i| i.0)), text(interval.map(|i| i.1))];
    let mut rows = Vec::new();
    let columns = match &figure.kind {
        FigureKind::Lines { panels, .. } => {
            for (panel, series) in panels.iter().flat_map(|p| p.series.iter().map(move |s| (p, s))) {
                for (i, &x) in series.x.iter().enumerate() {
                    let bound = |ends: &[Option<f64>]| text(ends.get(i).copied().flatten());
                    let (lo, hi) = (bound(&series.lo), bound(&series.hi));
                    rows.push(vec![
                        panel.title.clone(),
                        series.name.clone(),
                        text(Some(x)),
                        text(series.y[i]),
                        lo,
                        hi,
                    ]);
                }
            }
            vec!["panel", "series", "x", "y", "lo", "hi"]
        }
        FigureKind::Heatmap { panels, .. } => {
            for panel in panels {
                for (r, row) in panel.values.iter().enumerate() {
                    for (c, &value) in row.iter().enumerate() {
                        let [lo, hi] = ends(panel.intervals.get(r).and_then(|row| row[c]));
                        let names = [&panel.title, &panel.rows[r], &panel.cols[c]].map(String::clone);
                        rows.push(names.into_iter().chain([text(value), lo, hi]).collect());
                    }
                }
            }
            vec!["panel", "row", "column", "value", "lo", "hi"]
        }
        FigureKind::Bars { panels, .. } | FigureKind::HorizontalBars { panels, .. } => {
            for (panel, series) in panels.iter().flat_map(|p| p.series.iter().map(move |s| (p, s))) {
                for (g, group) in panel.groups.iter().enumerate() {
                    let [lo, hi] = ends(series.intervals.get(g).copied().flatten());
                    let names = [&panel.title, group, &series.name].map(String::clone);
                    rows.push(names.into_iter().chain([text(series.values[g]), lo, hi]).collect());
                }
            }
            vec!["panel", "group", "series", "value", "lo", "hi"]
        }
        FigureKind::Graph { panels, .. } => {
            let change = |change: Option<Change>| change.map(Change::name).unwrap_or_default().to_owned();
            for panel in panels {
                for node in &panel.nodes {
                    let [lo, hi] = ends(node.interval);
                    let names = [panel.title.clone(), "node".to_owned(), node.id.clone()];
                    let edge_only = [String::new(), String::new()];
                    let rest = [text(node.weight), lo, hi, change(node.change), node.member.to_string()];
                    rows.push(names.into_iter().chain(edge_only).chain(rest).collect());
                }
                for edge in &panel.edges {
                    let [lo, hi] = ends(edge.interval);
                    let input = edge.input.map(HeadInput::name).unwrap_or_default().to_owned();
                    let names =
                        [panel.title.clone(), "edge".to_owned(), edge.from.clone(), edge.to.clone(), input];
                    let rest = [text(edge.weight), lo, hi, change(edge.change), String::new()];
                    rows.push(names.into_iter().chain(rest).collect());
                }
            }
            vec!["panel", "part", "node", "receiver", "input", "weight", "lo", "hi", "change", "member"]
        }
        FigureKind::Attention(attention) => {
            let masses = attention.span_masses().into_iter();
            rows.extend(masses.map(|(prompt, model, span, mass)| {
                vec![prompt.to_owned(), model.to_owned(), span.to_owned(), format!("{mass:.5}")]
            }));
            vec!["prompt", "model", "span", "mean weight over heads"]
        }
    };
    Numbers { columns, rows }
}

/// `contents` as a link target that needs no network.
pub(crate) fn data_uri(media_type: &str, contents: &[u8]) -> String {
    format!("data:{media_type};base64,{}", STANDARD.encode(contents))
}
