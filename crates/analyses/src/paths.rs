//! By which way does a change reach the decision? Path patching of edges (Wang et al. 2022), and spans of layers patched
//! together.
//!
//! An *edge* is what one component (the sender) writes, as one reader (the receiver) sees it: the sender's output becomes the
//! source's for this receiver only, everything between is frozen, everything after the receiver runs freely. A *span* is
//! all attention outputs, all MLP outputs, or both, of consecutive layers, patched together at the decision point.

mod figures;
mod settings;
mod summary;

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::decide::{PROMPT_ID, SCENARIO, column};
use crate::error::Result;
use crate::flags::Flag;
use crate::interventions::{
    Change, Estimator, PatchedRun, PlaceKind, Receiver, Replacement, Source, Sweep, Unit, average, by_blocks,
    distinct, edge, pairs_by_name, units_of,
};
use crate::scenarios::sample;
use crate::subject::Subject;
use lorascope_engine::{HookPoint, Site};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, IntOrNull, Text};
use lorascope_record::{Cell, ColumnSpec, Table, TableSpec};
use serde_json::Value;
use settings::{NAME, Settings, Span, refused};

pub(crate) struct Paths;

/// Target prompts per part of a run that is kept when it is cut off.
const PROMPTS_PER_PART: usize = 16;

pub(super) const SOURCE: ColumnSpec = column("source", Text, "", "Model whose activation is taken.");
pub(super) const TARGET: ColumnSpec = column("target", Text, "", "Model that it is put into.");
pub(super) const SENDER: ColumnSpec =
    column("sender", Text, "", "The component whose output is the source's, as `SITE:LAYER.HEAD`.");
pub(super) const RECEIVER: ColumnSpec = column(
    "receiver",
    Text,
    "",
    "The one reader that sees it: `q`, `k` or `v` of a head, `head` (all three), `mlp`, `logits`, or `logits_frozen` (the final \
     norm's scale frozen).",
);
pub(super) const KIND: ColumnSpec =
    column("kind", Text, "", "`residual` (attention and MLP outputs), `attn` or `mlp`.");
pub(super) const FIRST: ColumnSpec = column("first_layer", Int, "", "First layer of the span.");
pub(super) const LAST: ColumnSpec = column("last_layer", Int, "", "Last layer of the span.");

const DELTA_SOURCE: ColumnSpec = column("delta_source", Float, "logit", "delta of the source's own run.");
const DELTA_TARGET: ColumnSpec =
    column("delta_target", Float, "logit", "delta of the target's unpatched run.");
const DELTA_PATCHED: ColumnSpec = column("delta_patched", Float, "logit", "delta of the patched run.");
const CHANGE: ColumnSpec = column("change", Float, "logit", "delta_patched − delta_target.");
const RECOVERY: ColumnSpec =
    column("recovery", FloatOrNull, "", "change / (delta_source − delta_target); null where they are equal.");

static PATHS: TableSpec = TableSpec {
    name: "paths",
    doc: "One patched edge: what a sender of the source writes, seen by one receiver of the target, at the decision point.",
    columns: &[
        SOURCE,
        TARGET,
        PROMPT_ID,
        SCENARIO,
        SENDER,
        column("sender_layer", Int, "", "Layer of the sender."),
        column("sender_head", IntOrNull, "", "Head, where the sender is one."),
        RECEIVER,
        column("receiver_layer", IntOrNull, "", "Layer of the receiver; null for the logits."),
        column("receiver_head", IntOrNull, "", "Head of the receiver; a key/value head for `k` and `v`."),
        DELTA_SOURCE,
        DELTA_TARGET,
        DELTA_PATCHED,
        CHANGE,
        RECOVERY,
        column(
            "gradient",
            FloatOrNull,
            "logit",
            "The change as the gradient estimates it (edge attribution patching); null where it was not asked for, and for \
             `logits_frozen`, whose change is linear but for the soft cap.",
        ),
        column(
            "integrated",
            FloatOrNull,
            "logit",
            "The same by gradients integrated over the adapter's scale from 0 to 1 (EAP-IG); null as above.",
        ),
    ],
};

