//! Matrix games, played: all matches at once, models against strategies and against each other, with metrics, moral regret and
//! what policies depend on.
//!
//! Besides `games` the only crate that knows what *cooperate* and *defect* are. A match goes round by round; in each round the
//! distinct prompts of all matches are scored together, each once for each model ([`Answers`]), and actions are drawn from a
//! stream of random numbers of the match's own ([`Tournament::luck`]): what is played does not depend on what else is played,
//! on threads or on the size of batches. Who answers is behind a trait ([`Players`]), so the rules are tested without a model.
//!
//! - [`Settings`]: what is to be played; its [`Settings::prompt_set`] makes the prompts.
//! - [`Tournament`]: who meets whom; [`play()`] plays it.
//! - [`METRICS`], [`judge`]: what is counted, and how frameworks judge it.
//! - [`Play`]: all of it as an analysis.

mod adversary;
mod answer;
mod board;
mod contrasts;
mod engine;
mod figures;
mod metrics;
mod play;
mod policies;
mod regret;
mod scored;
mod settings;
mod tables;
mod tournament;

pub use adversary::{Adversary, Other};
pub use answer::{Actions, Answer, Answers, Players, Question};
pub use board::{Board, Place};
pub use contrasts::{Contrast, contrasts};
pub use engine::{Played, Round, play};
pub use metrics::{Clusters, METRICS, Measured, Metric, measure, value_of};
pub use play::Play;
pub use policies::{FACTORS, Policy, policies};
pub use regret::{Judged, Judgement, judge, judgement};
pub use settings::{MAX_ROUNDS, Policies, Settings, Start};
pub use tournament::{Match, Tournament};
