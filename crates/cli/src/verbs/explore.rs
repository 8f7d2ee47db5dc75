//! `lorascope explore`: the explorer on the models and prompts of a run, or on others.

use crate::args::ExploreArgs;
use crate::progress::Bars;
use anyhow::{Context, Result};
use lorascope_explore::{Options, start};
use lorascope_study::Models;
use lorascope_study::explore::Explored;
use lorascope_study::open::read_prompts;
use lorascope_text::Wrapping;
use std::process::{Command, ExitCode, Stdio};

/// Opens models and prompts and serves until ctrl-C.
pub fn run(args: &ExploreArgs) -> Result<ExitCode> {
    args.machine.take()?;
    let explored = match &args.run {
        Some(folder) => Explored::of_run(folder, args.machine.memory)?,
        None => named(args)?,
    };
    let explorer = explored.open(&Bars::default())?;
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
        adapters: args.adapters.clone(),
        checkpoints: args.checkpoints.clone(),
        controls: args.controls.clone(),
        save_controls: None,
        nf4: args.nf4,
        memory: args.machine.memory,
    };
    let set = args.prompts.as_deref().map(read_prompts).transpose()?;
    let wrapping = if args.raw { Wrapping::Raw } else { Wrapping::Auto };
    Explored::named(models, set, args.answers.clone(), wrapping)
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