static SPANS: TableSpec = TableSpec {
    name: "spans",
    doc: "One patched span: all components of consecutive layers together, at the decision point.",
    columns: &[
        SOURCE,
        TARGET,
        PROMPT_ID,
        SCENARIO,
        KIND,
        FIRST,
        LAST,
        DELTA_SOURCE,
        DELTA_TARGET,
        DELTA_PATCHED,
        CHANGE,
        RECOVERY,
    ],
};

static TABLES: &[&TableSpec] = &[&PATHS, &SPANS, &summary::PATH_EFFECTS, &summary::SPAN_EFFECTS];

impl Analysis for Paths {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Path patching"
    }
    fn question(&self) -> &'static str {
        "By which way do the changes of fine-tuning reach the decision?"
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
        let settings: Settings = read_settings(NAME, settings)?;
        pairs_by_name(NAME, subject, &settings.source, &settings.target)?;
        settings.spans(subject)?;
        let (senders, receivers) = (settings.senders(subject)?, settings.receivers(subject)?);
        if senders.is_empty() || receivers.is_empty() {
            return Ok(());
        }
        edges(&senders, &receivers).map(|_| ())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let subject = context.subject;
        let sweep = Sweep::new(subject, context.memory)?.keeping_prompts();
        let plans = plans(context, &settings, &sweep)?;
        let specs = [&PATHS, &SPANS];
        let [mut paths, mut spans] =
            by_blocks(context, ["paths", "spans"], specs, PROMPTS_PER_PART, |block| {
                let (prompts, so_far) = (&block.prompts, &block.so_far);
                let edges = patch_edges(context, &settings, &sweep, &plans, prompts, so_far)?;
                let what = format!("patching spans {so_far}");
                Ok([edges, patch_spans(context, &sweep, &plans, prompts, &what)?])
            })?;
        paths.sort_by_keys();
        spans.sort_by_keys();
        let path_effects = average(context, &paths, &summary::PATH_EFFECTS)?;
        let span_effects = average(context, &spans, &summary::SPAN_EFFECTS)?;
        let mut section = figures::section(self, context, &path_effects, &span_effects)?;
        section.paragraphs.extend(summary::estimates(&paths)?);
        if settings.chooses() {
            section.notes.push(format!(
                "Senders and receivers that were not named are the {} heads and MLPs of each pair with the largest effects by themselves \
                 on {} of the prompts, evenly from the scenarios, and the logits.",
                settings.top,
                sample(&subject.prompts, settings.prompts).len()
            ));
        }
        section.notes.extend(sweep.caveat());
        Ok(Findings { tables: vec![paths, spans, path_effects, span_effects], section })
    }
}

/// What is patched between one source and one target.
struct Plan {
    source: usize,
    target: usize,
    edges: Vec<(Unit, Receiver)>,
    spans: Vec<Span>,
}

/// The plan of every pair.
fn plans(context: &Context, settings: &Settings, sweep: &Sweep) -> Result<Vec<Plan>> {
    let subject = context.subject;
    let pairs = pairs_by_name(NAME, subject, &settings.source, &settings.target)?;
    let (senders, receivers) = (settings.senders(subject)?, settings.receivers(subject)?);
    let chosen = match settings.chooses() {
        true => largest(context, settings, sweep, &pairs)?,
        false => vec![Vec::new(); pairs.len()],
    };
    let plan = |((source, target), top): ((usize, usize), Vec<Unit>)| {
        let receivers = if receivers.is_empty() { readers(&top, subject) } else { receivers.clone() };
        let senders = if senders.is_empty() { top } else { senders.clone() };
        Ok(Plan { source, target, edges: edges(&senders, &receivers)?, spans: settings.spans(subject)? })
    };
    pairs.into_iter().zip(chosen).map(plan).collect()
}

/// From every sender to every receiver after it.
fn edges(senders: &[Unit], receivers: &[Receiver]) -> Result<Vec<(Unit, Receiver)>> {
    let pairs = senders.iter().flat_map(|s| receivers.iter().map(move |r| (*s, *r)));
    let edges: Vec<(Unit, Receiver)> = pairs.filter(|(s, r)| r.comes_after(s)).collect();
    if edges.is_empty() {
        return Err(refused("no receiver comes after any sender".to_owned()));
    }
    Ok(distinct(edges))
}

