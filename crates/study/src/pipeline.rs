//! From a subject and a list of analyses to a finished run folder: tables, figures, report, manifest.

use crate::cost::{Meter, in_words};
use crate::listener::Listener;
use crate::machine::arithmetic;
use crate::models::Nf4;
use crate::open::{Asked, Opened};
use crate::report_files::{add, add_claimed_rows, prompt_texts, read_page, write_figures, write_page};
use anyhow::{Context as _, Result, anyhow};
use lorascope_analyses::{Analysis, Context, ModelEdit, Subject};
use lorascope_prompts::PromptSet;
use lorascope_record::{Opened as State, RunFolder, RunKey, Table, sha256_hex};
use lorascope_report::{Page, ProvenanceItem};
use serde_json::{Value, json};
use std::path::Path;

/// The part of `--memory` that rows of patched runs may take besides.
pub const ROWS_SHARE: usize = 4;

/// What is to be run.
pub struct Plan {
    /// The verb, part of the run's identity.
    pub command: String,
    /// Headline of the report.
    pub title: String,
    /// Analyses with their resolved settings.
    pub analyses: Vec<(&'static dyn Analysis, Value)>,
    /// Edits of the models, under which everything is run.
    pub edits: Vec<ModelEdit>,
    /// Seed of everything random.
    pub seed: u64,
    /// Whether the base was rounded through NF4, and from what.
    pub nf4: Option<Nf4>,
    /// Threads in use.
    pub threads: usize,
    /// Bytes for packed weights; a quarter of it again for the rows of patched runs.
    pub memory: usize,
}

/// What a run found, in memory.
#[derive(Debug)]
pub struct Found {
    /// All tables.
    pub tables: Vec<Table>,
    /// The report, its figures as data.
    pub page: Page,
}

/// Runs the plan into `out`, resuming what is there.
///
/// # Errors
/// What keeps an analysis from being carried out, or the folder from being written.
pub fn run(plan: &Plan, opened: Opened, asked: &Asked, out: &Path, listener: &dyn Listener) -> Result<()> {
    work(plan, opened, asked, out, Results::Files, listener).map(drop)
}

/// The same with the results in memory: of a run into `out`, where a folder is named, else of one that leaves no files.
///
/// # Errors
/// As [`run`].
pub fn find(
    plan: &Plan,
    opened: Opened,
    asked: &Asked,
    out: Option<&Path>,
    listener: &dyn Listener,
) -> Result<Found> {
    let mut tables = Vec::new();
    let page = match out {
        Some(out) => work(plan, opened, asked, out, Results::Both(&mut tables), listener)?,
        None => {
            let scratch = tempfile::tempdir().context("making a folder for finished parts")?;
            work(plan, opened, asked, scratch.path(), Results::Memory(&mut tables), listener)?
        }
    };
    Ok(Found { tables, page })
}

/// Where results go.
enum Results<'t> {
    /// Tables, figures, report and prompts into the folder.
    Files,
    /// The same, and the tables into memory too.
    Both(&'t mut Vec<Table>),
    /// Tables into memory; the folder has parts, and what conclusions read.
    Memory(&'t mut Vec<Table>),
}

/// Carries the plan out.
fn work(
    plan: &Plan,
    opened: Opened,
    asked: &Asked,
    out: &Path,
    results: Results,
    listener: &dyn Listener,
) -> Result<Page> {
    let (writes, mut kept) = match results {
        Results::Files => (true, None),
        Results::Both(tables) => (true, Some(tables)),
        Results::Memory(tables) => (false, Some(tables)),
    };
    let prompts = asked.set.to_json();
    let (mut subject, inputs) = opened.into_subject(asked)?;
    subject.edit(&plan.edits)?;
    let settings: Vec<Value> = plan
        .analyses
        .iter()
        .map(|(a, settings)| json!({"analysis": a.name(), "settings": settings}))
        .collect();
    let mut run_settings = json!({
        "models": subject.model.names(),
        "controls": controls(&subject),
        "analyses": settings,
        "prompts_sha256": sha256_hex(prompts.as_bytes()),
        "answers": asked.answers,
        "wrapping": asked.wrapping,
        "date": asked.now.filter(|_| subject.tokenizer.chat_depends_on_date()),
        "nf4": plan.nf4.map(Nf4::name),
    });
    if !plan.edits.is_empty() {
        run_settings["edits"] = json!(plan.edits);
    }
    // Where bits are others, parts of a run must not come from two kinds of arithmetic.
    if let (words, true) = arithmetic() {
        run_settings["arithmetic"] = json!(words);
    }
    let key = RunKey {
        command: plan.command.clone(),
        settings: run_settings,
        seed: plan.seed,
        inputs,
        command_line: std::env::args().collect(),
        threads: plan.threads,
    };
    let mut tasks = Vec::new();
    for (analysis, settings) in &plan.analyses {
        let named = || format!("analysis `{}`", analysis.name());
        let own = own_subject(*analysis, settings, &subject, asked).with_context(named)?;
        if own.is_some() && plan.edits.iter().any(ModelEdit::is_of_prompts) {
            return Err(anyhow!(
                "it asks prompts of its own, for which the study's edits have no values or decision points; leave it out"
            ))
            .with_context(named);
        }
        analysis.check(own.as_ref().map_or(&subject, |(_, own)| own), settings).with_context(named)?;
        tasks.push((*analysis, settings, own));
    }
    let concludes = tasks.iter().any(|(analysis, ..)| analysis.concludes());
    // Those that work on the others' tables come last.
    tasks.sort_by_key(|(analysis, ..)| analysis.concludes());
    let folder = RunFolder::open(out, &key)?;
    match folder.opened() {
        State::Finished => {
            listener.say(&format!("{} is finished already; nothing to do", out.display()));
            return finished(plan, &folder, kept);
        }
        State::Resumed { parts } => {
            listener.say(&format!("going on with {} ({parts} finished parts)", out.display()));
        }
        State::Damaged { files } => {
            listener.say(&format!("{}: changed or missing, made again: {}", out.display(), files.join(", ")));
        }
        State::Created => {}
    }
    if writes {
        folder.write_text("prompts.json", &prompts)?;
        folder.write_text("rendered.jsonl", &subject.rendered())?;
    }
    let mut page = page(plan, &subject, asked, &key);
    if !plan.edits.is_empty() {
        let n = plan.edits.len();
        page.warnings.push(format!(
            "Everything here is about edited models: {n} edits stand, as the provenance says."
        ));
    }
    let adapters = subject.model.adapters();
    if plan.command == "study" && !adapters.is_empty() && adapters.iter().all(|a| a.control.is_none()) {
        page.warnings.push(
            "No control adapter is among the models: nothing here shows what a change of the same size that learned nothing does."
                .to_owned(),
        );
    }
    for (analysis, settings, own) in &tasks {
        let memory = plan.memory / ROWS_SHARE;
        let name = analysis.name();
        if let Some((set, own)) = own.as_ref().filter(|_| writes) {
            folder.write_text(&format!("{name}_prompts.json"), &set.to_json())?;
            folder.write_text(&format!("{name}_rendered.jsonl"), &own.rendered())?;
        }
        let subject = own.as_ref().map_or(&subject, |(_, own)| own);
        let context = Context { subject, run: &folder, seed: plan.seed, memory, progress: listener };
        let meter = Meter::begin();
        let found =
            analysis.run(&context, settings).with_context(|| format!("analysis `{}`", analysis.name()))?;
        if writes || concludes {
            found.tables.iter().try_for_each(|table| folder.write_table(table))?;
        }
        if writes {
            write_figures(&folder, &found.section)?;
        }
        page.warnings.extend(analysis.warnings(&found.tables)?);
        let cost = meter.end(name);
        listener.note(&in_words(&cost));
        folder.mark_done(cost)?;
        let tables = add(&mut page, found, analysis.concludes())?;
        if let Some(kept) = &mut kept {
            kept.extend(tables);
        }
    }
    if writes || concludes {
        add_claimed_rows(&folder, &mut page)?;
    }
    if writes {
        write_page(&folder, &page)?;
        listener.say(&out.join("report.html").display().to_string());
    }
    folder.finish()?;
    Ok(page)
}

/// What lies in the folder of a finished run, where somebody wants it.
fn finished(plan: &Plan, folder: &RunFolder, kept: Option<&mut Vec<Table>>) -> Result<Page> {
    let Some(kept) = kept else { return Ok(Page::default()) };
    for spec in plan.analyses.iter().flat_map(|(analysis, _)| analysis.tables()) {
        kept.extend(folder.read_table(spec)?);
    }
    read_page(folder)
}

/// Prompts of an analysis's own with the models on them, where they are others than the study's.
fn own_subject(
    analysis: &dyn Analysis,
    settings: &Value,
    subject: &Subject,
    asked: &Asked,
) -> Result<Option<(PromptSet, Subject)>> {
    let set = analysis.prompts(settings)?.filter(|set| *set != asked.set);
    let with = |set: PromptSet| {
        let own = asked.subject(subject.model.clone(), subject.tokenizer.clone(), &set)?;
        Ok((set, own))
    };
    set.map(with).transpose()
}

/// How control adapters were made.
fn controls(subject: &Subject) -> Vec<Value> {
    let made = subject.model.adapters().iter().filter_map(|a| a.control.as_ref().map(|c| (&a.name, c)));
    made.map(|(name, c)| json!({"name": name, "of": c.of, "kind": c.kind.name(), "seed": c.seed})).collect()
}

/// The report before anything is found.
fn page(plan: &Plan, subject: &Subject, asked: &Asked, key: &RunKey) -> Page {
    let spec = subject.model.spec();
    let item = |name: &str, value: String| ProvenanceItem { name: name.to_owned(), value };
    let mut provenance = vec![
        item("lorascope", env!("CARGO_PKG_VERSION").to_owned()),
        item("command line", key.command_line.join(" ")),
        item(
            "base model",
            format!(
                "{} family, {} layers, {} heads, width {}, {:.0} million parameters",
                spec.family,
                spec.n_layers,
                spec.n_heads,
                spec.d_model,
                spec.n_parameters() as f64 / 1e6
            ),
        ),
        item("arithmetic", arithmetic().0),
        item("prompts", format!("{}; {}", subject.prompts.len(), wrapping(subject))),
        item("seed", plan.seed.to_string()),
    ];
    for adapter in subject.model.adapters() {
        if let Some(control) = &adapter.control {
            let (of, kind) = (&control.of, control.kind.description());
            provenance.push(item(
                &format!("control {}", adapter.name),
                format!("made from {of}: {kind}; seed {}", control.seed),
            ));
        }
    }
    for (i, edit) in plan.edits.iter().enumerate() {
        provenance.push(item(&format!("edit {}", i + 1), json!(edit).to_string()));
    }
    if let Some(from) = plan.nf4.map(Nf4::name) {
        provenance.push(item("base weights", format!("rounded through NF4 from {from}")));
    }
    if let Some(now) = asked.now.filter(|_| subject.tokenizer.chat_depends_on_date()) {
        provenance.push(item("date in prompts", format!("{now} seconds after 1970-01-01 UTC")));
    }
    provenance
        .extend(key.inputs.iter().map(|i| item(&i.name, format!("{} bytes, sha256 {}", i.bytes, i.sha256))));
    let names = subject.model.names();
    Page {
        title: plan.title.clone(),
        lead: format!(
            "{} models ({}) on {} prompts. A positive difference always means a preference for {} over {}.",
            names.len(),
            names.join(", "),
            subject.prompts.len(),
            subject.meanings.b,
            subject.meanings.a
        ),
        models: names.into_iter().map(str::to_owned).collect(),
        prompts: prompt_texts(subject),
        provenance,
        ..Page::default()
    }
}

fn wrapping(subject: &Subject) -> &'static str {
    if subject.prompts.iter().all(|p| p.tokens.used_chat_template) {
        "put to the model in its chat template"
    } else {
        "put to the model as raw text"
    }
}
