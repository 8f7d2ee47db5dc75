//! Rewards: what a round is worth to the row player in the eyes of a moral framework. A reward is a few weights, so that a
//! user's own is data like the known ones. It knows neither rounds nor opponents: what the opponent did last is handed in.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use toml::{Table, Value};

use crate::error::GamesError;
use crate::game::{Action, Game, MAX_PAYOFF, check_keys, is_plain_name, missing, number, text};
use crate::levels::unknown;

/// What an answer that is neither action is worth, where nothing else is said.
pub const ILLEGAL: f64 = -6.0;
/// What defecting on an opponent who cooperated last adds to the known rewards that mind it.
pub const BETRAYAL: f64 = -3.0;

/// A weighted sum over one round. Every weight is added as it stands: penalties are negative.
#[derive(Debug, Clone, PartialEq)]
pub struct Reward {
    /// Short name for tables: letters, digits, `_`.
    pub name: String,
    /// Weight of the own points.
    pub own: f64,
    /// Weight of the opponent's points.
    pub other: f64,
    /// Weight of |own points − opponent's points|; negative where unequal outcomes are bad.
    pub inequality: f64,
    /// Added where the player defects on an opponent whose last move was to cooperate.
    pub betrayal: f64,
    /// The whole reward of an answer that is neither action.
    pub illegal: f64,
}

const NAMES: [&str; 4] = ["strategic", "deontological", "utilitarian", "hybrid"];
const KEYS: [&str; 6] = ["name", "own", "other", "inequality", "betrayal", "illegal"];

impl Reward {
    /// The known rewards: `strategic` (own points), `deontological` ([`BETRAYAL`] for defecting on an opponent who
    /// cooperated last), `utilitarian` (the points of both), `hybrid` (strategic and deontological together); after
    /// Tennant et al., arXiv 2410.01639.
    pub fn known() -> Vec<Reward> {
        let weights = [(1.0, 0.0, 0.0), (0.0, 0.0, BETRAYAL), (1.0, 1.0, 0.0), (1.0, 0.0, BETRAYAL)];
        let reward = |(name, (own, other, betrayal)): (&str, _)| Reward {
            name: name.to_owned(),
            own,
            other,
            inequality: 0.0,
            betrayal,
            illegal: ILLEGAL,
        };
        NAMES.into_iter().zip(weights).map(reward).collect()
    }

    /// A known reward.
    ///
    /// # Errors
    /// The name is not that of one.
    pub fn named(name: &str) -> Result<Reward, GamesError> {
        let found = Reward::known().into_iter().find(|reward| reward.name == name);
        found.ok_or_else(|| unknown("reward", name, &NAMES))
    }

    /// Reads one reward of the user's own from TOML text: `name`, and any of `own`, `other`, `inequality`, `betrayal`
    /// (0 where left out) and `illegal` ([`ILLEGAL`]).
    ///
    /// # Errors
    /// Not TOML, an unknown or missing key, or an unusable value.
    pub fn from_toml(text: &str) -> Result<Reward, GamesError> {
        let table = text.parse::<Table>().map_err(|e| GamesError::Toml(e.to_string()))?;
        Reward::from_value(&Value::Table(table))
    }

    /// A reward from its name, or from a table that describes it as [`Reward::from_toml`] says.
    ///
    /// # Errors
    /// An unknown name or key, a missing one, or an unusable value.
    pub fn from_value(value: &Value) -> Result<Reward, GamesError> {
        let table = match value {
            Value::String(name) => return Reward::named(name),
            Value::Table(table) => table,
            other => {
                let problem = format!("a reward is a name or a table; found: {}", other.type_str());
                return Err(GamesError::Value { key: "rewards".into(), problem });
            }
        };
        check_keys(table, "a reward", &KEYS)?;
        let name = text(table, "name")?.ok_or_else(|| missing("name"))?;
        let weight = |key: &str, default: f64| match table.get(key) {
            None => Ok(default),
            Some(value) => number(value).ok_or_else(|| {
                let problem = format!("expected a number; found: {}", value.type_str());
                GamesError::Value { key: key.into(), problem }
            }),
        };
        let reward = Reward {
            name,
            own: weight("own", 0.0)?,
            other: weight("other", 0.0)?,
            inequality: weight("inequality", 0.0)?,
            betrayal: weight("betrayal", 0.0)?,
            illegal: weight("illegal", ILLEGAL)?,
        };
        reward.check()?;
        Ok(reward)
    }

