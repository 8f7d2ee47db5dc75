//! `lorascope prompts`: builds a set of game prompts.

use crate::args::{PromptsArgs, StartDesign};
use anyhow::{Context, Result};
use lorascope_games::Design;
use std::process::ExitCode;

/// Builds and writes the set.
pub fn run(args: &PromptsArgs) -> Result<ExitCode> {
    let mut design = match (&args.from, args.design) {
        (Some(path), _) => {
            let text = std::fs::read_to_string(path).with_context(|| format!("design {}", path.display()))?;
            Design::from_toml(&text).with_context(|| format!("design {}", path.display()))?
        }
        (None, StartDesign::Default) => Design::default(),
        (None, StartDesign::Crossed) => Design::crossed(),
        (None, StartDesign::Fifteen) => Design::fifteen(),
    };
    for (factor, levels) in &args.factors {
        design.set(factor, levels)?;
    }
    let set = design.build()?;
    set.write(&args.out)?;
    println!("{}: {} prompts", args.out.display(), set.items.len());
    Ok(ExitCode::SUCCESS)
}
