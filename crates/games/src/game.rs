//! A two-player game with two actions: payoffs, and the few words that its prompts need.

use toml::{Table, Value};

use crate::catalogue::CATALOGUE;
use crate::error::GamesError;
use crate::suggest;

/// Largest size of a payoff. Larger ones would make the table unreadable.
pub const MAX_PAYOFF: f64 = 1e6;

/// What a player does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Action {
    /// Row and column 0; answer A of a prompt.
    Cooperate,
    /// Row and column 1; answer B of a prompt.
    Defect,
}

impl Action {
    /// Both, in the order of [`Game::payoffs`].
    pub const BOTH: [Action; 2] = [Action::Cooperate, Action::Defect];

    /// Row or column of the payoffs.
    pub const fn index(self) -> usize {
        self as usize
    }

    /// `C` or `D`.
    pub const fn letter(self) -> char {
        match self {
            Action::Cooperate => 'C',
            Action::Defect => 'D',
        }
    }

    /// The other one.
    pub const fn other(self) -> Action {
        match self {
            Action::Cooperate => Action::Defect,
            Action::Defect => Action::Cooperate,
        }
    }
}

/// A 2×2 game. The asked player is the row player.
#[derive(Debug, Clone, PartialEq)]
pub struct Game {
    /// Short name for ids and tables: letters, digits, `_`.
    pub name: String,
    /// Points (row player, column player) by the row player's and the column player's action; index
    /// 0 is cooperate, 1 is defect.
    pub payoffs: [[(f64, f64); 2]; 2],
    /// What the game is called inside a sentence, e.g. "the Prisoner's Dilemma".
    pub title: String,
    /// What cooperating means here, after "to", e.g. "hunt the stag".
    pub cooperate_as: String,
    /// What defecting means here, after "to".
    pub defect_as: String,
}

const KEYS: [&str; 5] = ["name", "payoffs", "title", "cooperate_as", "defect_as"];
const CELLS: [&str; 4] = ["CC", "CD", "DC", "DD"];

impl Game {
    /// The points (own, opponent's) of one round.
    pub fn payoff(&self, own: Action, opponent: Action) -> (f64, f64) {
        self.payoffs[own.index()][opponent.index()]
    }

    /// The game as the column player sees it, who is then the row player. A game that looks the same from both sides keeps
    /// its name; another gets the ending `_column`.
    #[must_use]
    pub fn turned(&self) -> Game {
        let turn = |own: Action, opponent: Action| {
            let (row, column) = self.payoff(opponent, own);
            (column, row)
        };
        let payoffs = Action::BOTH.map(|own| Action::BOTH.map(|opponent| turn(own, opponent)));
        if payoffs == self.payoffs {
            return self.clone();
        }
        Game { payoffs, name: format!("{}_column", self.name), ..self.clone() }
    }

    /// A game of the catalogue.
    ///
    /// # Errors
    /// The name is not in the catalogue.
    pub fn named(name: &str) -> Result<Game, GamesError> {
        let known: Vec<&str> = CATALOGUE.iter().map(|entry| entry.name).collect();
        let entry = CATALOGUE.iter().find(|entry| entry.name == name);
        entry.map(|e| e.game()).ok_or_else(|| crate::levels::unknown("game", name, &known))
    }

    /// Reads one game of the user's own from TOML text.
    ///
    /// # Errors
    /// Not TOML, an unknown or missing key, or an unusable value.
    pub fn from_toml(text: &str) -> Result<Game, GamesError> {
        let table = text.parse::<Table>().map_err(|e| GamesError::Toml(e.to_string()))?;
        Game::from_value(&Value::Table(table))
    }

    /// A game from its name in the catalogue, or from a table that describes it.
    pub(crate) fn from_value(value: &Value) -> Result<Game, GamesError> {
        let table = match value {
            Value::String(name) => return Game::named(name),
            Value::Table(table) => table,
            other => {
                let problem = format!("a game is a name or a table; found: {}", other.type_str());
                return Err(GamesError::Value { key: "games".into(), problem });
            }
        };
        check_keys(table, "a game", &KEYS)?;
        let name = text(table, "name")?.ok_or_else(|| missing("name"))?;
        let game = Game {
            payoffs: payoffs_from(table)?,
            title: text(table, "title")?.unwrap_or_else(|| format!("the game called {name}")),
            cooperate_as: text(table, "cooperate_as")?.unwrap_or_else(|| "cooperate".into()),
            defect_as: text(table, "defect_as")?.unwrap_or_else(|| "defect".into()),
            name,
        };
        game.check()?;
        Ok(game)
    }

