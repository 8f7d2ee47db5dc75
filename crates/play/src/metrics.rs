//! What is counted in rounds, as data: each metric is a quotient of two sums over the rounds of a cell (one model, game and
//! opponent), so that its interval comes from resampling whole clusters of matches.

use crate::engine::{Played, Round};
use crate::tournament::{Match, Tournament};
use lorascope_analyses::{Interval, Resampler};
use lorascope_games::{Action, Game, History};

/// A quotient of two sums over rounds.
pub struct Metric {
    /// Name in tables.
    pub name: &'static str,
    /// What happened before the rounds that count; empty: anything. Two letters are the own and the opponent's last move;
    /// `*C` is "the opponent cooperated last".
    pub given: &'static str,
    /// Unit of its values.
    pub unit: &'static str,
    /// What a round adds above and below the line; `None`: nothing.
    pub share: fn(&Round, &Game, &str) -> Option<(f64, f64)>,
}

const fn metric(
    name: &'static str,
    given: &'static str,
    unit: &'static str,
    share: fn(&Round, &Game, &str) -> Option<(f64, f64)>,
) -> Metric {
    Metric { name, given, unit, share }
}

/// All metrics but reciprocity, which is the difference of two of them.
pub static METRICS: [Metric; 18] = [
    metric("cooperation", "", "", cooperates),
    metric("cooperation", "CC", "", cooperates),
    metric("cooperation", "CD", "", cooperates),
    metric("cooperation", "DC", "", cooperates),
    metric("cooperation", "DD", "", cooperates),
    metric("cooperation", "*C", "", cooperates),
    metric("cooperation", "*D", "", cooperates),
    metric("opponent_cooperation", "", "", opponent_cooperates),
    metric("action", "C|C", "", action),
    metric("action", "C|D", "", action),
    metric("action", "D|C", "", action),
    metric("action", "D|D", "", action),
    metric("action", ILLEGAL, "", action),
    metric("illegal_mass", "", "", |round, _, _| Some((round.illegal_mass, 1.0))),
    metric("own_payoff", "", "point", |round, game, _| Some((payoff(round, game)?.0, 1.0))),
    metric("opponent_payoff", "", "point", |round, game, _| Some((payoff(round, game)?.1, 1.0))),
    metric("joint_payoff", "", "point", |round, game, _| {
        payoff(round, game).map(|(own, other)| (own + other, 1.0))
    }),
    metric("joint_efficiency", "", "", efficiency),
];

/// The action type of an answer that is neither action.
const ILLEGAL: &str = "illegal";

/// Metrics that the difference called `reciprocity` is made of.
const RECIPROCITY: [&str; 2] = ["*C", "*D"];

fn is(move_: Option<Action>, action: Action) -> f64 {
    f64::from(u8::from(move_ == Some(action)))
}

/// Whether a round's last moves are those that a metric asks for.
fn fits(before: History, given: &str) -> bool {
    let letters = [before.own.letter(), before.opponent.letter()];
    given.chars().zip(letters).all(|(wanted, letter)| wanted == '*' || wanted == letter)
}

fn cooperates(round: &Round, _: &Game, given: &str) -> Option<(f64, f64)> {
    (round.own.is_some() && fits(round.before, given)).then(|| (is(round.own, Action::Cooperate), 1.0))
}

fn opponent_cooperates(round: &Round, _: &Game, _: &str) -> Option<(f64, f64)> {
    round.opponent.map(|_| (is(round.opponent, Action::Cooperate), 1.0))
}

/// The share of all rounds with this action after this last move of the opponent: the action types of the base paper.
fn action(round: &Round, _: &Game, given: &str) -> Option<(f64, f64)> {
    let found = match round.own {
        None => given == ILLEGAL,
        Some(own) => {
            given != ILLEGAL
                && given.starts_with(own.letter())
                && given.ends_with(round.before.opponent.letter())
        }
    };
    Some((f64::from(u8::from(found)), 1.0))
}

/// Points (own, opponent's); none where an answer was illegal.
pub fn payoff(round: &Round, game: &Game) -> Option<(f64, f64)> {
    Some(game.payoff(round.own?, round.opponent?))
}

/// The points of both as a share of the way from the least to the most that the game has to give.
fn efficiency(round: &Round, game: &Game, _: &str) -> Option<(f64, f64)> {
    let (own, other) = payoff(round, game)?;
    let sums = game.payoffs.iter().flatten().map(|(row, column)| row + column);
    let (least, most) = sums.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), s| (a.min(s), b.max(s)));
    (most > least).then(|| ((own + other - least) / (most - least), 1.0))
}

