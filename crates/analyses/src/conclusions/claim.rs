//! A claim: what is said, how sure it is, and where it comes from.

use super::rows::Selection;
use crate::bootstrap::Interval;
use crate::decide::column;
use crate::words::percent;
use lorascope_record::ColumnKind::{FloatOrNull, IntOrNull, Text, TextOrNull};
use lorascope_record::{Cell, TableSpec};
use lorascope_report::{SummaryColumn, SummaryTable};

pub(super) static CLAIMS: TableSpec = TableSpec {
    name: "conclusions",
    doc: "What the study says, claim by claim, and where each comes from.",
    columns: &[
        column(
            "question",
            Text,
            "",
            "`validity`: may the models' decisions be read as the metric reads them? `suppression`: how are components that push the \
             reference's way suppressed? `circuits`: do two models have distinct circuits? `targets`: which parts are worth \
             fine-tuning?",
        ),
        column("claim", Text, "", "What is claimed, as a name."),
        column("about", TextOrNull, "", "The models that it is about; null for all."),
        column(
            "verdict",
            Text,
            "",
            "`yes`, `no`, `not resolved` (at this sample size), or `not asked` (the analysis was not part of the study).",
        ),
        column("statement", Text, "", "The claim in words."),
        column("value", FloatOrNull, "", "The number behind it; the statement says what it is."),
        column("lo", FloatOrNull, "", "Lower end of its 95% interval."),
        column("hi", FloatOrNull, "", "Upper end of it."),
        column("null", FloatOrNull, "", "What it would be by chance, or for a control."),
        column("p", FloatOrNull, "", "Its p-value, corrected where it is one of a family."),
        column("n", IntOrNull, "", "Prompts, or what else was counted."),
        column("source_table", TextOrNull, "", "Table that it comes from."),
        column(
            "source_rows",
            TextOrNull,
            "",
            "Which rows of it: conditions that all hold (`column=value`, `column=value or value`, `column not value`, `column known`), \
             and the column to look at.",
        ),
        column("figure", TextOrNull, "", "Figure that shows it."),
    ],
};

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Question {
    Validity,
    Suppression,
    Circuits,
    Targets,
}

impl Question {
    pub fn name(self) -> &'static str {
        match self {
            Self::Validity => "validity",
            Self::Suppression => "suppression",
            Self::Circuits => "circuits",
            Self::Targets => "targets",
        }
    }

    const ALL: [Self; 4] = [Self::Validity, Self::Suppression, Self::Circuits, Self::Targets];

    /// The question of this name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|question| question.name() == name)
    }

    /// In words, for readers.
    pub fn asked(self) -> &'static str {
        match self {
            Self::Validity => "May conclusions be drawn?",
            Self::Suppression => "1. How are heads that push one model's way suppressed in the others?",
            Self::Circuits => "2. Do two models have distinct circuits?",
            Self::Targets => "3. Which parts of the model are worth fine-tuning?",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Yes,
    No,
    NotResolved,
    NotAsked,
}

impl Verdict {
    pub fn name(self) -> &'static str {
        match self {
            Self::Yes => "yes",
            Self::No => "no",
            Self::NotResolved => "not resolved",
            Self::NotAsked => "not asked",
        }
    }
}

/// Claims of one question, and what they come to.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// A sentence; empty where the claims speak for themselves.
    pub summary: String,
    pub claims: Vec<Claim>,
}

#[derive(Clone, Debug)]
pub(super) struct Claim {
    /// Its name.
    pub claim: &'static str,
    pub about: Option<String>,
    pub verdict: Verdict,
    pub statement: String,
    pub value: Option<f64>,
    pub ends: Option<(f64, f64)>,
    pub null: Option<f64>,
    pub p: Option<f64>,
    pub n: Option<usize>,
    /// Table and rows.
    pub source: Option<(&'static str, String)>,
    pub figure: Option<&'static str>,
}

impl Claim {
    /// Without numbers.
    pub fn new(claim: &'static str, verdict: Verdict, statement: impl Into<String>) -> Self {
        Self {
            claim,
            about: None,
            verdict,
            statement: statement.into(),
            value: None,
            ends: None,
            null: None,
            p: None,
            n: None,
            source: None,
            figure: None,
        }
    }

