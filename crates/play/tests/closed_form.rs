//! The engine against matches that can be worked out: by hand, and by going through all histories.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod support;

use lorascope_games::{Action, Game, History, Opponent};
use lorascope_play::{Answer, Clusters, measure, value_of};
use support::{copies, kind, legal, moves, played, tournament};

/// A policy that is certain of nothing, different in every state.
fn torn(_: usize, state: History) -> Answer {
    legal([0.9, 0.35, 0.6, 0.15][state.index()])
}

/// Expected number of rounds that cooperate, and expected own points of all rounds, by going through every history.
fn expected(game: &Game, opponent: Opponent, start: History, rounds: usize) -> (f64, f64) {
    fn from(game: &Game, opponent: Opponent, seen: &mut Vec<History>, left: usize) -> (f64, f64) {
        if left == 0 {
            return (0.0, 0.0);
        }
        let before = seen.last().unwrap().turned();
        let p_own = 1.0 - torn(0, before).p_defect;
        let p_other = opponent.p_cooperate(game, seen);
        let mut sums = (0.0, 0.0);
        for round in History::ALL {
            let chance = |p: f64, action| if action == Action::Cooperate { p } else { 1.0 - p };
            let weight = chance(p_own, round.own) * chance(p_other, round.opponent);
            if weight == 0.0 {
                continue;
            }
            seen.push(round.turned());
            let (cooperations, points) = from(game, opponent, seen, left - 1);
            seen.pop();
            let now = f64::from(u8::from(round.own == Action::Cooperate));
            sums.0 += weight * (now + cooperations);
            sums.1 += weight * (game.payoff(round.own, round.opponent).0 + points);
        }
        sums
    }
    from(game, opponent, &mut vec![start.turned()], rounds)
}

#[test]
fn means_over_many_matches_are_the_expected_ones() {
    let rounds = 5;
    let (t, set) = tournament(
        "rounds = 5\nrepetitions = 1500\nstart = 'CD'\n[prompts]\ngames = ['ipd', 'chicken']\nper_scenario = 4",
        &["torn"],
    );
    let (all, _) = played(&t, &set, torn, 11);
    for (g, game) in t.games.iter().enumerate() {
        for (o, &opponent) in Opponent::ALL.iter().enumerate() {
            let matches = all.iter().filter(|m| (m.which.game, m.which.opponent) == (g, o));
            let sums = |of: &dyn Fn(History) -> f64| -> Vec<f64> {
                let round = |r: &lorascope_play::Round| {
                    of(History { own: r.own.unwrap(), opponent: r.opponent.unwrap() })
                };
                matches.clone().map(|m| m.rounds.iter().map(round).sum()).collect()
            };
            let cooperations = sums(&|r| f64::from(u8::from(r.own == Action::Cooperate)));
            let points = sums(&|r| game.payoff(r.own, r.opponent).0);
            let (e_cooperations, e_points) = expected(game, opponent, History::ALL[1], rounds);
            for (values, e, what) in
                [(cooperations, e_cooperations, "cooperation"), (points, e_points, "points")]
            {
                let n = values.len() as f64;
                assert_eq!(n, 6000.0);
                let mean = values.iter().sum::<f64>() / n;
                let variance = values.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / (n - 1.0);
                // Four and a half standard errors: one of 10⁵ comparisons would fail by chance, of 28.
                let allowed = 4.5 * (variance / n).sqrt();
                assert!((mean - e).abs() < allowed, "{} {opponent} {what}: {mean}, expected {e}", game.name);
            }
        }
    }
}

#[test]
fn always_cooperating_against_each_strategy_by_hand() {
    let moves_of = |start: &str, opponent: &str| {
        let text = format!(
            "rounds = 4\nrepetitions = 1\nstart = '{start}'\nopponents = ['{opponent}']\n[prompts]\ngames = 'ipd'\nper_scenario = 4"
        );
        let (t, set) = tournament(&text, &["kind"]);
        let (all, _) = played(&t, &set, kind, 0);
        let (own, other) = moves(&all[0]);
        assert_eq!(own, "CCCC");
        other
    };
    for (start, opponent, expected) in [
        ("CD", "tit_for_tat", "CCCC"),
        ("DC", "tit_for_tat", "DCCC"),
        ("DC", "grim", "DDDD"),
        ("CD", "grim", "CCCC"),
        // Defected against a cooperator and won: stays; cooperated with a cooperator: stays.
        ("CD", "win_stay_lose_shift", "DDDD"),
        ("DC", "win_stay_lose_shift", "DDDD"),
        ("CC", "win_stay_lose_shift", "CCCC"),
        ("DD", "always_cooperate", "CCCC"),
        ("CC", "always_defect", "DDDD"),
    ] {
        assert_eq!(moves_of(start, opponent), expected, "{start} {opponent}");
    }
}

