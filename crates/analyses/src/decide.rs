//! What does each model decide? Log-probabilities of both answers, the decision metric, and how much of it is meaning.
//!
//! `delta = logp(B) − logp(A)` per model and prompt ([`crate::score()`]). Where a prompt set gives the same text under both
//! labellings of the answers (`label_twins`), delta splits into a *meaning* part, the mean over the two, and a *token*
//! part, half their difference: a model that only prefers the string `action2` has no meaning part.

use crate::Analysis;
use crate::bootstrap::{Interval, RESAMPLES};
use crate::context::{Context, Findings, read_settings};
use crate::error::Result;
use crate::scenarios::{Scenario, mean_over, n_clusters, scenarios};
use crate::score::{Decision, score};
use crate::slices::with_prompts;
use crate::subject::{Prompt, Subject};
use crate::twins::{Twins, label_twins};
use lorascope_record::ColumnKind::{Float, Int, Text, TextOrNull};
use lorascope_record::{Cell, ColumnSpec, Table, TableSpec};
use lorascope_report::{
    Figure, FigureKind, HeatmapPanel, HeatmapScale, Section, SummaryColumn, SummaryTable,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) struct Decide;

/// No settings yet; unknown keys are refused all the same.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {}

pub(crate) const fn column(
    name: &'static str,
    kind: lorascope_record::ColumnKind,
    unit: &'static str,
    doc: &'static str,
) -> ColumnSpec {
    ColumnSpec { name, kind, unit, doc }
}

pub(crate) const MODEL: ColumnSpec = column("model", Text, "", "`base`, or the adapter's name.");
pub(crate) const PROMPT_ID: ColumnSpec = column("prompt_id", Text, "", "The prompt's id.");
pub(crate) const SCENARIO: ColumnSpec =
    column("scenario", TextOrNull, "", "The prompt's scenario, if it has one.");

static DECISIONS: TableSpec = TableSpec {
    name: "decisions",
    doc: "One model's decision on one prompt.",
    columns: &[
        MODEL,
        PROMPT_ID,
        SCENARIO,
        column("variant", TextOrNull, "", "The prompt's variant, if it has one."),
        column(
            "cluster",
            Text,
            "",
            "Prompts made from one template share it; intervals resample whole clusters.",
        ),
        column("answer_a", Text, "", "Answer A as written."),
        column("answer_b", Text, "", "Answer B as written."),
        column("n_tokens", Int, "token", "Length of the prompt as the model reads it."),
        column(
            "primary_pair",
            Text,
            "",
            "Spelling with the most probability on the base: `as written` or `with space`.",
        ),
        column(
            "decision_position",
            Int,
            "token",
            "Position (from 0) of the row whose next token decides the primary pair.",
        ),
        column("logp_a", Float, "nat", "Log-probability of answer A, its spellings added up."),
        column("logp_b", Float, "nat", "Log-probability of answer B, its spellings added up."),
        column("delta", Float, "nat", "logp_b − logp_a; positive where the model prefers B."),
        column("p_b", Float, "", "Probability of B among the two answers: σ(delta)."),
        column("legal_mass", Float, "", "Probability of giving either answer at all."),
        column("pair_share", Float, "", "Share of the legal mass that the primary pair holds."),
    ],
};

static DECISION_PARTS: TableSpec = TableSpec {
    name: "decision_parts",
    doc: "Meaning and token part of one model's decision, from two prompts that differ only in which label means what. \
          Empty where the prompt set has no such twins.",
    columns: &[
        MODEL,
        column("label_twins", Text, "", "The key that both prompts share."),
        SCENARIO,
        column("prompt_id", Text, "", "The twin that comes first in the prompt file."),
        column("twin_id", Text, "", "The other one, whose answers are swapped."),
        column(
            "token_b",
            Text,
            "",
            "The label that the token part is for when positive: answer B of `prompt_id`.",
        ),
        column("meaning", Float, "nat", "Mean of the two deltas: preference for what B means."),
        column("token", Float, "nat", "Half the difference of the two deltas: preference for the label."),
    ],
};

