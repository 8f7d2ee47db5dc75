//! What the tables of probes say in words.

use super::Probing;
use super::figures::place;
use super::targets::{Kind, Target};
use crate::activations::Reading;
use crate::context::Context;
use crate::error::Result;
use crate::statistics::FLIPS;
use lorascope_record::Table;
use lorascope_report::{SummaryColumn, SummaryTable};
use std::collections::HashMap;

/// Below this adjusted p-value a label counts as read, and a difference as one.
const LEVEL: f64 = 0.05;

/// A row of the scores.
#[derive(Clone, Debug)]
pub(super) struct Score {
    pub value: Option<f64>,
    pub lo: Option<f64>,
    pub hi: Option<f64>,
    q: Option<f64>,
    status: String,
}

impl Score {
    /// `0.84 [0.76, 0.91]`.
    fn shown(&self) -> String {
        match (self.value, self.lo, self.hi) {
            (Some(value), Some(lo), Some(hi)) => format!("{value:.2} [{lo:.2}, {hi:.2}]"),
            _ => "undefined".to_owned(),
        }
    }
}

/// The scores by model, target, site, layer, position and metric.
pub(super) struct Found {
    scores: HashMap<(String, String, String, usize, String, String), Score>,
}

impl Found {
    pub fn new(table: &Table) -> Result<Self> {
        let (models, targets, sites) = (table.texts("model")?, table.texts("target")?, table.texts("site")?);
        let (layers, positions, metrics) =
            (table.ints("layer")?, table.texts("position")?, table.texts("metric")?);
        let status = table.texts("status")?;
        let number = |name: &str| table.floats_or_null(name);
        let (value, lo, hi, q) = (number("value")?, number("lo")?, number("hi")?, number("q")?);
        let scores = (0..table.n_rows()).map(|i| {
            let layer = usize::try_from(layers[i]).unwrap_or_default();
            let text = |of: &[&str]| of[i].to_owned();
            let key = (text(&models), text(&targets), text(&sites), layer, text(&positions), text(&metrics));
            let status = status[i].to_owned();
            (key, Score { value: value[i], lo: lo[i], hi: hi[i], q: q[i], status })
        });
        Ok(Self { scores: scores.collect() })
    }

    pub fn of(
        &self,
        model: &str,
        target: &str,
        site: &str,
        layer: usize,
        position: &str,
        metric: &str,
    ) -> Option<&Score> {
        let text = str::to_owned;
        self.scores.get(&(text(model), text(target), text(site), layer, text(position), text(metric)))
    }
}

/// Everything that sentences are made from.
pub(super) struct Words<'a> {
    pub context: &'a Context<'a>,
    pub probing: &'a Probing,
    pub reading: &'a Reading,
    pub found: &'a Found,
}

/// Site and position of a sentence.
#[derive(Clone, Copy)]
struct At<'a> {
    site: &'a str,
    position: &'a str,
}

/// The main metric of a target.
fn metric(target: &Target) -> (&'static str, &'static str) {
    if target.is_classes() { ("accuracy", "accuracy") } else { ("r2", "R²") }
}

