//! The policies themselves: the probability to cooperate in each state, and how far it depends on what should not matter, the
//! words, the symbols and which symbol means what. Read from the answers, without playing.

use crate::answer::{Answer, Answers};
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
fn levels(t: &Tournament, factor: usize) -> Vec<&str> {
    let mut levels: Vec<&str> = Vec::new();
    for of_surface in &t.board.levels {
        if !levels.contains(&of_surface[factor].as_str()) {
            levels.push(&of_surface[factor]);
        }
    }
    levels
}

/// Surfaces that share a level of a factor.
struct Group {
    factor: &'static str,
    level: String,
    surfaces: Vec<usize>,
}

/// All surfaces together, and those of each level of each factor that has several.
fn groups(t: &Tournament) -> Vec<Group> {
    let all = (0..t.board.surfaces.len()).collect();
    let mut groups = vec![Group { factor: ALL, level: ALL.to_owned(), surfaces: all }];
    for (f, factor) in FACTORS.into_iter().enumerate() {
        let levels = levels(t, f);
        if levels.len() < 2 {
            continue;
        }
        groups.extend(levels.into_iter().map(|level| Group {
            factor,
            level: level.to_owned(),
            surfaces: (0..t.board.surfaces.len()).filter(|&s| t.board.levels[s][f] == level).collect(),
        }));
    }
    groups
}

/// All mean policies: of all surfaces together, and by each level of each factor that has several. States that nobody was asked
/// about are left out.
pub fn policies(t: &Tournament, answers: &Answers, seed: u64) -> Vec<Policy> {
    let groups = groups(t);
    let mut found = Vec::new();
    for model in t.asked() {
        for game in 0..t.games.len() {
            for state in History::ALL {
                let of_group = |group| policy(t, answers, (model, game, state), group, seed);
                found.extend(groups.iter().filter_map(of_group));
            }
        }
    }
    found
}

/// One mean policy; `None` where nobody was asked.
fn policy(
    t: &Tournament,
    answers: &Answers,
    (model, game, state): (usize, usize, History),
    group: &Group,
    seed: u64,
) -> Option<Policy> {
    let asked = |&surface: &usize| {
        let place = t.board.place(game, state, surface);
        let known = answers.known().contains_key(&place.question(model));
        known.then(|| (t.board.surfaces[surface].as_str(), place.answer(model, answers)))
    };
    let (surfaces, answers): (Vec<&str>, Vec<Answer>) = group.surfaces.iter().filter_map(asked).unzip();
    let p: Vec<f64> = answers.iter().map(|answer| 1.0 - answer.p_defect).collect();
    let illegal: f64 = answers.iter().map(|answer| 1.0 - answer.legal).sum();
    (!p.is_empty()).then(|| Policy {
        model,
        game,
        state,
        factor: group.factor,
        level: group.level.clone(),
        prompts: p.len(),
        p_cooperate: mean_interval(&p, &surfaces, seed),
        illegal_mass: (illegal / p.len() as f64).max(0.0),
    })
}
