//! From which layer on can the decision be read through a lens that was made for its layer? The tuned lens (Belrose et al. 2023,
//! arXiv 2303.08112).
//!
//! One affine map per layer, `r → A·r + b`, takes `resid_post` of that layer to where the final norm and the output matrix
//! read it best. As there, the maps are trained on text of its own, on the base model, and the same maps serve all models,
//! since only one projection for all makes their readings comparable. Unlike there, the maps do not begin at the identity and
//! descend on KL(final ‖ lens) over many millions of tokens: they begin at the ridge regression of the final state on the
//! layer's, shrunk towards the plain lens and solved exactly on some thousand tokens, and descend a few steps from there.
//!
//! At the last layer the map is the identity, so delta there is the model's own logit difference, bit for bit.

mod affine;
mod descent;
mod figures;
mod fit;
mod judge;
mod layers;
mod plan;
mod readout;
mod settings;
mod states;
mod store;
#[cfg(test)]
pub(crate) mod testing;
mod text;

use crate::Analysis;
use crate::context::{Context, Findings};
use crate::decide::{MODEL, PROMPT_ID, SCENARIO, column};
use crate::error::{Error, Result};
use crate::subject::{Prompt, Subject};
use affine::Affine;
use lorascope_engine::{Mat, ModelId, NextToken};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text};
use lorascope_record::{Table, TableSpec};
use plan::Plan;
use serde_json::Value;
use settings::Settings;
use states::TextStates;
pub use text::unrelated_text;

pub(crate) struct TunedLens;

const NAME: &str = "tuned_lens";
const SITE: &str = "resid_post";

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
    doc: "How well one layer's lens matches the final distribution of the base: mean KL(final ‖ lens) over positions, without and \
          with the map.",
    columns: &[
        column("site", Text, "", "`resid_post`."),
        column("layer", Int, "", "Layer, from 0. In the last one the map is the identity."),
        column(
            "place",
            Text,
            "",
            "Where it is judged: `train` (some of the positions that the map was fitted to), `heldout` (positions of documents \
             that had no part in it), `decision` (the decision points of the study's prompts).",
        ),
        column("n", Int, "position", "Number of positions."),
        column("n_clusters", Int, "", "Documents, or templates of prompts, that they come from."),
        column(
            "ridge",
            FloatOrNull,
            "",
            "Penalty of the fit; null where no map is used, because none did better than the plain lens on validation documents.",
        ),
        column(
            "steps",
            Int,
            "",
            "Steps down the divergence that were kept; 0 where they did not help on validation documents.",
        ),
        column("kl_plain", Float, "nat", "Mean divergence of the plain lens."),
        column("kl_closed", Float, "nat", "Mean divergence of the closed form alone, before the steps."),
        column("kl_tuned", Float, "nat", "Mean divergence of the tuned lens."),
        column(
            "gain",
            Float,
            "nat",
            "`kl_plain` − `kl_tuned`; positive where the map brings the reading closer.",
        ),
        column(
            "gain_lo",
            Float,
            "nat",
            "Lower end of the 95% interval of `gain`, resampling whole documents or templates.",
        ),
        column("gain_hi", Float, "nat", "Upper end."),
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
        Ok(serde_json::to_value(Settings::read(given)?).unwrap_or_default())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings = Settings::read(settings)?;
        let (subject, progress) = (context.subject, context.progress);
        let primary = &subject.primary_pairs()?;
        let inputs: Vec<Vec<u32>> =
            subject.prompts.iter().zip(primary).map(|(p, &pair)| p.stem(pair)).collect();
        let plan =
            Plan::new(subject.model.spec(), text::tokens(subject, &settings)?, &settings, context.seed)?;
        let text = TextStates::gather(context, &plan)?;
        let decisions = states::at_decisions(context, &inputs)?;
        let (maps, fits) = layers::fit_layers(context, &plan, &text, &decisions, &settings)?;
        progress.begin("reading layers", subject.model.n_models() as u64);
        let names: Vec<String> =
            (0..subject.model.n_models()).map(|model| format!("{NAME}-read-{model}")).collect();
        let mut readings = context.parts(&names, &TUNED_LENS, |model| {
            let read = read_model(subject, &decisions, &maps, primary, model)?;
            progress.at(model as u64 + 1);
            Ok(read)
        })?;
        progress.end();
        readings.sort_by_keys();
        let stored = store::write(context.run, &maps, subject.model.spec().d_model)?;
        let section = figures::section(self, context, &plan, &settings, &readings, &fits, stored)?;
        Ok(Findings { tables: vec![readings, fits], section })
    }
}

/// An error of the settings of this analysis.
fn wrong<T>(why: String) -> Result<T> {
    Err(Error::Settings { analysis: NAME, why })
}

/// All layers of one model at the decision points of all prompts.
fn read_model(
    subject: &Subject,
    decisions: &[Mat<f32>],
    maps: &[Option<Affine>],
    primary: &[usize],
    which: ModelId,
) -> Result<Table> {
    let (model, prompts) = (&subject.model, &subject.prompts);
    let rows: Vec<usize> = (which * prompts.len()..(which + 1) * prompts.len()).collect();
    let plain: Vec<Mat<f32>> = decisions.iter().map(|layer| layer.gather(&rows)).collect();
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
            push(&mut table, model.name(which), prompt, layer, delta_plain, reading)?;
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
    delta_plain: f64,
    reading: &NextToken,
) -> Result<()> {
    table.push(&[
        model.into(),
        prompt.id().into(),
        prompt.item.scenario.clone().into(),
        SITE.into(),
        layer.into(),
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
