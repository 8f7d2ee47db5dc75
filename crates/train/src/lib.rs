//! Training of LoRA adapters by reinforcement on games.
//!
//! The way data takes: [`Settings`] and a model's specification become [`Targets`] (which matrices, which parts of them)
//! and [`Factors`] (as PEFT begins them). A [`Pool`] holds the prompts, each state with what both actions are worth.
//! [`train`] walks through it: a [`Policy`] gives log-probabilities of the answers and takes back a gradient of them, an
//! objective says which, and AdamW moves the factors. [`ModelPolicy`] is the policy that a language model has.
//!
//! This crate knows no command line, and no arithmetic of models.

mod adapter;
mod blocks;
mod checkpoint;
pub mod confirm;
mod error;
mod figures;
mod heads;
mod keep;
mod metrics;
mod model_policy;
mod objective;
mod optimizer;
mod policy;
mod pool;
mod ppo;
mod settings;
mod supervised;
mod targets;
mod trainer;

pub use adapter::{CONFIG, Factor, Factors, WEIGHTS, config, config_text, write_folder};
pub use blocks::{BlockName, BlockPart, Blocks};
pub use checkpoint::{Checkpoint, Progress};
pub use error::{Error, Result};
pub use figures::figures;
pub use heads::{HeadName, Heads};
pub use keep::{CHECKPOINTS, Kept, step_folder};
pub use metrics::{StateStep, Step, TABLES, TRAINING, TRAINING_STATES, states_table, training_table};
pub use model_policy::{Asked, ModelPolicy};
pub use objective::{Coefficients, LogProbs, Odds, Stake, Valued};
pub use optimizer::{AdamW, OptimizerSettings};
pub use policy::{Policy, Spellings, Weigh};
pub use pool::{Form, Pool, State};
pub use ppo::PpoSettings;
pub use settings::{Algorithm, Settings, training_design};
pub use supervised::{Learned, Lesson, Pupil};
pub use targets::{Part, Target, Targets};
pub use trainer::{Keeper, LEAST_MASS, Outcome, Training, Watch};
