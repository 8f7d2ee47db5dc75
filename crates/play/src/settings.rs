//! What is to be played, as a file of its own or as resolved settings of a run. The prompts are a [`Design`]: its games are the
//! games played, its other factors the surfaces (wording, symbols, orders) in which matches are told.

use crate::adversary::Adversary;
use crate::answer::Actions;
use lorascope_analyses::{Error, Result};
use lorascope_games::{CATALOGUE, Design, Game, History, Opponent, Reward, Scenario};
use lorascope_prompts::{Item, PromptSet};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;
use std::collections::BTreeSet;
use toml::Table;

/// Most rounds of all matches together.
pub const MAX_ROUNDS: usize = 5_000_000;

/// From which last round a match starts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Start {
    /// Both moves are drawn, each action with probability 1/2; `always_cooperate` and `always_defect` keep theirs.
    #[default]
    #[serde(rename = "random")]
    Random,
    /// Both cooperated.
    CC,
    /// The player cooperated, the opponent defected.
    CD,
    /// The player defected, the opponent cooperated.
    DC,
    /// Both defected.
    DD,
}

impl Start {
    /// The round before the first, where it is fixed.
    pub const fn round(self) -> Option<History> {
        match self {
            Start::Random => None,
            fixed => Some(History::ALL[fixed as usize - 1]),
        }
    }
}

/// For which states of the last round the models' policies are asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Policies {
    /// For all four, in every game and on every surface.
    #[default]
    All,
    /// For those that matches come to.
    Met,
}

/// Settings of `play`. Every key may be left out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Rounds of a match.
    pub rounds: usize,
    /// Matches of each player against each opponent in each game on each surface.
    pub repetitions: usize,
    /// Whom the players meet.
    pub opponents: Vec<Adversary>,
    /// Names of the models that play; empty: all.
    pub players: Vec<String>,
    /// The round before the first.
    pub start: Start,
    /// How an action comes of a model's probabilities.
    pub actions: Actions,
    /// Which policies are asked for.
    pub policies: Policies,
    /// The moral frameworks that rounds are judged by.
    pub rewards: Vec<Reward>,
    /// Games and surfaces.
    #[serde(deserialize_with = "surfaces")]
    pub prompts: Design,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rounds: 10,
            repetitions: 10,
            opponents: Opponent::ALL.iter().copied().map(Adversary::Strategy).collect(),
            players: Vec::new(),
            start: Start::default(),
            actions: Actions::default(),
            policies: Policies::default(),
            rewards: Reward::known(),
            prompts: default_prompts(),
        }
    }
}

/// All games of the catalogue in the four states, on eight balanced surfaces.
fn default_prompts() -> Design {
    Design {
        games: CATALOGUE.iter().map(|entry| entry.game()).collect(),
        scenarios: History::ALL.map(Scenario::after).to_vec(),
        per_scenario: Some(8),
        ..Design::crossed()
    }
}

fn surfaces<'de, D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Design, D::Error> {
    default_prompts().with_table(&Table::deserialize(deserializer)?).map_err(D::Error::custom)
}

/// The error of a setting.
pub(crate) fn wrong(why: impl Into<String>) -> Error {
    Error::Settings { analysis: "play", why: why.into() }
}

impl Settings {
    /// Reads a file of settings.
    ///
    /// # Errors
    /// Not TOML, an unknown key, or an impossible value.
    pub fn from_toml(text: &str) -> Result<Self> {
        let settings: Self = toml::from_str(text).map_err(|e| wrong(e.to_string()))?;
        settings.check()?;
        Ok(settings)
    }

    /// Reads resolved settings; null stands for all defaults.
    pub(crate) fn from_json(given: &Value) -> Result<Self> {
        if given.is_null() {
            return Ok(Self::default());
        }
        let settings: Self = serde_json::from_value(given.clone()).map_err(|e| wrong(e.to_string()))?;
        settings.check()?;
        Ok(settings)
    }

    /// Checks what can be checked without models.
    ///
    /// # Errors
    /// No rounds or too many, nobody to play against, something named twice, or states that are not the four.
    pub fn check(&self) -> Result<()> {
        for (key, number) in [("rounds", self.rounds), ("repetitions", self.repetitions)] {
            if !(1..=MAX_ROUNDS).contains(&number) {
                return Err(wrong(format!("`{key}` is {number}; it must be from 1 to {MAX_ROUNDS}")));
            }
        }
        if self.opponents.is_empty() {
            return Err(wrong("`opponents` is empty; name at least one"));
        }
        twice("opponents", self.opponents.iter().map(ToString::to_string))?;
        twice("players", self.players.iter().cloned())?;
        twice("rewards", self.rewards.iter().map(|reward| reward.name.clone()))?;
        self.rewards.iter().try_for_each(Reward::check).map_err(|e| wrong(e.to_string()))?;
        self.prompts.check().map_err(|e| wrong(e.to_string()))?;
        let mut states: Vec<History> = self.prompts.scenarios.iter().map(|s| s.history()).collect();
        states.sort_by_key(|state| state.index());
        if states != History::ALL || self.prompts.scenarios.iter().any(|s| s.tempts()) {
            return Err(wrong(
                "`prompts.scenarios` is no choice here: play comes to all four states; leave it out",
            ));
        }
        Ok(())
    }

