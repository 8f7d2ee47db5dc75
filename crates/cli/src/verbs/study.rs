//! `lorascope study`: everything that a study file asks for.

use crate::args::{ModelArgs, Nf4, StudyArgs};
use crate::checkpoints::with_checkpoints;
use crate::open::{Asked, open, set_threads};
use crate::pipeline::{Plan, run as run_plan};
use crate::progress::Bars;
use crate::study_file::StudyFile;
use anyhow::{Context, Result};
use lorascope_text::Wrapping;
use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitCode;

/// Runs the study.
pub fn run(args: &StudyArgs) -> Result<ExitCode> {
    let study = match &args.study {
        Some(path) => StudyFile::read(path)?,
        None => StudyFile::without_file(args.base.is_some())?,
    };
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(name(args)));
    let set = study.prompts.load()?;
    let n_threads = set_threads(args.threads)?;
    let file = args.study.as_deref().unwrap_or(Path::new("")).display();
    let no_base = || format!("study file {file} names no `base`; add one, or give --base");
    let base = args.base.clone().or(study.base).with_context(no_base)?;
    // The models that are given on the command line take the place of the file's.
    let (adapters, checkpoints) = match args.adapters.is_empty() && args.checkpoints.is_empty() {
        true => (study.adapters, study.checkpoints),
        false => (args.adapters.clone(), args.checkpoints.clone()),
    };
    let adapters = with_checkpoints(&adapters, &checkpoints)?;
    let names: Vec<&str> = adapters.iter().map(|(name, _)| name.as_str()).collect();
    let mut analyses = study.analyses;
    analyses.retain(|(a, _)| study.named.iter().any(|n| n == a.name()) || a.applies(&names));
    let nf4 = study.nf4.as_deref().map(|from| match from {
        "f16" => Nf4::F16,
        "bf16" => Nf4::Bf16,
        _ => Nf4::Stored,
    });
    let bars = Bars::default();
    let controls = if args.controls.is_empty() { study.controls } else { args.controls.clone() };
    let (memory, threads) = (args.memory, args.threads);
    let checkpoints = Vec::new();
    let models =
        ModelArgs { base, adapters, checkpoints, controls, save_controls: None, nf4, memory, threads };
    let seed = args.seed.unwrap_or(study.seed);
    let opened = open(&models, seed, &bars)?;
    let plan = Plan {
        command: "study".to_owned(),
        title: study.title,
        analyses,
        edits: study.edits,
        seed,
        nf4: study.nf4,
        threads: n_threads,
        memory,
    };
    let wrapping = if study.raw { Wrapping::Raw } else { Wrapping::Auto };
    let asked = Asked { set, answers: study.answers, wrapping, now: study.now };
    run_plan(&plan, opened, &asked, &out, &bars)?;
    Ok(ExitCode::SUCCESS)
}

/// What the run folder is called where the user does not say.
fn name(args: &StudyArgs) -> &OsStr {
    let of_base = args.base.as_ref().map_or(lorascope_organism::NAME, |_| "study");
    args.study.as_deref().and_then(Path::file_stem).unwrap_or(of_base.as_ref())
}
