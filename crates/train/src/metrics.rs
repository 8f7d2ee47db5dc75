//! What is written down of every step, and its two tables.

use crate::error::Result;
use crate::pool::Pool;
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text};
use lorascope_record::{Cell, ColumnKind, ColumnSpec, Table, TableSpec};
use serde::{Deserialize, Serialize};

/// One step, measured before its update.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Surface forms of the step, as indices of the pool.
    pub forms: Vec<usize>,
    /// The objective, in points: mean over states.
    pub objective: f64,
    /// Euclidean norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// PPO's weight of the divergence.
    pub kl_coefficient: Option<f64>,
    /// One entry a state.
    pub states: Vec<StateStep>,
}

/// One state of one step.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StateStep {
    /// Index of the prompt in the pool.
    pub prompt: usize,
    /// Expected reward among the two answers, in points.
    pub reward: f64,
    /// Probability to defect among the two answers.
    pub p_defect: f64,
    /// Probability of giving either answer.
    pub legal_mass: f64,
    /// KL(q ‖ q of the base), in nats.
    pub kl: f64,
}

impl Step {
    /// Mean over states.
    pub fn mean(&self, value: impl Fn(&StateStep) -> f64) -> f64 {
        self.states.iter().map(value).sum::<f64>() / self.states.len() as f64
    }
    /// Mean expected reward.
    pub fn reward(&self) -> f64 {
        self.mean(|s| s.reward)
    }
    /// Mean probability to cooperate among the two answers.
    pub fn cooperation(&self) -> f64 {
        self.mean(|s| 1.0 - s.p_defect)
    }
    /// Mean divergence from the base.
    pub fn kl(&self) -> f64 {
        self.mean(|s| s.kl)
    }
    /// Mean probability of giving either answer.
    pub fn legal_mass(&self) -> f64 {
        self.mean(|s| s.legal_mass)
    }
}

pub(crate) const fn column(
    name: &'static str,
    kind: ColumnKind,
    unit: &'static str,
    doc: &'static str,
) -> ColumnSpec {
    ColumnSpec { name, kind, unit, doc }
}

/// The curve of a training.
pub static TRAINING: TableSpec = TableSpec {
    name: "training",
    doc: "One step of training, measured on its own prompts before its update.",
    columns: &[
        column("step", Int, "", "The step, from 0."),
        column("forms", Text, "", "The surface forms of the step, with `; ` between."),
        column(
            "objective",
            Float,
            "point",
            "What is maximised, mean over states; for PPO the expected reward with its penalty.",
        ),
        column("reward", Float, "point", "Expected reward among the two answers, mean over states."),
        column("cooperation", Float, "", "Probability to cooperate among the two answers, mean over states."),
        column("kl", Float, "nat", "KL(policy ‖ base) among the two answers, mean over states."),
        column("legal_mass", Float, "", "Probability of giving either answer, mean over states."),
        column(
            "gradient_norm",
            Float,
            "point",
            "Euclidean norm of the gradient before clipping; for PPO of the first epoch.",
        ),
        column("learning_rate", Float, "", "Learning rate."),
        column(
            "kl_coefficient",
            FloatOrNull,
            "point",
            "PPO's weight of the divergence; null for the exact gradient.",
        ),
    ],
};

/// The same by state.
pub static TRAINING_STATES: TableSpec = TableSpec {
    name: "training_states",
    doc: "One state of one step of training, measured before the step's update.",
    columns: &[
        column("step", Int, "", "The step, from 0."),
        column("prompt_id", Text, "", "The prompt's id."),
        column("state", Text, "", "Own and opponent's last move: `CC`, `CD`, `DC`, `DD`."),
        column("reward_cooperate", Float, "point", "What cooperating is worth in this state."),
        column("reward_defect", Float, "point", "What defecting is worth in this state."),
        column("reward", Float, "point", "Expected reward among the two answers."),
        column("p_defect", Float, "", "Probability to defect among the two answers."),
        column("legal_mass", Float, "", "Probability of giving either answer."),
        column("kl", Float, "nat", "KL(policy ‖ base) among the two answers."),
    ],
};

/// All tables of a training.
pub static TABLES: &[&TableSpec] = &[&TRAINING, &TRAINING_STATES];

/// The curve as a table.
///
/// # Errors
/// A number that is not finite.
pub fn training_table(steps: &[Step], pool: &Pool) -> Result<Table> {
    let mut table = Table::new(&TRAINING);
    for (at, step) in steps.iter().enumerate() {
        let forms: Vec<&str> = step.forms.iter().map(|&f| pool.forms[f].name.as_str()).collect();
        let cells: [Cell; 10] = [
            at.into(),
            forms.join("; ").into(),
            step.objective.into(),
            step.reward().into(),
            step.cooperation().into(),
            step.kl().into(),
            step.legal_mass().into(),
            step.gradient_norm.into(),
            step.learning_rate.into(),
            step.kl_coefficient.into(),
        ];
        table.push(&cells)?;
    }
    Ok(table)
}

/// The states of all steps as a table.
///
/// # Errors
/// A number that is not finite.
pub fn states_table(steps: &[Step], pool: &Pool) -> Result<Table> {
    let mut table = Table::new(&TRAINING_STATES);
    for (at, step) in steps.iter().enumerate() {
        for of_state in &step.states {
            let state = &pool.states[of_state.prompt];
            let cells: [Cell; 9] = [
                at.into(),
                state.item.id.as_str().into(),
                state_name(state.last).into(),
                state.stake.rewards[0].into(),
                state.stake.rewards[1].into(),
                of_state.reward.into(),
                of_state.p_defect.into(),
                of_state.legal_mass.into(),
                of_state.kl.into(),
            ];
            table.push(&cells)?;
        }
    }
    Ok(table)
}

/// Own and opponent's last move, e.g. `CD`.
pub fn state_name(last: lorascope_games::History) -> String {
    format!("{}{}", last.own.letter(), last.opponent.letter())
}
