//! What does one model's activation do in another? Activation patching (Vig et al. 2020, Meng et al. 2022; Zhang & Nanda
//! 2023 for its practice), exact.
//!
//! One activation, or a set of them together, of the *target* run is replaced by what the *source* run has at the same place,
//! and delta is measured. `change = delta_patched − delta_target`, `recovery = change / (delta_source − delta_target)`.
//! *Denoising* puts a fine-tuned model's activation into the base and asks what suffices for its behaviour; *noising* puts
//! the base's into the fine-tuned model and asks what its behaviour needs. Every patched run is a branch of the target's
//! run and computes only what the patch can change.

pub(crate) mod checks;
mod effects;
mod figures;
mod jobs;
mod positions;
mod settings;
mod slices;

pub(crate) use effects::keys;
pub(crate) use jobs::{Job, Means, jobs, means};
pub(crate) use settings::{PositionName, Settings};

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::decide::{PROMPT_ID, SCENARIO, column};
use crate::error::Result;
use crate::flags::Flag;
use crate::interventions::{DirectionBook, PatchedRun, Sweep, Unit, average, by_blocks};
use crate::subject::Subject;
use lorascope_record::ColumnKind::{Bool, Float, FloatOrNull, Int, IntOrNull, Text, TextOrNull};
use lorascope_record::{Cell, ColumnSpec, Table, TableSpec};
use serde_json::Value;
use settings::{From, NAME};

pub(crate) struct Patch;

/// Target prompts per part of a run that is kept when it is cut off.
const PROMPTS_PER_PART: usize = 16;

pub(crate) const SOURCE: ColumnSpec = column(
    "source",
    Text,
    "",
    "Model whose activation is taken, or the ablation: `zero`, `mean`, `resample`.",
);
pub(crate) const TARGET: ColumnSpec = column("target", Text, "", "Model that it is put into.");
pub(crate) const DIRECTION: ColumnSpec = column(
    "direction",
    Text,
    "",
    "`denoising`: an adapter into the base; `noising`: the base into an adapter; `transfer`: between adapters; `prompts`: \
     between prompts; `ablation`.",
);
pub(crate) const SITE: ColumnSpec =
    column("site", Text, "", "Kind of place; units joined by `+` where several are patched together.");
pub(crate) const LAYER: ColumnSpec = column("layer", IntOrNull, "", "Layer, from 0; null for a joint set.");
pub(crate) const HEAD: ColumnSpec =
    column("head", IntOrNull, "", "Head, where the place is one's; a key/value head for `k` and `v`.");
pub(crate) const COMPONENT: ColumnSpec = column(
    "component",
    IntOrNull,
    "",
    "Neuron, or component of an adapter's update (0 has the largest singular value), where the place is one.",
);
pub(crate) const POSITION: ColumnSpec = column(
    "position",
    Text,
    "",
    "`decision` (the decision point), `all`, the name of a span (all its tokens together), or one position from 0.",
);

pub(crate) const SOURCE_PROMPT_ID: ColumnSpec =
    column("source_prompt_id", TextOrNull, "", "Prompt whose activation is taken; null for zero and mean.");

static PATCHES: TableSpec = TableSpec {
    name: "patches",
    doc: "One patched run: an activation of one model (or prompt) put into another, and what it does to delta.",
    columns: &[
        SOURCE,
        TARGET,
        PROMPT_ID,
        SCENARIO,
        SOURCE_PROMPT_ID,
        DIRECTION,
        SITE,
        LAYER,
        HEAD,
        COMPONENT,
        POSITION,
        column("first_position", Int, "token", "First patched position, from 0."),
        column("n_positions", Int, "", "Number of patched positions."),
        column(
            "delta_source",
            FloatOrNull,
            "logit",
            "delta of the source's own run; null for zero and mean.",
        ),
        column("delta_target", Float, "logit", "delta of the target's unpatched run."),
        column("delta_patched", Float, "logit", "delta of the patched run."),
        column("change", Float, "logit", "delta_patched − delta_target."),
        column(
            "recovery",
            FloatOrNull,
            "",
            "change / (delta_source − delta_target); null where the denominator is below the floor.",
        ),
        column("flipped", Bool, "", "Whether the preferred answer changed."),
    ],
};

static TABLES: &[&TableSpec] = &[&PATCHES, &effects::EFFECTS];

