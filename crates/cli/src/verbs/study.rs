//! `lorascope study`: everything that a study file asks for.

use crate::args::StudyArgs;
use crate::progress::Bars;
use anyhow::Result;
use lorascope_study::open::open;
use lorascope_study::pipeline::run as run_plan;
use lorascope_study::study_file::{Ready, StudyFile};
use std::path::Path;
use std::process::ExitCode;

/// Runs the study.
pub fn run(args: &StudyArgs) -> Result<ExitCode> {
    let mut study = match &args.study {
        Some(path) => StudyFile::read(path)?,
        None => StudyFile::without_file(args.base.is_some())?,
    };
    let of_base = args.base.as_ref().map_or(lorascope_organism::NAME, |_| "study");
    let name = args.study.as_deref().and_then(Path::file_stem).unwrap_or(of_base.as_ref());
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
    let threads = args.machine.take()?;
    // What is given on the command line takes the place of the file's.
    study.base = args.base.clone().or(study.base);
    if !(args.adapters.is_empty() && args.checkpoints.is_empty()) {
        (study.adapters, study.checkpoints) = (args.adapters.clone(), args.checkpoints.clone());
    }
    if !args.controls.is_empty() {
        study.controls.clone_from(&args.controls);
    }
    study.seed = args.seed.unwrap_or(study.seed);
    let Ready { models, asked, plan } = study.ready(threads, args.machine.memory)?;
    let bars = Bars::default();
    let opened = open(&models, plan.seed, &bars)?;
    run_plan(&plan, opened, &asked, &out, &bars)?;
    Ok(ExitCode::SUCCESS)
}
