//! From which layer on can the decision be read? The logit lens (nostalgebraist 2020) at the decision point.
//!
//! For each layer and site, `u = softcap(W_U · LN_f(r))` with the final norm recomputed on r, and
//! `delta = u[b] − u[a]` for the two tokens in which the primary pair first differs. At the last `resid_post` this is the
//! model's own logit difference, bit for bit.

use crate::Analysis;
use crate::bootstrap::RESAMPLES;
use crate::context::{Context, Findings, read_settings};
use crate::decide::{MODEL, PROMPT_ID, SCENARIO, column};
use crate::error::{Error, Result};
use crate::scenarios::{mean_over, scenarios};
use crate::slices::with_prompts;
use crate::subject::{Prompt, Subject};
use lorascope_engine::{Batch, Capture, HookPoint, Hooks, Mat, NextToken, Site, States};
use lorascope_record::ColumnKind::{Float, Int, IntOrNull, Text};
use lorascope_record::{Table, TableSpec};
use lorascope_report::{Cell, Figure, FigureKind, LinePanel, Section, Series};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

pub(crate) struct Lens;

/// Settings of the lens.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// `decision_layer` asks that delta stays within `tolerance · max(1, |final delta|)` of the final one.
    tolerance: f64,
    /// How many of the most probable tokens are listed.
    top: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self { tolerance: 0.5, top: 5 }
    }
}

static LENS: TableSpec = TableSpec {
    name: "lens",
    doc: "What the final norm and the output matrix read from one place of one model at the decision point of one prompt.",
    columns: &[
        MODEL,
        PROMPT_ID,
        SCENARIO,
        column("site", Text, "", "`resid_pre`, `resid_mid`, `resid_post`, `attn_out` or `mlp_out`."),
        column("layer", Int, "", "Layer, from 0."),
        column("position", Int, "token", "The decision point: position (from 0) of the row that is read."),
        column("token_a", Text, "", "First token in which answer A differs."),
        column("token_b", Text, "", "First token in which answer B differs."),
        column("rank_a", Int, "", "Number of tokens with a larger logit than `token_a`."),
        column("rank_b", Int, "", "Number of tokens with a larger logit than `token_b`."),
        column(
            "top",
            Text,
            "",
            "The most probable tokens with their probabilities, as a JSON array of pairs.",
        ),
        column("delta", Float, "logit", "Logit of `token_b` minus logit of `token_a`, after the soft cap."),
        column("prob_a", Float, "", "Probability of `token_a` as next token."),
        column("prob_b", Float, "", "Probability of `token_b` as next token."),
        column(
            "kl",
            Float,
            "nat",
            "KL divergence of this reading from the model's final distribution: KL(final ‖ here).",
        ),
    ],
};

static LENS_DECISIONS: TableSpec = TableSpec {
    name: "lens_decisions",
    doc: "From which layer on one model's decision on one prompt can be read from `resid_post`.",
    columns: &[
        MODEL,
        PROMPT_ID,
        SCENARIO,
        column(
            "decision_layer",
            IntOrNull,
            "",
            "First layer from which on delta keeps its sign and stays within the tolerance of the final one; null where \
             only the last layer does and disagrees in sign with all others.",
        ),
        column("final_delta", Float, "logit", "delta at the last `resid_post`."),
        column("tolerance", Float, "logit", "Distance from the final delta that counts as staying."),
    ],
};

static TABLES: &[&TableSpec] = &[&LENS, &LENS_DECISIONS];

