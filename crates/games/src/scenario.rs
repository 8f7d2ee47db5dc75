//! What happened in the last round.

use crate::game::Action;
use crate::levels::levels;

/// The moves of the last round, seen by the player who is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct History {
    /// The asked player's own last move.
    pub own: Action,
    /// The opponent's last move.
    pub opponent: Action,
}

impl History {
    /// Both cooperated, the opponent defected, the player did, both did.
    pub const ALL: [History; 4] = [
        History { own: Action::Cooperate, opponent: Action::Cooperate },
        History { own: Action::Cooperate, opponent: Action::Defect },
        History { own: Action::Defect, opponent: Action::Cooperate },
        History { own: Action::Defect, opponent: Action::Defect },
    ];

    /// The same round as the opponent sees it.
    #[must_use]
    pub const fn turned(self) -> History {
        History { own: self.opponent, opponent: self.own }
    }

    /// Two letters, the own move first: `CD`.
    pub const fn name(self) -> &'static str {
        ["CC", "CD", "DC", "DD"][self.index()]
    }

    /// Place in [`History::ALL`].
    pub const fn index(self) -> usize {
        2 * self.own.index() + self.opponent.index()
    }
}

levels! {
    /// The five situations in which a player is asked to choose. The two letters are the own and the
    /// opponent's last move.
    Scenario, "scenario" {
        /// Both cooperated.
        CcContinue = "CC_continue",
        /// Both cooperated, and the prompt adds what defecting would have given.
        CcTemptation = "CC_temptation",
        /// The asked player cooperated, the opponent defected.
        CdPunished = "CD_punished",
        /// The asked player defected, the opponent cooperated.
        DcExploited = "DC_exploited",
        /// Both defected.
        DdTrapped = "DD_trapped",
    }
}

impl Scenario {
    /// The last round's moves.
    pub const fn history(self) -> History {
        let (own, opponent) = match self {
            Scenario::CcContinue | Scenario::CcTemptation => (Action::Cooperate, Action::Cooperate),
            Scenario::CdPunished => (Action::Cooperate, Action::Defect),
            Scenario::DcExploited => (Action::Defect, Action::Cooperate),
            Scenario::DdTrapped => (Action::Defect, Action::Defect),
        };
        History { own, opponent }
    }

    /// The situation after this round, told without a temptation.
    pub const fn after(round: History) -> Scenario {
        match (round.own, round.opponent) {
            (Action::Cooperate, Action::Cooperate) => Scenario::CcContinue,
            (Action::Cooperate, Action::Defect) => Scenario::CdPunished,
            (Action::Defect, Action::Cooperate) => Scenario::DcExploited,
            (Action::Defect, Action::Defect) => Scenario::DdTrapped,
        }
    }

    /// Whether the prompt says what the other action would have given.
    pub const fn tempts(self) -> bool {
        matches!(self, Scenario::CcTemptation)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_have_four_names_and_two_sides() {
        assert_eq!(History::ALL.map(History::name), ["CC", "CD", "DC", "DD"]);
        assert_eq!(History::ALL.map(|round| round.turned().name()), ["CC", "DC", "CD", "DD"]);
        for (at, round) in History::ALL.into_iter().enumerate() {
            assert_eq!(round.index(), at);
            assert_eq!(Scenario::after(round).history(), round);
            assert!(Scenario::after(round).name().starts_with(round.name()));
            assert!(!Scenario::after(round).tempts());
        }
    }
}
