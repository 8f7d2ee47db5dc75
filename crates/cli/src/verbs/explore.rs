//! `lorascope explore`: the explorer on the models and prompts of a run, or on others.

mod reopen;

use crate::args::ExploreArgs;
use crate::progress::Bars;
use anyhow::{Context, Result};
use lorascope_analyses::ModelEdit;
use lorascope_explore::{Explorer, Options, Source, start};
use lorascope_games::Design;
use lorascope_record::InputFile;
use lorascope_study::checkpoints::with_checkpoints;
use lorascope_study::controls::written_control;
use lorascope_study::open::{Asked, open, read_prompts, today};
use lorascope_study::prepared::ROWS_SHARE;
use lorascope_study::study_file::date_of_seconds;
use lorascope_study::{Models, Nf4};
use lorascope_text::Wrapping;
use std::process::{Command, ExitCode, Stdio};

/// What is explored.
struct Explored {
    models: Models,
    asked: Asked,
    seed: u64,
    edits: Vec<ModelEdit>,
    /// What a run was made with, which must still be so.
    inputs: Vec<InputFile>,
}

/// Opens models and prompts and serves until ctrl-C.
pub fn run(args: &ExploreArgs) -> Result<ExitCode> {
    args.machine.take()?;
    let bars = Bars::default();
    let explored = match &args.run {
        Some(folder) => reopen::explored(folder, args)?,
        None => named(args)?,
    };
    let Explored { models, asked, seed, edits, inputs } = explored;
    let opened = open(&models, seed, &bars)?;
    reopen::check_inputs(&inputs, &opened.inputs)?;
    let (subject, _) = opened.into_subject(&asked)?;
    let made = subject.model.adapters().iter().filter_map(|a| {
        let made = a.control.as_ref()?;
        Some(written_control(&a.name, &made.of, made.kind.name(), made.seed))
    });
    let dated = subject.tokenizer.chat_depends_on_date() && asked.wrapping != Wrapping::Raw;
    let source = Source {
        base: absolute(&models.base),
        adapters: models.adapters.iter().map(|(name, path)| (name.clone(), absolute(path))).collect(),
        controls: made.collect(),
        nf4: models.nf4.map(|from| Nf4::name(from).to_owned()),
        raw: asked.wrapping == Wrapping::Raw,
        date: asked.now.filter(|_| dated).and_then(date_of_seconds),
        answers: asked.answers.clone(),
        seed,
    };
    let explorer = Explorer::new(subject, asked.set, source, edits, models.memory / ROWS_SHARE);
    let options =
        Options { host: args.host.clone(), port: args.port, until_ctrl_c: true, ..Options::default() };
    let running = start(explorer, &options)?;
    if !running.address().ip().is_loopback() {
        eprintln!(
            "warning: {} can be reached from other machines; whoever has the address below can ask this one",
            running.address()
        );
    }
    println!("{}", running.url());
    eprintln!("open this address in a browser; ctrl-C ends the server");
    if args.open {
        open_in_browser(running.url());
    }
    running.wait();
    Ok(ExitCode::SUCCESS)
}

/// Models and prompts that the command line names.
fn named(args: &ExploreArgs) -> Result<Explored> {
    let base = args.base.clone().context("name a run folder, or a base with --base")?;
    let models = Models {
        base,
        // By name each, so that an exported study names them too.
        adapters: with_checkpoints(&args.adapters, &args.checkpoints)?,
        checkpoints: Vec::new(),
        controls: args.controls.clone(),
        save_controls: None,
        nf4: args.nf4,
        memory: args.machine.memory,
    };
    let set = match &args.prompts {
        Some(path) => read_prompts(path)?,
        None => Design::fifteen().build()?,
    };
    let wrapping = if args.raw { Wrapping::Raw } else { Wrapping::Auto };
    let asked = Asked { set, answers: args.answers.clone(), wrapping, now: Some(today()) };
    Ok(Explored { models, asked, seed: 0, edits: Vec::new(), inputs: Vec::new() })
}

/// A local path as it is from everywhere; a hub id or an embedded name as it is.
fn absolute(spec: &str) -> String {
    let path = std::path::Path::new(spec);
    let full = path.exists().then(|| std::path::absolute(path).ok()).flatten();
    full.map_or_else(|| spec.to_owned(), |p| p.to_string_lossy().into_owned())
}

/// Asks the system to open an address; where it can't, the user still has it in the terminal.
fn open_in_browser(url: &str) {
    let (program, first): (&str, &[&str]) = if cfg!(target_os = "macos") {
        ("open", &[])
    } else if cfg!(windows) {
        ("explorer", &[])
    } else {
        ("xdg-open", &[])
    };
    let started = Command::new(program)
        .args(first)
        .arg(url)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    if let Err(e) = started {
        eprintln!("note: no browser could be opened ({program}: {e})");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::{Cli, Verb};
    use clap::Parser;

    #[test]
    fn checkpoints_are_adapters_by_name_so_that_an_export_has_them() {
        let dir = tempfile::tempdir().unwrap();
        for step in ["step-000000", "step-000020"] {
            std::fs::create_dir(dir.path().join(step)).unwrap();
            std::fs::write(dir.path().join(step).join("adapter_config.json"), "{}").unwrap();
        }
        let checkpoints = format!("s={}", dir.path().display());
        let line = ["lorascope", "explore", "--base", "b", "--adapter", "a=x", "--checkpoints", &checkpoints];
        let Verb::Explore(args) = Cli::parse_from(line).verb else { panic!("another verb") };
        let explored = named(&args).unwrap();
        let names: Vec<&str> = explored.models.adapters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "s@0", "s@20"]);
        assert!(explored.models.checkpoints.is_empty());
    }
}