impl Analysis for Lens {
    fn name(&self) -> &'static str {
        "lens"
    }
    fn title(&self) -> &'static str {
        "Logit lens"
    }
    fn question(&self) -> &'static str {
        "From which layer on can each model's decision be read?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(self.name(), given)?;
        if !(settings.tolerance.is_finite() && settings.tolerance > 0.0) {
            let why = format!("tolerance is {}; it must be a positive number", settings.tolerance);
            return Err(Error::Settings { analysis: self.name(), why });
        }
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(self.name(), settings)?;
        let subject = context.subject;
        let primary = &subject.primary_pairs()?;
        let blocks = subject.blocks();
        // Reading the vocabulary takes about as long as the layers.
        let steps = (subject.model.spec().n_layers + subject.model.n_models()) as u64;
        context.progress.begin("reading layers", steps * blocks.len() as u64);
        let names: Vec<String> = (0..blocks.len()).map(|b| format!("lens-{b:05}")).collect();
        let mut lens = context.parts(&names, &LENS, |b| {
            let at = |done: usize| context.progress.at(b as u64 * steps + done as u64);
            lens_block(subject, &blocks[b], primary, settings.top, &at)
        })?;
        context.progress.end();
        lens.sort_by_keys();
        let decisions = decision_layers(subject, &lens, settings.tolerance)?;
        let section = section(self, context, &lens, &decisions)?;
        Ok(Findings { tables: vec![lens, decisions], section })
    }
}

/// The places that are read, in the order of a layer. `resid_pre` is read in layer 0 only: above, it is the `resid_post` of
/// the layer below, whose values its rows repeat.
const SITES: [Site; 5] = [Site::ResidPre, Site::AttnOut, Site::ResidMid, Site::MlpOut, Site::ResidPost];

/// A place that is read.
type Place = (usize, Site);

fn lens_block(
    subject: &Subject,
    block: &[usize],
    all_primary: &[usize],
    top: usize,
    at: &(dyn Fn(usize) + Sync),
) -> Result<Table> {
    let (model, spec) = (&subject.model, subject.model.spec());
    let prompts: Vec<&Prompt> = block.iter().map(|&i| &subject.prompts[i]).collect();
    let primary: Vec<usize> = block.iter().map(|&i| all_primary[i]).collect();
    let inputs: Vec<Vec<u32>> = prompts.iter().zip(&primary).map(|(p, &pair)| p.stem(pair)).collect();
    let sequences: Vec<(usize, &[u32])> =
        (0..model.n_models()).flat_map(|m| inputs.iter().map(move |i| (m, i.as_slice()))).collect();
    let batch = Batch::new(spec, &sequences)?;
    let decision_row = |s: usize| batch.row_of(s, sequences[s].1.len() - 1).unwrap_or_default();
    let rows: Vec<usize> = (0..sequences.len()).map(decision_row).collect();
    let read = |(layer, site): &Place| *site != Site::ResidPre || *layer == 0;
    let places: Vec<Place> = (0..spec.n_layers).flat_map(|l| SITES.map(|s| (l, s))).filter(read).collect();
    let capture =
        |&(layer, site): &Place| Capture { point: HookPoint::Layer(layer, site), rows: rows.clone() };
    let hooks = Hooks { captures: places.iter().map(capture).collect(), edits: Vec::new() };
    let run = model.run_with_progress(&batch, &hooks, &[], &|done, _| at(done))?;

    let mut table = Table::new(&LENS);
    for which in 0..model.n_models() {
        let of_model = which * prompts.len()..(which + 1) * prompts.len();
        let mut resid = Mat::zeros(0, spec.d_model);
        for values in &run.captures {
            for row in &values[of_model.clone()] {
                resid.data.extend_from_slice(row);
                resid.rows += 1;
            }
        }
        let last = (places.len() - 1) * prompts.len();
        let states = States {
            model: which,
            normalized: model.final_norm(which, &resid),
            tokens: (0..resid.rows)
                .map(|i| tokens(prompts[i % prompts.len()], primary[i % prompts.len()]))
                .collect(),
            reference: (0..resid.rows).map(|i| last + i % prompts.len()).collect(),
            top,
        };
        let readings = model.next_tokens(&states)?;
        let by_place: BTreeMap<Place, &[NextToken]> =
            places.iter().copied().zip(readings.chunks(prompts.len())).collect();
        for layer in 0..spec.n_layers {
            for site in SITES {
                let source = if site == Site::ResidPre && layer > 0 {
                    (layer - 1, Site::ResidPost)
                } else {
                    (layer, site)
                };
                for (i, reading) in by_place[&source].iter().enumerate() {
                    push(subject, &mut table, which, (layer, site), prompts[i], primary[i], reading)?;
                }
            }
        }
        at(spec.n_layers + which + 1);
    }
    Ok(table)
}