/// The readers that belong to components: all three inputs of a head, an MLP's, and the logits.
fn readers(units: &[Unit], subject: &Subject) -> Vec<Receiver> {
    let group = subject.model.spec().group();
    let of_unit = |unit: &Unit| -> Vec<Receiver> {
        let layer = unit.layer;
        match unit.head() {
            Some(head) => {
                let kv = head / group;
                vec![
                    Receiver::Q { layer, head },
                    Receiver::K { layer, head: kv },
                    Receiver::V { layer, head: kv },
                ]
            }
            None => vec![Receiver::Mlp { layer }],
        }
    };
    let mut all: Vec<Receiver> = units.iter().flat_map(of_unit).collect();
    all.extend([Receiver::Logits, Receiver::LogitsFrozen]);
    all.sort_unstable();
    all.dedup();
    all
}

/// A change that puts the source's values of a unit into the target, at the decision point of a prompt.
fn node(subject: &Subject, unit: &Unit, source: usize, prompt: usize, position: usize) -> Change {
    let from = Source { model: source, prompt, position };
    let units = unit.values(subject.model.spec(), position);
    Change { point: unit.point(), units, position, replacement: Replacement::From(from) }
}

/// For every pair of source and target, the heads and MLPs with the largest effects when patched by themselves, in the order of
/// layers. Every prompt counts in the direction of its own difference between source and target, so that scenarios with opposite
/// decisions do not cancel.
fn largest(
    context: &Context,
    settings: &Settings,
    sweep: &Sweep,
    pairs: &[(usize, usize)],
) -> Result<Vec<Vec<Unit>>> {
    let subject = context.subject;
    let kinds = [PlaceKind::Head(Site::Result), PlaceKind::Whole(Site::MlpOut)];
    let units = units_of(subject, &kinds, None, &[]);
    let prompts = sample(&subject.prompts, settings.prompts);
    let blocks: Vec<&[usize]> = prompts.chunks(PROMPTS_PER_PART).collect();
    let per_prompt = pairs.len() * units.len();
    let name = |(b, block): (usize, &&[usize])| (format!("paths-senders-{b:05}"), per_prompt * block.len());
    let parts: Vec<(String, usize)> = blocks.iter().enumerate().map(name).collect();
    let found: Vec<Vec<f64>> = context.many_numbers(&parts, |b| {
        let mut runs = Vec::new();
        for &prompt in blocks[b] {
            let position = sweep.decision_position(prompt);
            for &(source, target) in pairs {
                runs.extend(units.iter().map(|unit| PatchedRun {
                    model: target,
                    prompt,
                    changes: vec![node(subject, unit, source, prompt, position)],
                }));
            }
        }
        let found = sweep.run("looking for senders", &runs, context.progress)?;
        let towards_source = |(i, (run, patched)): (usize, (&PatchedRun, &f64))| {
            let (source, _) = pairs[i / units.len() % pairs.len()];
            let own = found.plain[&(run.model, run.prompt)];
            (found.plain[&(source, run.prompt)] - own).signum() * (patched - own)
        };
        Ok(runs.iter().zip(&found.patched).enumerate().map(towards_source).collect())
    })?;
    let mut effects = vec![vec![0.0; units.len()]; pairs.len()];
    for (i, effect) in found.into_iter().flatten().enumerate() {
        effects[i / units.len() % pairs.len()][i % units.len()] += effect;
    }
    let top = |effect: Vec<f64>| {
        let mut order: Vec<usize> = (0..units.len()).collect();
        order.sort_by(|&a, &b| effect[b].abs().total_cmp(&effect[a].abs()));
        let mut chosen: Vec<Unit> = order.into_iter().take(settings.top).map(|i| units[i]).collect();
        chosen.sort_unstable();
        chosen
    };
    Ok(effects.into_iter().map(top).collect())
}

