//! What a training is to do: every setting with its default, from a TOML file and flags, with strict keys.

use crate::blocks::{Blocks, module_named};
use crate::error::{Error, Result};
use crate::heads::Heads;
use crate::objective::Coefficients;
use crate::optimizer::OptimizerSettings;
use crate::ppo::PpoSettings;
use lorascope_engine::Module;
use lorascope_games::{Design, Game, Labels, Opponent, Reward, Scenario, Wording};
use serde::{Deserialize, Serialize};
use std::str::FromStr;
use toml::{Table, Value};

/// A training. The defaults are those with which the four moral adapters of the test data were made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// What is rewarded: a known name, or a table as `lorascope_games::Reward` reads it.
    pub reward: Value,
    /// Against whom: the name of a fixed strategy.
    pub opponent: String,
    /// How the policy is improved.
    pub algorithm: Algorithm,
    /// Rank of every update.
    pub rank: usize,
    /// Numerator of the scale alpha/rank.
    pub alpha: f64,
    /// Whether the scale is alpha/√rank (rank-stabilised LoRA).
    pub rslora: bool,
    /// Linear maps that are adapted: `q_proj` … `down_proj`; empty: all, or the four of attention where heads are named.
    pub modules: Vec<String>,
    /// Layers that are adapted, from 0; empty: all, or those of the heads named.
    pub layers: Vec<usize>,
    /// Heads that are adapted, `HEAD` (in every layer) or `LAYER.HEAD`; empty: whole modules.
    pub heads: Heads,
    /// Blocks that are adapted, as surgery names them: any set of parts of layers; empty: what the three settings before say.
    pub blocks: Blocks,
    /// Steps.
    pub steps: usize,
    /// Surface forms in a step; each is there in all its states.
    pub forms: usize,
    /// Steps between checkpoints.
    pub checkpoint_every: usize,
    /// Steps between adapters that are kept beside the final one, step 0 and the last step among them; 0: only the final one.
    pub keep_every: usize,
    /// Prompts: a design as `[prompts]` of a study has it, on top of [`training_design`].
    pub prompts: Table,
    /// The optimiser.
    pub optimizer: OptimizerSettings,
    /// Terms of the exact objective.
    pub objective: Coefficients,
    /// PPO.
    pub ppo: PpoSettings,
}

/// How the policy is improved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// The exact gradient of the expectation over both answers.
    #[default]
    Exact,
    /// Proximal policy optimisation on sampled answers.
    Ppo,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            reward: Value::String("strategic".to_owned()),
            opponent: Opponent::TitForTat.name().to_owned(),
            algorithm: Algorithm::Exact,
            rank: 8,
            alpha: 16.0,
            rslora: false,
            modules: Vec::new(),
            layers: Vec::new(),
            heads: Heads::default(),
            blocks: Blocks::default(),
            steps: 80,
            forms: 1,
            checkpoint_every: 10,
            keep_every: 0,
            prompts: Table::new(),
            optimizer: OptimizerSettings::default(),
            objective: Coefficients::default(),
            ppo: PpoSettings::default(),
        }
    }
}

/// The prompts of training where nothing else is said: the Prisoner's Dilemma in the four states of the last round, 32
/// surface forms (two wordings, all orders); the first symbol, `action1`, always means to cooperate.
pub fn training_design() -> Design {
    Design {
        scenarios: Scenario::ALL.iter().copied().filter(|s| !s.tempts()).collect(),
        wording: vec![Wording::Structured, Wording::Unstructured],
        labels: vec![Labels::Straight],
        ..Design::crossed()
    }
}

impl Settings {
    /// From a TOML table; what it does not name has its default.
    ///
    /// # Errors
    /// [`Error::Settings`] for an unknown key or a value of the wrong type, and what [`Settings::check`] says.
    pub fn from_table(table: Table) -> Result<Self> {
        let settings: Settings = table
            .try_into()
            .map_err(|e: toml::de::Error| Error::Settings(e.to_string().trim_end().replace('\n', " ")))?;
        settings.check()?;
        Ok(settings)
    }

