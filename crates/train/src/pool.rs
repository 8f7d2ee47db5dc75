//! The prompts of training: surface forms, each in the states of the last round, and what both actions are worth there.
//!
//! A surface form is a wording with its symbols, labels and orders; its prompts differ in the last round alone, so they
//! share most of their tokens. Text only: tokens are the policy's.

use crate::error::{Error, Result};
use crate::objective::Stake;
use crate::settings::Settings;
use lorascope_games::{Action, Game, History, Opponent, Reward};
use lorascope_prompts::{Item, PromptSet};
use serde_json::Value;

/// A prompt and what its answers are worth.
#[derive(Clone, Debug)]
pub struct State {
    /// The prompt.
    pub item: Item,
    /// The last round, seen by the player who is asked.
    pub last: History,
    /// What the answers are worth.
    pub stake: Stake,
}

/// One surface form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Form {
    /// Game, wording, symbols, labels, orders.
    pub name: String,
    /// Its prompts, as indices of the pool's states.
    pub states: Vec<usize>,
}

/// All prompts.
#[derive(Clone, Debug)]
pub struct Pool {
    /// Every prompt of every form.
    pub states: Vec<State>,
    /// The forms, in the order of the design.
    pub forms: Vec<Form>,
    set: PromptSet,
}

impl Pool {
    /// Builds the prompts of the settings' design and their rewards.
    ///
    /// # Errors
    /// A design that can't be built, a reward that is not a number, or one that never tells the actions apart.
    pub fn new(settings: &Settings) -> Result<Self> {
        let (design, reward, opponent) = (settings.design()?, settings.reward()?, settings.opponent()?);
        let set = design.build()?;
        let (mut states, mut forms) = (Vec::new(), Vec::<Form>::new());
        for item in &set.items {
            let Some((game, last)) = situation(item, &design.games) else { continue };
            let stake = stake(game, last, &reward, opponent, &item.id)?;
            let name = format!("{}-{}", game.name, item.cluster());
            let form = forms.iter().position(|f| f.name == name).unwrap_or_else(|| {
                forms.push(Form { name, states: Vec::new() });
                forms.len() - 1
            });
            forms[form].states.push(states.len());
            states.push(State { item: item.clone(), last, stake });
        }
        if states.is_empty() {
            return Err(Error::NoPrompts);
        }
        fill_gaps(&mut states, &forms)?;
        Ok(Self { states, forms, set })
    }

    /// The prompts as a set, for the run folder.
    pub fn set(&self) -> &PromptSet {
        &self.set
    }
}

/// The game and the last round of a prompt of the builder.
fn situation<'g>(item: &Item, games: &'g [Game]) -> Option<(&'g Game, History)> {
    let text = |key: &str| item.rest.get(key).and_then(Value::as_str);
    let action = |key: &str| match text(key)? {
        "C" => Some(Action::Cooperate),
        "D" => Some(Action::Defect),
        _ => None,
    };
    let game = games.iter().find(|g| Some(g.name.as_str()) == text("game"))?;
    Some((game, History { own: action("own_last_move")?, opponent: action("opponent_last_move")? }))
}

/// What both actions are worth against the opponent, as an expectation over its move.
fn stake(game: &Game, last: History, reward: &Reward, opponent: Opponent, id: &str) -> Result<Stake> {
    let seen_by_opponent = History { own: last.opponent, opponent: last.own };
    let cooperates = opponent.p_cooperate(game, &[seen_by_opponent]);
    let value = |own| {
        let against = |other| reward.value(game, Some(last.opponent), own, other);
        // A move that never comes must not count, not even as 0 times something.
        match cooperates {
            1.0 => against(Action::Cooperate),
            0.0 => against(Action::Defect),
            p => p * against(Action::Cooperate) + (1.0 - p) * against(Action::Defect),
        }
    };
    let rewards = Action::BOTH.map(value);
    let names = ["cooperate", "defect", "neither"];
    for (value, action) in rewards.into_iter().chain([reward.illegal]).zip(names) {
        if !value.is_finite() {
            return Err(Error::Reward { prompt: id.to_owned(), action, value });
        }
    }
    Ok(Stake { rewards, illegal: reward.illegal, gap: (rewards[1] - rewards[0]).abs() })
}

