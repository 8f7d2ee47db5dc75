//! The known games. Payoffs are those of the literature that the moral adapters come from.

use crate::game::Game;

/// One known game; [`CatalogueEntry::game`] makes it a [`Game`].
#[derive(Debug)]
pub struct CatalogueEntry {
    /// Its short name.
    pub name: &'static str,
    /// See [`Game::payoffs`].
    pub payoffs: [[(f64, f64); 2]; 2],
    /// See [`Game::title`].
    pub title: &'static str,
    /// See [`Game::cooperate_as`].
    pub cooperate_as: &'static str,
    /// See [`Game::defect_as`].
    pub defect_as: &'static str,
}

impl CatalogueEntry {
    /// The entry as a game.
    pub fn game(&self) -> Game {
        Game {
            name: self.name.into(),
            payoffs: self.payoffs,
            title: self.title.into(),
            cooperate_as: self.cooperate_as.into(),
            defect_as: self.defect_as.into(),
        }
    }
}

/// All known games.
pub const CATALOGUE: [CatalogueEntry; 6] = [
    CatalogueEntry {
        name: "ipd",
        payoffs: [[(3.0, 3.0), (0.0, 4.0)], [(4.0, 0.0), (1.0, 1.0)]],
        title: "the Prisoner's Dilemma",
        cooperate_as: "cooperate",
        defect_as: "defect",
    },
    CatalogueEntry {
        name: "stag_hunt",
        payoffs: [[(4.0, 4.0), (0.0, 3.0)], [(3.0, 0.0), (1.0, 1.0)]],
        title: "the Stag Hunt",
        cooperate_as: "hunt the stag together",
        defect_as: "hunt a hare alone",
    },
    CatalogueEntry {
        name: "volunteer",
        payoffs: [[(3.0, 3.0), (1.0, 4.0)], [(4.0, 1.0), (0.0, 0.0)]],
        title: "the Volunteer's Dilemma",
        cooperate_as: "volunteer",
        defect_as: "wait for the other to volunteer",
    },
    CatalogueEntry {
        name: "chicken",
        payoffs: [[(2.0, 2.0), (1.0, 4.0)], [(4.0, 1.0), (0.0, 0.0)]],
        title: "the game of Chicken",
        cooperate_as: "swerve",
        defect_as: "drive straight on",
    },
    CatalogueEntry {
        name: "bach_or_stravinsky",
        payoffs: [[(3.0, 2.0), (0.0, 0.0)], [(0.0, 0.0), (2.0, 3.0)]],
        title: "the game Bach or Stravinsky",
        cooperate_as: "go to the Bach concert",
        defect_as: "go to the Stravinsky concert",
    },
    CatalogueEntry {
        name: "defective_coordination",
        payoffs: [[(1.0, 1.0), (0.0, 0.0)], [(0.0, 0.0), (4.0, 4.0)]],
        title: "the Defective Coordination game",
        cooperate_as: "cooperate",
        defect_as: "defect",
    },
];
