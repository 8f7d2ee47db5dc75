//! One file per verb; the analyses share one.

pub mod analyse;
pub mod check;
pub mod info;
pub mod prompts;
pub mod study;

use crate::args::AnalyseArgs;
use clap::{Args, Command};
use lorascope_analyses::ANALYSES;

/// Adds a verb for every analysis of the registry.
pub fn with_analyses(mut command: Command) -> Command {
    for analysis in ANALYSES {
        let name = analysis.name();
        let example = format!(
            "Example:\n  lorascope {name} --base BASE --adapter moral=./PT3_deontological --prompts prompts.json --out runs/{name}"
        );
        let tables: Vec<&str> = analysis.tables().iter().map(|t| t.name).collect();
        let about = format!("{} ({})", analysis.question(), tables.join(", "));
        command = command
            .subcommand(AnalyseArgs::augment_args(Command::new(name)).about(about).after_help(example));
    }
    command
}
