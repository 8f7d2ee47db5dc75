//! What is played does not depend on what is played beside it, on how questions are batched, or on threads.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod support;

use lorascope_analyses::Result;
use lorascope_games::History;
use lorascope_play::{Answer, Answers, Played, Players, Question, play};
use support::{Ruled, legal, moves, played, tournament};

fn torn(model: usize, state: History) -> Answer {
    legal([0.9, 0.35, 0.6, 0.15][state.index()] * (1.0 - 0.2 * model as f64))
}

const PROMPTS: &str = "[prompts]\ngames = ['ipd', 'stag_hunt']\nper_scenario = 8";

#[test]
fn each_distinct_prompt_is_asked_once_and_a_round_asks_together() {
    let (t, set) = tournament(&format!("rounds = 12\nrepetitions = 20\n{PROMPTS}"), &["one", "two"]);
    let (all, calls) = played(&t, &set, torn, 5);
    assert_eq!(all.len(), 2 * 2 * 7 * 8 * 20);
    assert!(calls.len() <= 12, "at most one list a round: {calls:?}");
    assert_eq!(calls.iter().sum::<usize>(), 2 * set.items.len(), "all states are met, each asked once");
}

#[test]
fn a_match_is_the_same_in_any_company() {
    let large = format!(
        "rounds = 6\nrepetitions = 3\nopponents = ['random', 'models', 'generous_tit_for_tat']\n{PROMPTS}"
    );
    let small = format!(
        "rounds = 6\nrepetitions = 2\nplayers = ['two']\nopponents = ['generous_tit_for_tat', 'model:one']\n{PROMPTS}"
    );
    let key = |t: &lorascope_play::Tournament, one: &Played| {
        let w = one.which;
        (w.model, t.opponents[w.opponent].name(&t.models), w.game, w.surface, w.repetition)
    };
    let (t, set) = tournament(&large, &["one", "two"]);
    let (all, _) = played(&t, &set, torn, 9);
    let all: std::collections::BTreeMap<_, _> = all.iter().map(|one| (key(&t, one), moves(one))).collect();
    let (t, set) = tournament(&small, &["one", "two"]);
    let (few, _) = played(&t, &set, torn, 9);
    assert_eq!(few.len(), 2 * 2 * 8 * 2);
    for one in &few {
        assert_eq!(all[&key(&t, one)], moves(one));
    }
    let (others, _) = played(&t, &set, torn, 10);
    assert_ne!(few, others, "another seed is another play");
}

/// Asks one question at a time, the last first.
struct OneByOne<'a>(Ruled<'a>);

impl Players for OneByOne<'_> {
    fn answers(&mut self, asked: &[Question]) -> Result<Vec<Answer>> {
        let mut answers: Vec<Answer> =
            asked.iter().rev().map(|q| self.0.answers(std::slice::from_ref(q)).unwrap()[0]).collect();
        answers.reverse();
        Ok(answers)
    }
}

#[test]
fn batching_and_knowing_beforehand_change_nothing() {
    let (t, set) = tournament(&format!("rounds = 5\nrepetitions = 4\n{PROMPTS}"), &["one", "two"]);
    let (together, _) = played(&t, &set, torn, 1);
    let mut single = OneByOne(Ruled { set: &set, rule: torn, calls: Vec::new() });
    assert_eq!(play(&t, &mut Answers::new(&mut single), 1).unwrap(), together);
    let mut ruled = Ruled { set: &set, rule: torn, calls: Vec::new() };
    let mut answers = Answers::new(&mut ruled);
    let all = |model| (0..set.items.len()).map(move |prompt| Question { model, prompt });
    answers.learn((0..2).flat_map(all)).unwrap();
    assert_eq!(play(&t, &mut answers, 1).unwrap(), together);
    assert_eq!(ruled.calls, [2 * set.items.len()]);
}

#[test]
fn greedy_play_follows_the_more_probable_action() {
    let (t, set) = tournament(
        &format!(
            "rounds = 3\nrepetitions = 2\nstart = 'CC'\nactions = 'greedy'\nopponents = ['always_defect']\n{PROMPTS}"
        ),
        &["one"],
    );
    let (all, _) = played(&t, &set, torn, 1);
    // 0.9 after CC, 0.35 after CD, 0.15 after DD.
    assert!(all.iter().all(|one| moves(one) == ("CDD".into(), "DDD".into())));
}
