//! What a study says of its three questions, put together from the tables of the other analyses.
//!
//! Nothing is measured here. Every claim is a row that names the table, the row and the figure that it comes from, with its number,
//! interval and null; where they do not decide it, it says so: `not resolved` at this sample size, or `not asked` where the analysis
//! that could tell was not part of the study. How its parts are decided is with each claim.

mod cards;
mod circuits;
mod claim;
mod controls;
mod rows;
mod suppression;
mod targets;
mod validity;

pub use cards::verdicts;
pub use rows::{ClaimedRows, claimed_rows};

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::error::{Error, Result};
use crate::flags::one_or_many;
use crate::interventions::models_of;
use crate::subject::Subject;
use claim::{CLAIMS, Claim, Question};
use lorascope_record::{Table, TableSpec};
use lorascope_report::Section;
use serde::{Deserialize, Serialize};
use serde_json::Value;

pub(crate) struct Conclusions;

const NAME: &str = "conclusions";

/// At or below this (adjusted) p-value something counts as shown.
const LEVEL: f64 = 0.05;

/// Settings of the conclusions.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// The two models whose circuits are compared. Empty: the second and third adapter, or the only two.
    #[serde(deserialize_with = "one_or_many")]
    pair: Vec<String>,
}

impl Settings {
    /// The two models, where there are two.
    fn pair(&self, subject: &Subject) -> Result<Option<(usize, usize)>> {
        let pair = models_of(NAME, &self.pair, subject)?;
        match (pair.as_slice(), subject.fine_tunes().as_slice()) {
            ([one, other], _) if one != other => Ok(Some((*one, *other))),
            ([], [] | [_]) => Ok(None),
            ([], [one, other] | [_, one, other, ..]) => Ok(Some((*one, *other))),
            _ => {
                let why = format!("pair is {:?}; it must be two different models", self.pair);
                Err(Error::Settings { analysis: NAME, why })
            }
        }
    }
}

static TABLES: &[&TableSpec] = &[&CLAIMS];

impl Analysis for Conclusions {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Answers"
    }
    fn question(&self) -> &'static str {
        "What does the study say, how sure is it, and where does it come from?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn compares_models(&self) -> bool {
        true
    }
    fn concludes(&self) -> bool {
        true
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(NAME, given)?;
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        read_settings::<Settings>(NAME, settings)?.pair(subject).map(|_| ())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let pair = settings.pair(context.subject)?;
        let mut validity = validity::claims(context)?;
        validity.claims.extend(controls::claims(context)?);
        let answers = [
            (Question::Validity, validity),
            (Question::Suppression, suppression::claims(context)?),
            (Question::Circuits, circuits::claims(context, pair)?),
            (Question::Targets, targets::claims(context)?),
        ];
        let mut table = Table::new(&CLAIMS);
        let mut paragraphs = Vec::new();
        for (question, answer) in &answers {
            paragraphs.push(format!("{} {}", question.asked(), answer.summary).trim_end().to_owned());
            paragraphs.extend(answer.claims.iter().map(|claim| claim.statement.clone()));
            for claim in &answer.claims {
                table.push(&claim.cells(*question))?;
            }
        }
        let claims: Vec<(Question, &Claim)> =
            answers.iter().flat_map(|(q, a)| a.claims.iter().map(move |c| (*q, c))).collect();
        let notes = vec![
            "Every number comes from a table of this run: the last columns of the list say which one, which rows, and which figure \
             shows it."
                .to_owned(),
            "Not resolved means that these prompts do not decide it, not that there is no difference; validation says what a study of \
             this size can detect."
                .to_owned(),
        ];
        let section = Section {
            id: NAME.to_owned(),
            title: self.title().to_owned(),
            question: self.question().to_owned(),
            paragraphs,
            figures: Vec::new(),
            tables: vec![claim::summary(&claims)],
            notes,
        };
        Ok(Findings { tables: vec![table], section })
    }
}
