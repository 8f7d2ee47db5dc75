//! Circuits exchanged: whether the circuit of one source carries the behaviour of another as well as its own does.
//!
//! Two models may share few components and still be served by each other's circuits, or share many and not be. So each source
//! is patched into the target through the components of every other source's circuit, on held-out prompts, against random
//! circuits with as many heads and MLPs.

use super::hypotheses::{Null, defined};
use super::random::Random;
use super::score::Scorer;
use super::settings::Settings;
use super::tables::CROSSED;
use super::{Found, resampler};
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{Sweep, Unit};
use lorascope_record::{Cell, Table};
use lorascope_report::{Figure, FigureKind, HeatmapPanel, HeatmapScale};
use std::collections::{BTreeMap, BTreeSet};

/// Fills the table for all pairs of circuits of one target.
pub(super) fn exchange(
    context: &Context,
    sweep: &Sweep,
    settings: &Settings,
    prompts: &[usize],
    found: &[Found],
    table: &mut Table,
) -> Result<()> {
    let (mut names, mut exchanged) = (Vec::new(), Vec::new());
    for (i, one) in found.iter().enumerate() {
        for (j, other) in found.iter().enumerate() {
            let same = i == j || one.target != other.target;
            if same || one.members.is_empty() || other.members.is_empty() {
                continue;
            }
            names.push(format!("circuit-crossed-{}-{}-{}", one.source, one.target, other.source));
            exchanged.push((i, j));
        }
    }
    table.append(context.parts(&names, &CROSSED, |n| {
        let (i, j) = exchanged[n];
        let (one, other) = (&found[i], &found[j]);
        let stream = 100_000 + (i * found.len() + j) as u64;
        let random = Random::new(&one.order, context.seed, stream);
        let scorer = Scorer { context, sweep, source: one.source, target: one.target };
        row(&scorer, settings, prompts, (one, other), random)
    })?)?;
    Ok(())
}

fn row(
    scorer: &Scorer,
    settings: &Settings,
    prompts: &[usize],
    (one, other): (&Found, &Found),
    mut random: Random,
) -> Result<Table> {
    let mut sets: Vec<Vec<Unit>> = vec![one.members.clone(), other.members.clone()];
    sets.extend((0..settings.random).map(|_| random.like(&other.members)));
    let scores = scorer.score("circuit: exchanged circuits", &sets, prompts)?;
    let resampler = resampler(scorer.context, prompts);
    let (crossed, less) = (scores.interval(1, &resampler), scores.difference(0, 1, &resampler));
    let random = scores.faithfulness_of(2..sets.len());
    let model = &scorer.context.subject.model;
    let mut cells: Vec<Cell> = vec![
        model.name(one.source).into(),
        model.name(one.target).into(),
        model.name(other.source).into(),
        one.members.len().into(),
        other.members.len().into(),
        scores.faithfulness(0).into(),
        defined(crossed.mean).into(),
        defined(crossed.lo).into(),
        defined(crossed.hi).into(),
        defined(less.mean).into(),
        defined(less.lo).into(),
        defined(less.hi).into(),
    ];
    cells.extend(Null::cells(Null::of(scores.faithfulness(1), random.as_deref(), 1.0)));
    let mut table = Table::new(&CROSSED);
    table.push(&cells)?;
    Ok(table)
}

/// A share of the behaviour, and its interval.
type Share = (Option<f64>, Option<(f64, f64)>);

/// Sources by circuits, a panel for each target; nothing where there are no two circuits.
pub(super) fn figure(table: &Table, names: &[&str], n_test: usize) -> Result<Option<Figure>> {
    let (source, target) = (table.texts("source")?, table.texts("target")?);
    let (circuit, own) = (table.texts("circuit_of")?, table.floats_or_null("own")?);
    let (value, lo, hi) = (
        table.floats_or_null("value")?,
        table.floats_or_null("value_lo")?,
        table.floats_or_null("value_hi")?,
    );
    // By target, source and whose circuit it is.
    let mut cells: BTreeMap<(&str, &str, &str), Share> = BTreeMap::new();
    for i in 0..table.n_rows() {
        cells.insert((target[i], source[i], circuit[i]), (value[i], lo[i].zip(hi[i])));
        cells.insert((target[i], source[i], source[i]), (own[i], None));
    }
    let targets: BTreeSet<&str> = target.iter().copied().collect();
    let panel = |target: &&str| {
        let of: Vec<&str> =
            names.iter().copied().filter(|n| cells.contains_key(&(*target, *n, *n))).collect();
        let cell = |s: &str, c: &str| cells.get(&(*target, s, c)).copied().unwrap_or((None, None));
        HeatmapPanel {
            title: format!("into {target}"),
            rows: of.iter().map(|s| (*s).to_owned()).collect(),
            cols: of.iter().map(|c| (*c).to_owned()).collect(),
            values: of.iter().map(|s| of.iter().map(|c| cell(s, c).0).collect()).collect(),
            intervals: of.iter().map(|s| of.iter().map(|c| cell(s, c).1).collect()).collect(),
        }
    };
    Ok((table.n_rows() > 0).then(|| Figure {
        name: "circuit_crossed".to_owned(),
        title: "Circuits exchanged".to_owned(),
        caption: format!(
            "Share of a source's behaviour that arrives in the target through the components of each source's circuit (its own on the \
             diagonal), on {n_test} held-out prompts; 95% intervals over prompt templates below the numbers. If another's circuit \
             serves as well as the own one, the two are not distinct. What random circuits bring is in the table circuit_crossed."
        ),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "behaviour of".to_owned(),
            col_label: "circuit of".to_owned(),
            panels: targets.iter().map(panel).collect(),
            scale: HeatmapScale::Diverging { center: 0.0, reach: Some(1.0) },
            unit: "share of the behaviour".to_owned(),
            annotate: true,
        },
    }))
}

/// What exchanging circuits shows, in a sentence; nothing where there are no two circuits.
pub(super) fn sentence(table: &Table) -> Result<Option<String>> {
    let (lo, hi) = (table.floats_or_null("less_lo")?, table.floats_or_null("less_hi")?);
    let p = table.floats_or_null("p")?;
    let n = table.n_rows();
    let worse = (0..n).filter(|&i| lo[i].is_some_and(|lo| lo > 0.0)).count();
    let better = (0..n).filter(|&i| hi[i].is_some_and(|hi| hi < 0.0)).count();
    let above = p.iter().filter(|p| p.is_some_and(|p| p <= 0.05)).count();
    Ok((n > 0).then(|| {
        format!(
            "Circuits exchanged: of {n} cases of one source's behaviour brought through another's circuit, {worse} bring clearly less \
             than the own circuit does and {better} clearly more (95% intervals); {above} bring more than random circuits of the same \
             size (p ≤ 0.05)."
        )
    }))
}
