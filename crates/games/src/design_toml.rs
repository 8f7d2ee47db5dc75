//! A design as a TOML table (`[prompts]` of a study file) and from flags. Every key may be left out
//! and then keeps its default; a single level may stand without its list.

use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use crate::design::Design;
use crate::error::GamesError;
use crate::game::{Game, check_keys};
use crate::moral::Moral;
use crate::symbols::Symbols;
use crate::wording::Wording;

impl Design {
    /// The keys of the table, which are the names of the factors too.
    pub const KEYS: [&'static str; 11] = [
        "games",
        "scenarios",
        "wording",
        "moral",
        "symbols",
        "labels",
        "first_mention",
        "second_mention",
        "row_order",
        "column_order",
        "per_scenario",
    ];

    /// Reads a design from TOML text whose top level is the table.
    ///
    /// # Errors
    /// Not TOML, an unknown key or level, or a design that [`Design::check`] refuses.
    pub fn from_toml(text: &str) -> Result<Design, GamesError> {
        Design::from_table(&text.parse().map_err(|e: toml::de::Error| GamesError::Toml(e.to_string()))?)
    }

    /// Reads a design from a TOML table; what it does not name is as in [`Design::default`].
    ///
    /// # Errors
    /// An unknown key or level, or a design that [`Design::check`] refuses.
    pub fn from_table(table: &Table) -> Result<Design, GamesError> {
        Design::default().with_table(table)
    }

    /// This design with what a TOML table names instead.
    ///
    /// # Errors
    /// As [`Design::from_table`].
    pub fn with_table(mut self, table: &Table) -> Result<Design, GamesError> {
        check_keys(table, "the design of prompts", &Design::KEYS)?;
        for (key, value) in table {
            self.set_value(key, value)?;
        }
        self.check()?;
        Ok(self)
    }

    /// Fills one factor from the text of a flag: levels separated by commas, a pair of symbols as
    /// `action1/action2`, e.g. `set("symbols", "action1/action2,A/B")`. Not checked as a whole; that
    /// happens in [`Design::build`].
    ///
    /// # Errors
    /// An unknown key or level.
    pub fn set(&mut self, key: &str, levels: &str) -> Result<(), GamesError> {
        let levels = levels.split(',').map(|level| Value::String(level.trim().to_owned()));
        let value = match key {
            "per_scenario" => levels.collect::<Vec<_>>().swap_remove(0),
            _ => Value::Array(levels.collect()),
        };
        self.set_value(key, &value)
    }

    fn set_value(&mut self, key: &str, value: &Value) -> Result<(), GamesError> {
        match key {
            "games" => self.games = each(value, Game::from_value)?,
            "scenarios" => self.scenarios = each(value, |v| named(key, v))?,
            "wording" => self.wording = each(value, Wording::from_value)?,
            "moral" => self.moral = each(value, Moral::from_value)?,
            "symbols" => self.symbols = symbols(value)?,
            "labels" => self.labels = each(value, |v| named(key, v))?,
            "first_mention" => self.first_mention = each(value, |v| named(key, v))?,
            "second_mention" => self.second_mention = each(value, |v| named(key, v))?,
            "row_order" => self.row_order = each(value, |v| named(key, v))?,
            "column_order" => self.column_order = each(value, |v| named(key, v))?,
            "per_scenario" => self.per_scenario = per_scenario(value)?,
            _ => {
                let table = Table::from_iter([(key.to_owned(), value.clone())]);
                return check_keys(&table, "the design of prompts", &Design::KEYS);
            }
        }
        Ok(())
    }

    /// The design as a TOML table that [`Design::from_table`] reads back.
    pub fn to_table(&self) -> Table {
        fn list<T>(levels: &[T], value: impl Fn(&T) -> Value) -> Value {
            Value::Array(levels.iter().map(value).collect())
        }
        fn names<T: ToString>(levels: &[T]) -> Value {
            list(levels, |level| Value::String(level.to_string()))
        }
        let per_scenario = match self.per_scenario {
            Some(n) => Value::Integer(i64::try_from(n).unwrap_or(i64::MAX)),
            None => Value::String("all".into()),
        };
        let values = [
            list(&self.games, Game::to_value),
            names(&self.scenarios),
            list(&self.wording, Wording::to_value),
            list(&self.moral, Moral::to_value),
            list(&self.symbols, Symbols::to_value),
            names(&self.labels),
            names(&self.first_mention),
            names(&self.second_mention),
            names(&self.row_order),
            names(&self.column_order),
            per_scenario,
        ];
        Design::KEYS.into_iter().map(str::to_owned).zip(values).collect()
    }
}

/// The levels of a list, or the one level that stands without a list.
fn each<T>(value: &Value, read: impl Fn(&Value) -> Result<T, GamesError>) -> Result<Vec<T>, GamesError> {
    match value {
        Value::Array(levels) => levels.iter().map(read).collect(),
        level => Ok(vec![read(level)?]),
    }
}

fn named<T: FromStr<Err = GamesError>>(key: &str, value: &Value) -> Result<T, GamesError> {
    match value {
        Value::String(name) => name.parse(),
        other => {
            let problem = format!("expected names; found: {}", other.type_str());
            Err(GamesError::Value { key: key.into(), problem })
        }
    }
}

/// `[["a", "b"], …]`, `["a", "b"]` for a single pair, or `["a/b", …]`.
fn symbols(value: &Value) -> Result<Vec<Symbols>, GamesError> {
    if let Value::Array(pair) = value
        && let [Value::String(a), Value::String(b)] = pair.as_slice()
        && !(a.contains('/') && b.contains('/'))
    {
        return Ok(vec![Symbols::new(a, b)?]);
    }
    each(value, Symbols::from_value)
}

fn per_scenario(value: &Value) -> Result<Option<usize>, GamesError> {
    let count = match value {
        Value::String(text) if text == "all" => return Ok(None),
        Value::String(text) => text.parse().ok(),
        Value::Integer(n) => usize::try_from(*n).ok(),
        _ => None,
    };
    match count {
        Some(n) if n > 0 => Ok(Some(n)),
        _ => {
            let problem = format!("`{value}` is not a whole number of 1 or more, nor \"all\"");
            Err(GamesError::Value { key: "per_scenario".into(), problem })
        }
    }
}

impl Serialize for Design {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_table().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Design {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Design::from_table(&Table::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}
