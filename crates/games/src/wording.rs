//! Wordings: how a situation is told. Three are built in; a user's own ones are templates with named
//! placeholders (see [`Part`]).

use toml::{Table, Value};

use crate::error::GamesError;
use crate::game::{check_keys, is_plain_name, missing, text};
use crate::levels::unknown;
use crate::template::{Part, Template};

/// A wording of the user's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnWording {
    /// Short name for ids: letters, digits, `_`.
    pub name: String,
    /// The template: text with `{placeholder}`s and `{#span}…{/span}` marks.
    pub text: String,
    /// What the opponent is called; must fit "… chose" and "… gets".
    pub opponent: String,
}

/// How a situation is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wording {
    /// Rules, payoffs as a table, last round, question.
    Structured,
    /// A story about a friend, payoffs in sentences.
    Unstructured,
    /// Names the game and what the symbols stand for; no payoffs but those of the last round.
    Explicit,
    /// The user's own.
    Own(OwnWording),
}

/// Which factors of the design a wording shows. A factor that does not show is not crossed: its
/// levels would give the same text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shows {
    pub(crate) first: bool,
    pub(crate) second: bool,
    pub(crate) table: bool,
}

const NAMES: [&str; 3] = ["structured", "unstructured", "explicit"];
const KEYS: [&str; 3] = ["name", "text", "opponent"];
const DEFAULT_OPPONENT: &str = "the other player";

impl Wording {
    /// A wording of the user's own, in which the opponent is "the other player".
    ///
    /// # Errors
    /// The name is taken or not a plain word, or the template cannot be read.
    pub fn own(name: &str, text: &str) -> Result<Wording, GamesError> {
        Wording::own_with_opponent(name, text, DEFAULT_OPPONENT)
    }

    /// A wording of the user's own, with what the opponent is called.
    ///
    /// # Errors
    /// As [`Wording::own`]; or the opponent's name is blank or not on one line.
    pub fn own_with_opponent(name: &str, text: &str, opponent: &str) -> Result<Wording, GamesError> {
        let fail = |problem: &str| {
            Err(GamesError::Value { key: "wording".into(), problem: format!("`{name}`: {problem}") })
        };
        if !is_plain_name(name) || NAMES.contains(&name) {
            return fail("a name of its own is needed, 1 to 40 letters, digits and `_`");
        }
        if opponent.trim().is_empty() || opponent.chars().any(|c| c.is_control() || c == '|') {
            return fail("`opponent` must be words on one line, without `|`");
        }
        let own = OwnWording { name: name.into(), text: text.into(), opponent: opponent.trim().into() };
        let wording = Wording::Own(own);
        wording.template()?;
        Ok(wording)
    }

    /// The name in files, flags and ids.
    pub fn name(&self) -> &str {
        match self {
            Wording::Structured => NAMES[0],
            Wording::Unstructured => NAMES[1],
            Wording::Explicit => NAMES[2],
            Wording::Own(own) => &own.name,
        }
    }

    /// What the opponent is called.
    pub fn opponent(&self) -> &str {
        match self {
            // A letter would be read as a symbol where the symbols are letters.
            Wording::Structured | Wording::Explicit => DEFAULT_OPPONENT,
            Wording::Unstructured => "your friend",
            Wording::Own(own) => &own.opponent,
        }
    }

    pub(crate) fn template(&self) -> Result<Template, GamesError> {
        let text = match self {
            Wording::Structured => include_str!("wordings/structured.txt").trim_end(),
            Wording::Unstructured => include_str!("wordings/unstructured.txt").trim_end(),
            Wording::Explicit => include_str!("wordings/explicit.txt").trim_end(),
            Wording::Own(own) => &own.text,
        };
        Template::parse(text)
            .map_err(|problem| GamesError::Template { name: self.name().to_owned(), problem })
    }

    /// From a name, or a table with `name`, `text` and optionally `opponent`.
    pub(crate) fn from_value(value: &Value) -> Result<Wording, GamesError> {
        match value {
            Value::String(name) => name.parse(),
            Value::Table(table) => {
                check_keys(table, "a wording", &KEYS)?;
                let name = text(table, "name")?.ok_or_else(|| missing("name"))?;
                let template = text(table, "text")?.ok_or_else(|| missing("text"))?;
                let opponent = text(table, "opponent")?;
                Wording::own_with_opponent(&name, &template, opponent.as_deref().unwrap_or(DEFAULT_OPPONENT))
            }
            other => {
                let problem = format!("a wording is a name or a table; found: {}", other.type_str());
                Err(GamesError::Value { key: "wording".into(), problem })
            }
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        match self {
            Wording::Own(own) => {
                let mut table = Table::new();
                for (key, text) in KEYS.into_iter().zip([&own.name, &own.text, &own.opponent]) {
                    table.insert(key.into(), Value::String(text.clone()));
                }
                Value::Table(table)
            }
            known => Value::String(known.name().to_owned()),
        }
    }
}

impl Shows {
    /// What a template shows.
    pub(crate) fn of(template: &Template) -> Shows {
        Shows {
            first: template.has(&[Part::SymbolsFirst, Part::Meanings]),
            second: template.has(&[Part::SymbolsSecond, Part::Format]),
            table: template.has(&[Part::GameTable, Part::PayoffSentences]),
        }
    }
}

impl std::str::FromStr for Wording {
    type Err = GamesError;

    fn from_str(name: &str) -> Result<Wording, GamesError> {
        match name {
            "structured" => Ok(Wording::Structured),
            "unstructured" => Ok(Wording::Unstructured),
            "explicit" => Ok(Wording::Explicit),
            other => Err(unknown("wording", other, &NAMES)),
        }
    }
}
