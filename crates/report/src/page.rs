//! The report as one HTML file: no network, no scripts, readable on a phone, in the dark and on paper.
//!
//! All text is plain text and is escaped by the template; the only markup that passes through is the SVG
//! drawn here. What a section claims is its caller's business.

use std::collections::HashSet;
use std::fmt::Write;

use askama::Template;

use crate::downloads::{data_uri, figure_csv, numbers_of};
use crate::error::{Error, Result};
use crate::figure::{ColorKey, Figure, check_name};
use crate::fonts;
use crate::render::render_svg;
use crate::theme::Theme;

/// Files up to this size are carried inside the page; larger ones only lie in the run folder.
const LARGEST_DOWNLOAD: usize = 512 * 1024;
/// Rows of a figure's numbers that the page shows; the rest is in its CSV.
const MOST_ROWS: usize = 400;

const STYLE: &str = include_str!("../templates/page.css");

/// A report. All texts are plain text, not HTML.
#[derive(Debug, Clone, PartialEq)]
pub struct Page {
    /// Heading of the page.
    pub title: String,
    /// What was done and found, in a few sentences.
    pub lead: String,
    /// Sections in order.
    pub sections: Vec<Section>,
    /// Where the numbers come from: model, adapters, prompts, version, seed, command line.
    pub provenance: Vec<ProvenanceItem>,
}

/// One line of a report's origin.
#[derive(Debug, Clone, PartialEq)]
pub struct ProvenanceItem {
    /// What it is (`base model`).
    pub name: String,
    /// Its value.
    pub value: String,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Section {
    /// HTML id, unique on the page: ASCII letters, digits, `_`, `-`.
    pub id: String,
    /// Heading.
    pub title: String,
    /// What is asked; ends in a question mark.
    pub question: String,
    /// The answer, a paragraph each.
    pub paragraphs: Vec<String>,
    /// Figures in order.
    pub figures: Vec<Figure>,
    /// Small tables in order.
    pub tables: Vec<SummaryTable>,
    /// What a reader must know before trusting the section.
    pub notes: Vec<String>,
}

/// A small table for reading; the full one lies in the run folder.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryTable {
    /// What the table shows.
    pub title: String,
    /// Columns in order.
    pub columns: Vec<SummaryColumn>,
    /// Cells as they are shown, one a column.
    pub rows: Vec<Vec<String>>,
}

/// A column of a small table.
#[derive(Debug, Clone, PartialEq)]
pub struct SummaryColumn {
    /// Heading.
    pub name: String,
    /// What it means, with unit; explained under the table.
    pub doc: String,
    /// Whether the cells are numbers, which stand right-aligned.
    pub numeric: bool,
}

#[derive(Template)]
#[template(path = "page.html")]
struct PageView<'a> {
    page: &'a Page,
    sections: Vec<SectionView<'a>>,
    style: String,
}

struct SectionView<'a> {
    section: &'a Section,
    figures: Vec<FigureView<'a>>,
}

struct FigureView<'a> {
    figure: &'a Figure,
    svg: String,
    svg_link: Option<String>,
    csv_link: Option<String>,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    n_rows: usize,
}

/// Writes the page.
///
/// # Errors
/// Those of [`Figure::check`]; [`Error::BadName`] for section ids and figure names that are malformed or
/// appear twice; [`Error::RowLength`] for ragged tables; [`Error::Template`].
pub fn render_html(page: &Page) -> Result<String> {
    let names = page.sections.iter().flat_map(|section| {
        std::iter::once(&section.id).chain(section.figures.iter().map(|figure| &figure.name))
    });
    let mut seen = HashSet::new();
    for name in names {
        check_name(name)?;
        if !seen.insert(name) {
            let problem = "it appears twice on this page";
            return Err(Error::BadName { name: name.clone(), problem });
        }
    }
    page.sections.iter().flat_map(|section| &section.tables).try_for_each(check_table)?;
    let sections = page.sections.iter().map(view_section).collect::<Result<_>>()?;
    let view = PageView { page, sections, style: style_sheet() };
    view.render().map_err(|source| Error::Template { source })
}

fn check_table(table: &SummaryTable) -> Result<()> {
    let expected = table.columns.len();
    match table.rows.iter().position(|cells| cells.len() != expected) {
        None => Ok(()),
        Some(row) => {
            Err(Error::RowLength { table: table.title.clone(), row, expected, given: table.rows[row].len() })
        }
    }
}

fn view_section(section: &Section) -> Result<SectionView<'_>> {
    let figures = section.figures.iter().map(view_figure).collect::<Result<_>>()?;
    Ok(SectionView { section, figures })
}

fn view_figure(figure: &Figure) -> Result<FigureView<'_>> {
    let svg = render_svg(figure, &Theme::default())?;
    let csv = figure_csv(figure)?;
    let link = |media_type, contents: &str| {
        (contents.len() <= LARGEST_DOWNLOAD).then(|| data_uri(media_type, contents.as_bytes()))
    };
    let numbers = numbers_of(figure);
    let n_rows = numbers.rows.len();
    let rows = numbers.rows.into_iter().take(MOST_ROWS).collect();
    let (svg_link, csv_link) = (link("image/svg+xml", &svg), link("text/csv", &csv));
    Ok(FigureView { figure, svg, svg_link, csv_link, columns: numbers.columns, rows, n_rows })
}

/// The style sheet with fonts and both themes' colours put in.
fn style_sheet() -> String {
    let mut style = String::new();
    for (weight, bytes) in [400, 600].into_iter().zip(fonts::WEB) {
        let uri = data_uri("font/woff2", bytes);
        // Writing into a String can't fail.
        let _ = writeln!(
            style,
            r#"@font-face{{font-family:"{}";font-weight:{weight};src:url({uri}) format("woff2")}}"#,
            fonts::MAIN_FAMILY
        );
    }
    let (light, dark) = (Theme::default(), Theme::dark());
    let _ = writeln!(style, ":root{{color-scheme:light dark;{}}}", variables(&light));
    let _ = writeln!(style, "@media screen and (prefers-color-scheme:dark){{:root{{{}}}}}", variables(&dark));
    for name in paint_names(&light) {
        let _ = writeln!(
            style,
            "svg .fill-{name}{{fill:var(--{name})}}svg .stroke-{name}{{stroke:var(--{name})}}"
        );
    }
    style.push_str(STYLE);
    style
}

/// Names of the theme's colours, as classes of drawings and as variables of the style sheet.
fn paint_names(theme: &Theme) -> Vec<String> {
    let fixed = ["ink", "muted", "grid", "paper", "base"].map(str::to_owned);
    fixed.into_iter().chain((0..theme.models.len()).map(|index| format!("c{index}"))).collect()
}

fn variables(theme: &Theme) -> String {
    let colors = [theme.ink, theme.muted, theme.grid, theme.paper, theme.color(ColorKey::Base)];
    let colors = colors.into_iter().chain(theme.models.iter().copied());
    paint_names(theme).iter().zip(colors).map(|(name, color)| format!("--{name}:{color};")).collect()
}