    /// The games as every player sees its own: those of the design, then the turned ones of games that look different
    /// from the other side, where models sit there.
    pub fn games(&self) -> Vec<Game> {
        let mut games = self.prompts.games.clone();
        if self.opponents.iter().any(|o| !matches!(o, Adversary::Strategy(_))) {
            let turned: Vec<Game> = self.prompts.games.iter().map(Game::turned).collect();
            games.extend(turned.into_iter().filter(|game| !self.prompts.games.contains(game)));
        }
        games
    }

    /// All prompts that play can come to. Where a situation of a turned game reads like one that is there already, that prompt
    /// stands for both.
    ///
    /// # Errors
    /// As [`Design::build`].
    pub fn prompt_set(&self) -> Result<PromptSet> {
        let mut set = self.prompts.build().map_err(|e| wrong(e.to_string()))?;
        let turned = self.turned()?;
        let there: BTreeSet<_> = set.items.iter().map(|item| item.content.turns()).collect();
        let new: Vec<Item> =
            turned.into_iter().filter(|item| !there.contains(&item.content.turns())).collect();
        set.items.extend(new);
        set.validate().map_err(|e| wrong(e.to_string()))?;
        Ok(set)
    }

    /// The situations of turned games.
    ///
    /// # Errors
    /// As [`Design::build`].
    pub fn turned(&self) -> Result<Vec<Item>> {
        let games = self.games().split_off(self.prompts.games.len());
        if games.is_empty() {
            return Ok(Vec::new());
        }
        let design = Design { games, ..self.prompts.clone() };
        Ok(design.build().map_err(|e| wrong(e.to_string()))?.items)
    }
}

fn twice(key: &str, names: impl Iterator<Item = String>) -> Result<()> {
    let mut seen = BTreeSet::new();
    for name in names {
        if seen.contains(&name) {
            return Err(wrong(format!("`{key}` names `{name}` twice")));
        }
        seen.insert(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resolved_settings_resolve_to_themselves() {
        let text = "
            rounds = 3
            start = 'CD'
            actions = 'as_generated'
            opponents = ['grim', 'models']
            rewards = ['hybrid', { name = 'fair', own = 1, inequality = -0.5 }]
            [prompts]
            games = ['bach_or_stravinsky', { name = 'tax', payoffs = { CC = [2.5, 2], CD = [-1, 5], DC = [5, -1], DD = [0, 0] } }]
            wording = ['structured', 'unstructured']
        ";
        let settings = Settings::from_toml(text).unwrap();
        assert_eq!((settings.rounds, settings.repetitions, settings.prompts.per_scenario), (3, 10, Some(8)));
        assert_eq!(settings.start.round(), Some(History::ALL[1]));
        let names: Vec<String> = settings.games().iter().map(|g| g.name.clone()).collect();
        assert_eq!(names, ["bach_or_stravinsky", "tax", "bach_or_stravinsky_column", "tax_column"]);
        for settings in [settings, Settings::default()] {
            let json = serde_json::to_value(&settings).unwrap();
            assert_eq!(Settings::from_json(&json).unwrap(), settings);
            settings.prompt_set().unwrap();
        }
        assert_eq!(
            Settings::from_json(&Value::Null).unwrap().games().len(),
            6,
            "strategies need no turned games"
        );
    }

    #[test]
    fn a_turned_game_that_reads_the_same_has_no_prompt_of_its_own() {
        let text = "opponents = ['models']\n[prompts]\ngames = 'bach_or_stravinsky'\nlabels = 'straight'\nwording = 'explicit'\n\
                    per_scenario = 'all'";
        let of = |text: &str| Settings::from_toml(text).unwrap().prompt_set().unwrap().items;
        let items = of(text);
        // Only meeting at a concert gives points, which the explicit wording tells.
        assert_eq!(items.len(), 4 * 4 + 4 * 2);
        assert!(items[16..].iter().all(|i| i.rest["own_last_payoff"] != 0.0));
        assert_eq!(of(&text.replace("explicit", "structured")).len(), 16 * 4 * 2);
        assert_eq!(of(&text.replace("models", "grim")).len(), 4 * 4);
    }

    #[test]
    fn broken_settings() {
        let broken = [
            ("rounds = 0", "`rounds` is 0; it must be from 1"),
            ("repetition = 3", "unknown field `repetition`"),
            ("opponents = []", "`opponents` is empty"),
            ("opponents = ['grim', 'grim']", "`opponents` names `grim` twice"),
            ("opponents = ['grimm']", "did you mean `grim`?"),
            ("start = 'XX'", "unknown variant `XX`"),
            ("rewards = ['kind']", "unknown reward `kind`"),
            ("rewards = [{ name = 'a', own = 1, twin = 2 }]", "unknown key `twin` in a reward"),
            ("[prompts]\ngames = 'poker'", "unknown game `poker`"),
            ("[prompts]\nscenarios = 'CC_temptation'", "`prompts.scenarios` is no choice here"),
        ];
        for (text, expected) in broken {
            let message = Settings::from_toml(text).expect_err(text).to_string();
            assert!(message.contains(expected), "{text}: {message}");
            assert!(message.starts_with("settings of `play`: "), "{message}");
        }
    }
}
