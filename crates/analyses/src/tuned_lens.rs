//! From which layer on can the decision be read through a lens that was trained for its layer? The tuned lens (Belrose et al. 2023,
//! arXiv 2303.08112).
//!
//! One affine map per layer, `r → A·r + b`, takes `resid_post` of that layer to where the final norm and the output matrix
//! read it best: trained to bring KL(final ‖ lens) down, on positions of the base model over the prompt set's own texts. The same
//! maps serve all models, since only one projection for all makes their readings comparable. At the last layer the map is
//! the identity, so delta there is the model's own logit difference, bit for bit.

mod affine;
mod figures;
mod fit;
mod plan;
mod readout;
mod states;
mod store;
#[cfg(test)]
mod testing;

use crate::Analysis;
use crate::context::{Context, Findings, read_settings};
use crate::decide::{MODEL, PROMPT_ID, SCENARIO, column};
use crate::error::{Error, Result};
use crate::subject::{Prompt, Subject};
use affine::Affine;
use fit::{Fitted, LayerRows, Rows};
use lorascope_engine::{Mat, ModelId, NextToken};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text};
use lorascope_record::{Table, TableSpec};
use plan::{Plan, Split};
use readout::{Readout, Targets};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use states::States;

pub(crate) struct TunedLens;

const NAME: &str = "tuned_lens";
const SITE: &str = "resid_post";

/// Settings of the tuned lens.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Settings {
    /// Positions that the closed form is fitted to, at most.
    rows: usize,
    /// The first so many of them are those that the steps train on. Their final distributions are kept, in 4 bytes for each
    /// token of the vocabulary.
    step_rows: usize,
    /// Positions by which penalty and number of steps are chosen, at most.
    validation_rows: usize,
    /// Held-out positions, at most.
    heldout_rows: usize,
    /// Penalties of the closed form to choose from; the mean square of an input is 1.
    ridges: Vec<f64>,
    /// Steps of Adam on the divergence, at most; 0 for the closed form alone.
    steps: usize,
    /// Positions per step.
    batch: usize,
    /// Adam's rate at the first step.
    rate: f64,
    /// Steps between looks at the validation divergence.
    check_every: usize,
    /// Training of a layer ends after so many looks without a new best.
    patience: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            rows: 3072,
            step_rows: 768,
            validation_rows: 128,
            heldout_rows: 192,
            ridges: vec![1e-3, 1e-2, 1e-1],
            steps: 16,
            batch: 64,
            rate: 1e-3,
            check_every: 4,
            patience: 2,
        }
    }
}

static TUNED_LENS: TableSpec = TableSpec {
    name: "tuned_lens",
    doc: "What one layer's tuned lens, trained on the base, reads from one model at the decision point of one prompt.",
    columns: &[
        MODEL,
        PROMPT_ID,
        SCENARIO,
        column("site", Text, "", "`resid_post`."),
        column("layer", Int, "", "Layer, from 0."),
        column(
            "split",
            Text,
            "",
            "What the prompt served for in training: `train`, `validation` or `heldout`.",
        ),
        column(
            "rank_a",
            Int,
            "",
            "Number of tokens with a larger logit than the first token in which answer A differs.",
        ),
        column("rank_b", Int, "", "The same for answer B."),
        column(
            "delta",
            Float,
            "logit",
            "Logit of B's deciding token minus that of A's, read through the layer's map.",
        ),
        column("delta_plain", Float, "logit", "The same without the map: the plain lens."),
        column("prob_a", Float, "", "Probability of A's deciding token, read through the map."),
        column("prob_b", Float, "", "Probability of B's deciding token, read through the map."),
        column("kl", Float, "nat", "KL(the model's own final distribution ‖ this reading)."),
    ],
};

