//! One file per verb; the analyses share one.

pub mod analyse;
pub mod check;
pub mod confirm;
pub mod devices;
pub mod explore;
pub mod info;
pub mod play;
pub mod prompts;
pub mod report;
pub mod study;
pub mod train;

use crate::args::AnalyseArgs;
use clap::{Arg, ArgAction, Args, Command};
use lorascope_analyses::{ANALYSES, Flag};

/// Adds a verb for every analysis of the registry.
pub fn with_analyses(mut command: Command) -> Command {
    for analysis in ANALYSES.iter().filter(|a| !a.concludes()) {
        let name = analysis.name();
        let example = format!(
            "Example:\n  lorascope {name} --base BASE --adapter moral=./PT3_deontological --prompts prompts.json --out runs/{name}"
        );
        let tables: Vec<&str> = analysis.tables().iter().map(|t| t.name).collect();
        let about = format!("{} ({})", analysis.question(), tables.join(", "));
        let flag = |flag: &Flag| {
            Arg::new(flag.name)
                .long(flag.name)
                .value_name(flag.value)
                .help(flag.help)
                .action(ArgAction::Append)
        };
        let verb = AnalyseArgs::augment_args(Command::new(name)).args(analysis.flags().iter().map(flag));
        command = command.subcommand(verb.about(about).after_help(example));
    }
    command
}