/// Matches with the clusters over which intervals are made: matches told on one surface are one cluster; where there is one
/// surface only, repetitions are.
#[derive(Debug)]
pub struct Clusters {
    by_surface: bool,
    n: usize,
    resampler: Resampler,
}

impl Clusters {
    /// The clusters of a tournament.
    pub fn new(tournament: &Tournament, seed: u64) -> Self {
        let surfaces = tournament.board.surfaces.len();
        let by_surface = surfaces > 1;
        let n = if by_surface { surfaces } else { tournament.settings.repetitions };
        let names: Vec<String> = (0..n).map(|i| format!("{i:09}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        Self { by_surface, n, resampler: Resampler::new(&names, seed) }
    }

    /// Number of clusters.
    pub fn count(&self) -> usize {
        self.n
    }

    /// The cluster of a match.
    pub fn of(&self, which: Match) -> usize {
        if self.by_surface { which.surface } else { which.repetition }
    }

    /// What is a cluster, in words.
    pub fn what(&self) -> &'static str {
        if self.by_surface { "surfaces" } else { "repetitions" }
    }

    /// For each cluster, the two sums of what rounds add.
    pub fn sums(
        &self,
        matches: &[&Played],
        share: impl Fn(&Played, &Round) -> Option<(f64, f64)>,
    ) -> [Vec<f64>; 2] {
        let mut sums = [vec![0.0; self.n], vec![0.0; self.n]];
        for one in matches {
            let cluster = self.of(one.which);
            for (over, under) in one.rounds.iter().filter_map(|round| share(one, round)) {
                sums[0][cluster] += over;
                sums[1][cluster] += under;
            }
        }
        sums
    }

    /// The quotient of two sums, with its interval; `None` where no round counts.
    pub fn quotient(&self, [over, under]: &[Vec<f64>; 2]) -> Option<Interval> {
        self.resampler.statistic(&[over, under], |s| s[0] / s[1])
    }

    /// The difference of two quotients, with its interval.
    pub fn difference(&self, one: &[Vec<f64>; 2], other: &[Vec<f64>; 2]) -> Option<Interval> {
        let values = [&one[0], &one[1], &other[0], &other[1]].map(Vec::as_slice);
        self.resampler.statistic(&values, |s| s[0] / s[1] - s[2] / s[3])
    }
}

/// A metric's value over some matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Measured {
    /// Name of the metric.
    pub name: &'static str,
    /// As [`Metric::given`].
    pub given: &'static str,
    /// Unit.
    pub unit: &'static str,
    /// Rounds that count.
    pub rounds: usize,
    /// The value; `None` where no round counts.
    pub value: Option<Interval>,
}

/// All metrics over some matches of one game each.
pub fn measure(tournament: &Tournament, clusters: &Clusters, matches: &[&Played]) -> Vec<Measured> {
    let sums_of = |m: &Metric| {
        clusters.sums(matches, |one, round| (m.share)(round, &tournament.games[one.which.game], m.given))
    };
    let sums: Vec<[Vec<f64>; 2]> = METRICS.iter().map(sums_of).collect();
    let rounds = |sums: &[Vec<f64>; 2]| sums[1].iter().sum::<f64>() as usize;
    let mut found: Vec<Measured> = METRICS
        .iter()
        .zip(&sums)
        .map(|(m, sums)| Measured {
            name: m.name,
            given: m.given,
            unit: m.unit,
            rounds: rounds(sums),
            value: clusters.quotient(sums),
        })
        .collect();
    let of = |given: &str| METRICS.iter().position(|m| m.name == "cooperation" && m.given == given);
    if let [Some(after_c), Some(after_d)] = RECIPROCITY.map(of) {
        let (one, other) = (&sums[after_c], &sums[after_d]);
        found.push(Measured {
            name: "reciprocity",
            given: "",
            unit: "",
            rounds: rounds(one) + rounds(other),
            value: clusters.difference(one, other),
        });
    }
    found
}

/// The value of one metric among many.
pub fn value_of(measured: &[Measured], name: &str, given: &str) -> Option<Interval> {
    measured.iter().find(|m| m.name == name && m.given == given).and_then(|m| m.value)
}
