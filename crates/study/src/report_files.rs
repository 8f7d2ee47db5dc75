//! The report of a run as files: figures in all forms, the page, and the data from which both can be written again.

use anyhow::{Context as _, Result};
use lorascope_analyses::{ANALYSES, Findings, Prompt, Subject, claimed_rows, verdicts};
use lorascope_record::{RunFolder, Table};
use lorascope_report::{Excerpt, Page, PromptText, Section, TableFile, Theme, figure_files, render_html};
use rayon::prelude::*;

/// The page's data, from which `lorascope report` writes the page anew.
const DATA: &str = "report.json";
const PAGE: &str = "report.html";

/// Writes every figure of a section as SVG, PNG, PDF and CSV.
pub fn write_figures(folder: &RunFolder, section: &Section) -> Result<()> {
    let theme = Theme::default();
    section.figures.par_iter().try_for_each(|figure| {
        let files = figure_files(figure, &theme)?;
        Ok(folder.write_figure(&figure.name, &files)?)
    })
}

/// Writes the page and its data.
pub fn write_page(folder: &RunFolder, page: &Page) -> Result<()> {
    folder.write_text(DATA, &serde_json::to_string(page)?)?;
    Ok(folder.write_text(PAGE, &render_html(page)?)?)
}

/// The page of a finished run, as it was written.
pub fn read_page(folder: &RunFolder) -> Result<Page> {
    let path = folder.dir().join(DATA);
    let missing = || {
        format!(
            "{}: there is no such file, from which the report is written; the run was made by an older version, so run it again",
            path.display()
        )
    };
    let json = folder.read_text(DATA)?.with_context(missing)?;
    serde_json::from_str(&json).with_context(|| format!("{} is not the data of a report", path.display()))
}

/// Puts what an analysis found onto the page: its section, its tables, its claims. The tables themselves come back.
///
/// # Errors
/// A table of claims that can't be read.
pub fn add(page: &mut Page, found: Findings, comes_first: bool) -> Result<Vec<Table>> {
    for table in &found.tables {
        let spec = table.spec();
        page.tables.push(TableFile {
            section: found.section.id.clone(),
            name: spec.name.to_owned(),
            doc: spec.doc.to_owned(),
            rows: table.n_rows(),
            columns: spec.columns.iter().map(|c| c.name.to_owned()).collect(),
        });
        page.verdicts.extend(verdicts(table)?.unwrap_or_default());
    }
    let place = if comes_first { 0 } else { page.sections.len() };
    page.sections.insert(place, found.section);
    Ok(found.tables)
}

/// Rows that a claim shows on the page; its table's file has all.
const MOST_ROWS: usize = 60;

/// Puts the rows behind each claim onto the page, from the tables of the run.
pub fn add_claimed_rows(folder: &RunFolder, page: &mut Page) -> Result<()> {
    for verdict in &mut page.verdicts {
        let mut specs = ANALYSES.iter().flat_map(|a| a.tables());
        let spec = verdict.table.as_deref().and_then(|name| specs.find(|spec| spec.name == name));
        let Some(spec) = spec else { continue };
        let Some(table) = folder.read_table(spec)? else { continue };
        let found = claimed_rows(&table, &verdict.rows, MOST_ROWS)?;
        verdict.excerpt = found.map(|found| Excerpt {
            columns: found.columns,
            column: found.column,
            rows: found.rows,
            n_rows: found.n_rows,
        });
    }
    Ok(())
}

/// The prompts as the reader sees them: as they are given, or a chat with who speaks.
pub fn prompt_texts(subject: &Subject) -> Vec<PromptText> {
    let text = |prompt: &Prompt| match prompt.item.content.turns().as_slice() {
        [(_, text)] => (*text).to_owned(),
        turns => turns.iter().map(|(role, text)| format!("{role}: {text}")).collect::<Vec<_>>().join("\n\n"),
    };
    let shown = |prompt: &Prompt| PromptText {
        id: prompt.id().to_owned(),
        scenario: prompt.scenario().to_owned(),
        text: text(prompt),
        answer_a: prompt.answers.text_a.clone(),
        answer_b: prompt.answers.text_b.clone(),
    };
    subject.prompts.iter().map(shown).collect()
}
