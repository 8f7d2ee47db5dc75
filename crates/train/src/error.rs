//! What can keep a training from beginning, going on, or ending.

/// An error of training; messages say what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Running the model.
    #[error(transparent)]
    Engine(#[from] lorascope_engine::Error),
    /// Prompts and answers as tokens.
    #[error(transparent)]
    Prompts(#[from] lorascope_analyses::Error),
    /// Games, rewards and their prompts.
    #[error(transparent)]
    Games(#[from] lorascope_games::GamesError),
    /// The run folder; a checkpoint that was there before is still whole.
    #[error(transparent)]
    Record(#[from] lorascope_record::Error),
    /// A setting that can't be.
    #[error("setting `{key}`: {why}")]
    Setting {
        /// Its key, with dots between tables.
        key: String,
        /// What is wrong and what would be right.
        why: String,
    },
    /// Settings that are not TOML, or have a key that nobody reads or a value of the wrong type.
    #[error("settings of training: {0}")]
    Settings(String),
    /// A place to train that the model does not have.
    #[error("targets: {0}")]
    Targets(String),
    /// A reward that is not a number.
    #[error("the reward of `{action}` on prompt `{prompt}` is `{value}`; a reward must be a finite number")]
    Reward {
        /// The prompt.
        prompt: String,
        /// `cooperate` or `defect`.
        action: &'static str,
        /// What came out.
        value: f64,
    },
    /// A reward that is the same for both actions wherever it was asked.
    #[error(
        "the reward never distinguishes the two actions in any of the {states} states of the prompts: there is nothing to \
         learn; choose another reward, opponent or game"
    )]
    Indifferent {
        /// States that were asked.
        states: usize,
    },
    /// Prompts from which no form can be made.
    #[error("the design of prompts has no states to train on")]
    NoPrompts,
    /// The base all but never gives either answer, so that nothing can be learnt from it.
    #[error(
        "prompt `{prompt}`: the base gives the two answers together a probability of {mass:.1e}, below {least:.0e}: no \
         gradient would come through; use other symbols, a chat template (no `--raw`), or another base"
    )]
    CannotAnswer {
        /// The prompt.
        prompt: String,
        /// Probability of both answers on the base.
        mass: f64,
        /// The least that is taken.
        least: f64,
    },
    /// Sampling would hardly ever draw one of the two answers.
    #[error(
        "the base gives the two answers a mean probability of {mass:.1e}: of the {samples} samples of the whole training \
         about {expected:.1} would be an answer, and PPO learns from samples alone; use `algorithm = \"exact\"`, or more \
         `ppo.samples`"
    )]
    NeverSampled {
        /// Mean probability of both answers on the base.
        mass: f64,
        /// Samples of all steps.
        samples: usize,
        /// How many of them would be legal.
        expected: f64,
    },
    /// A value of the objective or its gradient that is not finite.
    #[error(
        "step {step}: {what} is not finite; the training has diverged (lower `learning_rate`), and the last checkpoint is kept"
    )]
    Diverged {
        /// The step, from 0.
        step: usize,
        /// Which number.
        what: &'static str,
    },
    /// A checkpoint that does not fit this training; a bug, because its run is the same.
    #[error("the checkpoint can't be gone on from: {0}")]
    Checkpoint(String),
    /// The weights could not be put into their form.
    #[error("adapter weights: {0}")]
    Safetensors(#[from] safetensors::SafeTensorError),
    /// A policy that gives something else than was asked.
    #[error("the policy gave {0}")]
    Policy(String),
    /// A prediction that can't be tested.
    #[error("confirm: {0}")]
    Confirm(String),
    /// Figures.
    #[error(transparent)]
    Report(#[from] lorascope_report::Error),
}

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Whether nothing is wrong, but somebody wants the training to end ([`lorascope_engine::Model::stop_when`]).
    pub fn is_stop(&self) -> bool {
        matches!(self, Self::Engine(lorascope_engine::Error::Stopped))
    }
}
