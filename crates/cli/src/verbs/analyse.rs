//! `lorascope decide`, `lorascope lens`, …: one analysis by itself.

use crate::args::AnalyseArgs;
use crate::progress::Bars;
use anyhow::{Context, Result};
use lorascope_analyses::{Flag, analysis};
use lorascope_study::machine::on_own_threads;
use lorascope_study::open::{Asked, open, read_prompts, today};
use lorascope_study::pipeline::{Plan, run as run_plan};
use lorascope_text::Wrapping;
use serde_json::{Map, Value};
use std::process::ExitCode;

/// Runs the analysis `name`.
pub fn run(name: &str, args: &AnalyseArgs, flags: Vec<(String, Vec<String>)>) -> Result<ExitCode> {
    let analysis = analysis(name).with_context(|| format!("no analysis is called `{name}`"))?;
    let settings = analysis.settings(&settings(&args.settings, flags))?;
    let set = read_prompts(&args.prompts.prompts)?;
    let threads = args.models.machine.take()?;
    let bars = Bars::default();
    let opened = open(&args.models.models(), args.out.seed, &bars)?;
    let plan = Plan {
        command: name.to_owned(),
        title: analysis.title().to_owned(),
        analyses: vec![(analysis, settings)],
        edits: Vec::new(),
        seed: args.out.seed,
        nf4: args.models.nf4,
        threads,
        memory: args.models.machine.memory,
    };
    let wrapping = if args.prompts.raw { Wrapping::Raw } else { Wrapping::Auto };
    let asked = Asked { set, answers: args.prompts.answers.clone(), wrapping, now: Some(today()) };
    on_own_threads(|| run_plan(&plan, opened, &asked, &args.out.out, &bars))?;
    Ok(ExitCode::SUCCESS)
}

/// `KEY=VALUE` pairs and flags as a JSON object: of the pairs, numbers, booleans and lists as JSON writes them, anything else
/// as text; flags as lists of texts.
fn settings(pairs: &[(String, String)], flags: Vec<(String, Vec<String>)>) -> Value {
    let value = |text: &str| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()));
    let mut object: Map<String, Value> = pairs.iter().map(|(k, v)| (k.clone(), value(v))).collect();
    object.extend(flags.into_iter().map(|(k, v)| (k, v.into_iter().map(Value::String).collect())));
    Value::Object(object)
}

/// The flags of an analysis that were given, with their values.
pub fn given_flags(name: &str, matches: &clap::ArgMatches) -> Vec<(String, Vec<String>)> {
    let flags = analysis(name).map(|a| a.flags()).unwrap_or_default();
    let values = |flag: &Flag| {
        let values = matches.get_many::<String>(flag.name)?;
        Some((flag.name.to_owned(), values.cloned().collect()))
    };
    flags.iter().filter_map(values).collect()
}