static TUNED_LENS_FIT: TableSpec = TableSpec {
    name: "tuned_lens_fit",
    doc: "How well one layer's lens matches the final distribution of the base: mean KL(final ‖ lens) over positions, before and \
          after training.",
    columns: &[
        column("site", Text, "", "`resid_post`."),
        column("layer", Int, "", "Layer, from 0. In the last one the map is the identity."),
        column("n_train", Int, "token", "Positions that the closed form was fitted to."),
        column("n_train_steps", Int, "token", "Those of them that the steps trained on."),
        column("n_validation", Int, "token", "Positions by which `ridge` and `steps` were chosen."),
        column(
            "n_heldout",
            Int,
            "token",
            "Held-out positions, of templates that had no part in the training.",
        ),
        column("n_decisions", Int, "token", "Held-out prompts, for the divergences at decision points."),
        column("steps", Int, "", "Steps of Adam that were kept."),
        column("ridge", FloatOrNull, "", "Penalty of the closed form; null where the plain lens was better."),
        column(
            "kl_plain_train",
            Float,
            "nat",
            "Plain lens, on the first training positions (as many as `n_heldout`).",
        ),
        column("kl_tuned_train", Float, "nat", "Tuned lens, there."),
        column("kl_plain_heldout", Float, "nat", "Plain lens, on held-out positions."),
        column("kl_ridge_heldout", Float, "nat", "Closed form alone, there."),
        column("kl_tuned_heldout", Float, "nat", "Tuned lens, there."),
        column("kl_plain_decision", Float, "nat", "Plain lens, at the decision points of held-out prompts."),
        column("kl_tuned_decision", Float, "nat", "Tuned lens, there."),
    ],
};

static TABLES: &[&TableSpec] = &[&TUNED_LENS, &TUNED_LENS_FIT];

impl Analysis for TunedLens {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Tuned lens"
    }
    fn question(&self) -> &'static str {
        "From which layer on can each model's decision be read, if every layer is read in its own coordinates?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    /// Training takes as long as all other analyses together.
    fn by_default(&self) -> bool {
        false
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(NAME, given)?;
        let wrong = |why: String| Err(Error::Settings { analysis: NAME, why });
        let counts = [
            ("rows", settings.rows),
            ("step_rows", settings.step_rows),
            ("validation_rows", settings.validation_rows),
            ("heldout_rows", settings.heldout_rows),
            ("batch", settings.batch),
            ("check_every", settings.check_every),
            ("patience", settings.patience),
        ];
        if let Some((name, _)) = counts.iter().find(|c| c.1 == 0) {
            return wrong(format!("{name} is 0; it must be 1 at least"));
        }
        let numbers = settings.ridges.iter().chain([&settings.rate]);
        if let Some(bad) = numbers.into_iter().find(|v| !(v.is_finite() && **v > 0.0)) {
            return wrong(format!("ridges and rate must be positive numbers, and `{bad}` is not"));
        }
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let (subject, progress) = (context.subject, context.progress);
        let primary = subject.primary_pairs()?;
        let inputs: Vec<Vec<u32>> = subject
            .prompts
            .iter()
            .zip(primary)
            .map(|(p, &pair)| [&p.tokens.ids[..], &p.answers.pairs[pair].shared].concat())
            .collect();
        let plan = Plan::new(subject.model.spec(), &subject.prompts, &inputs, &settings, context.seed)?;
        let states = States::gather(context, &inputs, &plan)?;
        let (maps, fits) = fit_layers(context, &plan, &states, &settings)?;
        let mut readings = Table::new(&TUNED_LENS);
        progress.begin("reading layers", subject.model.n_models() as u64);
        for model in 0..subject.model.n_models() {
            let part = context.part(&format!("{NAME}-read-{model}"), &TUNED_LENS, || {
                read_model(subject, &plan, &states, &maps, primary, model)
            })?;
            readings.append(part)?;
            progress.at(model as u64 + 1);
        }
        progress.end();
        readings.sort_by_keys();
        let stored = store::write(context.run, &maps, subject.model.spec().d_model)?;
        let section = figures::section(self, context, &plan, &readings, &fits, stored)?;
        Ok(Findings { tables: vec![readings, fits], section })
    }
}

/// What all layers are fitted and judged with.
struct Bench<'a> {
    readout: Readout<f32>,
    finals: Mat<f32>,
    train: Targets<f32>,
    validation: Targets<f32>,
    heldout: Targets<f32>,
    decisions: Targets<f32>,
    /// Held-out prompts.
    heldout_prompts: Vec<usize>,
    plan: &'a Plan,
    states: &'a States,
    settings: &'a Settings,
}

