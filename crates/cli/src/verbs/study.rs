//! `lorascope study`: everything that a study file asks for.

use crate::args::{ModelArgs, Nf4, StudyArgs};
use crate::open::{Asked, open, set_threads};
use crate::pipeline::{Plan, run as run_plan};
use crate::progress::Bars;
use crate::study_file::StudyFile;
use anyhow::{Context, Result};
use lorascope_text::Wrapping;
use std::process::ExitCode;

/// Runs the study.
pub fn run(args: &StudyArgs) -> Result<ExitCode> {
    let study = StudyFile::read(&args.study)?;
    let set = study.prompts.load()?;
    let n_threads = set_threads(args.threads)?;
    let no_base = || format!("study file {} names no `base`; add one, or give --base", args.study.display());
    let base = args.base.clone().or(study.base).with_context(no_base)?;
    let adapters = if args.adapters.is_empty() { study.adapters } else { args.adapters.clone() };
    let mut analyses = study.analyses;
    if adapters.is_empty() && !study.names_analyses {
        analyses.retain(|(analysis, _)| !analysis.compares_models());
    }
    let nf4 = study.nf4.as_deref().map(|from| match from {
        "f16" => Nf4::F16,
        "bf16" => Nf4::Bf16,
        _ => Nf4::Stored,
    });
    let bars = Bars::default();
    let controls = if args.controls.is_empty() { study.controls } else { args.controls.clone() };
    let (memory, threads) = (args.memory, args.threads);
    let models = ModelArgs { base, adapters, controls, save_controls: None, nf4, memory, threads };
    let seed = args.seed.unwrap_or(study.seed);
    let opened = open(&models, seed, &bars)?;
    let plan = Plan {
        command: "study".to_owned(),
        title: study.title,
        analyses,
        seed,
        nf4: study.nf4,
        threads: n_threads,
        memory,
    };
    let wrapping = if study.raw { Wrapping::Raw } else { Wrapping::Auto };
    let asked = Asked { set, answers: study.answers, wrapping, now: study.now };
    run_plan(&plan, opened, &asked, &args.out, &bars)?;
    Ok(ExitCode::SUCCESS)
}
