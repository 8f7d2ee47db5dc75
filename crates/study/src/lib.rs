//! From words to results: names of models to loaded ones, study files to plans, plans to run folders with tables, figures and report.
//!
//! It is what the command line and the Python package share. It knows where models come from and what a study is; it does not know
//! how a user says it, or how progress is shown ([`Listener`]).

pub mod checkpoints;
pub mod controls;
mod cost;
mod embedded;
pub mod explore;
pub mod export;
mod listener;
pub mod machine;
mod models;
pub mod names;
pub mod node;
pub mod open;
pub mod pipeline;
pub mod prepared;
pub mod registry;
mod reopen;
pub mod report_files;
mod sent;
pub mod study_file;
pub mod training;

pub use listener::Listener;
pub use models::{Models, Nf4};
pub use sent::is_here;

/// An error with its causes, each told once: some messages hold those of their causes already. Control characters, which names from
/// files may have and terminals obey, are written out.
pub fn told(error: &anyhow::Error) -> String {
    let told = error.chain().map(ToString::to_string).fold(String::new(), |told, cause| {
        match told.contains(&cause) {
            _ if told.is_empty() => cause,
            true => told,
            false => format!("{told}: {cause}"),
        }
    });
    let written_out = |c: char| c.is_control() && c != '\n';
    match told.contains(written_out) {
        true => told
            .chars()
            .map(|c| if written_out(c) { c.escape_default().to_string() } else { c.to_string() })
            .collect(),
        false => told,
    }
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
        let hostile = anyhow!("no tensor `\u{1b}[2J\u{9b}x`\nthere");
        assert_eq!(told(&hostile), "no tensor `\\u{1b}[2J\\u{9b}x`\nthere");
    }
}
