//! What the tables say in words: sentences, notes, and small tables of the largest components.

use super::tables::{Component, Kind};
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::ALL_PROMPTS;
use crate::statistics::FLIPS;
use lorascope_record::Table;
use lorascope_report::{SummaryColumn, SummaryTable};
use std::collections::BTreeMap;

/// Below this adjusted p-value a difference counts in the text.
const LEVEL: f64 = 0.05;
/// Components that the text names on each side.
const NAMED: usize = 3;

/// One component's mean with its interval, and for a difference its adjusted p-value.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub component: Component,
    pub mean: f64,
    lo: f64,
    hi: f64,
    adapter_share: Option<f64>,
    q: Option<f64>,
}

/// The entries of one model, or of the difference between two.
pub(super) struct Summary {
    pub model: String,
    /// The model that is subtracted.
    pub minus: Option<String>,
    pub entries: Vec<Entry>,
    total: Option<Entry>,
}

impl Summary {
    /// `hybrid`, or `hybrid − base`.
    pub fn title(&self) -> String {
        self.minus.as_ref().map_or_else(|| self.model.clone(), |minus| format!("{} − {minus}", self.model))
    }

    /// The largest on one side: towards B for `sign` 1, towards A for −1.
    fn largest(&self, sign: f64, n: usize) -> Vec<Entry> {
        let mut side: Vec<Entry> = self.entries.iter().copied().filter(|e| sign * e.mean > 0.0).collect();
        side.sort_by(|a, b| (sign * b.mean).total_cmp(&(sign * a.mean)).then(a.component.cmp(&b.component)));
        side.truncate(n);
        side
    }

    fn significant(&self) -> usize {
        self.entries.iter().filter(|e| e.q.is_some_and(|q| q <= LEVEL)).count()
    }
}

/// Summaries over the prompts of a scenario: of every model from the table of means, of every comparison from that of
/// differences.
pub(super) fn summaries(table: &Table, scenario: &str, part: &str) -> Result<Vec<Summary>> {
    let differences = table.spec().name == "dla_differences";
    let minus: Vec<Option<&str>> = if differences {
        table.texts("minus")?.into_iter().map(Some).collect()
    } else {
        vec![None; table.n_rows()]
    };
    let q = if differences { table.floats_or_null("q")?.to_vec() } else { vec![None; table.n_rows()] };
    let (models, scenarios, parts) = (table.texts("model")?, table.texts("scenario")?, table.texts("part")?);
    let (kinds, layers, heads) =
        (table.texts("kind")?, table.ints_or_null("layer")?, table.ints_or_null("head")?);
    let (mean, lo, hi) = (table.floats("mean")?, table.floats("lo")?, table.floats("hi")?);
    let shares = table.floats_or_null("adapter_share")?;
    let unit = |v: Option<i64>| v.and_then(|v| usize::try_from(v).ok());
    let mut found: BTreeMap<(&str, Option<&str>), Summary> = BTreeMap::new();
    for i in (0..table.n_rows()).filter(|&i| scenarios[i] == scenario && parts[i] == part) {
        let Some(kind) = Kind::from_name(kinds[i]) else { continue };
        let component = Component { kind, layer: unit(layers[i]), head: unit(heads[i]) };
        let (adapter_share, q) = (shares[i], q[i]);
        let entry = Entry { component, mean: mean[i], lo: lo[i], hi: hi[i], adapter_share, q };
        let summary = found.entry((models[i], minus[i])).or_insert_with(|| Summary {
            model: models[i].to_owned(),
            minus: minus[i].map(str::to_owned),
            entries: Vec::new(),
            total: None,
        });
        if kind == Kind::Total {
            summary.total = Some(entry);
        } else {
            summary.entries.push(entry);
        }
    }
    Ok(found.into_values().collect())
}

/// What all sentences of the section have in common.
pub(super) struct Words {
    /// What B stands for, and A.
    meanings: [String; 2],
    /// What was averaged over.
    basis: String,
    n_clusters: i64,
}

