//! The command `lorascope`: parses words, opens what they name, calls the library, draws progress.
//!
//! A verb is a file in `verbs/`. The verbs of analyses are not written here: they come from the registry.

mod args;
mod interrupt;
mod progress;
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
            args::Verb::Devices(a) => verbs::devices::run(&a),
            args::Verb::Report(a) => verbs::report::run(&a),
            args::Verb::Train(a) => verbs::train::run(&a),
            args::Verb::Confirm(a) => verbs::confirm::run(&a),
        }),
    };
    match result {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {}", lorascope_study::told(&error));
            ExitCode::from(1)
        }
    }
}