static TABLES: &[&TableSpec] = &[&DECISIONS, &DECISION_PARTS];

impl Analysis for Decide {
    fn name(&self) -> &'static str {
        "decide"
    }
    fn title(&self) -> &'static str {
        "Decisions"
    }
    fn question(&self) -> &'static str {
        "What does each model decide, and how sure is it?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(self.name(), given)?;
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn run(&self, context: &Context, _settings: &Value) -> Result<Findings> {
        let subject = context.subject;
        let decisions = all_decisions(context, &|b| Ok(format!("decide-{b:05}")))?;
        let parts = split_by_labels(subject, &decisions)?;
        let section = section(self, context, &decisions, &parts)?;
        Ok(Findings { tables: vec![decisions, parts], section })
    }
}

/// Decisions of all models on all prompts, for other analyses: as this one has left them in the run folder, else computed and
/// kept under the name `parts`.
pub(crate) fn decisions(context: &Context, parts: &str) -> Result<Table> {
    all_decisions(context, &|b| {
        let own = format!("decide-{b:05}");
        Ok(if context.kept(&own)?.is_some() { own } else { format!("{parts}-{b:05}") })
    })
}

/// `name(b)` is the name of the part that holds block `b`.
fn all_decisions(context: &Context, name: &dyn Fn(usize) -> Result<String>) -> Result<Table> {
    let subject = context.subject;
    context.progress.begin("deciding on the base model", 1);
    let primary = &subject.primary_pairs()?;
    context.progress.end();
    let blocks = subject.blocks();
    let layers = subject.model.spec().n_layers as u64;
    context.progress.begin("deciding on the adapters", layers * blocks.len() as u64);
    let names: Vec<String> = (0..blocks.len()).map(name).collect::<Result<_>>()?;
    let mut decisions = context.parts(&names, &DECISIONS, |b| {
        let at = |done: usize, _| context.progress.at(b as u64 * layers + done as u64);
        decide_block(subject, &blocks[b], primary, &at)
    })?;
    context.progress.end();
    decisions.sort_by_keys();
    Ok(decisions)
}

fn decide_block(
    subject: &Subject,
    block: &[usize],
    primary: &[usize],
    progress: lorascope_engine::Progress,
) -> Result<Table> {
    let models: Vec<usize> = (0..subject.model.n_models()).collect();
    let asked: Vec<&Prompt> = block.iter().map(|&i| &subject.prompts[i]).collect();
    let base = subject.base_decisions()?;
    let mut decisions: Vec<Decision> = block.iter().map(|&i| base[i].clone()).collect();
    decisions.extend(score(&subject.model, &models[1..], &asked, progress)?);
    let mut table = Table::new(&DECISIONS);
    for (&model, decisions) in models.iter().zip(decisions.chunks(block.len())) {
        for ((prompt, decision), &i) in asked.iter().zip(decisions).zip(block) {
            let pair = primary[i];
            let answers = &prompt.answers;
            let pair_tokens = &answers.pairs[pair];
            let position = prompt.decision_position(pair);
            table.push(&[
                subject.model.name(model).into(),
                prompt.id().into(),
                prompt.item.scenario.clone().into(),
                prompt.item.variant.clone().into(),
                prompt.item.cluster().into(),
                answers.text_a.as_str().into(),
                answers.text_b.as_str().into(),
                prompt.tokens.ids.len().into(),
                (if pair_tokens.spaced { "with space" } else { "as written" }).into(),
                position.into(),
                decision.logp_a().into(),
                decision.logp_b().into(),
                decision.delta().into(),
                decision.p_b().into(),
                decision.legal_mass().into(),
                (decision.pair_mass(answers, pair) / decision.legal_mass()).into(),
            ])?;
        }
    }
    Ok(table)
}

/// Value of a float column by model and prompt.
pub(crate) fn by_prompt<'t>(table: &'t Table, column: &str) -> Result<BTreeMap<(&'t str, &'t str), f64>> {
    let keys = table.texts("model")?.into_iter().zip(table.texts("prompt_id")?);
    Ok(keys.zip(table.floats(column)?).collect())
}