impl Words<'_> {
    fn score(&self, model: &str, target: &Target, at: At, layer: usize, metric: &str) -> Option<&Score> {
        self.found.of(model, &target.name, at.site, layer, at.position, metric)
    }

    /// Whether a label is read at a layer: better than shuffled labels, by interval and by test.
    fn is_read(&self, model: &str, target: &Target, at: At, layer: usize) -> bool {
        let selectivity = self.score(model, target, at, layer, "selectivity");
        selectivity.is_some_and(|s| s.lo.is_some_and(|lo| lo > 0.0) && s.q.is_some_and(|q| q <= LEVEL))
    }

    /// The first layer from which on every one reads the label.
    fn read_from(&self, model: &str, target: &Target, at: At) -> Option<usize> {
        let later = self.reading.layers.iter().rev();
        later.take_while(|&&layer| self.is_read(model, target, at, layer)).last().copied()
    }

    /// The layer with the largest value.
    fn best(&self, model: &str, target: &Target, at: At) -> Option<usize> {
        let value =
            |layer: usize| self.score(model, target, at, layer, metric(target).0).and_then(|s| s.value);
        let known = self.reading.layers.iter().copied().filter(|&l| value(l).is_some());
        known.max_by(|&a, &b| {
            value(a).partial_cmp(&value(b)).unwrap_or(std::cmp::Ordering::Equal).then(b.cmp(&a))
        })
    }

    /// One for each target and place, and one on differences for each target where there are several models.
    pub fn paragraphs(&self, differences: &Table) -> Result<Vec<String>> {
        let mut paragraphs = Vec::new();
        for (t, target) in self.probing.targets.iter().enumerate() {
            for site in &self.reading.sites {
                for position in &self.reading.positions {
                    let at = At { site: &site.short_name(), position };
                    paragraphs.push(self.target(t, target, at));
                    paragraphs.extend(difference(differences, target, at)?);
                }
            }
        }
        Ok(paragraphs)
    }

    fn target(&self, t: usize, target: &Target, at: At) -> String {
        let folds = self.probing.folds(t);
        let kind = match &target.kind {
            Kind::Classes(first, second) => format!("{first} against {second}"),
            Kind::Number => "a number".to_owned(),
        };
        let models = self.context.subject.model.names();
        let each: Vec<String> = models.into_iter().map(|model| self.model(model, target, at)).collect();
        format!(
            "{} ({kind}), {} {}, {} prompts of {} templates: {}.",
            target.name,
            at.site,
            place(at.position),
            folds.prompts.len(),
            folds.n_groups,
            each.join("; ")
        )
    }

    /// `base: from layer 3 on (…), highest in layer 9 with …`.
    fn model(&self, model: &str, target: &Target, at: At) -> String {
        let (metric, name) = metric(target);
        let Some(best) = self.best(model, target, at) else {
            let any = self.reading.layers.first().and_then(|&l| self.score(model, target, at, l, metric));
            let why = any.map_or("there is no value", |s| s.status.as_str());
            return format!("{model}: not judged, {why}");
        };
        let shown = |layer: usize, metric: &str| {
            self.score(model, target, at, layer, metric).map_or_else(String::new, Score::shown)
        };
        let against = |layer: usize| {
            let control = self.score(model, target, at, layer, "control").and_then(|s| s.value);
            let larger = self.score(model, target, at, layer, "majority").and_then(|s| s.value);
            let larger = larger.map_or_else(String::new, |v| format!(", larger class {v:.2}"));
            control.map_or_else(String::new, |v| format!("shuffled labels {v:.2}{larger}"))
        };
        let highest = format!("highest in layer {best}, {} ({})", shown(best, metric), against(best));
        match self.read_from(model, target, at) {
            Some(first) if first == best => format!(
                "{model}: read from layer {first} on, where {name} is highest, {} ({})",
                shown(best, metric),
                against(best)
            ),
            Some(first) => format!(
                "{model}: read from layer {first} on, {name} {} there ({}), {highest}",
                shown(first, metric),
                against(first)
            ),
            None => {
                let layers = &self.reading.layers;
                let somewhere = layers.iter().filter(|&&l| self.is_read(model, target, at, l)).count();
                let where_read = match somewhere {
                    0 => "read in no layer".to_owned(),
                    n => format!("read in {n} of {} layers, but not up to the last", layers.len()),
                };
                format!("{model}: {where_read}; {name} {highest}")
            }
        }
    }

    /// Where each label is first read and best read, of each model.
    pub fn table(&self) -> SummaryTable {
        let mut rows = Vec::new();
        for target in &self.probing.targets {
            for site in &self.reading.sites {
                for position in &self.reading.positions {
                    let at = At { site: &site.short_name(), position };
                    for model in self.context.subject.model.names() {
                        rows.push(self.row(model, target, at));
                    }
                }
            }
        }
        let column = |name: &str, doc: &str, numeric| SummaryColumn {
            name: name.to_owned(),
            doc: doc.to_owned(),
            numeric,
        };
        SummaryTable {
            title: "Where labels are read".to_owned(),
            columns: vec![
                column("target", "What is looked for.", false),
                column("place", "Site and position.", false),
                column("model", "Base, or adapter.", false),
                column(
                    "from layer",
                    "First layer from which on selectivity is above zero by interval and at q ≤ 0.05.",
                    true,
                ),
                column("best layer", "Layer with the highest accuracy or R²; picked after the fact.", true),
                column("accuracy or R²", "There, with 95% interval.", true),
                column("AUC or correlation", "There, with 95% interval.", true),
                column("shuffled labels", "Accuracy or R² of the control there.", true),
                column("larger class", "Its accuracy; empty for numbers.", true),
            ],
            rows,
        }
    }

    fn row(&self, model: &str, target: &Target, at: At) -> Vec<String> {
        let best = self.best(model, target, at);
        let shown = |metric: &str| {
            let score = best.and_then(|l| self.score(model, target, at, l, metric));
            score.filter(|s| s.value.is_some()).map_or_else(String::new, Score::shown)
        };
        let layer = |l: Option<usize>| l.map_or_else(|| "–".to_owned(), |l| l.to_string());
        vec![
            target.name.clone(),
            format!("{} {}", at.site, at.position),
            model.to_owned(),
            layer(self.read_from(model, target, at)),
            layer(best),
            shown(metric(target).0),
            shown(if target.is_classes() { "auc" } else { "correlation" }),
            shown("control"),
            shown("majority"),
        ]
    }

    pub fn notes(&self) -> Vec<String> {
        let settings = &self.probing.settings;
        let mut notes = vec![
            format!(
                "A label counts as read where accuracy (or R²) is above that of probes on shuffled labels ({} shuffles) by its 95% \
                 interval and at q ≤ {LEVEL} (sign-flip test, templates flipped together, all patterns up to 16 templates, else \
                 {FLIPS} random ones; corrected over all models, targets and places).",
                settings.controls
            ),
            "That a label can be read does not show that the model uses it; patching shows that. Where every template shows the same \
             situations, a label that follows from the situation is read as soon as the situation is."
                .to_owned(),
            "Highest layers are picked after the fact, and their values are a little too high for that reason; intervals are for each \
             layer by itself."
                .to_owned(),
        ];
        let fewest = self.probing.folds.iter().map(|f| f.n_groups).min().unwrap_or_default();
        if fewest < 6 {
            notes.push(format!(
                "Only {fewest} template(s): the smallest p-value that the sign-flip test can give is {}, and intervals mean little.",
                0.5f64.powi(i32::try_from(fewest).unwrap_or(1).max(1) - 1)
            ));
        }
        notes
    }
}

