//! Claims for the first screen of the report.

use super::claim::{CLAIMS, Question};
use crate::error::Result;
use lorascope_record::Table;
use lorascope_report::{Verdict, VerdictKind};

/// The claims of the answers page, if `table` is the table of claims.
///
/// # Errors
/// A table whose columns are not those of the claims.
pub fn verdicts(table: &Table) -> Result<Option<Vec<Verdict>>> {
    if table.spec().name != CLAIMS.name {
        return Ok(None);
    }
    let (questions, claims) = (table.texts("question")?, table.texts("claim")?);
    let (kinds, statements) = (table.texts("verdict")?, table.texts("statement")?);
    let (about, figures) = (table.texts_or_null("about")?, table.texts_or_null("figure")?);
    let (tables, rows) = (table.texts_or_null("source_table")?, table.texts_or_null("source_rows")?);
    let numbers = ["value", "lo", "hi", "null", "p"].map(|column| table.floats_or_null(column));
    let [values, lo, hi, null, p] = numbers;
    let (values, lo, hi, null, p) = (values?, lo?, hi?, null?, p?);
    let card = |i: usize| Verdict {
        question: Question::named(questions[i]).map_or(questions[i], |q| q.asked()).to_owned(),
        claim: claims[i].replace('_', " "),
        about: about[i].clone().unwrap_or_default(),
        verdict: kind(kinds[i]),
        statement: statements[i].to_owned(),
        value: number(values[i], lo[i].zip(hi[i]), null[i], p[i]),
        figure: figures[i].clone(),
        table: tables[i].clone(),
        rows: rows[i].clone().unwrap_or_default(),
        excerpt: None,
    };
    Ok(Some((0..table.n_rows()).map(card).collect()))
}

fn kind(name: &str) -> VerdictKind {
    use VerdictKind::{No, NotAsked, NotResolved, Yes};
    [Yes, No, NotResolved].into_iter().find(|kind| kind.name() == name).unwrap_or(NotAsked)
}

/// The number behind a claim, with what says how sure it is; empty where there is neither.
fn number(value: Option<f64>, ends: Option<(f64, f64)>, null: Option<f64>, p: Option<f64>) -> String {
    let Some(value) = value.filter(|_| ends.is_some() || p.is_some()) else { return String::new() };
    let ends = ends.map(|(lo, hi)| format!(" [{}, {}]", digits(lo), digits(hi))).unwrap_or_default();
    let null = null.map(|null| format!("; chance or control {}", digits(null))).unwrap_or_default();
    let p = p.map(|p| if p < 0.001 { "; p < 0.001".to_owned() } else { format!("; p = {p:.3}") });
    format!("{}{ends}{null}{}", digits(value), p.unwrap_or_default())
}

/// Three digits, or what is needed of a small number.
fn digits(value: f64) -> String {
    let size = value.abs();
    if size != 0.0 && size < 0.001 { format!("{value:.1e}") } else { format!("{value:.3}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_says_how_sure_it_is_or_is_left_out() {
        assert_eq!(
            number(Some(0.1234), Some((0.1, 0.2)), None, Some(0.0001)),
            "0.123 [0.100, 0.200]; p < 0.001"
        );
        assert_eq!(
            number(Some(-0.5), None, Some(0.25), Some(0.04)),
            "-0.500; chance or control 0.250; p = 0.040"
        );
        assert_eq!(number(Some(45.0), None, None, None), "", "a bare count stands in the statement");
        assert_eq!(kind("not resolved"), VerdictKind::NotResolved);
    }
}
