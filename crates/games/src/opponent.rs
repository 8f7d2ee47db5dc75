//! Opponents with a fixed strategy. A strategy is a pure function of the rounds so far to the probability of cooperating;
//! drawing an action from it needs one uniform number, which the caller brings, so nothing here is random.

use crate::game::{Action, Game};
use crate::levels::levels;
use crate::scenario::History;

/// How often generous tit-for-tat forgives a defection: what Nowak & Sigmund (Nature 355, 1992) derive for the usual
/// payoffs 5, 3, 1, 0 of the Prisoner's Dilemma.
pub const GENEROSITY: f64 = 1.0 / 3.0;

levels! {
    /// A strategy for the column player.
    Opponent, "opponent" {
        /// Cooperates always.
        AlwaysCooperate = "always_cooperate",
        /// Defects always.
        AlwaysDefect = "always_defect",
        /// Cooperates with probability 1/2.
        Random = "random",
        /// Cooperates first, then does what the other did last.
        TitForTat = "tit_for_tat",
        /// Tit-for-tat that forgives a defection with probability [`GENEROSITY`].
        GenerousTitForTat = "generous_tit_for_tat",
        /// Cooperates until the other has defected once, then defects for ever.
        Grim = "grim",
        /// Cooperates first, then repeats its last move where that brought it at least the mean of its four payoffs,
        /// and else changes it (Pavlov; in the Prisoner's Dilemma it stays exactly where the other cooperated).
        WinStayLoseShift = "win_stay_lose_shift",
    }
}

impl Opponent {
    /// Probability that the strategy cooperates after these rounds, oldest first and seen by the strategy itself:
    /// [`History::own`] is its own move. `game` is the game as the row player, its adversary, sees it.
    pub fn p_cooperate(self, game: &Game, rounds: &[History]) -> f64 {
        let last = rounds.last();
        let cooperates = match self {
            Opponent::Random => return 0.5,
            Opponent::GenerousTitForTat if last.is_some_and(|l| l.opponent == Action::Defect) => {
                return GENEROSITY;
            }
            Opponent::AlwaysCooperate => true,
            Opponent::AlwaysDefect => false,
            Opponent::TitForTat | Opponent::GenerousTitForTat => {
                last.is_none_or(|l| l.opponent == Action::Cooperate)
            }
            Opponent::Grim => rounds.iter().all(|r| r.opponent == Action::Cooperate),
            Opponent::WinStayLoseShift => last.is_none_or(|&l| wins(game, l) == (l.own == Action::Cooperate)),
        };
        f64::from(u8::from(cooperates))
    }

    /// The move that a uniform number in [0, 1) selects.
    pub fn choose(self, game: &Game, rounds: &[History], uniform: f64) -> Action {
        if uniform < self.p_cooperate(game, rounds) { Action::Cooperate } else { Action::Defect }
    }
}

/// Whether a round brought the column player at least the mean of its payoffs.
fn wins(game: &Game, round: History) -> bool {
    let (_, got) = game.payoff(round.opponent, round.own);
    let mean = game.payoffs.iter().flatten().map(|(_, theirs)| theirs).sum::<f64>() / 4.0;
    got >= mean
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Cooperate as C, Defect as D};

    fn rounds(moves: &[(Action, Action)]) -> Vec<History> {
        moves.iter().map(|&(own, opponent)| History { own, opponent }).collect()
    }

    /// Probability of cooperating at the start and after one round (own, other's), in the Prisoner's Dilemma.
    #[test]
    fn strategies_by_hand() {
        let g = GENEROSITY;
        let cases = [
            (Opponent::AlwaysCooperate, [1.0, 1.0, 1.0, 1.0, 1.0]),
            (Opponent::AlwaysDefect, [0.0, 0.0, 0.0, 0.0, 0.0]),
            (Opponent::Random, [0.5, 0.5, 0.5, 0.5, 0.5]),
            (Opponent::TitForTat, [1.0, 1.0, 0.0, 1.0, 0.0]),
            (Opponent::GenerousTitForTat, [1.0, 1.0, g, 1.0, g]),
            (Opponent::Grim, [1.0, 1.0, 0.0, 1.0, 0.0]),
            (Opponent::WinStayLoseShift, [1.0, 1.0, 0.0, 0.0, 1.0]),
        ];
        assert_eq!(cases.map(|(o, _)| o), Opponent::ALL, "every strategy is here");
        let ipd = Game::named("ipd").unwrap();
        let histories = [vec![], vec![(C, C)], vec![(C, D)], vec![(D, C)], vec![(D, D)]];
        for (opponent, expected) in cases {
            let found = histories.each_ref().map(|h| opponent.p_cooperate(&ipd, &rounds(h)));
            assert_eq!(found, expected, "{opponent}");
        }
    }

    #[test]
    fn only_grim_remembers_more_than_the_last_round() {
        let ipd = Game::named("ipd").unwrap();
        let long = rounds(&[(C, D), (D, C), (D, C)]);
        for &opponent in Opponent::ALL {
            let (whole, last) = (opponent.p_cooperate(&ipd, &long), opponent.p_cooperate(&ipd, &long[2..]));
            assert_eq!(whole != last, opponent == Opponent::Grim, "{opponent}: {whole} and {last}");
        }
    }

    #[test]
    fn win_stay_lose_shift_looks_at_its_own_points() {
        let p = |game: &str, own, other| {
            Opponent::WinStayLoseShift.p_cooperate(&Game::named(game).unwrap(), &rounds(&[(own, other)]))
        };
        // Both like to meet at either concert, and shift where they missed each other.
        assert_eq!([p("bach_or_stravinsky", C, C), p("bach_or_stravinsky", D, D)], [1.0, 0.0]);
        assert_eq!([p("bach_or_stravinsky", C, D), p("bach_or_stravinsky", D, C)], [0.0, 1.0]);
        // One point each for cooperating is a loss where four each are to be had.
        assert_eq!([p("defective_coordination", C, C), p("defective_coordination", D, D)], [0.0, 0.0]);
    }

    #[test]
    fn names_and_draws() {
        for &opponent in Opponent::ALL {
            assert_eq!(opponent.name().parse::<Opponent>().unwrap(), opponent);
        }
        let message = "tit_for_tac".parse::<Opponent>().unwrap_err().to_string();
        assert!(message.contains("unknown opponent `tit_for_tac`; did you mean `tit_for_tat`?"), "{message}");
        let ipd = Game::named("ipd").unwrap();
        assert_eq!([0.0, 0.49, 0.5, 0.99].map(|u| Opponent::Random.choose(&ipd, &[], u)), [C, C, D, D]);
        assert_eq!(Opponent::AlwaysCooperate.choose(&ipd, &[], 0.999_999), C);
        assert_eq!(Opponent::AlwaysDefect.choose(&ipd, &[], 0.0), D);
    }
}
