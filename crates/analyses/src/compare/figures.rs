//! The section of the report: similarity and difference by layer.

use super::NAME;
use super::measure::{METRICS, Measured, One};
use super::words::{Words, place};
use crate::Analysis;
use crate::activations::Reading;
use crate::bootstrap::{Interval, RESAMPLES};
use crate::context::Context;
use crate::error::Result;
use lorascope_record::Table;
use lorascope_report::{ColorKey, Figure, FigureKind, LinePanel, Section, Series};

/// The section, from what was measured.
pub(super) fn section(
    context: &Context,
    reading: &Reading,
    measured: &Measured,
    tokens: &Table,
) -> Result<Section> {
    let figures = Figures { context, reading, measured };
    let words = Words { context, reading, measured };
    let analysis: &dyn Analysis = &super::Compare;
    Ok(Section {
        id: NAME.to_owned(),
        title: analysis.title().to_owned(),
        question: analysis.question().to_owned(),
        paragraphs: words.paragraphs(tokens)?,
        figures: figures.all(),
        tables: vec![words.tokens(tokens)?],
        notes: words.notes(),
    })
}

struct Figures<'a> {
    context: &'a Context<'a>,
    reading: &'a Reading,
    measured: &'a Measured,
}

/// A line of all layers for one pair.
type Value = dyn Fn(&One) -> Option<Interval>;

impl Figures<'_> {
    fn all(&self) -> Vec<Figure> {
        let intervals =
            format!("With 95% bootstrap intervals over prompt templates ({RESAMPLES} resamples).");
        let metric = |name: &str| {
            let at = METRICS.iter().position(|m| *m == name).unwrap_or_default();
            move |one: &One| one.similarity[at]
        };
        let meanings = &self.context.subject.meanings;
        let scale = "Dashed: between two different prompts on the reference, as a scale";
        vec![
            self.figure(
                "compare_cosine",
                "Cosine of both models' activations",
                "cosine",
                &format!("Mean over prompts. {scale}. {intervals}"),
                &metric("cosine"),
                Some(&metric("cosine_prompts")),
            ),
            self.figure(
                "compare_relative_norm",
                "Size of the difference of activations",
                "norm of the difference / norm of the reference's activation",
                &format!("Mean over prompts. {scale}. {intervals}"),
                &metric("relative_norm"),
                Some(&metric("relative_norm_prompts")),
            ),
            self.figure(
                "compare_cka",
                "Alignment of both models' prompts",
                "debiased linear CKA",
                &format!(
                    "Whether prompts lie to each other as they do in the reference: 1 where they do up to rotation, scale and shift, \
                     about 0 for unrelated activations. {intervals}"
                ),
                &metric("cka_debiased"),
                None,
            ),
            self.figure(
                "compare_decision",
                "Difference of activations along the decision",
                &format!("logit of {} minus {}", meanings.b, meanings.a),
                &format!(
                    "What the difference at a place would add to the logit difference if the reference's final norm, at its own scale, \
                     and output matrix read it there; above zero towards {}. {intervals}",
                    meanings.b
                ),
                &|one: &One| Some(one.decision.mean),
                None,
            ),
        ]
    }

    fn figure(
        &self,
        name: &str,
        title: &str,
        y_label: &str,
        caption: &str,
        value: &Value,
        reference: Option<&Value>,
    ) -> Figure {
        let mut panels = Vec::new();
        for site in &self.reading.sites {
            for position in &self.reading.positions {
                let at = |one: &&One| one.place.site == *site && one.place.position == *position;
                let here: Vec<&One> = self.measured.all.iter().filter(at).collect();
                let title = format!("{}, {}", site.short_name(), place(position));
                panels.push(LinePanel { title, series: self.series(&here, value, reference) });
            }
        }
        Figure {
            name: name.to_owned(),
            title: title.to_owned(),
            caption: format!(
                "{caption} {} prompts of {} templates.",
                self.measured.n, self.measured.n_clusters
            ),
            by_prompt: None,
            kind: FigureKind::Lines {
                x_label: "layer".to_owned(),
                y_label: y_label.to_owned(),
                panels,
                zero_line: name == "compare_decision",
            },
        }
    }

    fn series(&self, here: &[&One], value: &Value, reference: Option<&Value>) -> Vec<Series> {
        let model = &self.context.subject.model;
        let mut pairs: Vec<(usize, usize)> = here.iter().map(|one| (one.model, one.reference)).collect();
        pairs.dedup();
        let mut seen = Vec::new();
        pairs.retain(|pair| {
            let new = !seen.contains(pair);
            seen.push(*pair);
            new
        });
        let line = |of: &Value, pair: (usize, usize), name: String, color: ColorKey| {
            let own: Vec<&&One> = here.iter().filter(|one| (one.model, one.reference) == pair).collect();
            let x: Vec<f64> = own.iter().map(|one| one.place.layer as f64).collect();
            let part = |f: fn(&Interval) -> f64| -> Vec<f64> {
                own.iter().map(|one| of(one).as_ref().map_or(f64::NAN, f)).collect()
            };
            Series::new(name, color, x, &part(|i| i.mean)).with_interval(&part(|i| i.lo), &part(|i| i.hi))
        };
        let several = pairs.iter().any(|p| p.1 > 0);
        let name = |(m, r): (usize, usize)| match several {
            true => format!("{} / {}", model.name(m), model.name(r)),
            false => model.name(m).to_owned(),
        };
        let mut series: Vec<Series> = pairs
            .iter()
            .enumerate()
            .map(|(k, &pair)| {
                line(value, pair, name(pair), ColorKey::Model(if several { k } else { pair.0 - 1 }))
            })
            .collect();
        if let Some(reference) = reference {
            let mut shown = Vec::new();
            for &pair in &pairs {
                if !shown.contains(&pair.1) {
                    let name = format!("two prompts of {}", model.name(pair.1));
                    series.push(line(reference, pair, name, ColorKey::Reference(shown.len())));
                    shown.push(pair.1);
                }
            }
        }
        series
    }
}