impl Words {
    pub fn new(context: &Context, means: &Table, part: &str) -> Result<Self> {
        let rows = means.texts("scenario")?.into_iter().zip(means.texts("part")?);
        let place = rows.into_iter().position(|(s, p)| s == ALL_PROMPTS && p == part).unwrap_or(0);
        let at = |column: &str| -> Result<i64> { Ok(means.ints(column)?.get(place).copied().unwrap_or(0)) };
        let (n, n_clusters) = (at("n")?, at("n_clusters")?);
        let units = match part {
            "meaning" => "pairs of prompts with both labellings, so that a preference for a label cancels",
            _ => "prompts",
        };
        let meanings = &context.subject.meanings;
        Ok(Self {
            meanings: [meanings.b.clone(), meanings.a.clone()],
            basis: format!("Means over {n} {units}, in {n_clusters} clusters of templates"),
            n_clusters,
        })
    }

    /// The largest components on both sides, side by side.
    pub fn table(&self, summary: &Summary, top: usize) -> SummaryTable {
        let difference = summary.minus.is_some();
        let (towards_b, towards_a) = (summary.largest(1.0, top), summary.largest(-1.0, top));
        let cells = |entry: Option<&Entry>| -> Vec<String> {
            let Some(e) = entry else { return vec![String::new(); if difference { 3 } else { 2 }] };
            let mut cells = vec![e.component.label(), interval(e)];
            if difference {
                cells.push(e.q.map_or_else(String::new, |q| format!("{q:.3}")));
            }
            cells
        };
        let rows = (0..towards_b.len().max(towards_a.len()))
            .map(|i| [cells(towards_b.get(i)), cells(towards_a.get(i))].concat());
        let column = |name: String, doc: String, numeric| SummaryColumn { name, doc, numeric };
        let mut columns = Vec::new();
        for meaning in &self.meanings {
            columns.push(column(format!("towards {meaning}"), "Layer and head, or MLP.".to_owned(), false));
            let doc = format!(
                "In logits, with 95% bootstrap interval over templates ({RESAMPLES} resamples). {}.",
                self.basis
            );
            columns.push(column(if difference { "difference" } else { "mean" }.to_owned(), doc, true));
            if difference {
                let doc = format!(
                    "Sign-flip permutation p-value (templates flipped together; all patterns up to 16 clusters, else {FLIPS} random \
                     ones), Benjamini–Hochberg adjusted over all components of all comparisons."
                );
                columns.push(column("q".to_owned(), doc, true));
            }
        }
        let title = if difference { "Largest differences" } else { "Largest contributions" };
        SummaryTable { title: format!("{title}: {}", summary.title()), columns, rows: rows.collect() }
    }

    pub fn meanings(&self) -> &[String; 2] {
        &self.meanings
    }

    /// What was averaged over.
    pub fn basis(&self) -> &str {
        &self.basis
    }

    pub fn n_clusters(&self) -> i64 {
        self.n_clusters
    }

    pub fn model(&self, summary: &Summary) -> String {
        let [b, a] = &self.meanings;
        let total = summary.total.as_ref().map_or_else(String::new, interval);
        let share = half(&summary.entries);
        format!(
            "{}: the logit difference is {total} logits on average (positive towards {b}). Most towards {b}: {}. Most towards {a}: {}. \
             {share} of {} components hold half of the summed sizes of all mean contributions.",
            summary.title(),
            named(&summary.largest(1.0, NAMED)),
            named(&summary.largest(-1.0, NAMED)),
            summary.entries.len()
        )
    }

    pub fn difference(&self, summary: &Summary) -> String {
        let [b, a] = &self.meanings;
        let total = summary.total.as_ref().map_or_else(String::new, interval);
        let through = summary.total.and_then(|t| t.adapter_share).map_or_else(String::new, |share| {
            format!(
                "{share:+.3} of it is written by the adapter's change of output and down projections itself, the rest by the \
                 base's weights on changed inputs. "
            )
        });
        format!(
            "{}: the logit difference changes by {total} logits. {through}{} of {} components differ at q ≤ {LEVEL}. Largest changes towards \
             {b}: {}; towards {a}: {}.",
            summary.title(),
            summary.significant(),
            summary.entries.len(),
            named(&summary.largest(1.0, NAMED)),
            named(&summary.largest(-1.0, NAMED)),
        )
    }

