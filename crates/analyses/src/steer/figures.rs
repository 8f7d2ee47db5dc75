//! The section of the report.

use super::against::Key;
use super::settings::Settings;
use super::vectors::Recipe;
use super::words::{Dose, Doses, Pair, doses, notes, pairs, paragraph, reference, strongest, table};
use super::{NAME, Steer, Tables};
use crate::Analysis;
use crate::context::Context;
use crate::error::Result;
use lorascope_report::{
    ColorKey, Figure, FigureKind, HeatmapPanel, HeatmapScale, LinePanel, Section, Series,
};
use std::collections::BTreeSet;

/// Places of a vector that a figure of doses shows, at most.
const PLACES: usize = 6;

pub(super) fn section(
    steer: &Steer,
    context: &Context,
    settings: &Settings,
    recipes: &[Recipe],
    tables: &Tables,
) -> Result<Section> {
    let doses = doses(tables)?;
    let pairs = pairs(context, recipes);
    let shown: Vec<&Pair> = pairs.iter().filter(|pair| doses.keys().any(|key| pair.has(key))).collect();
    let mut figures = Vec::new();
    for (name, is_share) in [("steer_recovery", true), ("steer_change", false)] {
        figures.extend(map(settings, &doses, &shown, name, is_share));
    }
    for (i, pair) in shown.iter().enumerate() {
        figures.push(curves(context, settings, &doses, pair, i));
    }
    if settings.texts > 0 && !shown.is_empty() {
        figures.push(prices(context, settings, &doses, &shown));
    }
    let paragraphs =
        pairs.iter().map(|pair| paragraph(settings, tables, &doses, pair)).collect::<Result<_>>()?;
    Ok(Section {
        id: NAME.to_owned(),
        title: steer.title().to_owned(),
        question: steer.question().to_owned(),
        paragraphs,
        figures,
        tables: if shown.is_empty() { Vec::new() } else { vec![table(settings, tables, &doses, &pairs)?] },
        notes: notes(settings, recipes, share_of_mass(context)?),
    })
}

/// Mean share of the legal mass that the primary pair has on the base.
fn share_of_mass(context: &Context) -> Result<f64> {
    let (subject, primary) = (context.subject, context.subject.primary_pairs()?);
    let decisions = subject.base_decisions()?;
    let shares = decisions.iter().zip(&subject.prompts).zip(&primary);
    let sum: f64 = shares.map(|((d, p), &pair)| d.pair_mass(&p.answers, pair) / d.legal_mass()).sum();
    Ok(sum / decisions.len() as f64)
}

/// Where vectors are added, in words.
fn tokens(settings: &Settings) -> &'static str {
    match settings.position {
        super::settings::Position::Decision => "at the decision point",
        super::settings::Position::All => "at all tokens up to the decision point",
    }
}

/// Effects by place and strength; `None` where no vector has one of that kind.
fn map(settings: &Settings, doses: &Doses, pairs: &[&Pair], name: &str, is_share: bool) -> Option<Figure> {
    let steering: Vec<(i64, f64)> = settings
        .strengths
        .iter()
        .enumerate()
        .filter(|(_, s)| **s != 0.0)
        .map(|(i, s)| (i as i64, *s))
        .collect();
    let panel = |pair: &&Pair| -> Option<HeatmapPanel> {
        let own = || doses.iter().filter(|(key, dose)| pair.has(key) && dose.is_share == is_share);
        let places: BTreeSet<(i64, &str)> = own().map(|(key, _)| (-key.4, key.3.as_str())).collect();
        let one_site = places.iter().map(|(_, site)| site).collect::<BTreeSet<_>>().len() == 1;
        let cell = |place: &(i64, &str), dose: i64| {
            let mut at = own().filter(|(key, _)| (-key.4, key.3.as_str()) == *place && key.5 == dose);
            at.next().map(|(_, found)| found.shown.0)
        };
        let label = |(layer, site): &(i64, &str)| {
            if one_site { format!("L{}", -layer) } else { format!("L{} {site}", -layer) }
        };
        (!places.is_empty()).then(|| HeatmapPanel {
            title: pair.title(),
            rows: places.iter().map(label).collect(),
            cols: steering.iter().map(|(_, s)| format!("{s:+}").replace('-', "\u{2212}")).collect(),
            values: places.iter().map(|p| steering.iter().map(|(i, _)| cell(p, *i)).collect()).collect(),
            intervals: Vec::new(),
        })
    };
    let panels: Vec<HeatmapPanel> = pairs.iter().filter_map(panel).collect();
    let (title, what, unit) = if is_share {
        (
            "What a vector brings of the difference between two models",
            "Share of the difference in delta between source and target that comes (1: all of it; negative: away from the source)",
            "recovery",
        )
    } else {
        ("What a vector does to the decision", "Mean change of delta", "change of delta (logit)")
    };
    (!panels.is_empty()).then(|| Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        caption: format!(
            "{what} when a vector times a strength is added {}. Vectors come from the other half of the templates. Intervals are in the \
             table steer_effects, controls in steer_against_controls.",
            tokens(settings)
        ),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "strength (multiples of the vector)".to_owned(),
            panels,
            scale: HeatmapScale::Diverging { center: 0.0, reach: None },
            unit: unit.to_owned(),
            annotate: true,
        },
    })
}

