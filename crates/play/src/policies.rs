//! The policies themselves: the probability to cooperate in each state, and how far it depends on what should not matter, the
//! words, the symbols and which symbol means what. Read from the answers, without playing.

use crate::answer::{Answers, Question};
use crate::tournament::Tournament;
use lorascope_analyses::{Interval, mean_interval};
use lorascope_games::History;
use lorascope_prompts::Item;
use serde_json::Value;

/// Factors of a surface over which a policy should be the same.
pub const FACTORS: [&str; 4] = ["wording", "moral", "symbols", "labels"];
/// Name of "all surfaces together".
pub const ALL: &str = "all";

/// A model's mean policy over the prompts of one state of one game that share a level of a factor.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The model.
    pub model: usize,
    /// Place of the game.
    pub game: usize,
    /// The state.
    pub state: History,
    /// `all`, or one of [`FACTORS`].
    pub factor: &'static str,
    /// The factor's level; `all` for all.
    pub level: String,
    /// Prompts.
    pub prompts: usize,
    /// Probability to cooperate among the two actions.
    pub p_cooperate: Interval,
    /// Probability that an answer is neither action.
    pub illegal_mass: f64,
}

/// A level of a factor as it stands in tables: `action1/action2`, `structured`.
pub fn level(item: &Item, factor: &str) -> String {
    match item.rest.get(factor) {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(pair)) => pair.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("/"),
        _ => String::new(),
    }
}

/// The levels of a factor, in order of first appearance.
pub fn levels(items: &[&Item], factor: &str) -> Vec<String> {
    let mut levels = Vec::new();
    for item in items {
        let level = level(item, factor);
        if !levels.contains(&level) {
            levels.push(level);
        }
    }
    levels
}

/// All mean policies: of all surfaces together, and by each level of each factor that has several. States that nobody was asked
/// about are left out.
pub fn policies(t: &Tournament, items: &[&Item], answers: &Answers, seed: u64) -> Vec<Policy> {
    let mut groups: Vec<(&'static str, String)> = vec![(ALL, ALL.to_owned())];
    for factor in FACTORS {
        let levels = levels(items, factor);
        if levels.len() > 1 {
            groups.extend(levels.into_iter().map(|level| (factor, level)));
        }
    }
    let mut found = Vec::new();
    for model in t.asked() {
        for game in 0..t.games.len() {
            for state in History::ALL {
                let prompts = (0..t.board.surfaces.len()).map(|surface| t.board.prompt(game, state, surface));
                let prompts: Vec<usize> = prompts
                    .filter(|&prompt| answers.known().contains_key(&Question { model, prompt }))
                    .collect();
                for (factor, name) in &groups {
                    let of_level = |prompt: &usize| *factor == ALL || level(items[*prompt], factor) == *name;
                    let prompts: Vec<usize> = prompts.iter().copied().filter(of_level).collect();
                    if prompts.is_empty() {
                        continue;
                    }
                    let answer = |&prompt: &usize| answers.of(Question { model, prompt });
                    let p: Vec<f64> = prompts.iter().map(|q| 1.0 - answer(q).p_defect).collect();
                    let clusters: Vec<&str> = prompts.iter().map(|&q| items[q].cluster()).collect();
                    let illegal: f64 = prompts.iter().map(|q| 1.0 - answer(q).legal).sum();
                    found.push(Policy {
                        model,
                        game,
                        state,
                        factor,
                        level: name.clone(),
                        prompts: prompts.len(),
                        p_cooperate: mean_interval(&p, &clusters, seed),
                        illegal_mass: (illegal / prompts.len() as f64).max(0.0),
                    });
                }
            }
        }
    }
    found
}