/// Runs of all plans on some prompts, with what the table says of them; `estimators` are its last columns, `None` for those that
/// nobody asked for.
#[allow(clippy::too_many_arguments, reason = "what is run, where, and what is written of it")]
fn patched(
    context: &Context,
    sweep: &Sweep,
    plans: &[Plan],
    block: &[usize],
    what: &str,
    changes: impl Fn(&Plan, usize, usize) -> Vec<(Vec<Cell>, Vec<Change>)>,
    estimators: &[Option<Estimator>],
    table: &mut Table,
) -> Result<()> {
    let subject = context.subject;
    let (mut runs, mut rows) = (Vec::new(), Vec::new());
    for &prompt in block {
        for plan in plans {
            for (cells, changes) in changes(plan, prompt, sweep.decision_position(prompt)) {
                runs.push(PatchedRun { model: plan.target, prompt, changes });
                rows.push((plan, prompt, cells));
            }
        }
    }
    let found = sweep.run(what, &runs, context.progress)?;
    let asked: Vec<Estimator> = estimators.iter().flatten().cloned().collect();
    // With the final norm's scale frozen nothing is left to estimate: the change is linear.
    let is_free = |run: &PatchedRun| run.changes.iter().all(|c| c.point != HookPoint::FinalScale);
    let free: Vec<PatchedRun> = runs.iter().filter(|run| is_free(run)).cloned().collect();
    let mut estimates = match &asked[..] {
        [] => Vec::new(),
        asked => sweep.estimate("estimating edges", &free, asked, context.progress)?.changes,
    }
    .into_iter()
    .map(Vec::into_iter)
    .collect::<Vec<_>>();
    for (i, ((plan, prompt, cells), &patched)) in rows.into_iter().zip(&found.patched).enumerate() {
        let mut of_run = estimates.iter_mut().map(|of| if is_free(&runs[i]) { of.next() } else { None });
        let (source, target) = (found.plain[&(plan.source, prompt)], found.plain[&(plan.target, prompt)]);
        let (change, span) = (patched - target, source - target);
        let item = &subject.prompts[prompt].item;
        let mut row: Vec<Cell> = vec![
            subject.model.name(plan.source).into(),
            subject.model.name(plan.target).into(),
            item.id.as_str().into(),
            item.scenario.clone().into(),
        ];
        row.extend(cells);
        row.extend([source.into(), target.into(), patched.into(), change.into()]);
        row.push((span != 0.0).then(|| change / span).into());
        row.extend(estimators.iter().map(|e| Cell::from(e.as_ref().and_then(|_| of_run.next().flatten()))));
        table.push(&row)?;
    }
    Ok(())
}

fn patch_edges(
    context: &Context,
    settings: &Settings,
    sweep: &Sweep,
    plans: &[Plan],
    block: &[usize],
    so_far: &str,
) -> Result<Table> {
    let spec = context.subject.model.spec();
    let mut table = Table::new(&PATHS);
    let changes = |plan: &Plan, prompt: usize, position: usize| {
        let source = Source { model: plan.source, prompt, position };
        let one = |(sender, receiver): &(Unit, Receiver)| {
            let (_, layer, head) = receiver.parts();
            let cells = vec![
                sender.to_string().into(),
                sender.layer.into(),
                sender.head().into(),
                receiver.to_string().into(),
                layer.into(),
                head.into(),
            ];
            (cells, edge(spec, sender, *receiver, source, (plan.target, prompt)))
        };
        plan.edges.iter().map(one).collect()
    };
    let what = format!("patching edges {so_far}");
    patched(context, sweep, plans, block, &what, changes, &settings.estimators(), &mut table)?;
    Ok(table)
}

fn patch_spans(
    context: &Context,
    sweep: &Sweep,
    plans: &[Plan],
    block: &[usize],
    what: &str,
) -> Result<Table> {
    let subject = context.subject;
    let mut table = Table::new(&SPANS);
    let changes = |plan: &Plan, prompt: usize, position: usize| {
        let one = |span: &Span| {
            let kinds = [(span.attention, Site::AttnOut), (span.mlp, Site::MlpOut)];
            let units = (span.first..=span.last).flat_map(|layer| {
                let present = kinds.into_iter().filter(|(present, _)| *present);
                present.map(move |(_, site)| Unit { layer, kind: PlaceKind::Whole(site), index: 0 })
            });
            let changes = units.map(|unit| node(subject, &unit, plan.source, prompt, position)).collect();
            (vec![span.kind().into(), span.first.into(), span.last.into()], changes)
        };
        plan.spans.iter().map(one).collect()
    };
    patched(context, sweep, plans, block, what, changes, &[], &mut table)?;
    Ok(table)
}
