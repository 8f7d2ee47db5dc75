//! The tuned lens's section of the report: readings beside those of the plain lens, and how good the lenses are.

use super::plan::{Plan, Split};
use super::settings::Settings;
use super::store::FILE;
use super::{TunedLens, judge, text};
use crate::Analysis;
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::{mean_over, scenarios};
use lorascope_record::Table;
use lorascope_report::{ColorKey, Figure, FigureKind, LinePanel, Section, Series};
use std::collections::BTreeMap;

/// A column of the readings by model, prompt and layer.
type Readings<'t> = BTreeMap<(&'t str, &'t str), BTreeMap<i64, f64>>;

pub(super) fn section(
    lens: &TunedLens,
    context: &Context,
    plan: &Plan,
    settings: &Settings,
    readings: &Table,
    fits: &Table,
    sha256: String,
) -> Result<Section> {
    let notes = notes(context, plan, settings, fits, &sha256)?;
    Ok(Section {
        id: lens.name().to_owned(),
        title: lens.title().to_owned(),
        question: lens.question().to_owned(),
        paragraphs: vec![summary(fits)?],
        figures: vec![trajectories(context, readings)?, divergences(fits)?],
        tables: Vec::new(),
        notes,
    })
}

fn notes(
    context: &Context,
    plan: &Plan,
    settings: &Settings,
    fits: &Table,
    sha256: &str,
) -> Result<Vec<String>> {
    let [train, validation, heldout] = Split::ALL.map(|s| plan.n_documents(s));
    let mut notes = vec![
        "All maps are trained on the base model and used for all models, so that differences between models are not \
         differences between lenses. How well they suit an adapted model is in the column `kl`, which compares with that \
         model's own final distribution."
            .to_owned(),
        format!(
            "The maps are ridge regressions of the final state on the layer's, then {} steps down the divergence itself, \
             fitted to {} positions of {train} documents of {}; {validation} other documents chose the penalty and whether the \
             steps help, and {heldout} others are held out. {} The study's prompts had no part in it, and at their decision \
             points the lens reads text of another kind than it was fitted to: trust a layer as far as its divergence there \
             allows.",
            settings.steps,
            plan.part(Split::Train).len(),
            settings.text.as_ref().map_or("a built-in text".to_owned(), |path| format!("`{path}`")),
            if text::has_chats(context.subject) {
                "Every second document stands in the model's chat template."
            } else {
                "They stand without a chat template."
            },
        ),
        "A tuned lens says what is linearly present in a layer, not that the model uses it there.".to_owned(),
        format!("The maps are in `{FILE}` (SHA-256 {sha256})."),
    ];
    notes.extend(at_an_edge(settings, fits)?);
    Ok(notes)
}

/// A warning where the best penalty may lie outside the list.
fn at_an_edge(settings: &Settings, fits: &Table) -> Result<Option<String>> {
    let (heldout, ridges) = (rows_of(fits, "heldout")?, fits.floats_or_null("ridge")?);
    let (Some(first), Some(last)) = (settings.ridges.first(), settings.ridges.last()) else {
        return Ok(None);
    };
    let layers: Vec<String> = heldout
        .iter()
        .enumerate()
        .filter(|&(_, &row)| ridges[row].is_some_and(|r| r == *first || r == *last))
        .map(|(layer, _)| layer.to_string())
        .collect();
    Ok((!layers.is_empty()).then(|| {
        format!(
            "Warning: in layers {} the smallest or largest penalty of the list was the best, so that a better one may lie \
             outside it; widen the setting `ridges`.",
            layers.join(", ")
        )
    }))
}

/// Rows of one place, by layer.
fn rows_of(fits: &Table, place: &str) -> Result<Vec<usize>> {
    Ok(fits.texts("place")?.iter().enumerate().filter(|(_, p)| **p == place).map(|(row, _)| row).collect())
}

/// How much closer the tuned lens is on held-out documents and at decision points.
fn summary(fits: &Table) -> Result<String> {
    let [plain, tuned, lo] = ["kl_plain", "kl_tuned", "gain_lo"].map(|c| fits.floats(c));
    let (plain, tuned, lo) = (plain?, tuned?, lo?);
    let place = |name: &str| -> Result<String> {
        let rows = rows_of(fits, name)?;
        let below = &rows[..rows.len() - 1];
        let mean = |values: &[f64]| judge::mean(&below.iter().map(|&r| values[r]).collect::<Vec<_>>());
        let closer = below.iter().filter(|&&r| tuned[r] < plain[r]).count();
        let surely = below.iter().filter(|&&r| lo[r] > 0.0).count();
        Ok(format!(
            "{:.2} nats through the tuned lens and {:.2} through the plain one (closer in {closer} of {} layers, in {surely} \
             of them with an interval above zero)",
            mean(&tuned),
            mean(&plain),
            below.len()
        ))
    };
    Ok(format!(
        "Mean divergence of the base's readings from its final distribution, over all layers below the last: on held-out documents {}; \
         at the decision points of the study's prompts {}.",
        place("heldout")?,
        place("decision")?
    ))
}

