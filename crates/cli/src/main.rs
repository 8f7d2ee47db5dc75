//! The command `lorascope`: parses words, opens what they name, calls the library, draws progress.
//!
//! A verb is a file in `verbs/`. The verbs of analyses are not written here: they come from the registry.

mod args;
mod checkpoints;
mod controls;
mod cost;
mod embedded;
mod open;
mod pipeline;
mod progress;
mod registry;
mod report_files;
mod study_file;
mod training;
mod verbs;

use clap::{CommandFactory, FromArgMatches};
use std::process::ExitCode;

fn main() -> ExitCode {
    let matches = verbs::with_analyses(args::Cli::command()).get_matches();
    let result = match matches.subcommand() {
        Some((name, sub)) if lorascope_analyses::analysis(name).is_some() => {
            let flags = verbs::analyse::given_flags(name, sub);
            args::AnalyseArgs::from_arg_matches(sub)
                .map_err(Into::into)
                .and_then(|a| verbs::analyse::run(name, &a, flags))
        }
        _ => args::Cli::from_arg_matches(&matches).map_err(Into::into).and_then(|cli| match cli.verb {
            args::Verb::Info(a) => verbs::info::run(&a),
            args::Verb::Check(a) => verbs::check::run(&a),
            args::Verb::Prompts(a) => verbs::prompts::run(&a),
            args::Verb::Play(a) => verbs::play::run(&a),
            args::Verb::Explore(a) => verbs::explore::run(&a),
            args::Verb::Study(a) => verbs::study::run(&a),
            args::Verb::Report(a) => verbs::report::run(&a),
            args::Verb::Train(a) => verbs::train::run(&a),
            args::Verb::Confirm(a) => verbs::confirm::run(&a),
        }),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", told(&error));
            ExitCode::from(1)
        }
    }
}

/// An error with its causes, each told once: some messages hold those of their causes already.
fn told(error: &anyhow::Error) -> String {
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
