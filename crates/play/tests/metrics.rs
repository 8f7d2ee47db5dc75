//! Metrics of a few rounds, counted by hand.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod support;

use lorascope_games::{Action, History};
use lorascope_play::{Clusters, Match, Played, Round, measure, value_of};
use support::tournament;

/// A match of moves written as letters, the start first.
fn a_match(surface: usize, own: &str, opponent: &str) -> Played {
    let action = |c: char| match c {
        'C' => Some(Action::Cooperate),
        'D' => Some(Action::Defect),
        _ => None,
    };
    let moves: Vec<_> = own.chars().map(action).zip(opponent.chars().map(action)).collect();
    let mut before = History { own: moves[0].0.unwrap(), opponent: moves[0].1.unwrap() };
    let start = before;
    let round = |&(own, opponent): &(Option<Action>, Option<Action>)| {
        let round = Round { before, own, opponent, illegal_mass: 0.25 };
        before = History { own: own.unwrap_or(before.own), opponent: opponent.unwrap_or(before.opponent) };
        round
    };
    let rounds = moves[1..].iter().map(round).collect();
    Played { which: Match { model: 0, opponent: 0, game: 0, surface, repetition: 0 }, start, rounds }
}

#[test]
fn rounds_are_counted_as_by_hand() {
    let (t, _) = tournament("[prompts]\ngames = 'ipd'\nper_scenario = 4", &["m"]);
    let clusters = Clusters::new(&t, 0);
    assert_eq!((clusters.count(), clusters.what()), (4, "surfaces"));
    // Rounds with what was before: CC→CD, CD→DC, DC→xC, and on another surface DD→DD, DD→CC.
    let matches = [a_match(0, "CCDx", "CDCC"), a_match(2, "DDC", "DDC")];
    let matches: Vec<&Played> = matches.iter().collect();
    let measured = measure(&t, &clusters, &matches);
    let value = |name, given| value_of(&measured, name, given).map(|v| v.mean);
    assert_eq!(value("cooperation", ""), Some(2.0 / 4.0), "the illegal answer does not count");
    assert_eq!(value("cooperation", "CC"), Some(1.0));
    assert_eq!(value("cooperation", "CD"), Some(0.0));
    assert_eq!(value("cooperation", "DC"), None, "only an illegal answer was given there");
    assert_eq!(value("cooperation", "DD"), Some(0.5));
    assert_eq!(value("cooperation", "*C"), Some(1.0));
    assert_eq!(value("cooperation", "*D"), Some(1.0 / 3.0));
    assert_eq!(value("reciprocity", ""), Some(1.0 - 1.0 / 3.0));
    assert_eq!(value("opponent_cooperation", ""), Some(3.0 / 5.0));
    let actions = ["C|C", "C|D", "D|C", "D|D", "illegal"].map(|a| value("action", a).unwrap());
    assert_eq!(actions, [0.2, 0.2, 0.0, 0.4, 0.2]);
    // CD 0,4; DC 4,0; DD 1,1; CC 3,3.
    assert_eq!(value("own_payoff", ""), Some(8.0 / 4.0));
    assert_eq!(value("opponent_payoff", ""), Some(8.0 / 4.0));
    assert_eq!(value("joint_payoff", ""), Some(4.0));
    // Sums 4, 4, 2, 6 between 2 and 6.
    assert_eq!(value("joint_efficiency", ""), Some((0.5 + 0.5 + 0.0 + 1.0) / 4.0));
    assert_eq!(value("illegal_mass", ""), Some(0.25));
    let counted = measured.iter().find(|m| m.given == "*D").unwrap();
    assert_eq!(counted.rounds, 3);
}

#[test]
fn one_surface_resamples_repetitions() {
    let (t, _) = tournament(
        "repetitions = 7\n[prompts]\ngames = 'ipd'\nper_scenario = 'all'\nlabels = 'straight'\n\
        first_mention = 'cd'\nsecond_mention = 'cd'\nrow_order = 'cd'\ncolumn_order = 'cd'",
        &["m"],
    );
    let clusters = Clusters::new(&t, 0);
    assert_eq!((clusters.count(), clusters.what()), (7, "repetitions"));
}
