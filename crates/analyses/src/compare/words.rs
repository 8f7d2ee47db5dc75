//! What the comparison says in words.

use super::measure::{METRICS, Measured, One};
use crate::activations::Reading;
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::error::Result;
use crate::statistics::FLIPS;
use lorascope_record::Table;
use lorascope_report::{SummaryColumn, SummaryTable};

/// Below this adjusted p-value a difference along the decision counts in the text.
const LEVEL: f64 = 0.05;
/// Tokens that the text names on each side.
const NAMED: usize = 5;

pub(super) struct Words<'a> {
    pub context: &'a Context<'a>,
    pub reading: &'a Reading,
    pub measured: &'a Measured,
}

/// One pair at one site and position, layer by layer, with adjusted p-values.
struct Line<'a> {
    title: String,
    ones: Vec<(&'a One, f64)>,
}

/// A position for readers.
pub(super) fn place(position: &str) -> String {
    match position {
        "decision" => "decision point".to_owned(),
        share if share.ends_with('%') => format!("{share} of the way to the decision point"),
        span => format!("last token of {span}"),
    }
}

fn metric(one: &One, name: &str) -> Option<Interval> {
    METRICS.iter().position(|m| *m == name).and_then(|at| one.similarity[at])
}

/// Enough digits to tell a cosine from 1.
fn shown(value: Option<Interval>) -> String {
    let Some(Interval { mean, lo, hi }) = value else { return "undefined".to_owned() };
    let digits = if (1.0 - mean).abs() < 0.01 { 5 } else { 3 };
    format!("{mean:.digits$} [{lo:.digits$}, {hi:.digits$}]")
}

fn signed(Interval { mean, lo, hi }: Interval) -> String {
    format!("{mean:+.3} [{lo:+.3}, {hi:+.3}]")
}