/// Two copiers repeat the start crosswise for ever.
#[test]
fn models_meet_each_other_from_both_sides() {
    let (t, set) = tournament(
        "rounds = 4\nrepetitions = 1\nstart = 'CD'\nopponents = ['models']\n[prompts]\ngames = 'bach_or_stravinsky'\nper_scenario = 4",
        &["one", "two"],
    );
    let (all, _) = played(&t, &set, copies, 0);
    assert_eq!(all.len(), 2 * 2 * 4);
    assert!(all.iter().all(|m| moves(m) == ("DCDC".into(), "CDCD".into())));
    // One always goes to hear Bach, the other Stravinsky. One labelling only: under two, this game reads the same from both sides, and
    // who knows only what it reads can't be stubborn.
    let (t, set) = tournament(
        "rounds = 4\nrepetitions = 1\nopponents = ['models']\n[prompts]\ngames = 'bach_or_stravinsky'\nper_scenario = 4\nlabels = 'straight'",
        &["one", "two"],
    );
    let stubborn = |model: usize, _: History| legal([1.0, 0.0][model]);
    let (all, _) = played(&t, &set, stubborn, 0);
    let of = |model, opponent| {
        all.iter().find(|m| (m.which.model, m.which.opponent) == (model, opponent)).unwrap()
    };
    assert_eq!(moves(of(0, 1)), ("CCCC".into(), "DDDD".into()));
    assert_eq!(moves(of(1, 0)), ("DDDD".into(), "CCCC".into()));
    let clusters = Clusters::new(&t, 0);
    let payoffs = |one| {
        let measured = measure(&t, &clusters, &[one]);
        ["own_payoff", "opponent_payoff"].map(|name| value_of(&measured, name, "").unwrap().mean)
    };
    assert_eq!(payoffs(of(0, 0)), [3.0, 2.0]);
    assert_eq!(payoffs(of(1, 1)), [2.0, 3.0]);
    assert_eq!(payoffs(of(0, 1)), [0.0, 0.0]);
}

#[test]
fn illegal_answers_leave_the_state_as_it_was() {
    let (t, set) = tournament(
        "rounds = 3\nrepetitions = 2000\nstart = 'DC'\nactions = 'as_generated'\nopponents = ['tit_for_tat']\n[prompts]\n\
         games = 'ipd'\nper_scenario = 4",
        &["mute"],
    );
    let mute = |_: usize, _: History| Answer { p_defect: 0.0, legal: 0.0 };
    let (all, _) = played(&t, &set, mute, 0);
    for one in &all {
        assert_eq!(moves(one), ("xxx".into(), "DDD".into()), "tit-for-tat copies the last legal move");
        assert!(one.rounds.iter().all(|r| r.before.own == Action::Defect && r.illegal_mass == 1.0));
    }
    let clusters = Clusters::new(&t, 0);
    let all: Vec<_> = all.iter().collect();
    let measured = measure(&t, &clusters, &all);
    assert_eq!(value_of(&measured, "cooperation", ""), None);
    assert_eq!(value_of(&measured, "own_payoff", ""), None);
    assert_eq!(value_of(&measured, "action", "illegal").unwrap().mean, 1.0);
    let sometimes = |_: usize, _: History| Answer { p_defect: 0.25, legal: 0.6 };
    let (all, _) = played(&t, &set, sometimes, 3);
    let all: Vec<_> = all.iter().collect();
    let measured = measure(&t, &clusters, &all);
    let n = (all.len() * 3) as f64;
    for (name, given, expected) in
        [("action", "illegal", 0.4), ("cooperation", "", 0.75), ("illegal_mass", "", 0.4)]
    {
        let found = value_of(&measured, name, given).unwrap().mean;
        // Four and a half binomial standard errors.
        let allowed = 4.5 * (expected * (1.0f64 - expected) / (0.6 * n)).sqrt();
        assert!((found - expected).abs() < allowed, "{name}: {found}");
    }
}
