//! Players without a model: rules from the last round to an answer.

#![allow(dead_code, reason = "each test program uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use lorascope_analyses::Result;
use lorascope_games::{Action, History};
use lorascope_play::{Answer, Answers, Played, Players, Question, Settings, Tournament, play};
use lorascope_prompts::PromptSet;

/// Answers by model and last round.
pub type Rule = fn(usize, History) -> Answer;

/// Follows a rule, and counts how it is asked.
pub struct Ruled<'a> {
    pub set: &'a PromptSet,
    pub rule: Rule,
    /// Sizes of the lists of questions.
    pub calls: Vec<usize>,
}

impl Players for Ruled<'_> {
    fn answers(&mut self, asked: &[Question]) -> Result<Vec<Answer>> {
        self.calls.push(asked.len());
        let state = |prompt: usize| {
            let rest = &self.set.items[prompt].rest;
            let name =
                ["own_last_move", "opponent_last_move"].map(|key| rest[key].as_str().unwrap()).concat();
            History::ALL.into_iter().find(|state| state.name() == name).unwrap()
        };
        Ok(asked.iter().map(|question| (self.rule)(question.model, state(question.prompt))).collect())
    }
}

/// An answer that is always legal.
pub fn legal(p_cooperate: f64) -> Answer {
    Answer { p_defect: 1.0 - p_cooperate, legal: 1.0 }
}

/// Cooperates for certain.
pub fn kind(_: usize, _: History) -> Answer {
    legal(1.0)
}

/// Does what the other did last.
pub fn copies(_: usize, state: History) -> Answer {
    legal(f64::from(u8::from(state.opponent == Action::Cooperate)))
}

/// A tournament with models of these names.
pub fn tournament(text: &str, models: &[&str]) -> (Tournament, PromptSet) {
    let settings = Settings::from_toml(text).unwrap();
    let set = settings.prompt_set().unwrap();
    (Tournament::new(settings, models, &set.items).unwrap(), set)
}

/// Plays by a rule; also how often it was asked for how much.
pub fn played(t: &Tournament, set: &PromptSet, rule: Rule, seed: u64) -> (Vec<Played>, Vec<usize>) {
    let mut ruled = Ruled { set, rule, calls: Vec::new() };
    let played = play(t, &mut Answers::new(&mut ruled), seed).unwrap();
    (played, ruled.calls)
}

/// The moves of a match as letters: own, opponent's.
pub fn moves(one: &Played) -> (String, String) {
    let letter = |action: Option<Action>| action.map_or('x', Action::letter);
    (
        one.rounds.iter().map(|r| letter(r.own)).collect(),
        one.rounds.iter().map(|r| letter(r.opponent)).collect(),
    )
}