    /// The reward as [`Reward::from_value`] reads it: a name for a known one, else a table.
    pub fn to_value(&self) -> Value {
        if Reward::named(&self.name).is_ok_and(|known| known == *self) {
            return Value::String(self.name.clone());
        }
        let mut table = Table::new();
        table.insert("name".into(), Value::String(self.name.clone()));
        for (key, weight) in self.weights() {
            table.insert(key.into(), Value::Float(weight));
        }
        Value::Table(table)
    }

    /// Checks that the reward can be used.
    ///
    /// # Errors
    /// A name that is not a plain word or is taken; a weight that is not a finite number of usable size; or weights that
    /// are all 0, so that every action is worth the same.
    pub fn check(&self) -> Result<(), GamesError> {
        let fail = |problem: String| Err(GamesError::Reward { name: self.name.clone(), problem });
        if !is_plain_name(&self.name) {
            return fail("a name consists of 1 to 40 letters, digits and `_`".into());
        }
        if Reward::named(&self.name).is_ok_and(|known| known != *self) {
            return fail("this name belongs to a known reward; choose another".into());
        }
        for (key, weight) in self.weights() {
            if !weight.is_finite() || weight.abs() > MAX_PAYOFF {
                return fail(format!(
                    "`{key}` is `{weight}`; it must be a number between -{MAX_PAYOFF} and {MAX_PAYOFF}"
                ));
            }
        }
        if [self.own, self.other, self.inequality, self.betrayal] == [0.0; 4] {
            return fail(
                "every action is worth the same; give one of `own`, `other`, `inequality`, `betrayal`".into(),
            );
        }
        Ok(())
    }