    /// Whether every value can be.
    ///
    /// # Errors
    /// The first that can't.
    pub fn check(&self) -> Result<()> {
        self.reward()?;
        self.opponent()?;
        let named = self.modules()?;
        if !(self.blocks.0.is_empty()
            || named.is_empty() && self.layers.is_empty() && self.heads.0.is_empty())
        {
            let why =
                "they say already where is trained; leave `modules`, `layers` and `heads` out".to_owned();
            return Err(Error::Setting { key: "blocks".to_owned(), why });
        }
        let (o, c, p) = (&self.optimizer, &self.objective, &self.ppo);
        at_least_one("rank", self.rank)?;
        at_least_one("steps", self.steps)?;
        at_least_one("forms", self.forms)?;
        at_least_one("checkpoint_every", self.checkpoint_every)?;
        at_least_one("ppo.samples", p.samples)?;
        at_least_one("ppo.epochs", p.epochs)?;
        let positive = |v: f64| v > 0.0;
        let not_negative = |v: f64| v >= 0.0;
        let share = |v: f64| (0.0..=1.0).contains(&v);
        let memory = |v: f64| (0.0..1.0).contains(&v);
        number("alpha", self.alpha, positive, "positive")?;
        number("optimizer.learning_rate", o.learning_rate, positive, "positive")?;
        number("optimizer.final_rate", o.final_rate, share, "from 0 to 1")?;
        number("optimizer.beta_1", o.beta_1, memory, "from 0 to less than 1")?;
        number("optimizer.beta_2", o.beta_2, memory, "from 0 to less than 1")?;
        number("optimizer.epsilon", o.epsilon, positive, "positive")?;
        number("optimizer.weight_decay", o.weight_decay, not_negative, "0 or more")?;
        number("optimizer.clip", o.clip, positive, "positive")?;
        number("objective.mass", c.mass, not_negative, "0 or more")?;
        number("objective.mass_until", c.mass_until, |v| v > 0.0 && v <= 1.0, "above 0 and at most 1")?;
        number("objective.kl", c.kl, not_negative, "0 or more")?;
        number("objective.reverse_kl", c.reverse_kl, not_negative, "0 or more")?;
        number("objective.mass_kl", c.mass_kl, not_negative, "0 or more")?;
        number("ppo.clip", p.clip, |v| v > 0.0 && v < 1.0, "above 0 and below 1")?;
        number("ppo.kl_coefficient", p.kl_coefficient, not_negative, "0 or more")?;
        number("ppo.kl_target", p.kl_target, not_negative, "0 or more")?;
        number("ppo.kl_horizon", p.kl_horizon, positive, "positive")
    }

    /// The reward.
    pub fn reward(&self) -> Result<Reward> {
        Ok(Reward::from_value(&self.reward)?)
    }

    /// The opponent.
    pub fn opponent(&self) -> Result<Opponent> {
        Ok(Opponent::from_str(&self.opponent)?)
    }

    /// The design of the prompts.
    pub fn design(&self) -> Result<Design> {
        let mut table = training_design().to_table();
        for (key, value) in &self.prompts {
            table.insert(key.clone(), value.clone());
        }
        Ok(Design::from_table(&table)?)
    }

    /// The games of the design.
    pub fn games(&self) -> Result<Vec<Game>> {
        Ok(self.design()?.games)
    }

    /// The modules named, in the order of a layer; empty where none is.
    pub fn modules(&self) -> Result<Vec<Module>> {
        let mut modules: Vec<Module> = self.modules.iter().map(|n| module(n)).collect::<Result<_>>()?;
        modules.sort_unstable();
        modules.dedup();
        Ok(modules)
    }
}

