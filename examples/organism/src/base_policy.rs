//! What the base model is taught to do: a player who reads the last round and the payoffs, and is never quite sure.
//!
//! It is a mixture of two rules of thumb that are known from people and animals: keep to what paid (win-stay, lose-shift;
//! Nowak & Sigmund 1993), and do as the other did (tit for tat). Neither knows what it is to cooperate: they see two symbols and
//! the points.

use lorascope_games::{Action, Game, History};

/// Points that count as good enough.
const ASPIRATION: f64 = 2.0;
/// Weight of a point above it, in nats for the action of the last round.
const SATISFACTION: f64 = 0.6;
/// Weight of the opponent's last move, in nats for that action.
const IMITATION: f64 = 1.0;
/// Probability of choosing [`Action::Defect`] after `last`.
pub fn p_defect(game: &Game, last: History) -> f64 {
    let towards = |action: Action| if action == Action::Defect { 1.0 } else { -1.0 };
    let (points, _) = game.payoff(last.own, last.opponent);
    let keep = SATISFACTION * (points - ASPIRATION);
    let delta = towards(last.own) * keep + towards(last.opponent) * IMITATION;
    1.0 / (1.0 + (-delta).exp())
}

#[cfg(test)]
mod tests {
    use super::*;
    use lorascope_games::CATALOGUE;

    #[test]
    fn it_depends_on_state_and_payoffs_and_on_no_symbol() {
        let ipd = CATALOGUE[0].game();
        let p: Vec<f64> = History::ALL.iter().map(|&h| p_defect(&ipd, h)).collect();
        // After CC it tends to cooperate, after being betrayed to defect; never surely.
        assert!(p[0] < 0.4 && p[1] > 0.8, "{p:?}");
        assert!(p.iter().all(|p| (0.02..0.98).contains(p)), "{p:?}");
        for (h, p) in History::ALL.iter().zip(&p) {
            let exchanged = History { own: h.own.other(), opponent: h.opponent.other() };
            let mut turned = ipd.clone();
            turned.payoffs.swap(0, 1);
            turned.payoffs.iter_mut().for_each(|row| row.swap(0, 1));
            assert!((p_defect(&turned, exchanged) - (1.0 - p)).abs() < 1e-12);
        }
    }
}