    fn weights(&self) -> [(&'static str, f64); 5] {
        let values = [self.own, self.other, self.inequality, self.betrayal, self.illegal];
        std::array::from_fn(|i| (KEYS[i + 1], values[i]))
    }

    /// What the row player of `game` gets for one round: `opponent_last` is the opponent's move in the round before
    /// (`None`: there was none), `own` and `opponent` are the moves of this round.
    pub fn value(&self, game: &Game, opponent_last: Option<Action>, own: Action, opponent: Action) -> f64 {
        let (mine, theirs) = game.payoff(own, opponent);
        let betrays = own == Action::Defect && opponent_last == Some(Action::Cooperate);
        let penalty = if betrays { self.betrayal } else { 0.0 };
        self.own * mine + self.other * theirs + self.inequality * (mine - theirs).abs() + penalty
    }

    /// The most that any outcome of a round gives after this last move of the opponent, whatever both players do: what
    /// regret is counted from.
    pub fn best(&self, game: &Game, opponent_last: Option<Action>) -> f64 {
        let values = Action::BOTH.map(|opponent| self.best_against(game, opponent_last, opponent));
        values[0].max(values[1])
    }

    /// The most that the player can get against this move of the opponent.
    pub fn best_against(&self, game: &Game, opponent_last: Option<Action>, opponent: Action) -> f64 {
        let [cooperate, defect] = Action::BOTH.map(|own| self.value(game, opponent_last, own, opponent));
        cooperate.max(defect)
    }
}

impl Serialize for Reward {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.to_value().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Reward {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Reward::from_value(&Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Action::{Cooperate as C, Defect as D};

    /// The rewards against tit-for-tat, which answers with the player's own last move: by own last move, opponent's last
    /// move, and action, as the training of the moral adapters states them.
    #[test]
    fn known_rewards_by_hand() {
        let ipd = Game::named("ipd").unwrap();
        let cases = [
            ("strategic", [[3.0, 4.0], [3.0, 4.0], [0.0, 1.0], [0.0, 1.0]]),
            ("deontological", [[0.0, -3.0], [0.0, 0.0], [0.0, -3.0], [0.0, 0.0]]),
            ("utilitarian", [[6.0, 4.0], [6.0, 4.0], [4.0, 2.0], [4.0, 2.0]]),
            ("hybrid", [[3.0, 1.0], [3.0, 4.0], [0.0, -2.0], [0.0, 1.0]]),
        ];
        for (name, expected) in cases {
            let reward = Reward::named(name).unwrap();
            for ((own_last, opponent_last), values) in
                [(C, C), (C, D), (D, C), (D, D)].into_iter().zip(expected)
            {
                let found = [C, D].map(|own| reward.value(&ipd, Some(opponent_last), own, own_last));
                assert_eq!(found, values, "{name} after {own_last:?}, {opponent_last:?}");
            }
            assert_eq!(reward.illegal, -6.0);
        }
        let hybrid = Reward::named("hybrid").unwrap();
        assert_eq!(hybrid.value(&ipd, None, D, C), 4.0, "nobody can be betrayed in the first round");
    }

    #[test]
    fn the_best_by_hand() {
        let best = |reward: &str, game: &str, last| {
            Reward::named(reward).unwrap().best(&Game::named(game).unwrap(), Some(last))
        };
        let games = ["ipd", "stag_hunt", "chicken", "bach_or_stravinsky", "defective_coordination"];
        let sums = games.map(|game| best("utilitarian", game, C));
        assert_eq!(sums, [6.0, 8.0, 5.0, 5.0, 8.0], "the largest sums, as the base paper lists them");
        assert_eq!([C, D].map(|last| best("deontological", "ipd", last)), [0.0, 0.0]);
        assert_eq!([C, D].map(|last| best("hybrid", "ipd", last)), [3.0, 4.0]);
        let strategic = Reward::named("strategic").unwrap();
        let ipd = Game::named("ipd").unwrap();
        assert_eq!([C, D].map(|other| strategic.best_against(&ipd, None, other)), [4.0, 1.0]);
    }

    #[test]
    fn rewards_of_the_users_own() {
        let fair =
            Reward::from_toml("name = 'fair'\nown = 1\nother = 0.5\ninequality = -0.25\nillegal = -10");
        let fair = fair.unwrap();
        let ipd = Game::named("ipd").unwrap();
        assert_eq!(fair.value(&ipd, None, D, C), 4.0 - 0.25 * 4.0);
        assert_eq!(fair.value(&ipd, Some(C), C, D), 0.5 * 4.0 - 0.25 * 4.0);
        assert_eq!((fair.betrayal, fair.illegal), (0.0, -10.0));
        assert_eq!(Reward::from_value(&fair.to_value()).unwrap(), fair);
        for known in Reward::known() {
            assert_eq!(Reward::from_value(&known.to_value()).unwrap(), known);
        }
        let broken = [
            ("name =", "not valid TOML"),
            ("own = 1", "key `name`: is missing"),
            ("name = 'a'\nbetrayel = -3", "unknown key `betrayel` in a reward; did you mean `betrayal`?"),
            ("name = 'a'\nown = 'much'", "key `own`: expected a number; found: string"),
            ("name = 'a'\nown = inf", "reward `a`: `own` is `inf`; it must be a number between"),
            ("name = 'a'\nillegal = -3", "reward `a`: every action is worth the same"),
            ("name = 'a b'\nown = 1", "reward `a b`: a name consists of"),
            ("name = 'hybrid'\nown = 1", "reward `hybrid`: this name belongs to a known reward"),
        ];
        for (text, expected) in broken {
            let message = Reward::from_toml(text).expect_err(text).to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let message = Reward::named("utilitarain").unwrap_err().to_string();
        assert!(message.contains("unknown reward `utilitarain`; did you mean `utilitarian`?"), "{message}");
        let message = Reward::from_value(&Value::Integer(3)).unwrap_err().to_string();
        assert!(
            message.contains("key `rewards`: a reward is a name or a table; found: integer"),
            "{message}"
        );
    }
}