impl<'a> Bench<'a> {
    fn new(subject: &Subject, plan: &'a Plan, states: &'a States, settings: &'a Settings) -> Result<Self> {
        let readout = Readout::of(&subject.model)?;
        let finals = &states.samples[states.samples.len() - 1];
        let targets = |part: Split, most: usize| {
            let which: Vec<usize> = plan.range(part).take(most).collect();
            readout.targets(&finals.gather(&which))
        };
        let heldout_prompts: Vec<usize> =
            (0..plan.splits.len()).filter(|&p| plan.splits[p] == Split::Heldout).collect();
        Ok(Self {
            finals: finals.gather(&plan.range(Split::Train).collect::<Vec<_>>()),
            train: targets(Split::Train, settings.step_rows),
            validation: targets(Split::Validation, usize::MAX),
            heldout: targets(Split::Heldout, usize::MAX),
            // The base's decision points are the first of all models'.
            decisions: readout
                .targets(&states.decisions[states.decisions.len() - 1].gather(&heldout_prompts)),
            readout,
            heldout_prompts,
            plan,
            states,
            settings,
        })
    }

    fn states(&self, layer: usize, part: Split) -> Mat<f32> {
        self.states.samples[layer].gather(&self.plan.range(part).collect::<Vec<_>>())
    }

    fn fit(&self, layer: usize, seed: u64) -> Result<Fitted> {
        let (train, validation) = (self.states(layer, Split::Train), self.states(layer, Split::Validation));
        let rows = LayerRows {
            train: Rows { from: &train, targets: &self.train },
            train_finals: &self.finals,
            validation: Rows { from: &validation, targets: &self.validation },
        };
        fit::fit(&self.readout, &rows, self.settings, seed)
    }

    /// A layer's row of the table; without a fit, of the identity.
    fn judge(&self, layer: usize, fitted: Option<&Fitted>) -> Result<Table> {
        let (train, heldout) = (self.states(layer, Split::Train), self.states(layer, Split::Heldout));
        let decisions = self.states.decisions[layer].gather(&self.heldout_prompts);
        let train = Rows { from: &train, targets: &self.train };
        let heldout = Rows { from: &heldout, targets: &self.heldout };
        let decisions = Rows { from: &decisions, targets: &self.decisions };
        let (map, start) = (fitted.map(|f| &f.map), fitted.map(|f| &f.start));
        let most = self.heldout.len();
        let kl = |rows: &Rows, map| rows.kl(&self.readout, map, most);
        let counts = self.plan.counts;
        let mut table = Table::new(&TUNED_LENS_FIT);
        table.push(&[
            SITE.into(),
            layer.into(),
            counts[0].into(),
            self.train.len().into(),
            counts[1].into(),
            counts[2].into(),
            self.heldout_prompts.len().into(),
            fitted.map_or(0, |f| f.steps).into(),
            fitted.map(|f| f.ridge).filter(|r| r.is_finite()).into(),
            kl(&train, None).into(),
            kl(&train, map).into(),
            kl(&heldout, None).into(),
            kl(&heldout, start).into(),
            kl(&heldout, map).into(),
            kl(&decisions, None).into(),
            kl(&decisions, map).into(),
        ])?;
        Ok(table)
    }
}

/// The maps of all layers, `None` for the identity of the last one, and how good they are. Each layer is a part of the run.
fn fit_layers(
    context: &Context,
    plan: &Plan,
    states: &States,
    settings: &Settings,
) -> Result<(Vec<Option<Affine>>, Table)> {
    let (subject, n) = (context.subject, states.samples.len());
    let d = subject.model.spec().d_model;
    let (mut maps, mut fits) = (Vec::with_capacity(n), Table::new(&TUNED_LENS_FIT));
    let mut bench = None;
    context.progress.begin("training lenses", n as u64);
    for layer in 0..n {
        let (map_name, fit_name) = (format!("{NAME}-map-{layer:05}"), format!("{NAME}-fit-{layer:05}"));
        let kept = if layer + 1 == n { None } else { context.run.part(&map_name)? };
        let kept = kept.and_then(|bytes| Affine::from_bytes(&bytes, d));
        let is_kept = layer + 1 == n || kept.is_some();
        let row = if is_kept { context.run.part(&fit_name)? } else { None };
        if let Some(row) = row {
            maps.push(kept);
            fits.append(Table::from_parquet(&TUNED_LENS_FIT, &row)?)?;
            continue;
        }
        if context.progress.should_stop() {
            return Err(Error::Stopped);
        }
        let ready = bench.take();
        let ready = ready.map_or_else(|| Bench::new(subject, plan, states, settings), Ok)?;
        let fitted = if layer + 1 == n {
            None
        } else {
            Some(ready.fit(layer, context.seed.wrapping_add(layer as u64))?)
        };
        let row = ready.judge(layer, fitted.as_ref())?;
        if let Some(fitted) = &fitted {
            context.run.save_part(&map_name, &fitted.map.to_bytes())?;
        }
        context.run.save_part(&fit_name, &row.to_parquet()?)?;
        fits.append(row)?;
        maps.push(fitted.map(|f| f.map));
        bench = Some(ready);
        context.progress.at(layer as u64 + 1);
    }
    context.progress.end();
    Ok((maps, fits))
}