fn split_by_labels(subject: &Subject, decisions: &Table) -> Result<Table> {
    let deltas = by_prompt(decisions, "delta")?;
    let mut parts = Table::new(&DECISION_PARTS);
    let twins = label_twins(&subject.prompts);
    for model in subject.model.names() {
        for pair in &twins {
            let (one, other) = (&subject.prompts[pair.one], &subject.prompts[pair.other]);
            let (Some(&d1), Some(&d2)) = (deltas.get(&(model, one.id())), deltas.get(&(model, other.id())))
            else {
                continue;
            };
            let cells: [Cell; 8] = [
                model.into(),
                pair.key.into(),
                one.item.scenario.clone().into(),
                one.id().into(),
                other.id().into(),
                one.answers.text_b.as_str().into(),
                Twins::meaning(d1, d2).into(),
                Twins::label(d1, d2).into(),
            ];
            parts.push(&cells)?;
        }
    }
    parts.sort_by_keys();
    Ok(parts)
}

/// Values by model and prompt.
type ByModel<'t> = BTreeMap<(&'t str, &'t str), f64>;

/// Means per model and scenario: `[model][scenario]`.
fn grid(context: &Context, groups: &[Scenario], values: &ByModel) -> Vec<Vec<Interval>> {
    let (prompts, model) = (&context.subject.prompts, &context.subject.model);
    let cell = |name: &str, group: &Scenario| {
        mean_over(prompts, &group.prompts, context.seed, |i| values[&(name, prompts[i].id())])
    };
    model.names().into_iter().map(|name| groups.iter().map(|g| cell(name, g)).collect()).collect()
}

fn heatmap(subject: &Subject, groups: &[Scenario], grid: &[Vec<Interval>]) -> HeatmapPanel {
    HeatmapPanel {
        title: String::new(),
        rows: subject.model.names().into_iter().map(str::to_owned).collect(),
        cols: groups.iter().map(|g| g.name.clone()).collect(),
        values: grid.iter().map(|row| row.iter().map(|c| Some(c.mean)).collect()).collect(),
        intervals: grid.iter().map(|row| row.iter().map(|c| Some((c.lo, c.hi))).collect()).collect(),
    }
}