fn tokens(prompt: &Prompt, pair: usize) -> Vec<u32> {
    let pair = &prompt.answers.pairs[pair];
    vec![pair.token_a, pair.token_b]
}

fn push(
    subject: &Subject,
    table: &mut Table,
    model: usize,
    (layer, site): Place,
    prompt: &Prompt,
    pair: usize,
    reading: &NextToken,
) -> Result<()> {
    let decision = prompt.decision_position(pair);
    let pair = &prompt.answers.pairs[pair];
    let text = |token: u32| subject.tokenizer.token_text(token);
    let top: Vec<(String, f64)> =
        reading.top.iter().map(|&(t, logit)| (text(t), (logit - reading.log_sum_exp).exp())).collect();
    table.push(&[
        subject.model.name(model).into(),
        prompt.id().into(),
        prompt.item.scenario.clone().into(),
        site.short_name().into(),
        layer.into(),
        decision.into(),
        text(pair.token_a).into(),
        text(pair.token_b).into(),
        reading.ranks[0].into(),
        reading.ranks[1].into(),
        serde_json::to_string(&top).unwrap_or_default().into(),
        (reading.logits[1] - reading.logits[0]).into(),
        reading.log_prob(0).exp().into(),
        reading.log_prob(1).exp().into(),
        reading.kl.into(),
    ])?;
    Ok(())
}

/// `resid_post` deltas by model and prompt, in the order of layers.
fn trajectories(lens: &Table) -> Result<BTreeMap<(&str, &str), Vec<f64>>> {
    let keys = lens.texts("model")?.into_iter().zip(lens.texts("prompt_id")?);
    let sites = lens.texts("site")?.into_iter().zip(lens.ints("layer")?);
    let mut found: BTreeMap<(&str, &str), BTreeMap<i64, f64>> = BTreeMap::new();
    for ((key, (site, layer)), delta) in keys.zip(sites).zip(lens.floats("delta")?) {
        if site == "resid_post" {
            found.entry(key).or_default().insert(layer, delta);
        }
    }
    Ok(found.into_iter().map(|(k, v)| (k, v.into_values().collect())).collect())
}

/// First layer from which on the sign stays and delta stays within `tolerance` of the final one.
fn decision_layer(deltas: &[f64], tolerance: f64) -> Option<usize> {
    let last = *deltas.last()?;
    let stays = |d: &f64| d.signum() == last.signum() && (d - last).abs() <= tolerance;
    let settled = deltas.iter().rev().take_while(|d| stays(d)).count();
    (settled > 0).then(|| deltas.len() - settled)
}

fn decision_layers(subject: &Subject, lens: &Table, tolerance: f64) -> Result<Table> {
    let found = trajectories(lens)?;
    let mut table = Table::new(&LENS_DECISIONS);
    for name in subject.model.names() {
        for prompt in &subject.prompts {
            let Some(deltas) = found.get(&(name, prompt.id())) else { continue };
            let last = deltas.last().copied().unwrap_or(f64::NAN);
            let allowed = tolerance * last.abs().max(1.0);
            table.push(&[
                name.into(),
                prompt.id().into(),
                prompt.item.scenario.clone().into(),
                decision_layer(deltas, allowed).into(),
                last.into(),
                allowed.into(),
            ])?;
        }
    }
    table.sort_by_keys();
    Ok(table)
}

