//! The design: which levels of which factors are crossed. Plain lists, so that flags and TOML can
//! fill them; making the prompts is for `build`.

use crate::error::GamesError;
use crate::game::Game;
use crate::levels::{Labels, Order};
use crate::moral::Moral;
use crate::scenario::Scenario;
use crate::symbols::Symbols;
use crate::wording::Wording;

/// Most prompts of one design.
pub const MAX_PROMPTS: usize = 20_000;
/// Most surface forms (without labels) from which a balanced subset is chosen.
pub const MAX_SUBSET_FRAMES: usize = 1024;

/// An explicit crossed design: every combination of one level of each factor is a prompt, or with
/// [`Design::per_scenario`] a balanced subset of them is.
#[derive(Debug, Clone, PartialEq)]
pub struct Design {
    /// Games.
    pub games: Vec<Game>,
    /// Situations.
    pub scenarios: Vec<Scenario>,
    /// How the situation is told.
    pub wording: Vec<Wording>,
    /// Preambles.
    pub moral: Vec<Moral>,
    /// Pairs of symbols.
    pub symbols: Vec<Symbols>,
    /// Which symbol of a pair means cooperate.
    pub labels: Vec<Labels>,
    /// Order of the first mention of the two symbols.
    pub first_mention: Vec<Order>,
    /// Order of the second mention, in the answer format.
    pub second_mention: Vec<Order>,
    /// Order of the rows of the table (in prose: of the own choices).
    pub row_order: Vec<Order>,
    /// Order of the columns of the table (in prose: of the opponent's choices).
    pub column_order: Vec<Order>,
    /// How many prompts each scenario of each game gets; `None`: all combinations. Label twins
    /// (prompts that differ in the label assignment alone) are kept together; multiples of 4 are
    /// exactly balanced.
    pub per_scenario: Option<usize>,
}

impl Default for Design {
    /// 80 prompts: the Prisoner's Dilemma in five scenarios of 16 prompts, `action1` and `action2`,
    /// both label assignments of a half of all combinations of the four orders, the same in every
    /// scenario. Each level, and each pair of levels of two factors, occurs equally often in every
    /// scenario.
    fn default() -> Self {
        Design { per_scenario: Some(16), ..Design::crossed() }
    }
}

impl Design {
    /// 160 prompts: as the default, but all combinations.
    pub fn crossed() -> Self {
        let ipd = crate::catalogue::CATALOGUE[0].game();
        Design {
            games: vec![ipd],
            scenarios: Scenario::ALL.to_vec(),
            wording: vec![Wording::Structured],
            moral: vec![Moral::None],
            symbols: vec![Symbols::default()],
            labels: Labels::ALL.to_vec(),
            first_mention: Order::ALL.to_vec(),
            second_mention: Order::ALL.to_vec(),
            row_order: Order::ALL.to_vec(),
            column_order: Order::ALL.to_vec(),
            per_scenario: None,
        }
    }

    /// 15 prompts for quick runs and benchmarks: five scenarios of three. Three prompts cannot be
    /// balanced within a scenario (each level occurs once or twice); over the whole set each level
    /// occurs 7 or 8 times.
    pub fn fifteen() -> Self {
        Design { per_scenario: Some(3), ..Design::crossed() }
    }

    /// Checks that every factor has levels and none twice, and that every level is usable.
    ///
    /// # Errors
    /// The first factor or level that is wrong.
    pub fn check(&self) -> Result<(), GamesError> {
        self.games.iter().try_for_each(Game::check)?;
        for wording in &self.wording {
            wording.template()?;
            check_opponent(wording, &self.symbols)?;
        }
        if self.per_scenario == Some(0) {
            let problem = "must be 1 or more, or \"all\"".into();
            return Err(GamesError::Value { key: "per_scenario".into(), problem });
        }
        check_levels("games", &self.games, |g| g.name.clone())?;
        check_levels("scenarios", &self.scenarios, Scenario::to_string)?;
        check_levels("wording", &self.wording, |w| w.name().to_owned())?;
        check_levels("moral", &self.moral, |m| m.name().to_owned())?;
        check_levels("symbols", &self.symbols, |s| format!("{}/{}", s.first(), s.second()))?;
        check_levels("labels", &self.labels, Labels::to_string)?;
        check_levels("first_mention", &self.first_mention, Order::to_string)?;
        check_levels("second_mention", &self.second_mention, Order::to_string)?;
        check_levels("row_order", &self.row_order, Order::to_string)?;
        check_levels("column_order", &self.column_order, Order::to_string)
    }
}

/// "B chose B" is no clear sentence.
fn check_opponent(wording: &Wording, symbols: &[Symbols]) -> Result<(), GamesError> {
    let name = wording.opponent();
    match symbols.iter().find(|s| s.first() == name || s.second() == name) {
        None => Ok(()),
        Some(s) => Err(GamesError::Symbols {
            first: s.first().to_owned(),
            second: s.second().to_owned(),
            problem: "one of them is also what a wording calls the opponent; rename either",
        }),
    }
}

fn check_levels<T>(key: &'static str, levels: &[T], name: impl Fn(&T) -> String) -> Result<(), GamesError> {
    let names: Vec<String> = levels.iter().map(name).collect();
    if names.is_empty() {
        return Err(GamesError::NoLevels { key });
    }
    match names.iter().enumerate().find(|(at, level)| names[..*at].contains(level)) {
        Some((_, level)) => Err(GamesError::Repeated { key, level: level.clone() }),
        None => Ok(()),
    }
}