fn section(decide: &Decide, context: &Context, decisions: &Table, parts: &Table) -> Result<Section> {
    let subject = context.subject;
    let groups = scenarios(&subject.prompts);
    let (p_all, legal_all) = (by_prompt(decisions, "p_b")?, by_prompt(decisions, "legal_mass")?);
    let sizes: Vec<String> = groups
        .iter()
        .map(|g| {
            format!(
                "{}: {} in {} clusters",
                g.name,
                g.prompts.len(),
                n_clusters(&subject.prompts, &g.prompts)
            )
        })
        .collect();
    let basis = format!(
        "Mean over prompts ({}) with 95% bootstrap interval over prompt templates ({RESAMPLES} resamples).",
        sizes.join("; ")
    );
    let names = subject.model.names();
    let map = |name: &str, title: String, caption: String, values: &ByModel, scale| {
        let figure = Figure {
            name: name.to_owned(),
            title,
            caption: format!("{caption} {basis}"),
            by_prompt: None,
            kind: FigureKind::Heatmap {
                row_label: "model".to_owned(),
                col_label: "scenario".to_owned(),
                panels: vec![heatmap(subject, &groups, &grid(context, &groups, values))],
                scale,
                unit: "probability".to_owned(),
                annotate: true,
            },
        };
        with_prompts(figure, &subject.prompts, |prompt, cell| {
            let has_part = groups[cell.col].prompts.contains(&prompt);
            values.get(&(names[cell.row], subject.prompts[prompt].id())).copied().filter(|_| has_part)
        })
    };
    let b = &subject.meanings.b;
    let figures = vec![
        map(
            "decisions",
            format!("Probability of {b} among the two answers"),
            format!("Probability of {b} among the two answers, by model and scenario; 0.5 is indifference."),
            &p_all,
            HeatmapScale::Diverging { center: 0.5, reach: Some(0.5) },
        ),
        map(
            "legal_mass",
            "Probability of either answer".to_owned(),
            "How much of each model's probability goes to the two answers at all; where it is small, the figure above \
             compares two unlikely answers."
                .to_owned(),
            &legal_all,
            HeatmapScale::Sequential { min: 0.0, max: 1.0 },
        ),
    ];
    let tables = if parts.n_rows() == 0 { Vec::new() } else { vec![parts_summary(context, parts)?] };
    let prompts: Vec<usize> = (0..subject.prompts.len()).collect();
    let paragraphs = names.iter().map(|name| {
        let of = |values: &BTreeMap<(&str, &str), f64>, i: usize| values[&(*name, subject.prompts[i].id())];
        let mean = |values| mean_over(&subject.prompts, &prompts, context.seed, |i| of(values, i));
        let (p, legal) = (mean(&p_all), mean(&legal_all));
        let n = prompts.iter().filter(|&&i| of(&p_all, i) > 0.5).count();
        format!(
            "{name}: of the two answers, {b} has probability {:.3} on average (95% interval {:.3} to {:.3}), and is preferred on \
             {n} of {} prompts. Together they have {} of all probability.",
            p.mean,
            p.lo,
            p.hi,
            prompts.len(),
            small_or_not(legal.mean)
        )
    });
    let mut notes = Vec::new();
    if parts.n_rows() == 0 {
        notes.push(
            "The prompt set has one labelling only: a preference for a meaning can't be told from one for a string."
                .to_owned(),
        );
    }
    let few = groups.iter().filter(|g| n_clusters(&subject.prompts, &g.prompts) < 6);
    let few: Vec<&str> = few.map(|g| g.name.as_str()).collect();
    if !few.is_empty() {
        notes.push(format!(
            "Fewer than 6 clusters of prompts in {}: intervals there mean little.",
            few.join(", ")
        ));
    }
    Ok(Section {
        id: decide.name().to_owned(),
        title: decide.title().to_owned(),
        question: decide.question().to_owned(),
        paragraphs: paragraphs.collect(),
        figures,
        tables,
        notes,
    })
}

/// A probability with three decimals, or two digits where it is smaller.
fn small_or_not(probability: f64) -> String {
    if probability < 0.01 { format!("{probability:.1e}") } else { format!("{probability:.3}") }
}

/// Meaning and token part per model, over all twins.
fn parts_summary(context: &Context, parts: &Table) -> Result<SummaryTable> {
    let subject = context.subject;
    let by_id: BTreeMap<&str, usize> = subject.prompts.iter().enumerate().map(|(i, p)| (p.id(), i)).collect();
    let (meaning, token) = (by_prompt(parts, "meaning")?, by_prompt(parts, "token")?);
    let rows = subject.model.names().into_iter().map(|name| {
        let of_model = |values: &BTreeMap<(&str, &str), f64>| {
            let found = values.iter().filter(|((m, _), _)| *m == name).map(|((_, id), v)| (by_id[id], *v));
            let values: BTreeMap<usize, f64> = found.collect();
            let which: Vec<usize> = values.keys().copied().collect();
            let mean = mean_over(&subject.prompts, &which, context.seed, |i| values[&i]);
            format!("{:+.3} [{:+.3}, {:+.3}]", mean.mean, mean.lo, mean.hi)
        };
        vec![name.to_owned(), of_model(&meaning), of_model(&token)]
    });
    let column = |name: &str, doc: String, numeric| SummaryColumn { name: name.to_owned(), doc, numeric };
    let b = &subject.meanings.b;
    Ok(SummaryTable {
        title: "Meaning and label".to_owned(),
        rows: rows.collect(),
        columns: vec![
            column("model", "The model.".to_owned(), false),
            column("meaning", format!("Preference for {b} whatever it is called, in nats, with 95% interval."), true),
            column("label", "Preference for a label whatever it means, in nats; positive for the label that is B in the first \
                             twin of each pair."
                .to_owned(), true),
        ],
    })
}