impl Analysis for Patch {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Activation patching"
    }
    fn question(&self) -> &'static str {
        "Which heads and layers carry what fine-tuning changed in the decision?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn compares_models(&self) -> bool {
        true
    }
    fn flags(&self) -> &'static [Flag] {
        settings::FLAGS
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(NAME, given)?;
        settings.check()?;
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        checks::check(&read_settings(NAME, settings)?, subject)
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let subject = context.subject;
        checks::check(&settings, subject)?;
        let pairs = settings.pairs(subject)?;
        let sweep = Sweep::new(subject, context.memory)?;
        let means = means(&settings, subject, &sweep)?;
        let [mut patches] = by_blocks(context, [NAME], [&PATCHES], PROMPTS_PER_PART, |block| {
            let what = format!("patching {}", block.so_far);
            Ok([patch_block(context, &settings, &sweep, &means, &block.prompts, &what)?])
        })?;
        patches.sort_by_keys();
        let effects = average(context, &patches, &effects::EFFECTS)?;
        let mut section = figures::section(self, context, &settings, &pairs, &patches, &effects)?;
        section.notes.extend(sweep.caveat());
        Ok(Findings { tables: vec![patches, effects], section })
    }
}

fn patch_block(
    context: &Context,
    settings: &Settings,
    sweep: &Sweep,
    means: &Means,
    block: &[usize],
    what: &str,
) -> Result<Table> {
    let subject = context.subject;
    let mut all = Vec::new();
    for &prompt in block {
        all.extend(jobs(settings, subject, sweep, prompt, context.seed)?);
    }
    let mut directions = DirectionBook::default();
    let runs = all.iter().map(|job| job.run(subject, sweep, means, &mut directions));
    let runs: Vec<PatchedRun> = runs.collect::<Result<_>>()?;
    let found = sweep.run(what, &runs, context.progress)?;
    let mut table = Table::new(&PATCHES);
    for (job, &patched) in all.iter().zip(&found.patched) {
        let target = found.plain[&(job.target, job.prompt)];
        let source = job.source_prompt.map(|p| found.plain[&(job.source_model(), p)]);
        push(subject, settings.floor, &mut table, job, (source, target, patched))?;
    }
    Ok(table)
}

fn push(
    subject: &Subject,
    floor: f64,
    table: &mut Table,
    job: &Job,
    (source, target, patched): (Option<f64>, f64, f64),
) -> Result<()> {
    let change = patched - target;
    let span = source.map(|s| s - target).filter(|d| d.abs() >= floor && *d != 0.0);
    let mut cells = identity(subject, job);
    cells.extend([
        job.place.positions[0].into(),
        job.place.positions.len().into(),
        source.into(),
        target.into(),
        patched.into(),
        change.into(),
        span.map(|s| change / s).into(),
        ((patched > 0.0) != (target > 0.0)).into(),
    ]);
    table.push(&cells)?;
    Ok(())
}

/// The cells that say which run a job is: from `source` to `position`.
pub(crate) fn identity(subject: &Subject, job: &Job) -> Vec<Cell> {
    let prompt = &subject.prompts[job.prompt];
    let one: Option<&Unit> = if let [unit] = &job.units[..] { Some(unit) } else { None };
    let site = match one {
        Some(unit) => unit.kind.site_name(),
        None => job.units.iter().map(Unit::to_string).collect::<Vec<_>>().join("+"),
    };
    vec![
        job.source.name(subject).into(),
        subject.model.name(job.target).into(),
        prompt.id().into(),
        prompt.item.scenario.clone().into(),
        job.source_prompt.map(|p| subject.prompts[p].id()).into(),
        direction(job.source, job.target, job.source_prompt.is_some_and(|p| p != job.prompt)).into(),
        site.into(),
        one.map(|u| u.layer).into(),
        one.and_then(Unit::head).into(),
        one.and_then(Unit::component).into(),
        job.place.label.as_str().into(),
    ]
}

/// What a pair of source and target asks.
fn direction(source: From, target: usize, between_prompts: bool) -> &'static str {
    match (source, target) {
        (From::Zero | From::Mean | From::Resample, _) => "ablation",
        (From::Model(s), t) if s == t || between_prompts => "prompts",
        (From::Model(_), 0) => "denoising",
        (From::Model(0), _) => "noising",
        (From::Model(_), _) => "transfer",
    }
}