fn by_key<'t>(readings: &'t Table, column: &str) -> Result<Readings<'t>> {
    let keys = readings.texts("model")?.into_iter().zip(readings.texts("prompt_id")?);
    let mut found = Readings::new();
    for ((key, layer), value) in keys.zip(readings.ints("layer")?).zip(readings.floats(column)?) {
        found.entry(key).or_default().insert(layer, value);
    }
    Ok(found)
}

fn trajectories(context: &Context, readings: &Table) -> Result<Figure> {
    let subject = context.subject;
    let lenses = [("plain", by_key(readings, "delta_plain")?), ("tuned", by_key(readings, "delta")?)];
    let layers: Vec<i64> = (0..subject.model.spec().n_layers as i64).collect();
    let mut panels = Vec::new();
    for group in scenarios(&subject.prompts) {
        for (lens, deltas) in &lenses {
            let curve = |(m, name): (usize, &str)| {
                let at = |layer: &i64| {
                    let delta = |i: usize| deltas[&(name, subject.prompts[i].id())][layer];
                    mean_over(&subject.prompts, &group.prompts, context.seed, delta)
                };
                let means: Vec<_> = layers.iter().map(at).collect();
                let of = |f: fn(&crate::Interval) -> f64| means.iter().map(f).collect::<Vec<f64>>();
                let x = layers.iter().map(|&l| l as f64).collect();
                let series = Series::new(name, subject.color(m), x, &of(|i| i.mean));
                series.with_interval(&of(|i| i.lo), &of(|i| i.hi))
            };
            panels.push(LinePanel {
                title: format!("{}, {lens} ({} prompts)", group.name, group.prompts.len()),
                series: subject.model.names().into_iter().enumerate().map(curve).collect(),
            });
        }
    }
    let (a, b) = (&subject.meanings.a, &subject.meanings.b);
    Ok(Figure {
        name: "tuned_lens_trajectories".to_owned(),
        title: "Plain and tuned lens at the decision point".to_owned(),
        caption: format!(
            "Logit of the deciding token of {b} minus that of {a}, read from resid_post of each layer: through the model's own \
             final norm and output matrix (plain), and after an affine map for each layer that was fitted on the base \
             (tuned). Above zero the reading prefers {b}. Mean over prompts with 95% bootstrap interval over prompt templates \
             ({RESAMPLES} resamples). At the last layer both are the model's own logit difference."
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "layer".to_owned(),
            y_label: "logit difference".to_owned(),
            panels,
            zero_line: true,
        },
    })
}

fn divergences(fits: &Table) -> Result<Figure> {
    let (layers, n, clusters) = (fits.ints("layer")?, fits.ints("n")?, fits.ints("n_clusters")?);
    let panel = |place: &str, title: &str, of: &str| -> Result<LinePanel> {
        let rows = rows_of(fits, place)?;
        let x: Vec<f64> = rows.iter().map(|&r| layers[r] as f64).collect();
        let curve = |name: &str, color, column: &str| -> Result<Series> {
            let values = fits.floats(column)?;
            Ok(Series::new(name, color, x.clone(), &rows.iter().map(|&r| values[r]).collect::<Vec<_>>()))
        };
        let count = |values: &[i64]| rows.first().map_or(0, |&r| values[r]);
        Ok(LinePanel {
            title: format!("{title} ({} from {} {of})", count(&n), count(&clusters)),
            series: vec![
                curve("plain lens", ColorKey::Base, "kl_plain")?,
                curve("closed form alone", ColorKey::Model(1), "kl_closed")?,
                curve("tuned lens", ColorKey::Model(0), "kl_tuned")?,
            ],
        })
    };
    let panels = vec![
        panel("heldout", "held-out positions", "documents")?,
        panel("decision", "decision points", "prompt templates")?,
    ];
    Ok(Figure {
        name: "tuned_lens_divergence".to_owned(),
        title: "How far each layer's reading is from the final distribution".to_owned(),
        caption: "Mean KL(final ‖ lens) over the whole vocabulary by layer, on the base model: at sampled positions of documents \
                  that had no part in training, and at the decision points of the study's prompts, none of which had. \
                  `Closed form alone` is the ridge regression that the steps begin with. Intervals of the differences are in the table `tuned_lens_fit`."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "layer".to_owned(),
            y_label: "divergence from final, nats".to_owned(),
            panels,
            zero_line: false,
        },
    })
}
