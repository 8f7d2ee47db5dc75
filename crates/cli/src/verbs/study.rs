//! `lorascope study`: everything that a study file asks for.

use crate::args::StudyArgs;
use crate::progress::Bars;
use anyhow::{Context, Result, bail};
use lorascope_study::machine::on_own_threads;
use lorascope_study::open::open;
use lorascope_study::pipeline::run as run_plan;
use lorascope_study::study_file::{Ready, StudyFile};
use std::path::Path;
use std::process::{Command, ExitCode};

/// Runs the study.
pub fn run(args: &StudyArgs) -> Result<ExitCode> {
    let mut study = match &args.study {
        Some(path) => StudyFile::read(path)?,
        None => StudyFile::without_file(args.base.is_some())?,
    };
    let of_base = args.base.as_ref().map_or(lorascope_organism::NAME, |_| "study");
    let name = args.study.as_deref().and_then(Path::file_stem).unwrap_or(of_base.as_ref());
    let out = args.out.clone().unwrap_or_else(|| Path::new("runs").join(name));
    if let Some(address) = &args.ray {
        return on_ray(args, address, &out);
    }
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
    on_own_threads(|| run_plan(&plan, opened, &asked, &out, &bars))?;
    Ok(ExitCode::SUCCESS)
}

/// Hands the study over to the Python package, which knows Ray.
fn on_ray(args: &StudyArgs, address: &str, out: &Path) -> Result<ExitCode> {
    let named = std::env::var_os("LORASCOPE_PYTHON").filter(|python| !python.is_empty());
    let python = named.unwrap_or_else(|| "python3".into());
    let shown = python.to_string_lossy();
    let probe = Command::new(&python).args(["-c", "import lorascope.scale, ray"]).output();
    let probe = probe.with_context(|| {
        format!("`--ray` needs Python, and `{shown}` can't be run; LORASCOPE_PYTHON names another")
    })?;
    if !probe.status.success() {
        let said = String::from_utf8_lossy(&probe.stderr);
        bail!(
            "`--ray` needs the Python package with Ray, and `{shown}` can't import them ({}); `pip install './python[ray]'`, or name \
             another Python in LORASCOPE_PYTHON",
            said.trim().lines().last().unwrap_or("it said nothing")
        );
    }
    let mut command = Command::new(&python);
    command.args(["-m", "lorascope.scale", "--ray", address, "--out"]).arg(out);
    command.args(["--memory", &args.machine.memory.to_string()]);
    command.args(args.seed.iter().flat_map(|seed| ["--seed".to_owned(), seed.to_string()]));
    command.args(args.base.iter().flat_map(|base| ["--base", base]));
    command.args(args.adapters.iter().map(|(name, path)| format!("--adapter={name}={path}")));
    command.args(&args.study);
    replace(command)
}

/// Goes on as that program: ctrl-C is its own, and so is the exit code.
#[cfg(unix)]
fn replace(mut command: Command) -> Result<ExitCode> {
    use std::os::unix::process::CommandExt;
    Err(command.exec()).context("starting Python")
}

#[cfg(not(unix))]
fn replace(mut command: Command) -> Result<ExitCode> {
    let status = command.status().context("starting Python")?;
    let code = status.code().and_then(|code| u8::try_from(code).ok());
    Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
}
