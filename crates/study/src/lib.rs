//! From words to results: names of models to loaded ones, study files to plans, plans to run folders with tables, figures and report.
//!
//! It is what the command line and the Python package share. It knows where models come from and what a study is; it does not know
//! how a user says it, or how progress is shown ([`Listener`]).

pub mod checkpoints;
pub mod controls;
mod cost;
mod embedded;
pub mod export;
mod listener;
mod models;
pub mod names;
pub mod open;
pub mod pipeline;
pub mod registry;
pub mod report_files;
pub mod study_file;
pub mod training;

pub use listener::Listener;
pub use models::{Models, Nf4};

/// An error with its causes, each told once: some messages hold those of their causes already.
pub fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.contains(&cause) {
        _ if told.is_empty() => cause,
        true => told,
        false => format!("{told}: {cause}"),
    })
}

#[cfg(test)]
mod tests {
    use super::told;
    use anyhow::anyhow;

    #[test]
    fn every_cause_is_told_once() {
        let plain = anyhow!("no such file").context("prompts.json");
        assert_eq!(told(&plain), "prompts.json: no such file");
        let repeated = anyhow!("no such file").context("prompts.json: no such file").context("reading");
        assert_eq!(told(&repeated), "reading: prompts.json: no such file");
    }
}