/// How models differ in one target at one place: how many layers, and the largest difference.
fn difference(table: &Table, target: &Target, at: At) -> Result<Option<String>> {
    let (models, minus) = (table.texts("model")?, table.texts("minus")?);
    let (targets, sites, positions) =
        (table.texts("target")?, table.texts("site")?, table.texts("position")?);
    let layers = table.ints("layer")?;
    let number = |name: &str| table.floats(name);
    let (mean, lo, hi, q) = (number("mean")?, number("lo")?, number("hi")?, number("q")?);
    let mut pairs: Vec<(&str, &str, Vec<usize>)> = Vec::new();
    for i in 0..table.n_rows() {
        if targets[i] != target.name || sites[i] != at.site || positions[i] != at.position {
            continue;
        }
        match pairs.iter_mut().find(|p| (p.0, p.1) == (models[i], minus[i])) {
            Some(pair) => pair.2.push(i),
            None => pairs.push((models[i], minus[i], vec![i])),
        }
    }
    let one = |(model, minus, rows): &(&str, &str, Vec<usize>)| {
        let differ = rows.iter().filter(|&&i| q[i] <= LEVEL).count();
        let largest =
            rows.iter().copied().max_by(|&a, &b| mean[a].abs().total_cmp(&mean[b].abs()).then(b.cmp(&a)))?;
        let reach = rows.iter().fold(0.0f64, |m, &i| m.max(lo[i].abs()).max(hi[i].abs()));
        Some(format!(
            "{model} − {minus}: {differ} of {} layers differ at q ≤ {LEVEL}, largest {:+.2} [{:+.2}, {:+.2}] in layer {}, and all \
             intervals lie within ±{reach:.2}",
            rows.len(),
            mean[largest],
            lo[largest],
            hi[largest],
            layers[largest]
        ))
    };
    let all: Vec<String> = pairs.iter().filter_map(one).collect();
    let name = metric(target).1;
    Ok((!all.is_empty())
        .then(|| format!("{}, differences of {name} between models: {}.", target.name, all.join("; "))))
}
