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

    /// Whether the prompt says what the other action would have given.
    pub const fn tempts(self) -> bool {
        matches!(self, Scenario::CcTemptation)
    }
}