impl Words<'_> {
    /// Lines in the order of pairs, sites and positions.
    fn lines(&self) -> Vec<Line<'_>> {
        let model = &self.context.subject.model;
        let q = self.measured.adjusted();
        let mut lines: Vec<Line> = Vec::new();
        let mut keys = Vec::new();
        for (one, q) in self.measured.all.iter().zip(q) {
            let key = (one.model, one.reference, one.place.site.short_name(), one.place.position.clone());
            let at = keys.iter().position(|k| *k == key).unwrap_or(keys.len());
            if at == keys.len() {
                let title = format!(
                    "{} against {}, {}, {}",
                    model.name(one.model),
                    model.name(one.reference),
                    key.2,
                    place(&key.3)
                );
                lines.push(Line { title, ones: Vec::new() });
                keys.push(key);
            }
            lines[at].ones.push((one, q));
        }
        lines
    }

    pub fn paragraphs(&self, tokens: &Table) -> Result<Vec<String>> {
        self.lines().iter().map(|line| self.line(line, tokens)).collect()
    }

    fn line(&self, line: &Line, tokens: &Table) -> Result<String> {
        let Some((last, last_q)) = line.ones.last() else { return Ok(String::new()) };
        if line.ones.iter().all(|(one, _)| one.equal) {
            return Ok(format!("{}: all activations are the same, bit for bit.", line.title));
        }
        let first = line.ones.iter().find(|(one, _)| !one.equal).map_or(0, |(one, _)| one.place.layer);
        let equal_before = match line.ones.iter().take_while(|(one, _)| one.equal).count() {
            0 => String::new(),
            _ => format!("the same bit for bit before layer {first}; "),
        };
        let value = |one: &One, name: &str| metric(one, name).map(|i| i.mean);
        let lowest =
            line.ones.iter().map(|(one, _)| *one).filter(|one| value(one, "cosine").is_some()).min_by(
                |a, b| {
                    let of = |one: &One| value(one, "cosine").unwrap_or(f64::NAN);
                    of(a).total_cmp(&of(b))
                },
            );
        let lowest = lowest.unwrap_or(last);
        let ratio = value(last, "relative_norm").zip(value(last, "relative_norm_prompts"));
        let ratio = ratio.filter(|(_, scale)| *scale > 0.0).map_or_else(String::new, |(norm, scale)| {
            format!(", {:.0}% of what it is between two prompts", 100.0 * norm / scale)
        });
        let meanings = &self.context.subject.meanings;
        let clear = line.ones.iter().rev().take_while(|(_, q)| *q <= LEVEL).last();
        let from = clear.map_or_else(
            || format!("not clear of zero there (q = {last_q:.3})"),
            |(one, _)| format!("clear of zero from layer {} on (q ≤ {LEVEL})", one.place.layer),
        );
        Ok(format!(
            "{}: {equal_before}lowest cosine {} in layer {} (two prompts of the reference: {}); in layer {}, cosine {}, difference of \
             relative size {}{ratio}, debiased CKA {}. Along the decision the difference there is {} logits (positive towards {}), {from}.{}",
            line.title,
            shown(metric(lowest, "cosine")),
            lowest.place.layer,
            shown(metric(lowest, "cosine_prompts")),
            last.place.layer,
            shown(metric(last, "cosine")),
            shown(metric(last, "relative_norm")),
            shown(metric(last, "cka_debiased")),
            signed(last.decision.mean),
            meanings.b,
            self.named(tokens, last)?
        ))
    }

    /// The first tokens on both sides.
    fn named(&self, tokens: &Table, one: &One) -> Result<String> {
        let [promoted, suppressed] = self.sides(tokens, one)?;
        if promoted.is_empty() {
            return Ok(String::new());
        }
        let list = |side: &[(String, f64)]| {
            side.iter().take(NAMED).map(|(token, _)| format!("“{token}”")).collect::<Vec<_>>().join(", ")
        };
        Ok(format!(" On average it promotes {} and suppresses {}.", list(&promoted), list(&suppressed)))
    }

    /// Tokens with their logits, promoted and suppressed.
    fn sides(&self, table: &Table, one: &One) -> Result<[Vec<(String, f64)>; 2]> {
        let model = &self.context.subject.model;
        let (models, references, sites) =
            (table.texts("model")?, table.texts("reference")?, table.texts("site")?);
        let (layers, positions) = (table.ints("layer")?, table.texts("position")?);
        let (directions, texts, logits) =
            (table.texts("direction")?, table.texts("token")?, table.floats("logit")?);
        let site = one.place.site.short_name();
        let mut sides = [Vec::new(), Vec::new()];
        for i in 0..table.n_rows() {
            let here = models[i] == model.name(one.model)
                && references[i] == model.name(one.reference)
                && sites[i] == site
                && usize::try_from(layers[i]) == Ok(one.place.layer)
                && positions[i] == one.place.position;
            if here {
                let side = usize::from(directions[i] == "suppressed");
                sides[side].push((texts[i].replace('\n', "⏎"), logits[i]));
            }
        }
        Ok(sides)
    }

    /// Tokens of the last layer of each line.
    pub fn tokens(&self, table: &Table) -> Result<SummaryTable> {
        let mut rows = Vec::new();
        for line in self.lines() {
            let Some((last, _)) = line.ones.last() else { continue };
            let [promoted, suppressed] = self.sides(table, last)?;
            let cell = |side: &[(String, f64)]| {
                side.iter()
                    .map(|(token, logit)| format!("“{token}” {logit:+.2}"))
                    .collect::<Vec<_>>()
                    .join(", ")
            };
            rows.push(vec![
                line.title.clone(),
                last.place.layer.to_string(),
                cell(&promoted),
                cell(&suppressed),
            ]);
        }
        let column = |name: &str, doc: &str, numeric| SummaryColumn {
            name: name.to_owned(),
            doc: doc.to_owned(),
            numeric,
        };
        let doc = "With what the mean difference adds to the logit, less the mean over all tokens.";
        Ok(SummaryTable {
            title: "What the mean difference writes".to_owned(),
            columns: vec![
                column(
                    "models and place",
                    "The difference is the first model's activation minus the second's.",
                    false,
                ),
                column("layer", "The last one that was read; all others are in compare_tokens.", true),
                column("promoted", doc, false),
                column("suppressed", doc, false),
            ],
            rows,
        })
    }

    pub fn notes(&self) -> Vec<String> {
        let n_clusters = self.measured.n_clusters;
        let width = self.context.subject.model.spec().d_model;
        let mut notes = vec![
            "A cosine near 1 is no sign of equality: activations share a large common part, which two different prompts of one model \
             share too. The dashed lines are the scale to judge by."
                .to_owned(),
            format!(
                "Plain CKA over {} prompts of width {width} is too high and is in compare_similarity only; the debiased one may be \
                 below 0.",
                self.measured.n
            ),
            format!(
                "The component along the decision is what the output would read directly, with the reference's final norm frozen; what \
                 later layers make of the difference is not in it, nor is the change of the scale. q: sign-flip test (templates flipped \
                 together, all patterns up to 16 templates, else {FLIPS} random ones), corrected over {} pairs and places.",
                self.measured.all.len()
            ),
        ];
        if n_clusters < 6 {
            notes.push(format!(
                "Only {n_clusters} template(s): the smallest p-value that the sign-flip test can give is {}, and intervals mean little.",
                0.5f64.powi(i32::try_from(n_clusters).unwrap_or(1) - 1)
            ));
        }
        let spans = self.reading.positions.iter().any(|p| p != "decision");
        if spans {
            notes.push(
                "Tokens and decisions are read as if the answer came next at that position.".to_owned(),
            );
        }
        notes
    }
}
