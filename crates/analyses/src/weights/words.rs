//! What the tables say in words.

use super::figures::{Found, short};
use super::settings::Settings;
use super::similarity::ALL_MODULES;
use super::similarity_figures::Summary;
use super::small_tables::{in_order, signed};
use crate::error::Result;
use crate::subject::Subject;
use lorascope_engine::ModelSpec;
use lorascope_record::Table;
use std::collections::BTreeMap;

/// Places that the text names.
const NAMED: usize = 3;

pub(super) struct Words<'a> {
    subject: &'a Subject,
    found: &'a Found<'a>,
    settings: &'a Settings,
}

/// The rows of one adapter in the table of weights: place, squared norm of the change, and of the weight.
struct Rows<'a> {
    layer: Option<i64>,
    module: &'a str,
    square: f64,
    weight_square: f64,
}

fn rows_of<'t>(weights: &'t Table, model: &str) -> Result<Vec<Rows<'t>>> {
    let (models, modules) = (weights.texts("model")?, weights.texts("module")?);
    let layers = weights.ints_or_null("layer")?;
    let (delta, weight) = (weights.floats("delta_norm")?, weights.floats("weight_norm")?);
    let row = |i: usize| Rows {
        layer: layers[i],
        module: modules[i],
        square: delta[i] * delta[i],
        weight_square: weight[i] * weight[i],
    };
    Ok((0..models.len()).filter(|&i| models[i] == model).map(row).collect())
}

/// The largest of some named shares, with how they read.
fn largest<K: Ord + Clone>(
    shares: &BTreeMap<K, f64>,
    all: f64,
    digits: usize,
    name: impl Fn(&K) -> String,
) -> String {
    let mut order: Vec<(&K, &f64)> = shares.iter().collect();
    order.sort_by(|a, b| b.1.total_cmp(a.1));
    let one = |(key, share): &(&K, &f64)| format!("{} ({:.digits$}%)", name(key), 100.0 * **share / all);
    order.iter().take(NAMED).map(one).collect::<Vec<_>>().join(", ")
}

/// Modules with the largest changes relative to their own weights.
fn relative(rows: &[Rows]) -> String {
    let mut sums: BTreeMap<String, (f64, f64)> = BTreeMap::new();
    for r in rows {
        let sum = sums.entry(short(r.module)).or_default();
        *sum = (sum.0 + r.square, sum.1 + r.weight_square);
    }
    let ratios = sums.into_iter().filter(|(_, s)| s.1 > 0.0).map(|(m, s)| (m, (s.0 / s.1).sqrt()));
    largest(&ratios.collect(), 1.0, 2, Clone::clone)
}

impl<'a> Words<'a> {
    pub fn new(subject: &'a Subject, found: &'a Found<'a>, settings: &'a Settings) -> Self {
        Self { subject, found, settings }
    }

    fn adapters(&self) -> Vec<&str> {
        self.subject.model.names()[1..].to_vec()
    }

    /// Which layers and modules carry most of each adapter's change.
    pub fn sizes(&self, weights: &Table, spec: &ModelSpec) -> Result<Vec<String>> {
        let mut sentences = Vec::new();
        for name in self.adapters() {
            let rows = rows_of(weights, name)?;
            let all: f64 = rows.iter().map(|r| r.square).sum();
            let weight: f64 = rows.iter().map(|r| r.weight_square).sum();
            if all == 0.0 {
                sentences.push(format!("{name} changes no weight: every update is zero."));
                continue;
            }
            let (mut layers, mut modules) = (BTreeMap::new(), BTreeMap::new());
            for r in &rows {
                if let Some(layer) = r.layer {
                    *layers.entry(layer).or_insert(0.0) += r.square;
                }
                *modules.entry(short(r.module)).or_insert(0.0) += r.square;
            }
            let mut squares: Vec<f64> = rows.iter().map(|r| r.square).collect();
            squares.sort_by(|a, b| b.total_cmp(a));
            let mut sum = 0.0;
            let half = squares.iter().take_while(|s| {
                let before = sum;
                sum += **s;
                before < all / 2.0
            });
            sentences.push(format!(
                "{name}: ‖ΔW‖ is {:.4}, {:.3}% of the norm of the {} weights that it changes. Most of it (by squared norm) lies in the layers {} \
                 (an even share is {:.1}%) and in the modules {}; measured by the modules' own norms, most in {}. {} of the {} weights hold half of it.",
                all.sqrt(),
                100.0 * (all / weight).sqrt(),
                rows.len(),
                largest(&layers, all, 1, i64::to_string),
                100.0 / spec.n_layers as f64,
                largest(&modules, all, 1, Clone::clone),
                relative(&rows),
                half.count(),
                rows.len()
            ));
        }
        Ok(sentences)
    }

