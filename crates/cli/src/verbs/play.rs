//! `lorascope play`: matrix games of models against strategies and against each other.

use crate::args::PlayArgs;
use crate::progress::Bars;
use anyhow::{Context, Result};
use lorascope_games::Reward;
use lorascope_play::{Adversary, Settings};
use lorascope_study::open::{Asked, open, today};
use lorascope_study::pipeline::{Plan, run as run_plan};
use lorascope_study::registry::PLAY;
use lorascope_text::Wrapping;
use std::process::ExitCode;

/// Plays.
pub fn run(args: &PlayArgs) -> Result<ExitCode> {
    let settings = settings(args)?;
    let set = settings.prompt_set()?;
    let threads = args.models.machine.take()?;
    let bars = Bars::default();
    let opened = open(&args.models.models(), args.out.seed, &bars)?;
    let plan = Plan {
        command: PLAY.name().to_owned(),
        title: PLAY.title().to_owned(),
        analyses: vec![(PLAY, serde_json::to_value(&settings)?)],
        edits: Vec::new(),
        seed: args.out.seed,
        nf4: args.models.nf4,
        threads,
        memory: args.models.machine.memory,
    };
    let wrapping = if args.raw { Wrapping::Raw } else { Wrapping::Auto };
    let asked = Asked { set, answers: None, wrapping, now: Some(today()) };
    run_plan(&plan, opened, &asked, &args.out.out, &bars)?;
    Ok(ExitCode::SUCCESS)
}

/// The file's settings with what the flags say instead.
fn settings(args: &PlayArgs) -> Result<Settings> {
    let mut settings = match &args.from {
        None => Settings::default(),
        Some(path) => {
            let text =
                std::fs::read_to_string(path).with_context(|| format!("settings {}", path.display()))?;
            Settings::from_toml(&text).with_context(|| format!("settings {}", path.display()))?
        }
    };
    settings.rounds = args.rounds.unwrap_or(settings.rounds);
    settings.repetitions = args.repetitions.unwrap_or(settings.repetitions);
    if !args.opponents.is_empty() {
        settings.opponents =
            args.opponents.iter().map(|name| name.parse()).collect::<Result<Vec<Adversary>, _>>()?;
    }
    if !args.players.is_empty() {
        settings.players.clone_from(&args.players);
    }
    if !args.rewards.is_empty() {
        settings.rewards = args.rewards.iter().map(|name| Reward::named(name)).collect::<Result<_, _>>()?;
    }
    if !args.games.is_empty() {
        settings.prompts.set("games", &args.games.join(","))?;
    }
    for (factor, levels) in &args.factors {
        settings.prompts.set(factor, levels)?;
    }
    settings.start = args.start.unwrap_or(settings.start);
    settings.actions = args.actions.unwrap_or(settings.actions);
    settings.policies = args.policies.unwrap_or(settings.policies);
    settings.check()?;
    Ok(settings)
}