/// Strength 0 does nothing; a curve goes through it where it was measured.
fn with_zero(settings: &Settings, mut points: Vec<(f64, [f64; 3])>) -> Vec<(f64, [f64; 3])> {
    if settings.strengths.contains(&0.0) {
        points.push((0.0, [0.0; 3]));
    }
    points.sort_by(|a, b| a.0.total_cmp(&b.0));
    points
}

fn series(name: &str, color: ColorKey, points: Vec<(f64, [f64; 3])>) -> Series {
    let of = |i: usize| points.iter().map(|(_, v)| v[i]).collect::<Vec<f64>>();
    let x = points.iter().map(|(x, _)| *x).collect();
    Series::new(name, color, x, &of(0)).with_interval(&of(1), &of(2))
}

/// Dose and response of one vector at its places, beside the controls.
fn curves(context: &Context, settings: &Settings, doses: &Doses, pair: &Pair, number: usize) -> Figure {
    let at_reference = reference(settings);
    let mut places: Vec<(&Key, &Dose)> =
        doses.iter().filter(|(key, _)| pair.has(key) && key.5 == at_reference).collect();
    let n_places = places.len();
    places.sort_by(|a, b| b.1.shown.0.abs().total_cmp(&a.1.shown.0.abs()));
    places.truncate(PLACES);
    places.sort_by(|a, b| (a.0.4, &a.0.3).cmp(&(b.0.4, &b.0.3)));
    let panel = |&(place, _): &(&Key, &Dose)| {
        let line = || doses.iter().filter(|(k, _)| pair.has(k) && (k.4, &k.3) == (place.4, &place.3));
        let own = line().map(|(_, d)| (d.strength, [d.shown.0, d.shown.1, d.shown.2])).collect();
        let mut all = Vec::new();
        let beside = |kind: &'static str| -> Vec<(f64, [f64; 3])> {
            let of = |d: &Dose| d.beside.get(kind).map(|b| (d.strength, [b.mean, b.lo, b.hi]));
            with_zero(settings, line().filter_map(|(_, d)| of(d)).collect())
        };
        all.push(series("random", ColorKey::Reference(0), beside("random")));
        // Two grey bands could not be told apart: the ends of the second are lines.
        let shuffled = beside("shuffled");
        for end in [1, 2].into_iter().filter(|_| settings.shuffled > 0) {
            let (x, y): (Vec<f64>, Vec<f64>) = shuffled.iter().map(|(x, v)| (*x, v[end])).unzip();
            all.push(Series::new("shuffled: 95% of them", ColorKey::Reference(1), x, &y));
        }
        let color = context.subject.color(pair.recipe.source);
        all.push(series("vector", color, with_zero(settings, own)));
        LinePanel { title: format!("L{} {}", place.4, place.3), series: all }
    };
    let is_share = places.iter().all(|(_, dose)| dose.is_share);
    let only = if n_places > places.len() {
        format!(" The {PLACES} places of {n_places} with the largest effects.")
    } else {
        String::new()
    };
    Figure {
        name: format!("steer_doses_{number}"),
        title: format!("Dose and response: {}", pair.title()),
        caption: format!(
            "Effect on the decision of the vector times a strength, added {}, with its 95% interval over templates, beside {} random \
             directions of its length (their mean, and the band in which 95% of them lie) and {} differences between random groups of \
             prompts, brought to that length (between the dotted lines lie 95% of them).{only}",
            tokens(settings),
            settings.random,
            settings.shuffled
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "strength (multiples of the vector)".to_owned(),
            y_label: if is_share { "recovery" } else { "change of delta (logit)" }.to_owned(),
            panels: places.iter().map(panel).collect(),
            zero_line: true,
        },
    }
}

/// KL on unrelated text of each pair's strongest place.
fn prices(context: &Context, settings: &Settings, doses: &Doses, pairs: &[&Pair]) -> Figure {
    let panel = |pair: &&Pair| {
        let (place, _) = strongest(doses, pair, reference(settings))?;
        let line = || doses.iter().filter(|(k, _)| pair.has(k) && (k.4, &k.3) == (place.4, &place.3));
        let points = |kind: &str| -> Vec<(f64, [f64; 3])> {
            let of = |d: &Dose| d.kl.get(kind).map(|kl| (d.strength, [kl.0, kl.1, kl.2]));
            with_zero(settings, line().filter_map(|(_, d)| of(d)).collect())
        };
        let color = context.subject.color(pair.recipe.source);
        let mut all = vec![series("vector", color, points("vector"))];
        if settings.text_controls > 0 {
            all.insert(0, series("random", ColorKey::Reference(0), points("random")));
        }
        Some(LinePanel { title: format!("{}, L{} {}", pair.title(), place.4, place.3), series: all })
    };
    Figure {
        name: "steer_side_effects".to_owned(),
        title: "What steering does to unrelated text".to_owned(),
        caption: format!(
            "KL(unsteered ‖ steered) of the token after each of {} texts that have nothing to do with the prompts, when the vector (from \
             all prompts) is added to {}: mean with its 95% interval over texts, beside {} random directions of its length. Each vector \
             at the place where it does the most to the decision.",
            settings.texts,
            match settings.position {
                super::settings::Position::Decision => "the last token",
                super::settings::Position::All => "every token",
            },
            settings.text_controls
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "strength (multiples of the vector)".to_owned(),
            y_label: "KL (nats per token)".to_owned(),
            panels: pairs.iter().filter_map(panel).collect(),
            zero_line: true,
        },
    }
}
