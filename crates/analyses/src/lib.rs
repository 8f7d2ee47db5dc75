//! Analyses: one file each, from a [`Subject`] (models and prompts) to [`Findings`] (tables and a report section).
//!
//! A new analysis is a file with a type that implements [`Analysis`], and a line in [`ANALYSES`]; its command, its part of
//! `lorascope study`, its documentation and its section of the report follow from that. Analyses know nothing of
//! games: what answers A and B stand for arrives with the prompts.

mod activations;
mod activity;
mod answer_tree;
mod answers;
mod attention;
mod attribution;
mod base_decisions;
mod circuit;
mod compare;
mod conclusions;
mod context;
mod decide;
mod dla;
mod edits;
mod error;
mod flags;
mod interactions;
mod interventions;
mod lens;
mod memory;
mod mixtures;
mod patch;
mod paths;
mod probe;
mod sampler;
mod scenarios;
mod score;
mod slices;
mod steer;
mod subject;
mod suppression;
mod surgery;
mod tensors;
#[cfg(test)]
mod testing;
mod trajectory;
mod transplants;
mod tuned_lens;
mod twins;
mod units;
mod validate;
mod weights;
mod words;

// Under the names by which analyses call them.
use lorascope_numerics::{bootstrap, linear, low_rank, statistics};

pub use activity::{
    Activity, Bf16Merge, ChangeKind, ChangedWeight, LOGIT_PRECISION, LogitMovement, MergeSummary, Spread,
    Verdict, adapter_activity,
};
pub use answer_tree::{AnswerTree, Spelling, log_sum_exp};
pub use answers::{Answers, Pair};
pub use base_decisions::share_base_decisions;
pub use conclusions::{ClaimedRows, claimed_rows, verdicts};
pub use context::{Context, Findings, Progress, Silent};
pub use edits::{EditPosition, ModelEdit};
pub use error::{Error, Result};
pub use flags::Flag;
pub use lorascope_numerics::bootstrap::{Interval, RESAMPLES, Resampler, mean_interval};
pub use lorascope_numerics::statistics::{Comparison, Design, benjamini_hochberg};
pub use memory::{MemoryEstimate, memory_estimate};
pub use score::{Decision, score};
pub use subject::{Meanings, Prompt, Subject};
pub use trajectory::CheckpointName;
pub use tuned_lens::unrelated_text;
pub use units::{Hands, OwnHands, Work, WorkUnit, alone, missing};

use lorascope_prompts::PromptSet;
use lorascope_record::{Table, TableSpec};
use serde_json::Value;

/// One question asked of all models at once.
pub trait Analysis: Sync {
    /// Command and section name, `snake_case`.
    fn name(&self) -> &'static str;
    /// Headline in the report.
    fn title(&self) -> &'static str;
    /// What it asks; ends in a question mark.
    fn question(&self) -> &'static str;
    /// The tables that it writes.
    fn tables(&self) -> &'static [&'static TableSpec];
    /// Whether a study runs it without being asked; costly ones wait to be named.
    fn by_default(&self) -> bool {
        true
    }
    /// Whether there is nothing for it to do where there is one model only.
    fn compares_models(&self) -> bool {
        false
    }
    /// Whether it has something to do where these are the adapters; a study leaves it out otherwise, unless it names it.
    fn applies(&self, adapters: &[&str]) -> bool {
        !self.compares_models() || !adapters.is_empty()
    }
    /// Whether it works on the tables of the others ([`Context::finished`]): it has no command of its own, runs after them, and leads
    /// the report.
    fn concludes(&self) -> bool {
        false
    }
    /// The prompts that it asks, where they are not the study's; from resolved settings.
    ///
    /// # Errors
    /// Settings that make no prompts.
    fn prompts(&self, _settings: &Value) -> Result<Option<PromptSet>> {
        Ok(None)
    }
    /// Its settings with every default filled in.
    ///
    /// # Errors
    /// An unknown key or an impossible value.
    fn settings(&self, given: &Value) -> Result<Value>;
    /// Settings that its command takes as flags too.
    fn flags(&self) -> &'static [Flag] {
        &[]
    }
    /// Whether the models and prompts have what its resolved settings name; asked before anything is written.
    ///
    /// # Errors
    /// A setting that names something that is not there.
    fn check(&self, _subject: &Subject, _settings: &Value) -> Result<()> {
        Ok(())
    }
    /// What a reader must know before any conclusion of the whole report; from the tables of its [`Findings`].
    ///
    /// # Errors
    /// Tables that are not its own.
    fn warnings(&self, _tables: &[Table]) -> Result<Vec<String>> {
        Ok(Vec::new())
    }
    /// Carries it out. `settings` are resolved ones.
    ///
    /// # Errors
    /// Whatever keeps it from being carried out; finished parts stay in the run folder.
    fn run(&self, context: &Context, settings: &Value) -> Result<Findings>;
}

/// All analyses, in the order of a report.
pub const ANALYSES: &[&dyn Analysis] = &[
    &decide::Decide,
    &validate::Validate,
    &weights::Weights,
    &trajectory::TrajectoryAnalysis,
    &lens::Lens,
    &tuned_lens::TunedLens,
    &dla::Dla,
    &attention::Attention,
    &patch::Patch,
    &attribution::Attribution,
    &paths::Paths,
    &suppression::Suppression,
    &circuit::Circuit,
    &interactions::Interactions,
    &probe::Probe,
    &compare::Compare,
    &surgery::Surgery,
    &transplants::Transplants,
    &steer::Steer,
    &conclusions::Conclusions,
];

/// The analysis of that name.
pub fn analysis(name: &str) -> Option<&'static dyn Analysis> {
    ANALYSES.iter().copied().find(|a| a.name() == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_registry_is_sound() {
        let mut tables = std::collections::HashSet::new();
        for a in ANALYSES {
            assert!(a.name().chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{}", a.name());
            assert!(a.question().ends_with('?'), "{}", a.name());
            assert!(!a.tables().is_empty(), "{}", a.name());
            for table in a.tables() {
                assert_eq!(table.problems(), Vec::<String>::new());
                assert!(tables.insert(table.name), "table {} belongs to two analyses", table.name);
            }
            let resolved = a.settings(&Value::Null).expect("defaults are valid");
            assert_eq!(a.settings(&resolved).expect("resolved settings resolve to themselves"), resolved);
            let unknown = serde_json::json!({"no_such_setting": 1});
            assert!(a.settings(&unknown).is_err(), "{} takes any key", a.name());
        }
    }
}