    /// An analysis that was not part of the study.
    pub fn not_asked(claim: &'static str, what: &str, how: &str) -> Self {
        Self::new(claim, Verdict::NotAsked, format!("{what} was not asked: {how}."))
    }

    pub fn about(mut self, about: impl Into<String>) -> Self {
        self.about = Some(about.into());
        self
    }

    pub fn value(mut self, value: Option<f64>, ends: Option<(f64, f64)>) -> Self {
        (self.value, self.ends) = (value, ends);
        self
    }

    pub fn interval(self, interval: Interval) -> Self {
        self.value(Some(interval.mean), Some((interval.lo, interval.hi)))
    }

    pub fn null(mut self, null: Option<f64>) -> Self {
        self.null = null;
        self
    }

    pub fn p(mut self, p: Option<f64>) -> Self {
        self.p = p;
        self
    }

    pub fn n(mut self, n: usize) -> Self {
        self.n = Some(n);
        self
    }

    /// Where it comes from.
    pub fn from(mut self, table: &'static str, rows: &Selection, figure: Option<&'static str>) -> Self {
        (self.source, self.figure) = (Some((table, rows.to_string())), figure);
        self
    }

    pub fn cells(&self, question: Question) -> Vec<Cell> {
        vec![
            question.name().into(),
            self.claim.into(),
            self.about.clone().into(),
            self.verdict.name().into(),
            self.statement.as_str().into(),
            self.value.into(),
            self.ends.map(|e| e.0).into(),
            self.ends.map(|e| e.1).into(),
            self.null.into(),
            self.p.into(),
            self.n.into(),
            self.source.as_ref().map(|s| s.0).into(),
            self.source.as_ref().map(|s| s.1.as_str()).into(),
            self.figure.into(),
        ]
    }
}

/// `52% [48%, 55%]`.
pub(super) fn share(value: f64, ends: Option<(f64, f64)>) -> String {
    ends.map_or_else(
        || percent(value),
        |(lo, hi)| format!("{} [{}, {}]", percent(value), percent(lo), percent(hi)),
    )
}

/// All claims as they are listed.
pub(super) fn summary(claims: &[(Question, &Claim)]) -> SummaryTable {
    let number = |v: Option<f64>| v.map_or_else(String::new, |v| format!("{v:.3}"));
    let row = |(question, claim): &(Question, &Claim)| {
        let value = match (claim.value, claim.ends) {
            (Some(v), Some((lo, hi))) => format!("{v:.3} [{lo:.3}, {hi:.3}]"),
            (value, _) => number(value),
        };
        let source =
            claim.source.as_ref().map_or_else(String::new, |(table, rows)| format!("{table}: {rows}"));
        vec![
            question.name().to_owned(),
            claim.claim.replace('_', " "),
            claim.about.clone().unwrap_or_default(),
            claim.verdict.name().to_owned(),
            value,
            number(claim.null),
            number(claim.p),
            claim.figure.unwrap_or_default().to_owned(),
            source,
        ]
    };
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    SummaryTable {
        title: "Claims, and where they come from".to_owned(),
        rows: claims.iter().map(row).collect(),
        columns: vec![
            column("question", "Which question it belongs to.", false),
            column("claim", "What is claimed; the paragraphs above say it in words.", false),
            column("about", "The models.", false),
            column("verdict", "yes, no, not resolved at this sample size, or not asked.", false),
            column("value", "The number behind it, with 95% interval.", true),
            column("chance", "What chance or a control gives.", true),
            column("p", "p-value, corrected where it is one of a family.", true),
            column("figure", "Figure on this page.", false),
            column("table and rows", "Where the number stands.", false),
        ],
    }
}