    /// How alike the adapters are, beside their floors.
    pub fn similarities(&self) -> Result<Vec<String>> {
        let summary = Summary::new(self.found.summary)?;
        let chances = chances(self.found.summary)?;
        let names = self.adapters();
        let mut sentences = Vec::new();
        for (i, one) in names.iter().enumerate() {
            for other in &names[i + 1..] {
                let get = |measure: &str, control: Option<&str>| {
                    summary.get(one, other, control, ALL_MODULES, measure)
                };
                let Some((cosine, (lo, hi))) = get("cosine_whole", None) else { continue };
                let floor = |measure: &str, control: &str| get(measure, Some(control)).map(|v| signed(v.0));
                let overlap = |measure: &str| {
                    let (value, (lo, hi)) = get(measure, None).unwrap_or((0.0, (0.0, 0.0)));
                    let chance = chances.get(&((*one).to_owned(), (*other).to_owned(), measure.to_owned()));
                    let shuffled = floor(measure, "shuffled").map(|v| format!("shuffled {v}"));
                    let chance = chance.map(|c| format!("by chance {c:.3}"));
                    let floors: Vec<String> = shuffled.into_iter().chain(chance).collect();
                    format!("{value:.3} [{lo:.3}, {hi:.3}] ({})", floors.join(", "))
                };
                let floors = match (floor("cosine_whole", "shuffled"), floor("cosine_whole", "random")) {
                    (Some(shuffled), Some(random)) => {
                        format!(" (with updates in other layers {shuffled}, with random directions {random})")
                    }
                    _ => String::new(),
                };
                sentences.push(format!(
                    "{one} and {other}: the changes have a cosine of {} [{}, {}]{floors}. What they write into overlaps by {}, what they read by {}.",
                    signed(cosine),
                    signed(lo),
                    signed(hi),
                    overlap("overlap_out"),
                    overlap("overlap_in")
                ));
            }
        }
        Ok(sentences)
    }

    /// How far changes write along the decision.
    pub fn alignments(&self) -> Result<Vec<String>> {
        let table = self.found.aligned;
        let (models, modules, controls) =
            (table.texts("model")?, table.texts("module")?, table.texts_or_null("control")?);
        let (mean, lo, hi) = (table.floats("mean")?, table.floats("lo")?, table.floats("hi")?);
        let (above, n) = (table.ints_or_null("above")?, table.ints("n")?);
        let (a, b) = (table.texts("token_a")?, table.texts("token_b")?);
        let mut sentences = Vec::new();
        for i in in_order(self.subject, &models) {
            if controls[i].is_some() || modules[i] != ALL_MODULES {
                continue;
            }
            let floor = (0..models.len()).find(|&j| {
                (models[j], modules[j], a[j], b[j]) == (models[i], modules[i], a[i], b[i])
                    && controls[j].is_some()
            });
            let floor = floor.map_or_else(String::new, |j| {
                format!(" (its random control {:.2} [{:.2}, {:.2}] times)", mean[j], lo[j], hi[j])
            });
            sentences.push(format!(
                "{}: what its output and down projections write lies along the decision ({:?} against {:?}) {:.2} [{:.2}, {:.2}] times as much as \
                 along a random direction{floor}{}; {} of {} updates pass random directions at q ≤ 0.05.",
                models[i],
                b[i],
                a[i],
                mean[i],
                lo[i],
                hi[i],
                self.most_aligned(models[i], a[i], b[i])?,
                above[i].unwrap_or(0),
                n[i]
            ));
        }
        Ok(sentences)
    }

    /// Where it writes most along the decision.
    fn most_aligned(&self, model: &str, token_a: &str, token_b: &str) -> Result<String> {
        let table = self.found.alignment;
        let (models, modules, layers) = (table.texts("model")?, table.texts("module")?, table.ints("layer")?);
        let (a, b) = (table.texts("token_a")?, table.texts("token_b")?);
        let (controls, ratios) = (table.texts_or_null("control")?, table.floats_or_null("ratio")?);
        let own = (0..models.len())
            .filter(|&i| (models[i], a[i], b[i]) == (model, token_a, token_b) && controls[i].is_none())
            .filter_map(|i| Some((ratios[i]?, i)));
        let most = own.max_by(|x, y| x.0.total_cmp(&y.0));
        Ok(most.map_or_else(String::new, |(ratio, i)| {
            format!(", most in {} of layer {} ({ratio:.1} times)", short(modules[i]), layers[i])
        }))
    }

    /// How many intruders there are, beside the controls.
    pub fn intruders(&self) -> Result<Vec<String>> {
        let table = self.found.intruders;
        let (models, controls) = (table.texts("model")?, table.texts_or_null("control")?);
        let (flags, cosines) = (table.bools("intruder")?, table.floats("max_cosine")?);
        let mut sentences = Vec::new();
        for name in self.adapters() {
            let of = |control: Option<&str>| -> Vec<usize> {
                let fits = |&i: &usize| models[i] == name && controls[i].as_deref() == control;
                (0..models.len()).filter(fits).collect()
            };
            let own = of(None);
            if own.is_empty() {
                continue;
            }
            let count = |rows: &[usize]| rows.iter().filter(|&&i| flags[i]).count();
            let smallest = own.iter().map(|&i| cosines[i]).fold(1.0, f64::min);
            let random = of(Some("random"));
            let floor = if random.is_empty() {
                String::new()
            } else {
                format!("; its random control has {} of {}", count(&random), random.len())
            };
            sentences.push(format!(
                "{name}: {} of {} of the largest singular vectors of the changed weights ({} in each) are intruders, with no cosine of {} or more \
                 with any of the base's{floor}. The smallest largest cosine is {smallest:.3}.",
                count(&own),
                own.len(),
                self.settings.intruders,
                self.settings.intruder_cosine
            ));
        }
        Ok(sentences)
    }
}

/// What random spaces would give, by models and measure.
fn chances(table: &Table) -> Result<BTreeMap<(String, String, String), f64>> {
    let (models, others, measures) = (table.texts("model")?, table.texts("other")?, table.texts("measure")?);
    let (modules, controls) = (table.texts("module")?, table.texts_or_null("control")?);
    let chances = table.floats_or_null("chance")?;
    let row = |i: usize| {
        let key = (models[i].to_owned(), others[i].to_owned(), measures[i].to_owned());
        (controls[i].is_none() && modules[i] == ALL_MODULES).then_some((key, chances[i]?))
    };
    Ok((0..table.n_rows()).filter_map(row).collect())
}
