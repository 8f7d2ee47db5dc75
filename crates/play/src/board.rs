//! Which prompt stands for which situation: a game seen by one player, its last round, and a surface. Read from the keys that
//! the builder of prompts leaves in every item.

use crate::settings::wrong;
use lorascope_analyses::Result;
use lorascope_games::{Game, History};
use lorascope_prompts::Item;
use std::collections::BTreeMap;

/// Places of prompts by game, state and surface.
#[derive(Debug)]
pub struct Board {
    /// Names of the surfaces, in order of first appearance.
    pub surfaces: Vec<String>,
    /// The prompt of `[game][state][surface]`, one list.
    prompts: Vec<usize>,
}

impl Board {
    /// Finds the prompt of every situation. `turned_of` has an entry for each game: of which other game it is the turned one. A
    /// situation that reads the same from both sides has one prompt for both.
    ///
    /// # Errors
    /// A prompt was not made by the builder of prompts, or a situation has none.
    pub fn new<'a>(
        games: &[Game],
        turned_of: &[Option<usize>],
        items: impl IntoIterator<Item = &'a Item>,
    ) -> Result<Self> {
        let mut surfaces: Vec<String> = Vec::new();
        let mut found = BTreeMap::new();
        for (at, item) in items.into_iter().enumerate() {
            let foreign =
                || wrong(format!("prompt `{}` was not made from a design of game prompts", item.id));
            let key = |key: &str| item.rest.get(key).and_then(serde_json::Value::as_str).ok_or_else(foreign);
            let name = [key("own_last_move")?, key("opponent_last_move")?].concat();
            let state = History::ALL.iter().position(|state| state.name() == name).ok_or_else(foreign)?;
            let surface = item.variant.as_deref().ok_or_else(foreign)?;
            let surface = surfaces.iter().position(|s| s == surface).unwrap_or_else(|| {
                surfaces.push(surface.to_owned());
                surfaces.len() - 1
            });
            found.insert((key("game")?, state, surface), at);
        }
        let mut prompts = Vec::with_capacity(games.len() * surfaces.len() * History::ALL.len());
        for (g, game) in games.iter().enumerate() {
            for state in History::ALL {
                for (s, surface) in surfaces.iter().enumerate() {
                    let find = |g: usize| found.get(&(games[g].name.as_str(), state.index(), s));
                    let prompt = find(g).or_else(|| turned_of[g].and_then(find)).ok_or_else(|| {
                        wrong(format!(
                            "no prompt tells {} of `{}` as `{surface}`; every surface must tell every state: make \
                             `prompts.per_scenario` a multiple of 4, or \"all\"",
                            state.name(),
                            game.name
                        ))
                    })?;
                    prompts.push(*prompt);
                }
            }
        }
        Ok(Self { surfaces, prompts })
    }

    /// The prompt of a situation.
    pub fn prompt(&self, game: usize, state: History, surface: usize) -> usize {
        self.prompts[(game * History::ALL.len() + state.index()) * self.surfaces.len() + surface]
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
        let turned_of: Vec<Option<usize>> = (0..7).map(|g| (g == 6).then_some(4)).collect();
        let board = Board::new(&games, &turned_of, &set.items).unwrap();
        assert_eq!((games.len(), board.surfaces.len()), (7, 8));
        let mut seen = std::collections::BTreeSet::new();
        for (g, game) in games.iter().enumerate() {
            for state in History::ALL {
                for (s, surface) in board.surfaces.iter().enumerate() {
                    let item = &set.items[board.prompt(g, state, s)];
                    assert_eq!(item.rest["game"], game.name.as_str());
                    assert!(item.scenario.as_ref().unwrap().starts_with(state.name()));
                    assert_eq!(item.variant.as_ref(), Some(surface));
                    seen.insert(&item.id);
                }
            }
        }
        assert_eq!(seen.len(), set.items.len());
    }

    #[test]
    fn surfaces_that_do_not_tell_every_state_are_refused() {
        let settings = Settings::from_toml("[prompts]\nper_scenario = 3").unwrap();
        let set = settings.prompt_set().unwrap();
        let message = Board::new(&settings.games(), &[None; 6], &set.items).unwrap_err().to_string();
        assert!(message.contains("a multiple of 4"), "{message}");
        let foreign = Item::new("mine", lorascope_prompts::Content::Text("Hello?".into()));
        let message = Board::new(&settings.games(), &[None; 6], [&foreign]).unwrap_err().to_string();
        assert!(message.contains("prompt `mine` was not made from a design"), "{message}");
    }
}
