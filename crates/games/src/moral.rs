//! Moral preambles: a sentence before the prompt that says by what the asked player judges actions.

use toml::{Table, Value};

use crate::error::GamesError;
use crate::game::{check_keys, is_plain_name, missing, text};
use crate::levels::unknown;

/// The preamble of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Moral {
    /// No preamble.
    None,
    /// What counts is the sum of everyone's points.
    Utilitarian,
    /// What counts is never to let down someone who treated you well.
    Deontological,
    /// The user's own.
    Own {
        /// Short name for ids: letters, digits, `_`.
        name: String,
        /// The sentence.
        text: String,
    },
}

const NAMES: [&str; 3] = ["none", "utilitarian", "deontological"];

impl Moral {
    /// A preamble of the user's own.
    ///
    /// # Errors
    /// The name is taken or not a plain word, or the text is blank.
    pub fn own(name: &str, text: &str) -> Result<Moral, GamesError> {
        let fail = |problem: &str| {
            Err(GamesError::Value { key: "moral".into(), problem: format!("preamble `{name}`: {problem}") })
        };
        if !is_plain_name(name) || NAMES.contains(&name) {
            return fail("a name of its own is needed, 1 to 40 letters, digits and `_`");
        }
        if text.trim().is_empty() {
            return fail("its text is empty");
        }
        Ok(Moral::Own { name: name.to_owned(), text: text.trim().to_owned() })
    }

    /// The name in files, flags and ids.
    pub fn name(&self) -> &str {
        match self {
            Moral::None => NAMES[0],
            Moral::Utilitarian => NAMES[1],
            Moral::Deontological => NAMES[2],
            Moral::Own { name, .. } => name,
        }
    }

    /// The sentence, `None` where there is none.
    pub fn text(&self) -> Option<&str> {
        match self {
            Moral::None => None,
            Moral::Utilitarian => Some(
                "You judge every action by its results alone: the right action is the one that makes the points \
                 of all players together as many as possible.",
            ),
            Moral::Deontological => Some(
                "You judge every action by duty alone: it is wrong to harm someone who has just treated you \
                 well, no matter how much you would gain by it.",
            ),
            Moral::Own { text, .. } => Some(text),
        }
    }

    /// From a name, or a table with `name` and `text`.
    pub(crate) fn from_value(value: &Value) -> Result<Moral, GamesError> {
        match value {
            Value::String(name) => name.parse(),
            Value::Table(table) => {
                check_keys(table, "a moral preamble", &["name", "text"])?;
                let name = text(table, "name")?.ok_or_else(|| missing("name"))?;
                Moral::own(&name, &text(table, "text")?.ok_or_else(|| missing("text"))?)
            }
            other => {
                let problem = format!("a preamble is a name or a table; found: {}", other.type_str());
                Err(GamesError::Value { key: "moral".into(), problem })
            }
        }
    }

    pub(crate) fn to_value(&self) -> Value {
        match self {
            Moral::Own { name, text } => {
                let mut table = Table::new();
                table.insert("name".into(), Value::String(name.clone()));
                table.insert("text".into(), Value::String(text.clone()));
                Value::Table(table)
            }
            known => Value::String(known.name().to_owned()),
        }
    }
}

impl std::str::FromStr for Moral {
    type Err = GamesError;

    fn from_str(name: &str) -> Result<Moral, GamesError> {
        match name {
            "none" => Ok(Moral::None),
            "utilitarian" => Ok(Moral::Utilitarian),
            "deontological" => Ok(Moral::Deontological),
            other => Err(unknown("moral preamble", other, &NAMES)),
        }
    }
}
