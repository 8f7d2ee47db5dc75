//! Which places would matter if they were patched, estimated from gradients; and how far the estimates can be trusted.
//!
//! Attribution patching for every place that [`crate::patch`] can patch: the same settings name the same patched runs, each
//! is estimated by every estimator asked for, and the places that any of them ranks highest, with a random sample of the
//! rest, are then patched exactly. An estimate never stands alone: the table of accuracy has its rank correlation with the exact
//! values, its worst error, and a bound on how many places of importance the ranking may have missed.

mod accuracy;
mod figures;
mod settings;
mod verify;

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::decide::{PROMPT_ID, SCENARIO, column};
use crate::error::Result;
use crate::flags::Flag;
use crate::interventions::{DirectionBook, PatchedRun, Sweep, by_blocks};
use crate::patch::{
    COMPONENT, DIRECTION, HEAD, Job, LAYER, Means, POSITION, SITE, SOURCE, SOURCE_PROMPT_ID, TARGET, checks,
    identity, jobs, means,
};
use crate::subject::Subject;
use lorascope_record::ColumnKind::FloatOrNull;
use lorascope_record::{Cell, ColumnSpec, Table, TableSpec};
use serde_json::Value;
use settings::{ESTIMATORS, NAME, Settings};

pub(crate) struct Attribution;

/// Target prompts per part of a run that is kept when it is cut off.
const PROMPTS_PER_PART: usize = 16;

const GRADIENT: ColumnSpec =
    column("gradient", FloatOrNull, "logit", "Estimate by the gradient; null where it was not asked for.");
const GIM: ColumnSpec = column(
    "gim",
    FloatOrNull,
    "logit",
    "By GIM: norms frozen, a softer softmax, products shared out between their factors.",
);
const RELP: ColumnSpec = column(
    "relp",
    FloatOrNull,
    "logit",
    "By RelP: norms and patterns frozen, activations by their secant, gated products shared out.",
);
const QK_FIX: ColumnSpec = column(
    "qk_fix",
    FloatOrNull,
    "logit",
    "By the gradient, from the pattern that changed queries or keys give exactly; elsewhere as `gradient`.",
);
const ATP_STAR: ColumnSpec = column(
    "atp_star",
    FloatOrNull,
    "logit",
    "By AtP*: as `qk_fix`, mean size over ways back that leave out one layer each, with the sign of `qk_fix`.",
);
const INTEGRATED: ColumnSpec = column(
    "integrated",
    FloatOrNull,
    "logit",
    "By gradients integrated between both models (over the adapter's scale) or prompts (over the embedding).",
);
const EXACT: ColumnSpec =
    column("exact", FloatOrNull, "logit", "Change of delta by the patch itself; null where it was not run.");

static ATTRIBUTIONS: TableSpec = TableSpec {
    name: "attributions",
    doc: "What patching a place would change in delta, as each estimator has it, and as it is where it was run.",
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
        GRADIENT,
        QK_FIX,
        GIM,
        RELP,
        ATP_STAR,
        INTEGRATED,
        EXACT,
    ],
};

static TABLES: &[&TableSpec] = &[&ATTRIBUTIONS, &verify::PLACES, &accuracy::ACCURACY];

impl Analysis for Attribution {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Attribution patching"
    }
    fn question(&self) -> &'static str {
        "Which places would matter, by estimates from gradients, and how far can the estimates be trusted?"
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
        checks::check(&settings.patches(), subject)
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let subject = context.subject;
        checks::check(&settings.patches(), subject)?;
        let sweep = Sweep::new(subject, context.memory)?.keeping_prompts().keeping_given();
        let means = means(&settings.patches(), subject, &sweep)?;
        let work = Work { context, settings: &settings, sweep: &sweep, means: &means };
        let [estimates] = by_blocks(context, [NAME], [&ATTRIBUTIONS], PROMPTS_PER_PART, |block| {
            Ok([work.estimate(&block.prompts, &block.so_far)?])
        })?;
        let chosen = verify::choose(&estimates, &settings, context.seed)?;
        let verified = [&verify::VERIFIED];
        let [exact] = by_blocks(context, ["attribution-exact"], verified, PROMPTS_PER_PART, |block| {
            Ok([work.verify(&block.prompts, &chosen, &block.so_far)?])
        })?;
        let mut attributions = verify::joined(estimates, &exact)?;
        attributions.sort_by_keys();
        let places = verify::places(&attributions, &chosen)?;
        let accuracy = accuracy::accuracy(&attributions, &places, &settings)?;
        let mut section = figures::section(self, context, &settings, &places, &accuracy)?;
        section.notes.extend(sweep.caveat());
        Ok(Findings { tables: vec![attributions, places, accuracy], section })
    }
}

/// What estimating and verifying share.
struct Work<'a> {
    context: &'a Context<'a>,
    settings: &'a Settings,
    sweep: &'a Sweep<'a>,
    means: &'a Means,
}

impl Work<'_> {
    fn jobs(&self, prompts: &[usize]) -> Result<Vec<Job>> {
        let (subject, patches) = (self.context.subject, self.settings.patches());
        let mut all = Vec::new();
        for &prompt in prompts {
            all.extend(jobs(&patches, subject, self.sweep, prompt, self.context.seed)?);
        }
        Ok(all)
    }

    fn runs(&self, jobs: &[Job]) -> Result<Vec<PatchedRun>> {
        let mut directions = DirectionBook::default();
        let subject = self.context.subject;
        jobs.iter().map(|job| job.run(subject, self.sweep, self.means, &mut directions)).collect()
    }

    fn estimate(&self, prompts: &[usize], so_far: &str) -> Result<Table> {
        let jobs = self.jobs(prompts)?;
        let runs = self.runs(&jobs)?;
        let asked = self.settings.estimators();
        let estimators: Vec<_> = asked.iter().map(|(_, e)| e.clone()).collect();
        let what = format!("estimating {so_far}");
        let found = self.sweep.estimate(&what, &runs, &estimators, self.context.progress)?;
        let mut table = Table::new(&ATTRIBUTIONS);
        for (i, job) in jobs.iter().enumerate() {
            let mut cells = identity(self.context.subject, job);
            for name in ESTIMATORS {
                let at = asked.iter().position(|(asked, _)| *asked == name);
                cells.push(at.map(|e| found.changes[e][i]).into());
            }
            cells.push(Cell::from(None::<f64>));
            table.push(&cells)?;
        }
        Ok(table)
    }

    fn verify(&self, prompts: &[usize], chosen: &verify::Chosen, so_far: &str) -> Result<Table> {
        let subject = self.context.subject;
        let mut jobs = self.jobs(prompts)?;
        jobs.retain(|job| chosen.has(&identity(subject, job)));
        let runs: Vec<PatchedRun> = self.runs(&jobs)?.into_iter().map(|run| self.sweep.known(run)).collect();
        let found = self.sweep.run(&format!("verifying {so_far}"), &runs, self.context.progress)?;
        let mut table = Table::new(&verify::VERIFIED);
        for (job, patched) in jobs.iter().zip(found.patched) {
            let target = found.plain[&(job.target, job.prompt)];
            let mut cells = identity(subject, job);
            cells.push((patched - target).into());
            table.push(&cells)?;
        }
        Ok(table)
    }
}
