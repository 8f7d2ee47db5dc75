//! Models against one another: who cooperates more, match by match. All models meet the same opponents with the same luck on the same
//! surfaces, so matches come in pairs.

use crate::engine::Played;
use crate::metrics::Clusters;
use crate::tournament::{Match, Tournament};
use lorascope_analyses::{Comparison, Design, benjamini_hochberg};
use lorascope_engine::BASE;
use lorascope_games::Action;
use std::collections::BTreeMap;

/// One model compared with the reference in one game against one opponent.
#[derive(Clone, Debug, PartialEq)]
pub struct Contrast {
    /// The model.
    pub model: usize,
    /// What it is compared with.
    pub reference: usize,
    /// Place of the game.
    pub game: usize,
    /// Place of the opponent.
    pub opponent: usize,
    /// Pairs of matches.
    pub pairs: usize,
    /// Difference of the shares of rounds that cooperate, model minus reference.
    pub cooperation: Comparison,
    /// The p-value corrected for the number of contrasts (Benjamini and Hochberg).
    pub q: f64,
}

/// All contrasts with the base, or with the first player where the base does not play; none where there is one player.
pub fn contrasts(t: &Tournament, clusters: &Clusters, played: &[Played], seed: u64) -> Vec<Contrast> {
    let reference = t.players.iter().copied().find(|&m| t.models[m] == BASE).or(t.players.first().copied());
    let Some(reference) = reference else { return Vec::new() };
    let key = |m: Match| (m.model, m.game, m.opponent, m.surface, m.repetition);
    let shares: BTreeMap<_, f64> = played.iter().map(|one| (key(one.which), cooperation(one))).collect();
    let names: Vec<String> = cell(t, 0, 0, 0).iter().map(|&m| format!("{:09}", clusters.of(m))).collect();
    let design = Design::new(&names.iter().map(String::as_str).collect::<Vec<_>>(), seed);
    let mut found = Vec::new();
    for &model in t.players.iter().filter(|&&model| model != reference) {
        for game in 0..t.n_games() {
            for opponent in 0..t.opponents.len() {
                let difference =
                    |m: &Match| shares[&key(*m)] - shares[&key(Match { model: reference, ..*m })];
                let differences: Vec<f64> = cell(t, model, game, opponent).iter().map(difference).collect();
                let cooperation = design.compare(&differences);
                let pairs = differences.len();
                found.push(Contrast { model, reference, game, opponent, pairs, cooperation, q: 1.0 });
            }
        }
    }
    let p: Vec<f64> = found.iter().map(|contrast| contrast.cooperation.p).collect();
    found.iter_mut().zip(benjamini_hochberg(&p)).for_each(|(contrast, q)| contrast.q = q);
    found
}

/// The matches of a cell, in their order.
fn cell(t: &Tournament, model: usize, game: usize, opponent: usize) -> Vec<Match> {
    let surfaces = 0..t.board.surfaces.len();
    let of_surface = |surface| {
        (0..t.settings.repetitions).map(move |repetition| Match {
            model,
            opponent,
            game,
            surface,
            repetition,
        })
    };
    surfaces.flat_map(of_surface).collect()
}

/// Share of a match's rounds that cooperate; an illegal answer does not.
fn cooperation(one: &Played) -> f64 {
    let cooperates = one.rounds.iter().filter(|round| round.own == Some(Action::Cooperate)).count();
    cooperates as f64 / one.rounds.len() as f64
}