/// A module by its full name (`attn.q_proj`), without its place (`q_proj`), or short (`q`).
fn module(name: &str) -> Result<Module> {
    let last = |m: &Module| m.name().rsplit('.').next().unwrap_or_default().to_owned();
    module_named(name).ok_or_else(|| {
        let known: Vec<String> = Module::ALL.iter().map(last).collect();
        let why = format!("`{name}` is no module; there are {}", known.join(", "));
        Error::Setting { key: "modules".to_owned(), why }
    })
}

fn at_least_one(key: &str, value: usize) -> Result<()> {
    number(key, value as f64, |v| v >= 1.0, "1 or more")
}

fn number(key: &str, value: f64, good: impl Fn(f64) -> bool, right: &str) -> Result<()> {
    if value.is_finite() && good(value) {
        return Ok(());
    }
    Err(Error::Setting { key: key.to_owned(), why: format!("`{value}` can't be; it must be {right}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Settings> {
        Settings::from_table(text.parse().unwrap())
    }

    #[test]
    fn nothing_given_is_all_defaults_and_they_come_back() {
        let settings = read("").unwrap();
        assert_eq!(settings, Settings::default());
        let text = toml::to_string(&settings).unwrap();
        assert_eq!(read(&text).unwrap(), settings);
        assert_eq!(settings.design().unwrap().build().unwrap().items.len(), 32 * 4);
    }

    #[test]
    fn what_is_given_counts() {
        let text = "reward = 'hybrid'\nalgorithm = 'ppo'\nheads = ['2.5', 7]\nmodules = ['v', 'attn.q_proj', 'q_proj']\n\
                    [prompts]\nlabels = ['straight', 'swapped']\n[optimizer]\nlearning_rate = 1e-3\n[ppo]\nsamples = 3";
        let settings = read(text).unwrap();
        assert_eq!(settings.reward().unwrap().name, "hybrid");
        assert_eq!(settings.algorithm, Algorithm::Ppo);
        assert_eq!(settings.modules().unwrap(), [Module::Q, Module::V]);
        assert_eq!(settings.heads.to_string(), "2.5, 7");
        assert_eq!(settings.optimizer.learning_rate, 1e-3);
        assert_eq!((settings.ppo.samples, settings.ppo.epochs), (3, 4));
        assert_eq!(settings.design().unwrap().build().unwrap().items.len(), 64 * 4);
    }

    #[test]
    fn what_can_not_be_is_refused_with_its_key() {
        let cases = [
            ("stepz = 3", "stepz"),
            ("use_dora = true", "use_dora"),
            ("steps = 0", "setting `steps`: `0` can't be; it must be 1 or more"),
            ("rank = -1", "rank"),
            ("alpha = nan", "setting `alpha`: `NaN` can't be; it must be positive"),
            ("modules = ['qq']", "setting `modules`: `qq` is no module; there are q_proj, k_proj"),
            ("blocks = ['2 q']", "`2 q` is no block; write it as surgery does"),
            ("blocks = ['L2 q']\nlayers = [2]", "setting `blocks`: they say already where is trained"),
            ("heads = ['2.x']", "`2.x` is no head; write HEAD or LAYER.HEAD"),
            ("reward = 'strategick'", "did you mean `strategic`"),
            ("opponent = 'tit'", "unknown opponent `tit`"),
            ("algorithm = 'sac'", "sac"),
            ("[optimizer]\nbeta_1 = 1.0", "setting `optimizer.beta_1`: `1` can't be"),
            ("[objective]\nklx = 1.0", "klx"),
            ("[ppo]\nclip = 1.5", "setting `ppo.clip`"),
        ];
        for (text, expected) in cases {
            let message = read(text).expect_err(text).to_string();
            assert!(message.contains(expected), "{text}: {message}");
        }
        let wrong = read("[prompts]\nscenarioz = ['CC_continue']").unwrap().design().unwrap_err().to_string();
        assert!(wrong.contains("scenarioz"), "{wrong}");
    }
}
