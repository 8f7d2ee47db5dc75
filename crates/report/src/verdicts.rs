//! What a study says of its questions: claims with their verdicts, shown before everything else.

use serde::{Deserialize, Serialize};

use crate::page::Page;

/// One claim.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Verdict {
    /// The question it belongs to, in words.
    pub question: String,
    /// What is claimed, as a short name.
    pub claim: String,
    /// The models it is about; empty for all.
    pub about: String,
    /// What is said of it.
    pub verdict: VerdictKind,
    /// The claim in words, with its numbers.
    pub statement: String,
    /// The number behind it with its interval, as text; empty for none.
    pub value: String,
    /// Figure on this page that shows it.
    pub figure: Option<String>,
    /// Table of the run folder that it comes from.
    pub table: Option<String>,
    /// Which rows of it.
    pub rows: String,
    /// These rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub excerpt: Option<Excerpt>,
}

/// Rows of a table of the run folder.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Excerpt {
    /// Names of the columns.
    pub columns: Vec<String>,
    /// The column to look at, where it is one.
    pub column: Option<usize>,
    /// The first rows, cell by cell as text.
    pub rows: Vec<Vec<String>>,
    /// How many there are in all.
    pub n_rows: usize,
}

/// What is said of a claim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerdictKind {
    /// Shown.
    Yes,
    /// Shown not to be so.
    No,
    /// These prompts do not decide it.
    NotResolved,
    /// The study did not ask.
    #[default]
    NotAsked,
}

impl VerdictKind {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::NotResolved => "not resolved",
            Self::NotAsked => "not asked",
        }
    }

    /// Its class in the style sheet.
    pub(crate) fn class(self) -> &'static str {
        match self {
            Self::Yes => "verdict-yes",
            Self::No => "verdict-no",
            Self::NotResolved => "verdict-open",
            Self::NotAsked => "verdict-unasked",
        }
    }
}

impl VerdictKind {
    const ALL: [Self; 4] = [Self::Yes, Self::No, Self::NotResolved, Self::NotAsked];
}

/// A question with its claims.
pub(crate) struct QuestionView<'a> {
    pub(crate) question: &'a str,
    pub(crate) verdicts: Vec<VerdictView<'a>>,
}

impl QuestionView<'_> {
    /// How many claims have each verdict; those that none has are left out.
    pub(crate) fn counts(&self) -> Vec<(VerdictKind, usize)> {
        let n = |kind| self.verdicts.iter().filter(|view| view.verdict.verdict == kind).count();
        VerdictKind::ALL.into_iter().map(|kind| (kind, n(kind))).filter(|(_, n)| *n > 0).collect()
    }
}

/// A claim, with links only to what is there.
pub(crate) struct VerdictView<'a> {
    pub(crate) verdict: &'a Verdict,
    pub(crate) figure: Option<&'a str>,
    pub(crate) table: Option<&'a str>,
    /// HTML id of its rows, where the page has them.
    pub(crate) rows: Option<String>,
}

/// The rows behind a claim, in the section of their table.
pub(crate) struct RowsView<'a> {
    pub(crate) id: String,
    pub(crate) verdict: &'a Verdict,
    pub(crate) table: &'a str,
    pub(crate) excerpt: &'a Excerpt,
}

impl RowsView<'_> {
    /// The claim's name and what it is about.
    pub(crate) fn title(&self) -> String {
        let Verdict { claim, about, .. } = self.verdict;
        if about.is_empty() { claim.clone() } else { format!("{claim}: {about}") }
    }

    /// Whether a column is the one to look at.
    pub(crate) fn is_marked(&self, column: &usize) -> bool {
        self.excerpt.column == Some(*column)
    }

    /// A cell as it is shown: numbers with four digits; the file, and the cell's title, have all.
    pub(crate) fn short(&self, cell: &str) -> String {
        short(cell)
    }

    pub(crate) fn is_shortened(&self, cell: &str) -> bool {
        short(cell) != cell
    }
}

/// Numbers of more than four significant digits, with four; all else as it is.
fn short(cell: &str) -> String {
    let digits = cell.bytes().filter(u8::is_ascii_digit).count();
    match cell.parse::<f64>() {
        Ok(value) if value.is_finite() && digits > 5 && cell.contains(['.', 'e']) => {
            let size = value.abs();
            if size != 0.0 && !(1e-4..1e6).contains(&size) {
                return format!("{value:.3e}");
            }
            let whole = if size < 1.0 { 1 } else { size.log10().floor() as usize + 1 };
            let text = format!("{value:.*}", 5_usize.saturating_sub(whole).clamp(1, 4));
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        _ => cell.to_owned(),
    }
}

/// The rows behind claims whose table belongs to a section.
pub(crate) fn rows_of_section<'a>(page: &'a Page, section: &str) -> Vec<RowsView<'a>> {
    let rows = |(i, verdict): (usize, &'a Verdict)| {
        let (table, excerpt) = (verdict.table.as_deref()?, verdict.excerpt.as_ref()?);
        let own = page.tables.iter().any(|t| t.name == table && t.section == section);
        own.then(|| RowsView { id: rows_id(i), verdict, table, excerpt })
    };
    page.verdicts.iter().enumerate().filter_map(rows).collect()
}

fn rows_id(verdict: usize) -> String {
    format!("rows-{}", verdict + 1)
}

/// The page's verdicts, question by question, in order of first appearance.
pub(crate) fn by_question(page: &Page) -> Vec<QuestionView<'_>> {
    let mut questions: Vec<QuestionView<'_>> = Vec::new();
    for (i, verdict) in page.verdicts.iter().enumerate() {
        let figures = page.sections.iter().flat_map(|section| &section.figures);
        let mut names = figures.map(|figure| figure.name.as_str());
        let figure = verdict.figure.as_deref().and_then(|wanted| names.find(|name| *name == wanted));
        let mut tables = page.tables.iter().map(|table| table.name.as_str());
        let table = verdict.table.as_deref().and_then(|wanted| tables.find(|name| *name == wanted));
        let rows = table.and(verdict.excerpt.as_ref()).map(|_| rows_id(i));
        let view = VerdictView { verdict, figure, table, rows };
        match questions.iter_mut().find(|known| known.question == verdict.question) {
            Some(known) => known.verdicts.push(view),
            None => questions.push(QuestionView { question: &verdict.question, verdicts: vec![view] }),
        }
    }
    questions
}

#[cfg(test)]
mod tests {
    use super::short;

    #[test]
    fn long_numbers_are_short_and_all_else_stays() {
        for (cell, shown) in [
            ("0.42669957230861516", "0.4267"),
            ("-1.0000000000000002", "-1"),
            ("0.30000000000000004", "0.3"),
            ("12.345678901", "12.346"),
            ("123456.789", "123456.8"),
            ("2.2250738585072014e-308", "2.225e-308"),
            ("0.000012345678", "1.235e-5"),
            ("0.0", "0.0"),
            ("20261126", "20261126"),
            ("L12.H3", "L12.H3"),
            ("NaN", "NaN"),
            ("", ""),
        ] {
            assert_eq!(short(cell), shown, "{cell}");
        }
    }
}
