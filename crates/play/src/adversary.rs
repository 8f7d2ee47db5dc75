//! Whom a model plays against: a strategy, or a model, which may be itself.

use lorascope_games::{GamesError, Opponent};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// An opponent as settings name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Adversary {
    /// `tit_for_tat`, …
    Strategy(Opponent),
    /// `model:NAME`.
    Model(String),
    /// `models`: each of all players in turn.
    Models,
}

const MODEL: &str = "model:";
const MODELS: &str = "models";

impl FromStr for Adversary {
    type Err = GamesError;

    fn from_str(name: &str) -> Result<Self, GamesError> {
        match name.strip_prefix(MODEL) {
            Some(model) => Ok(Adversary::Model(model.to_owned())),
            None if name == MODELS => Ok(Adversary::Models),
            None => name.parse().map(Adversary::Strategy),
        }
    }
}

impl TryFrom<String> for Adversary {
    type Error = String;
    fn try_from(name: String) -> Result<Self, String> {
        let beside = "; `model:NAME` is one of the models, `models` is each of them";
        name.parse().map_err(|e: GamesError| format!("{e}{beside}"))
    }
}

impl From<Adversary> for String {
    fn from(adversary: Adversary) -> String {
        adversary.to_string()
    }
}

impl fmt::Display for Adversary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Adversary::Strategy(strategy) => write!(f, "{strategy}"),
            Adversary::Model(name) => write!(f, "{MODEL}{name}"),
            Adversary::Models => f.write_str(MODELS),
        }
    }
}

/// An opponent whose model has been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Other {
    /// A strategy.
    Strategy(Opponent),
    /// The model of this index.
    Model(usize),
}

impl Other {
    /// The name in tables, which is also that in settings.
    pub fn name(self, models: &[String]) -> String {
        match self {
            Other::Strategy(strategy) => strategy.to_string(),
            Other::Model(model) => format!("{MODEL}{}", models[model]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for name in ["tit_for_tat", "model:base", "model:random", "models"] {
            assert_eq!(name.parse::<Adversary>().unwrap().to_string(), name);
        }
        assert_eq!("random".parse::<Adversary>().unwrap(), Adversary::Strategy(Opponent::Random));
        let message = Adversary::try_from("tit_for_tac".to_owned()).unwrap_err();
        assert!(
            message.contains("did you mean `tit_for_tat`?") && message.contains("`model:NAME`"),
            "{message}"
        );
    }
}