/// From which layer on the decisions of each model can be read.
fn sentences(subject: &Subject, decisions: &Table) -> Result<Vec<String>> {
    let (models, layers) = (decisions.texts("model")?, decisions.ints_or_null("decision_layer")?);
    let sentence = |name: &str| {
        let own = models.iter().zip(layers).filter(|(model, _)| **model == name);
        let mut found: Vec<i64> = own.filter_map(|(_, layer)| *layer).collect();
        found.sort_unstable();
        let at = |share: f64| found.get(((found.len() as f64 - 1.0) * share).round() as usize).copied();
        let (low, median, high) = (at(0.25)?, at(0.5)?, at(0.75)?);
        Some(format!(
            "{name}: the decision can be read from layer {median} on in the median prompt (quartiles {low} and {high} of {} \
             prompts).",
            found.len()
        ))
    };
    Ok(subject.model.names().into_iter().filter_map(sentence).collect())
}

fn section(lens: &Lens, context: &Context, table: &Table, decisions: &Table) -> Result<Section> {
    let subject = context.subject;
    let found = trajectories(table)?;
    let layers: Vec<usize> = (0..subject.model.spec().n_layers).collect();
    let x: Vec<f64> = layers.iter().map(|&l| l as f64).collect();
    let panels = scenarios(&subject.prompts).into_iter().map(|group| {
        let series = subject.model.names().into_iter().enumerate().map(|(m, name)| {
            let at = |layer: usize| {
                mean_over(&subject.prompts, &group.prompts, context.seed, |i| {
                    found[&(name, subject.prompts[i].id())][layer]
                })
            };
            let means: Vec<_> = layers.iter().map(|&l| at(l)).collect();
            let of = |f: fn(&crate::Interval) -> f64| means.iter().map(f).collect::<Vec<f64>>();
            Series::new(name, subject.color(m), x.clone(), &of(|i| i.mean))
                .with_interval(&of(|i| i.lo), &of(|i| i.hi))
        });
        LinePanel {
            title: format!("{} ({} prompts)", group.name, group.prompts.len()),
            series: series.collect(),
        }
    });
    let (a, b) = (&subject.meanings.a, &subject.meanings.b);
    let figure = Figure {
        name: "lens_trajectories".to_owned(),
        title: "Logit lens at the decision point".to_owned(),
        caption: format!(
            "Logit of the deciding token of {b} minus that of {a}, read from resid_post of each layer through the model's own \
             final norm and output matrix; above zero the reading prefers {b}. Mean over prompts with 95% bootstrap interval \
             over prompt templates ({RESAMPLES} resamples); the last layer is the model's own logit difference."
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "layer".to_owned(),
            y_label: format!("logit of {b} minus {a}"),
            panels: panels.collect(),
            zero_line: true,
        },
    };
    let groups = scenarios(&subject.prompts);
    let names = subject.model.names();
    let figure = with_prompts(figure, &subject.prompts, |prompt, Cell { panel, row, col }| {
        let deltas = found.get(&(names[row], subject.prompts[prompt].id()))?;
        groups[panel].prompts.contains(&prompt).then(|| deltas.get(col).copied())?
    });
    Ok(Section {
        id: lens.name().to_owned(),
        title: lens.title().to_owned(),
        question: lens.question().to_owned(),
        paragraphs: sentences(subject, decisions)?,
        figures: vec![figure],
        tables: Vec::new(),
        notes: vec![
            "The plain lens reads every layer in the coordinates of the last one and misleads in early layers; an offset that \
             all models share there is a property of the projection, not of the decision."
                .to_owned(),
        ],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decision_layer_by_hand() {
        assert_eq!(decision_layer(&[-1.0, 2.0, 2.2, 2.1], 0.5), Some(1));
        assert_eq!(decision_layer(&[-1.0, 9.0, 2.2, 2.1], 0.5), Some(2));
        assert_eq!(decision_layer(&[2.1, -2.0, 2.1], 0.5), Some(2));
        assert_eq!(decision_layer(&[2.1, 2.0, 2.1], 0.5), Some(0));
        assert_eq!(decision_layer(&[], 0.5), None);
    }
}
