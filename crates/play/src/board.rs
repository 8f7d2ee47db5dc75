//! Which prompt stands for which situation: a game seen by one player, its last round, and a surface. Read from the keys that
//! the builder of prompts leaves in every item.
//!
//! A turned game can read, word for word, like the game itself under swapped labels: the same prompt then stands for both, and what
//! is the answer for cooperating in one is that for defecting in the other.

use crate::answer::{Answer, Answers, Question};
use crate::policies::{FACTORS, level};
use crate::settings::wrong;
use lorascope_analyses::Result;
use lorascope_games::{Game, History};
use lorascope_prompts::Item;
use std::collections::BTreeMap;

/// The prompt of a situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its place among the prompts.
    pub prompt: usize,
    /// Whether its answer A is the one for defecting in this situation.
    pub flipped: bool,
}

impl Place {
    /// What a model is asked.
    pub fn question(self, model: usize) -> Question {
        Question { model, prompt: self.prompt }
    }

    /// A model's answer in the situation.
    ///
    /// # Panics
    /// If the model was not asked.
    pub fn answer(self, model: usize, answers: &Answers) -> Answer {
        let answer = answers.of(self.question(model));
        let p_defect = if self.flipped { 1.0 - answer.p_defect } else { answer.p_defect };
        Answer { p_defect, ..answer }
    }
}

/// Places of prompts by game, state and surface.
#[derive(Debug)]
pub struct Board {
    /// Names of the surfaces, in order of first appearance.
    pub surfaces: Vec<String>,
    /// For each surface, its level of each of [`FACTORS`].
    pub levels: Vec<[String; FACTORS.len()]>,
    /// The prompt of `[game][state][surface]`, one list.
    places: Vec<Place>,
}

/// An item by game, state and surface.
type Key<'a> = (&'a str, usize, usize);

impl Board {
    /// Finds the prompt of every situation of these games among the `items` of a run; `turned` are the situations of turned
    /// games, whose prompts are found by their text.
    ///
    /// # Errors
    /// A prompt was not made by the builder of prompts, or a situation has none.
    pub fn new<'a>(
        games: &[Game],
        turned: &[Item],
        items: impl IntoIterator<Item = &'a Item>,
    ) -> Result<Self> {
        let mut board = Self { surfaces: Vec::new(), levels: Vec::new(), places: Vec::new() };
        let (mut found, mut texts) = (BTreeMap::new(), BTreeMap::new());
        for (prompt, item) in items.into_iter().enumerate() {
            found.insert(board.key(item)?, Place { prompt, flipped: false });
            texts.insert(item.content.turns(), (prompt, &item.answer_a));
        }
        for item in turned {
            if let Some((prompt, answer_a)) = texts.get(&item.content.turns()) {
                found.insert(
                    board.key(item)?,
                    Place { prompt: *prompt, flipped: **answer_a != item.answer_a },
                );
            }
        }
        for game in games {
            for state in History::ALL {
                for (s, surface) in board.surfaces.iter().enumerate() {
                    let place = found.get(&(game.name.as_str(), state.index(), s)).ok_or_else(|| {
                        wrong(format!(
                            "no prompt tells {} of `{}` as `{surface}`; every surface must tell every state: make \
                             `prompts.per_scenario` a multiple of 4, or \"all\"",
                            state.name(),
                            game.name
                        ))
                    })?;
                    board.places.push(*place);
                }
            }
        }
        Ok(board)
    }

    /// What an item is about; a surface that is new is noted.
    fn key<'a>(&mut self, item: &'a Item) -> Result<Key<'a>> {
        let foreign = || wrong(format!("prompt `{}` was not made from a design of game prompts", item.id));
        let key = |key: &str| item.rest.get(key).and_then(serde_json::Value::as_str).ok_or_else(foreign);
        let name = [key("own_last_move")?, key("opponent_last_move")?].concat();
        let state = History::ALL.iter().position(|state| state.name() == name).ok_or_else(foreign)?;
        let surface = item.variant.as_deref().ok_or_else(foreign)?;
        let at = self.surfaces.iter().position(|s| s == surface).unwrap_or_else(|| {
            self.surfaces.push(surface.to_owned());
            self.levels.push(FACTORS.map(|factor| level(item, factor)));
            self.surfaces.len() - 1
        });
        Ok((key("game")?, state, at))
    }

    /// The prompt of a situation.
    pub fn place(&self, game: usize, state: History, surface: usize) -> Place {
        self.places[(game * History::ALL.len() + state.index()) * self.surfaces.len() + surface]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::Settings;

    #[test]
    fn every_situation_finds_its_prompt() {
        let settings = Settings::from_toml("opponents = ['models']").unwrap();
        let (games, set) = (settings.games(), settings.prompt_set().unwrap());
        let turned = settings.turned().unwrap();
        let board = Board::new(&games, &turned, &set.items).unwrap();
        assert_eq!((games.len(), board.surfaces.len(), turned.len()), (7, 8, 32));
        let mut seen = std::collections::BTreeSet::new();
        for (g, game) in games[..6].iter().enumerate() {
            for state in History::ALL {
                for (s, surface) in board.surfaces.iter().enumerate() {
                    let place = board.place(g, state, s);
                    let item = &set.items[place.prompt];
                    assert_eq!(item.rest["game"], game.name.as_str());
                    assert!(item.scenario.as_ref().unwrap().starts_with(state.name()));
                    assert_eq!((item.variant.as_ref(), place.flipped), (Some(surface), false));
                    seen.insert(&item.id);
                }
            }
        }
        assert_eq!(seen.len(), 6 * 4 * 8);
    }

    /// Whatever prompt stands for a situation, it has the situation's text, and its flipped answers are the situation's.
    #[test]
    fn turned_games_share_prompts_under_swapped_labels() {
        let text = "opponents = ['models']\n[prompts]\ngames = 'bach_or_stravinsky'\nper_scenario = 'all'";
        let settings = Settings::from_toml(text).unwrap();
        let (set, turned) = (settings.prompt_set().unwrap(), settings.turned().unwrap());
        let board = Board::new(&settings.games(), &turned, &set.items).unwrap();
        // Under all surfaces, every prompt of the turned game is one of the game itself with the labels swapped.
        assert_eq!((set.items.len(), turned.len()), (4 * 32, 4 * 32));
        for (item, at) in turned.iter().zip(0..) {
            let surface = board.surfaces.iter().position(|s| Some(s) == item.variant.as_ref()).unwrap();
            let state = History::ALL[at / 32];
            let place = board.place(1, state, surface);
            let there = &set.items[place.prompt];
            assert_eq!(there.content, item.content);
            assert!(place.flipped);
            assert_eq!((&there.answer_a, &there.answer_b), (&item.answer_b, &item.answer_a));
        }
    }

    #[test]
    fn surfaces_that_do_not_tell_every_state_are_refused() {
        let settings = Settings::from_toml("[prompts]\nper_scenario = 3").unwrap();
        let set = settings.prompt_set().unwrap();
        let message = Board::new(&settings.games(), &[], &set.items).unwrap_err().to_string();
        assert!(message.contains("a multiple of 4"), "{message}");
        let foreign = Item::new("mine", lorascope_prompts::Content::Text("Hello?".into()));
        let message = Board::new(&settings.games(), &[], [&foreign]).unwrap_err().to_string();
        assert!(message.contains("prompt `mine` was not made from a design"), "{message}");
    }
}