    /// What changed about the labels.
    pub fn label(&self, summary: &Summary) -> String {
        let total = summary.total.as_ref().map_or_else(String::new, interval);
        format!(
            "{}, labels: the preference for the label that is answer B in the first prompt of each pair changes by {total} logits \
             whatever it means; {} of {} components differ at q ≤ {LEVEL}, most {} and {}. This is about a word, not about what \
             it stands for.",
            summary.title(),
            summary.significant(),
            summary.entries.len(),
            named(&summary.largest(1.0, NAMED)),
            named(&summary.largest(-1.0, NAMED)),
        )
    }

    /// Differences scenario by scenario.
    pub fn scenarios(&self, rows: &[(String, Summary)]) -> SummaryTable {
        let row = |(scenario, summary): &(String, Summary)| {
            vec![
                summary.title(),
                scenario.clone(),
                summary.total.as_ref().map_or_else(String::new, interval),
                named(&summary.largest(1.0, NAMED)),
                named(&summary.largest(-1.0, NAMED)),
                format!("{}", summary.significant()),
            ]
        };
        let column = |name: &str, doc: String, numeric| SummaryColumn { name: name.to_owned(), doc, numeric };
        let [b, a] = &self.meanings;
        let largest = |side: &str| format!("Components with the largest changes towards {side}.");
        SummaryTable {
            title: "Differences by scenario".to_owned(),
            columns: vec![
                column("models", "First minus second.".to_owned(), false),
                column("scenario", "Prompts of this scenario alone.".to_owned(), false),
                column("change", "Of the logit difference, in logits, with 95% interval.".to_owned(), true),
                column(&format!("towards {b}"), largest(b), false),
                column(&format!("towards {a}"), largest(a), false),
                column("q ≤ 0.05", "Components that differ, corrected within the scenario.".to_owned(), true),
            ],
            rows: rows.iter().map(row).collect(),
        }
    }
}

fn interval(e: &Entry) -> String {
    format!("{:+.3} [{:+.3}, {:+.3}]", e.mean, e.lo, e.hi)
}

fn named(entries: &[Entry]) -> String {
    if entries.is_empty() {
        return "none".to_owned();
    }
    let name = |e: &Entry| format!("{} {}", e.component.label(), interval(e));
    entries.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// How many components, largest first, it takes to reach half of the sum of sizes.
fn half(entries: &[Entry]) -> usize {
    let mut sizes: Vec<f64> = entries.iter().map(|e| e.mean.abs()).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let all: f64 = sizes.iter().sum();
    let mut sum = 0.0;
    sizes
        .iter()
        .take_while(|s| {
            let before = sum;
            sum += **s;
            before < all / 2.0
        })
        .count()
}

pub(super) fn notes(check: &Table, has_twins: bool, n_clusters: i64) -> Result<Vec<String>> {
    let complete = check.bools("complete")?;
    let worst = check.floats("error")?.into_iter().fold(0.0f64, |m, e| m.max(e.abs()));
    let n = complete.iter().filter(|c| **c).count();
    let mut notes = vec![format!(
        "Completeness: on {n} of {} models and prompts the contributions add up to the model's own logit difference before the \
         soft cap within 1e-4 · max(1, difference); the largest error is {worst:.1e} (table dla_check).",
        complete.len()
    )];
    notes.push(
        "Direct effects only: what a component writes that later components read counts as theirs. The scale of the final norm is \
         frozen, so a contribution says what was added, not what would happen without it; patching says that."
            .to_owned(),
    );
    notes.push(
        "Averages over scenarios can cancel where a model decides differently in each; dla_means and dla_differences have every \
         scenario by itself."
            .to_owned(),
    );
    if !has_twins {
        notes.push(
            "The prompt set has one labelling only: a contribution to a meaning can't be told from one to a string.".to_owned(),
        );
    }
    if n_clusters < 6 {
        notes.push(format!(
            "Only {n_clusters} cluster(s) of prompts: the smallest p-value that the sign-flip test can give is {}, and intervals \
             mean little.",
            0.5f64.powi(i32::try_from(n_clusters).unwrap_or(1) - 1)
        ));
    }
    Ok(notes)
}
