//! Figures of a confirmation.

use super::compare::{Found, Outcome};
use super::measure::{DOCUMENTS, TOKENS};
use super::plan::{AGAIN, FULL, Plan, SET};
use crate::figures::{WINDOW, smoothed};
use lorascope_analyses::{Interval, Subject};
use lorascope_report::{BarPanel, BarSeries, ColorKey, Figure, FigureKind, LinePanel, Series};

/// Percent by which points of equal size stand apart.
const ASIDE: f64 = 1.2;

/// Random sets share a colour: which is which does not matter.
fn color(name: &str) -> ColorKey {
    match name {
        FULL => ColorKey::Model(1),
        AGAIN => ColorKey::Model(2),
        SET => ColorKey::Model(0),
        _ => ColorKey::Base,
    }
}

/// Name in a legend.
pub(super) fn label(f: &Found) -> String {
    match f.arm.name.as_str() {
        FULL => "full".to_owned(),
        AGAIN => "full, another seed".to_owned(),
        SET => "the predicted set".to_owned(),
        _ => "random sets".to_owned(),
    }
}

pub(super) fn figures(plan: &Plan, subject: &Subject, outcome: &Outcome) -> Vec<Figure> {
    let mut figures = Vec::new();
    if outcome.found.iter().any(|f| f.recovery.is_some()) {
        figures.push(recovery(plan, subject, outcome));
    }
    figures.push(curves(outcome));
    figures.push(side_effects(outcome));
    figures
}

fn recovery(plan: &Plan, subject: &Subject, outcome: &Outcome) -> Figure {
    let point = |f: &Found, value: Option<Interval>| {
        let at = |of: &dyn Fn(Interval) -> f64| [value.map_or(f64::NAN, of)];
        let aside = if f.arm.is_random() { ASIDE } else { 0.0 };
        Series::new(label(f), color(&f.arm.name), vec![100.0 * f.share + aside], &at(&|i| i.mean))
            .with_interval(&at(&|i| i.lo), &at(&|i| i.hi))
    };
    let p = &plan.prediction;
    let needed = Series::new("needed", ColorKey::Reference(0), vec![0.0, 104.0], &[plan.needed; 2]);
    let predicted = Series::new(
        "predicted by surgery",
        ColorKey::Reference(1),
        vec![100.0 * plan.share_of(SET) - ASIDE],
        &[p.recovery.mean],
    )
    .with_interval(&[p.recovery.lo], &[p.recovery.hi]);
    let of = |value: &dyn Fn(&Found) -> Option<Interval>| {
        outcome.found.iter().map(|f| point(f, value(f))).collect::<Vec<_>>()
    };
    let panel = |title: &str, series: Vec<Series>| LinePanel { title: title.to_owned(), series };
    Figure {
        name: "confirm_recovery".to_owned(),
        title: "Behaviour recovered by training against parameters".to_owned(),
        caption: format!(
            "What each training does to ln p(B)/p(A) (left) and to the probability of B (right), as a share of what the full training \
             does, on {} prompts that were neither trained on nor used to choose the set; bars are 95% intervals over {} prompt \
             clusters. Dashed: what the set has to reach. What surgery predicted for it stands a little to its left, random sets with as many \
             parameters a little to its right.",
            subject.prompts.len(),
            outcome.n_clusters
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "parameters that could move (% of the full training)".to_owned(),
            y_label: "recovery".to_owned(),
            panels: vec![
                panel("delta", [vec![needed, predicted], of(&|f| f.recovery)].concat()),
                panel("probability", of(&|f| f.p_recovery)),
            ],
            zero_line: false,
        },
    }
}

fn curves(outcome: &Outcome) -> Figure {
    let series = |f: &Found| {
        let x = (0..f.curve.reward.len()).map(|s| s as f64).collect();
        Series::new(label(f), color(&f.arm.name), x, &smoothed(&f.curve.reward))
    };
    // Random sets first, so that they lie behind.
    let (random, others): (Vec<&Found>, Vec<&Found>) = outcome.found.iter().partition(|f| f.arm.is_random());
    Figure {
        name: "confirm_curves".to_owned(),
        title: "Reward in training".to_owned(),
        caption: format!(
            "Expected reward among the two answers on each step's own prompts before its update; mean over the last {WINDOW} steps, \
             without an interval."
        ),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "step".to_owned(),
            y_label: "points".to_owned(),
            panels: vec![LinePanel {
                title: String::new(),
                series: random.into_iter().chain(others).map(series).collect(),
            }],
            zero_line: false,
        },
    }
}

fn side_effects(outcome: &Outcome) -> Figure {
    let found = || outcome.found.iter();
    Figure {
        name: "confirm_side_effects".to_owned(),
        title: "Side effects on unrelated text".to_owned(),
        caption: format!(
            "KL(base ‖ training) of the next token, mean over up to {TOKENS} tokens of each of {DOCUMENTS} documents that have nothing \
             to do with the prompts; 95% intervals over documents."
        ),
        by_prompt: None,
        kind: FigureKind::HorizontalBars {
            x_label: "nats per token".to_owned(),
            panels: vec![BarPanel {
                title: String::new(),
                groups: found().map(|f| f.arm.name.clone()).collect(),
                series: vec![BarSeries {
                    name: "KL from the base".to_owned(),
                    color: ColorKey::Model(0),
                    values: found().map(|f| Some(f.text_kl.mean)).collect(),
                    intervals: found().map(|f| Some((f.text_kl.lo, f.text_kl.hi))).collect(),
                }],
            }],
        },
    }
}
