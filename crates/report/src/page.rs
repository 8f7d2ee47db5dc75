//! The report as one HTML file: no network, readable without scripts, on a phone, in the dark and on paper. Its one
//! script makes the figures answer; what it needs to know stands in the page as data.
//!
//! All text is plain text and is escaped by the template; the only markup that passes through is the SVG
//! drawn here. What a section claims is its caller's business.

use std::collections::HashSet;

use askama::Template;
use serde::{Deserialize, Serialize};

use crate::downloads::numbers_of;
use crate::error::{Error, Result};
use crate::figure::{Figure, check_name};
use crate::render::render_svg;
use crate::script::{SCRIPT, content_policy, data_block};
use crate::style::style_sheet;
use crate::theme::Theme;
use crate::verdicts::{QuestionView, RowsView, Verdict, by_question, rows_of_section};

/// Rows of a figure's numbers that the page shows; the rest is in its CSV.
const MOST_ROWS: usize = 400;
/// Bytes of values by prompt that a page carries.
const MOST_SLICES: usize = 8 << 20;

/// A report. All texts are plain text, not HTML.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Page {
    /// Heading of the page.
    pub title: String,
    /// What was done and found, in a few sentences.
    pub lead: String,
    /// What a reader must know before anything else; shown above everything.
    #[serde(default)]
    pub warnings: Vec<String>,
    /// What the study says of its questions, in order.
    #[serde(default)]
    pub verdicts: Vec<Verdict>,
    /// Names of the models, the base first; the reader may choose among them.
    #[serde(default)]
    pub models: Vec<String>,
    /// The prompts; the reader may choose one.
    #[serde(default)]
    pub prompts: Vec<PromptText>,
    /// Sections in order.
    pub sections: Vec<Section>,
    /// Full tables in the run folder, with the section that they belong to.
    #[serde(default)]
    pub tables: Vec<TableFile>,
    /// Where the numbers come from: model, adapters, prompts, version, seed, command line.
    pub provenance: Vec<ProvenanceItem>,
}

/// One line of a report's origin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProvenanceItem {
    /// What it is (`base model`).
    pub name: String,
    /// Its value.
    pub value: String,
}

/// A prompt as the reader sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PromptText {
    /// Its id, by which slices of figures name it.
    pub id: String,
    /// Its scenario; empty for none.
    pub scenario: String,
    /// What is put to the model.
    pub text: String,
    /// Answer A as written.
    pub answer_a: String,
    /// Answer B as written.
    pub answer_b: String,
}

/// A table in the run folder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFile {
    /// Id of the section that it belongs to.
    pub section: String,
    /// Its name: it lies in `tables/NAME.csv`.
    pub name: String,
    /// What a row is.
    pub doc: String,
    /// Number of rows.
    pub rows: usize,
    /// Names of its columns.
    #[serde(default)]
    pub columns: Vec<String>,
}

/// One question and its answer.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SummaryTable {
    /// What the table shows.
    pub title: String,
    /// Columns in order.
    pub columns: Vec<SummaryColumn>,
    /// Cells as they are shown, one a column.
    pub rows: Vec<Vec<String>>,
}

/// A column of a small table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
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
    questions: Vec<QuestionView<'a>>,
    sections: Vec<SectionView<'a>>,
    style: String,
    policy: String,
    data: String,
    script: &'static str,
}

struct SectionView<'a> {
    section: &'a Section,
    figures: Vec<FigureView<'a>>,
    tables: Vec<&'a TableFile>,
    /// Rows behind claims.
    rows: Vec<RowsView<'a>>,
}

struct FigureView<'a> {
    figure: &'a Figure,
    svg: String,
    data: String,
    /// Whether its values by prompt were left out.
    whole_only: bool,
    columns: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    n_rows: usize,
}

/// What the script must know of the whole page.
#[derive(Serialize)]
struct PageData<'a> {
    theme: Theme,
    models: &'a [String],
    prompts: &'a [PromptText],
    tables: Vec<TableData<'a>>,
}

/// What it must know of a table to say which of its rows are shown.
#[derive(Serialize)]
struct TableData<'a> {
    section: &'a str,
    name: &'a str,
    columns: &'a [String],
}

impl<'a> TableData<'a> {
    fn of(table: &'a TableFile) -> Self {
        Self { section: &table.section, name: &table.name, columns: &table.columns }
    }
}

