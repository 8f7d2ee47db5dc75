//! Plays all matches at once, round by round: each round's questions of all matches are asked together, and each distinct one
//! once. What is played does not depend on which matches are played beside it.

use crate::adversary::Other;
use crate::answer::{Answers, Question};
use crate::board::Place;
use crate::tournament::{Match, Tournament};
use lorascope_analyses::Result;
use lorascope_games::{Action, History, Opponent};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// One round of a match.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Round {
    /// The last moves before it, seen by the row player. An illegal answer leaves the mover's last move as it was.
    pub before: History,
    /// What the row player did; `None` is an illegal answer.
    pub own: Option<Action>,
    /// What the opponent did; `None` is an illegal answer.
    pub opponent: Option<Action>,
    /// The probability that the row player's answer would be neither action.
    pub illegal_mass: f64,
}

/// A match that has been played.
#[derive(Clone, Debug, PartialEq)]
pub struct Played {
    /// Which match.
    pub which: Match,
    /// The round before the first.
    pub start: History,
    /// Its rounds.
    pub rounds: Vec<Round>,
}

/// A match in play.
struct Running {
    luck: ChaCha8Rng,
    /// All rounds, the start included, as the opponent sees them; legal moves only.
    seen: Vec<History>,
    played: Played,
}

/// Plays all matches of the tournament.
///
/// # Errors
/// As [`crate::Players::answers`].
pub fn play(tournament: &Tournament, answers: &mut Answers, seed: u64) -> Result<Vec<Played>> {
    let mut running: Vec<Running> =
        tournament.matches().into_iter().map(|which| Running::start(tournament, which, seed)).collect();
    for _ in 0..tournament.settings.rounds {
        answers.learn(running.iter().flat_map(|one| one.questions(tournament)))?;
        running.iter_mut().for_each(|one| one.advance(tournament, answers));
    }
    Ok(running.into_iter().map(|one| one.played).collect())
}

impl Running {
    fn start(t: &Tournament, which: Match, seed: u64) -> Self {
        let mut luck = t.luck(seed, which);
        // Drawn whether needed or not, so that the rounds' numbers are the same from every start.
        let coins = [luck.random::<f64>(), luck.random::<f64>()];
        let [own, other] = coins.map(|u| if u < 0.5 { Action::Cooperate } else { Action::Defect });
        let other = match t.opponents[which.opponent] {
            Other::Strategy(Opponent::AlwaysCooperate) => Action::Cooperate,
            Other::Strategy(Opponent::AlwaysDefect) => Action::Defect,
            Other::Strategy(_) | Other::Model(_) => other,
        };
        let start = t.settings.start.round().unwrap_or(History { own, opponent: other });
        let rounds = Vec::with_capacity(t.settings.rounds);
        Self { luck, seen: vec![start.turned()], played: Played { which, start, rounds } }
    }

    /// The last moves, seen by the row player.
    fn before(&self) -> History {
        self.seen[self.seen.len() - 1].turned()
    }

    /// What the row player reads.
    fn place(&self, t: &Tournament) -> Place {
        let Match { game, surface, .. } = self.played.which;
        t.board.place(game, self.before(), surface)
    }

    /// The opponent where it is a model, and what it reads: the same match from the other side.
    fn other(&self, t: &Tournament) -> Option<(usize, Place)> {
        let Match { opponent, game, surface, .. } = self.played.which;
        let Other::Model(model) = t.opponents[opponent] else { return None };
        Some((model, t.board.place(t.turned(game), self.before().turned(), surface)))
    }

    fn questions(&self, t: &Tournament) -> impl Iterator<Item = Question> {
        let own = self.place(t).question(self.played.which.model);
        std::iter::once(own).chain(self.other(t).map(|(model, place)| place.question(model)))
    }

    fn advance(&mut self, t: &Tournament, answers: &Answers) {
        let [mine, theirs] = [self.luck.random::<f64>(), self.luck.random::<f64>()];
        let (before, actions) = (self.before(), t.settings.actions);
        let which = self.played.which;
        let answer = self.place(t).answer(which.model, answers);
        let own = actions.choose(answer, mine);
        let opponent = match t.opponents[which.opponent] {
            Other::Strategy(s) => Some(s.choose(&t.games[which.game], &self.seen, theirs)),
            Other::Model(_) => {
                self.other(t).and_then(|(model, place)| actions.choose(place.answer(model, answers), theirs))
            }
        };
        let illegal_mass = (1.0 - answer.legal).max(0.0);
        self.played.rounds.push(Round { before, own, opponent, illegal_mass });
        let now = History { own: own.unwrap_or(before.own), opponent: opponent.unwrap_or(before.opponent) };
        self.seen.push(now.turned());
    }
}