    /// The game as [`Game::from_toml`] reads it: a name for a game of the catalogue, else a table.
    pub(crate) fn to_value(&self) -> Value {
        if Game::named(&self.name).is_ok_and(|known| known == *self) {
            return Value::String(self.name.clone());
        }
        let mut payoffs = Table::new();
        for own in Action::BOTH {
            for opponent in Action::BOTH {
                let (row, column) = self.payoff(own, opponent);
                let cell = Value::Array(vec![Value::Float(row), Value::Float(column)]);
                payoffs.insert(format!("{}{}", own.letter(), opponent.letter()), cell);
            }
        }
        let words = [&self.name, &self.title, &self.cooperate_as, &self.defect_as];
        let mut table = Table::new();
        for (key, word) in ["name", "title", "cooperate_as", "defect_as"].into_iter().zip(words) {
            table.insert(key.into(), Value::String(word.clone()));
        }
        table.insert("payoffs".into(), Value::Table(payoffs));
        Value::Table(table)
    }

    /// Checks that prompts can be made of this game.
    ///
    /// # Errors
    /// A name that is not a plain word or is taken, payoffs that are not finite or too large, or
    /// words that are blank or hold line breaks.
    pub fn check(&self) -> Result<(), GamesError> {
        let fail = |problem: String| Err(GamesError::Game { name: self.name.clone(), problem });
        if !is_plain_name(&self.name) {
            return fail("a name consists of 1 to 40 letters, digits and `_`".into());
        }
        if Game::named(&self.name).is_ok_and(|known| known != *self) {
            return fail("this name belongs to a game of the catalogue; choose another".into());
        }
        for (cell, (row, column)) in CELLS.iter().zip(self.payoffs.iter().flatten()) {
            for value in [row, column] {
                if !value.is_finite() || value.abs() > MAX_PAYOFF {
                    return fail(format!(
                        "payoff `{value}` in {cell} must be a number between -{MAX_PAYOFF} and {MAX_PAYOFF}"
                    ));
                }
            }
        }
        for (key, words) in
            [("title", &self.title), ("cooperate_as", &self.cooperate_as), ("defect_as", &self.defect_as)]
        {
            if words.trim().is_empty() || words.chars().any(char::is_control) {
                return fail(format!("`{key}` must be words on one line"));
            }
        }
        Ok(())
    }
}

/// Letters, digits and `_`: what may stand in an id between two `-`.
pub(crate) fn is_plain_name(name: &str) -> bool {
    (1..=40).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// Refuses keys that nothing reads.
pub(crate) fn check_keys(table: &Table, place: &str, known: &[&str]) -> Result<(), GamesError> {
    match table.keys().find(|key| !known.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(GamesError::UnknownKey {
            key: key.clone(),
            place: place.to_owned(),
            hint: suggest::hint(key, known),
            known: suggest::list(known),
        }),
    }
}

/// An optional string of a table.
pub(crate) fn text(table: &Table, key: &str) -> Result<Option<String>, GamesError> {
    match table.get(key) {
        None => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => {
            let problem = format!("expected a string; found: {}", other.type_str());
            Err(GamesError::Value { key: key.into(), problem })
        }
    }
}

pub(crate) fn missing(key: &str) -> GamesError {
    GamesError::Value { key: key.into(), problem: "is missing".into() }
}

fn payoffs_from(table: &Table) -> Result<[[(f64, f64); 2]; 2], GamesError> {
    let Some(Value::Table(cells)) = table.get("payoffs") else {
        let problem = "expected a table such as `{ CC = [3, 3], CD = [0, 4], DC = [4, 0], DD = [1, 1] }`";
        return Err(GamesError::Value { key: "payoffs".into(), problem: problem.into() });
    };
    check_keys(cells, "`payoffs`", &CELLS)?;
    let cell = |name: &str| {
        let numbers = match cells.get(name) {
            Some(Value::Array(pair)) => pair.iter().map(number).collect::<Option<Vec<_>>>(),
            _ => None,
        };
        match numbers.as_deref() {
            Some([row, column]) => Ok((*row, *column)),
            _ => {
                let problem = "expected two numbers, the own and the opponent's points".to_owned();
                Err(GamesError::Value { key: format!("payoffs.{name}"), problem })
            }
        }
    };
    Ok([[cell("CC")?, cell("CD")?], [cell("DC")?, cell("DD")?]])
}

/// A number, whole or not.
pub(crate) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(n) => Some(*n as f64),
        Value::Float(x) => Some(*x),
        _ => None,
    }
}