/// Writes the page.
///
/// # Errors
/// Those of [`Figure::check`]; [`Error::BadName`] for section ids and figure names that are malformed or
/// appear twice; [`Error::RowLength`] for ragged tables; [`Error::Data`]; [`Error::Template`].
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
    page.tables.iter().try_for_each(|table| check_name(&table.name))?;
    page.sections.iter().flat_map(|section| &section.tables).try_for_each(check_table)?;
    page.verdicts.iter().try_for_each(check_excerpt)?;
    let too_large = beyond_budget(page, MOST_SLICES);
    let view = |section| view_section(page, section, &too_large);
    let sections = page.sections.iter().map(view).collect::<Result<_>>()?;
    let data = PageData {
        theme: Theme::default(),
        models: &page.models,
        prompts: &page.prompts,
        tables: page.tables.iter().map(TableData::of).collect(),
    };
    let view = PageView {
        page,
        questions: by_question(page),
        sections,
        style: style_sheet(),
        policy: content_policy(),
        data: data_block(&data)?,
        script: SCRIPT,
    };
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

fn check_excerpt(verdict: &Verdict) -> Result<()> {
    let Some(excerpt) = &verdict.excerpt else { return Ok(()) };
    let expected = excerpt.columns.len();
    match excerpt.rows.iter().position(|cells| cells.len() != expected) {
        None => Ok(()),
        Some(row) => {
            let table = verdict.table.clone().unwrap_or_default();
            Err(Error::RowLength { table, row, expected, given: excerpt.rows[row].len() })
        }
    }
}

/// Figures that go without their values by prompt, so that the page stays small enough: the largest ones.
fn beyond_budget(page: &Page, most: usize) -> HashSet<&str> {
    let figures = page.sections.iter().flat_map(|section| &section.figures);
    let sizes =
        figures.filter_map(|f| f.by_prompt.as_ref().map(|slices| (slices.values.len(), f.name.as_str())));
    let mut sizes: Vec<(usize, &str)> = sizes.collect();
    sizes.sort_unstable();
    let mut total = 0;
    let mut beyond = HashSet::new();
    for (size, name) in sizes {
        total += size;
        if total > most {
            beyond.insert(name);
        }
    }
    beyond
}

fn view_section<'a>(
    page: &'a Page,
    section: &'a Section,
    too_large: &HashSet<&str>,
) -> Result<SectionView<'a>> {
    let figure = |figure: &'a Figure| view_figure(figure, too_large.contains(figure.name.as_str()));
    let figures = section.figures.iter().map(figure).collect::<Result<_>>()?;
    let tables = page.tables.iter().filter(|table| table.section == section.id).collect();
    Ok(SectionView { section, figures, tables, rows: rows_of_section(page, &section.id) })
}

fn view_figure(figure: &Figure, whole_only: bool) -> Result<FigureView<'_>> {
    let svg = render_svg(figure, &Theme::default())?;
    let numbers = numbers_of(figure);
    let n_rows = numbers.rows.len();
    let rows = numbers.rows.into_iter().take(MOST_ROWS).collect();
    let data = match whole_only {
        true => data_block(&Figure { by_prompt: None, ..figure.clone() })?,
        false => data_block(figure)?,
    };
    Ok(FigureView { figure, svg, data, whole_only, columns: numbers.columns, rows, n_rows })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::by_prompt::ByPrompt;
    use crate::figure::{BarPanel, BarSeries, ColorKey, FigureKind};

    fn figure(name: &str, n_prompts: usize) -> Figure {
        let series = BarSeries {
            name: "base".to_owned(),
            color: ColorKey::Base,
            values: vec![Some(1.0)],
            intervals: Vec::new(),
        };
        let panel = BarPanel { title: String::new(), groups: vec!["g".to_owned()], series: vec![series] };
        let kind = FigureKind::Bars { y_label: String::new(), panels: vec![panel] };
        let ids = (0..n_prompts).map(|i| i.to_string()).collect();
        let by_prompt = Some(ByPrompt::new(&kind, ids, |prompt, _| Some((prompt as f64).sin())));
        Figure { name: name.to_owned(), title: String::new(), caption: String::new(), by_prompt, kind }
    }

    #[test]
    fn the_largest_slices_go_first_where_there_is_no_room() {
        let figures = vec![figure("large", 90), figure("small", 9), figure("middle", 30)];
        let [_, small, middle] =
            [0, 1, 2].map(|i: usize| figures[i].by_prompt.as_ref().map_or(0, |slices| slices.values.len()));
        let page = Page { sections: vec![Section { figures, ..Section::default() }], ..Page::default() };
        assert!(beyond_budget(&page, MOST_SLICES).is_empty());
        assert_eq!(beyond_budget(&page, small + middle), HashSet::from(["large"]));
        assert_eq!(beyond_budget(&page, small), HashSet::from(["large", "middle"]));
    }
}
