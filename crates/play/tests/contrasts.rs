//! Contrasts between models with rules whose difference is known.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod support;

use lorascope_games::{Action, History};
use lorascope_play::{Answer, Clusters, contrasts};
use support::{legal, played, tournament};

/// The base is torn, its twin as torn; the kind one cooperates more by as much in every state.
fn rule(model: usize, _: History) -> Answer {
    legal([0.4, 0.4, 0.7][model])
}

#[test]
fn twins_do_not_differ_and_luck_is_shared() {
    let (t, set) = tournament(
        "rounds = 20\nrepetitions = 10\nopponents = ['random', 'tit_for_tat']\n[prompts]\ngames = ['ipd', 'chicken']\nper_scenario = 8",
        &["base", "twin", "kind"],
    );
    let (all, _) = played(&t, &set, rule, 4);
    let clusters = Clusters::new(&t, 4);
    let found = contrasts(&t, &clusters, &all, 4);
    assert_eq!(found.len(), 2 * 2 * 2);
    for c in &found {
        let d = c.cooperation;
        assert_eq!((c.reference, c.pairs), (0, 80));
        assert!(c.q >= d.p);
        if c.model == 1 {
            assert_eq!(
                (d.mean.mean, d.p, d.effect),
                (0.0, 1.0, None),
                "the same probabilities, the same draws"
            );
        } else {
            // By hand from the moves.
            let share = |model| {
                let matches = all.iter().filter(|m| {
                    (m.which.model, m.which.game, m.which.opponent) == (model, c.game, c.opponent)
                });
                let rounds: Vec<bool> =
                    matches.flat_map(|m| &m.rounds).map(|r| r.own == Some(Action::Cooperate)).collect();
                rounds.iter().filter(|c| **c).count() as f64 / rounds.len() as f64
            };
            assert!((d.mean.mean - (share(2) - share(0))).abs() < 1e-12);
            assert!((d.mean.mean - 0.3).abs() < 0.06, "1600 rounds: {}", d.mean.mean);
            assert!(d.mean.lo > 0.0 && d.p == 2.0 / 256.0, "every one of eight surfaces: {d:?}");
        }
    }
    let (t, set) = tournament("players = ['kind']\n[prompts]\ngames = 'ipd'", &["base", "twin", "kind"]);
    let (all, _) = played(&t, &set, rule, 4);
    assert!(contrasts(&t, &Clusters::new(&t, 0), &all, 0).is_empty());
}
