//! The tuned lens's section of the report: readings beside those of the plain lens, and how good the lenses are.

use super::plan::{Plan, Split};
use super::store::FILE;
use super::{TunedLens, fit};
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
    readings: &Table,
    fits: &Table,
    sha256: String,
) -> Result<Section> {
    let parts =
        Split::ALL.map(|s| format!("{} {}", plan.splits.iter().filter(|x| **x == s).count(), s.name()));
    let notes = vec![
        "All maps are trained on the base model and used for all models, so that differences between models are not \
         differences between lenses. How well they suit an adapted model is in the column `kl`, which compares with that \
         model's own final distribution."
            .to_owned(),
        format!(
            "Trained on the prompts' own texts, split by template ({} prompts): the maps belong to this prompt set, and the \
             readings of training prompts are a little too good. Decision points are few beside other positions: look at \
             both panels of the divergences before trusting a layer.",
            parts.join(", ")
        ),
        "Prompts of one design repeat each other's words, so that held-out templates are not new text: a map can learn which \
         words end in which answer. Divergences near zero in the first layers are a sign of that, and tuned readings there then \
         show the base's usual answer, not a decision that has been made."
            .to_owned(),
        "A tuned lens says what is linearly present in a layer, not that the model uses it there.".to_owned(),
        format!("The maps are in `{FILE}` (SHA-256 {sha256})."),
    ];
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

/// How much training gains on held-out positions, early, in the middle and late.
fn summary(fits: &Table) -> Result<String> {
    let columns = ["kl_plain_heldout", "kl_tuned_heldout", "kl_plain_decision", "kl_tuned_decision"]
        .map(|c| fits.floats(c));
    let [plain, tuned, plain_decision, tuned_decision] = columns;
    let (plain, tuned) = (plain?, tuned?);
    let (plain_decision, tuned_decision) = (plain_decision?, tuned_decision?);
    let n = plain.len() - 1;
    let better = (0..n).filter(|&l| tuned[l] < plain[l]).count();
    let better_there = (0..n).filter(|&l| tuned_decision[l] < plain_decision[l]).count();
    Ok(format!(
        "On held-out positions of the base, the mean divergence from the final distribution over the {n} layers below the last \
         is {:.2} nats through the tuned lens and {:.2} through the plain one; the tuned lens is closer in {better} of {n} layers. \
         At the decision points of held-out prompts it is {:.2} against {:.2}, and closer in {better_there} of {n}.",
        fit::mean(&tuned[..n]),
        fit::mean(&plain[..n]),
        fit::mean(&tuned_decision[..n]),
        fit::mean(&plain_decision[..n]),
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
             final norm and output matrix (plain), and after an affine map for each layer that was trained on the base \
             (tuned). Above zero the reading prefers {b}. Mean over prompts with 95% bootstrap interval over prompt templates \
             ({RESAMPLES} resamples). At the last layer both are the model's own logit difference."
        ),
        kind: FigureKind::Lines {
            x_label: "layer".to_owned(),
            y_label: "logit difference".to_owned(),
            panels,
            zero_line: true,
        },
    })
}

fn divergences(fits: &Table) -> Result<Figure> {
    let x: Vec<f64> = fits.ints("layer")?.into_iter().map(|l| l as f64).collect();
    let curve = |name: &str, color, column: &str| -> Result<Series> {
        Ok(Series::new(name, color, x.clone(), &fits.floats(column)?))
    };
    let count = |column: &str| -> Result<i64> { Ok(fits.ints(column)?.first().copied().unwrap_or(0)) };
    let (plain, ridge, tuned) = (ColorKey::Base, ColorKey::Model(1), ColorKey::Model(0));
    let panels = vec![
        LinePanel {
            title: format!("held-out positions ({})", count("n_heldout")?),
            series: vec![
                curve("plain lens", plain, "kl_plain_heldout")?,
                curve("closed form alone", ridge, "kl_ridge_heldout")?,
                curve("tuned lens", tuned, "kl_tuned_heldout")?,
            ],
        },
        LinePanel {
            title: format!("decision points of held-out prompts ({})", count("n_decisions")?),
            series: vec![
                curve("plain lens", plain, "kl_plain_decision")?,
                curve("tuned lens", tuned, "kl_tuned_decision")?,
            ],
        },
    ];
    Ok(Figure {
        name: "tuned_lens_divergence".to_owned(),
        title: "How far each layer's reading is from the final distribution".to_owned(),
        caption: "Mean KL(final ‖ lens) over the whole vocabulary by layer, on the base model, at positions of prompt templates \
                  that had no part in training: sampled positions of their texts, and their decision points. Few templates \
                  are held out, so the means carry no intervals. `Closed form alone` is the ridge regression that training \
                  begins with."
            .to_owned(),
        kind: FigureKind::Lines {
            x_label: "layer".to_owned(),
            y_label: "divergence from final, nats".to_owned(),
            panels,
            zero_line: false,
        },
    })
}