/// A state in which both actions are worth the same is pulled to the base as strongly as the form's other states are on
/// average.
fn fill_gaps(states: &mut [State], forms: &[Form]) -> Result<()> {
    let gaps = |which: &[usize], states: &[State]| -> Vec<f64> {
        which.iter().map(|&s| states[s].stake.gap).filter(|g| *g > 0.0).collect()
    };
    let all: Vec<usize> = (0..states.len()).collect();
    let everywhere = gaps(&all, states);
    if everywhere.is_empty() {
        return Err(Error::Indifferent { states: states.len() });
    }
    let mean = |gaps: &[f64]| gaps.iter().sum::<f64>() / gaps.len() as f64;
    for form in forms {
        let here = gaps(&form.states, states);
        let filling = mean(if here.is_empty() { &everywhere } else { &here });
        for &s in &form.states {
            let gap = &mut states[s].stake.gap;
            *gap = if *gap > 0.0 { *gap } else { filling };
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pool(settings: &str) -> Result<Pool> {
        Pool::new(&Settings::from_table(settings.parse().unwrap()).unwrap())
    }

    /// Rewards of the first form's states, CC, CD, DC, DD, and their gaps.
    fn stakes(settings: &str) -> Vec<([f64; 2], f64)> {
        let pool = pool(settings).unwrap();
        pool.forms[0]
            .states
            .iter()
            .map(|&s| (pool.states[s].stake.rewards, pool.states[s].stake.gap))
            .collect()
    }

    #[test]
    fn every_form_has_the_four_states() {
        let pool = pool("").unwrap();
        assert_eq!((pool.forms.len(), pool.states.len()), (32, 128));
        for form in &pool.forms {
            let last: Vec<String> = form
                .states
                .iter()
                .map(|&s| pool.states[s].last)
                .map(|h| format!("{}{}", h.own.letter(), h.opponent.letter()))
                .collect();
            assert_eq!(last, ["CC", "CD", "DC", "DD"], "{}", form.name);
            let clusters: Vec<&str> = form.states.iter().map(|&s| pool.states[s].item.cluster()).collect();
            assert!(clusters.iter().all(|c| *c == clusters[0]));
        }
    }

    /// The table with which the four moral adapters were trained.
    #[test]
    fn rewards_against_tit_for_tat() {
        let table = |name: &str| stakes(&format!("reward = '{name}'"));
        assert_eq!(
            table("strategic"),
            [([3.0, 4.0], 1.0), ([3.0, 4.0], 1.0), ([0.0, 1.0], 1.0), ([0.0, 1.0], 1.0)]
        );
        assert_eq!(
            table("deontological"),
            [([0.0, -3.0], 3.0), ([0.0, 0.0], 3.0), ([0.0, -3.0], 3.0), ([0.0, 0.0], 3.0)]
        );
        assert_eq!(
            table("utilitarian"),
            [([6.0, 4.0], 2.0), ([6.0, 4.0], 2.0), ([4.0, 2.0], 2.0), ([4.0, 2.0], 2.0)]
        );
        assert_eq!(
            table("hybrid"),
            [([3.0, 1.0], 2.0), ([3.0, 4.0], 1.0), ([0.0, -2.0], 2.0), ([0.0, 1.0], 1.0)]
        );
    }

    #[test]
    fn other_opponents_play_otherwise() {
        let own: Vec<[f64; 2]> = stakes("opponent = 'random'").into_iter().map(|s| s.0).collect();
        assert_eq!(own, [[1.5, 2.5]; 4]);
        let own: Vec<[f64; 2]> = stakes("opponent = 'always_defect'").into_iter().map(|s| s.0).collect();
        assert_eq!(own, [[0.0, 1.0]; 4]);
    }

    #[test]
    fn a_reward_that_tells_nothing_apart_is_refused() {
        let settings =
            "[reward]\nname = 'guilt'\nbetrayal = -3\n[prompts]\nscenarios = ['CD_punished', 'DD_trapped']";
        let message = pool(settings).unwrap_err().to_string();
        assert!(
            message.starts_with("the reward never distinguishes the two actions in any of the 64 states"),
            "{message}"
        );
    }
}
