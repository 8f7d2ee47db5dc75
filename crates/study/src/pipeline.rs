//! From a subject and a list of analyses to a finished run folder: tables, figures, report, manifest.

use crate::cost::{Meter, in_words};
use crate::listener::Listener;
use crate::machine::arithmetic;
use crate::models::Nf4;
use crate::open::{Asked, Opened};
use crate::prepared::{Prepared, Task};
use crate::report_files::{add, add_claimed_rows, prompt_texts, read_page, write_figures, write_page};
use anyhow::{Context as _, Result};
use lorascope_analyses::{
    Analysis, Context, Findings, Hands, ModelEdit, OwnHands, Subject, share_base_decisions,
};
use lorascope_record::{Opened as State, RunFolder, Table};
use lorascope_report::{Page, ProvenanceItem};
use serde_json::{Value, json};
use std::path::Path;

/// What is to be run.
#[derive(Clone)]
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
    let prepared = Prepared::new(plan, opened, asked)?;
    work(&prepared, out, Results::Files, listener, &OwnHands).map(drop)
}

/// The same with the results in memory: of a run into `out`, where a folder is named, else of one that leaves no files. `hands` carry
/// out the units of work.
///
/// # Errors
/// As [`run`].
pub fn find(
    prepared: &Prepared,
    out: Option<&Path>,
    listener: &dyn Listener,
    hands: &dyn Hands,
) -> Result<Found> {
    let mut tables = Vec::new();
    let page = match out {
        Some(out) => work(prepared, out, Results::Both(&mut tables), listener, hands)?,
        None => {
            let scratch = tempfile::tempdir().context("making a folder for finished parts")?;
            work(prepared, scratch.path(), Results::Memory(&mut tables), listener, hands)?
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
    prepared: &Prepared,
    out: &Path,
    results: Results,
    listener: &dyn Listener,
    hands: &dyn Hands,
) -> Result<Page> {
    let Prepared { plan, subject, prompts, key, tasks, .. } = prepared;
    let (writes, mut kept) = match results {
        Results::Files => (true, None),
        Results::Both(tables) => (true, Some(tables)),
        Results::Memory(tables) => (false, Some(tables)),
    };
    let concludes = tasks.iter().any(|task| task.analysis.concludes());
    let folder = RunFolder::open(out, key)?;
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
        folder.write_text("prompts.json", prompts)?;
        folder.write_text("rendered.jsonl", &subject.rendered())?;
    }
    let mut page = page(prepared);
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
    for task in tasks {
        let (analysis, name) = (task.analysis, task.analysis.name());
        if let Some((set, own)) = task.own.as_ref().filter(|_| writes) {
            folder.write_text(&format!("{name}_prompts.json"), &set.to_json())?;
            folder.write_text(&format!("{name}_rendered.jsonl"), &own.rendered())?;
        }
        let context = prepared.context(task, &folder, listener, hands);
        let meter = Meter::begin();
        let found = carried_out(task, &context).with_context(|| format!("analysis `{name}`"))?;
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

/// What an analysis finds.
fn carried_out(task: &Task, context: &Context) -> lorascope_analyses::Result<Findings> {
    if context.hands.are_many() && !task.analysis.concludes() {
        share_base_decisions(context)?;
    }
    task.analysis.run(context, &task.settings)
}

/// What lies in the folder of a finished run, where somebody wants it.
fn finished(plan: &Plan, folder: &RunFolder, kept: Option<&mut Vec<Table>>) -> Result<Page> {
    let Some(kept) = kept else { return Ok(Page::default()) };
    for spec in plan.analyses.iter().flat_map(|(analysis, _)| analysis.tables()) {
        kept.extend(folder.read_table(spec)?);
    }
    read_page(folder)
}

/// The report before anything is found.
fn page(prepared: &Prepared) -> Page {
    let Prepared { plan, subject, key, now, .. } = prepared;
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
    if let Some(now) = now.filter(|_| subject.tokenizer.chat_depends_on_date()) {
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