/// All layers of one model at the decision points of all prompts.
fn read_model(
    subject: &Subject,
    plan: &Plan,
    states: &States,
    maps: &[Option<Affine>],
    primary: &[usize],
    which: ModelId,
) -> Result<Table> {
    let (model, prompts) = (&subject.model, &subject.prompts);
    let rows: Vec<usize> = (which * prompts.len()..(which + 1) * prompts.len()).collect();
    let plain: Vec<Mat<f32>> = states.decisions.iter().map(|layer| layer.gather(&rows)).collect();
    let pair = |i: usize| &prompts[i].answers.pairs[primary[i]];
    let tokens: Vec<Vec<u32>> = (0..prompts.len()).map(|i| vec![pair(i).token_a, pair(i).token_b]).collect();
    let tuned = read(model, which, &plain, maps, &tokens)?;
    let mut asked: Vec<u32> = tokens.iter().flatten().copied().collect();
    asked.sort_unstable();
    asked.dedup();
    let place =
        |token: u32| asked.binary_search(&token).unwrap_or_else(|_| unreachable!("it was put in above"));
    let mut table = Table::new(&TUNED_LENS);
    for (layer, resid) in plain.iter().enumerate() {
        let logits = model.logits_of(which, &model.final_norm(which, resid), &asked)?;
        for (i, prompt) in prompts.iter().enumerate() {
            let logit = |token: u32| f64::from(logits.row(i)[place(token)]);
            let delta_plain = logit(pair(i).token_b) - logit(pair(i).token_a);
            let reading = &tuned[layer * prompts.len() + i];
            push(&mut table, model.name(which), prompt, layer, plan.splits[i], delta_plain, reading)?;
        }
    }
    Ok(table)
}

/// Reads states of one model (one matrix a layer) through the maps, layer by layer; the last layer is the reference.
fn read(
    model: &lorascope_engine::Model<f32>,
    which: ModelId,
    layers: &[Mat<f32>],
    maps: &[Option<Affine>],
    tokens: &[Vec<u32>],
) -> Result<Vec<NextToken>> {
    let (n, d) = (tokens.len(), model.spec().d_model);
    let mut mapped = Mat { data: Vec::new(), rows: n * layers.len(), cols: d };
    for (resid, map) in layers.iter().zip(maps) {
        match map {
            Some(map) => mapped.data.extend(map.apply(resid).data),
            None => mapped.data.extend_from_slice(&resid.data),
        }
    }
    let last = n * (layers.len() - 1);
    let asked = lorascope_engine::States {
        model: which,
        normalized: model.final_norm(which, &mapped),
        tokens: (0..mapped.rows).map(|i| tokens[i % n].clone()).collect(),
        reference: (0..mapped.rows).map(|i| last + i % n).collect(),
        top: 0,
    };
    Ok(model.next_tokens(&asked)?)
}

fn push(
    table: &mut Table,
    model: &str,
    prompt: &Prompt,
    layer: usize,
    split: Split,
    delta_plain: f64,
    reading: &NextToken,
) -> Result<()> {
    table.push(&[
        model.into(),
        prompt.id().into(),
        prompt.item.scenario.clone().into(),
        SITE.into(),
        layer.into(),
        split.name().into(),
        reading.ranks[0].into(),
        reading.ranks[1].into(),
        (reading.logits[1] - reading.logits[0]).into(),
        delta_plain.into(),
        reading.log_prob(0).exp().into(),
        reading.log_prob(1).exp().into(),
        reading.kl.into(),
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests;
