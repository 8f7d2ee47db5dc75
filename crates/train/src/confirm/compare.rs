//! The trainings against each other: recovery, differences, scenarios, and the verdict, as tables.

use super::curves::Curve;
use super::figures::figures;
use super::measure::{HeldOut, Measured};
use super::plan::{AGAIN, Arm, FULL, Plan, SET};
use super::tables::{COMPARISONS, DECISIONS, SCENARIOS, TRAININGS};
use super::text::{kl_of, text_table};
use super::verdict::{self, Verdict};
use super::words;
use crate::error::{Error, Result};
use lorascope_analyses::{Decision, Design, Findings, Interval, Resampler, Subject, benjamini_hochberg};
use lorascope_record::{Cell, Table};
use lorascope_report::Section;
use std::collections::BTreeMap;

/// Steps at the end over which a training's reward is averaged.
const LAST: usize = 8;

/// Everything that was found of one training, for words and figures.
#[derive(Clone, Debug)]
pub(super) struct Found<'a> {
    pub arm: &'a Arm,
    pub curve: &'a Curve,
    pub share: f64,
    pub recovery: Option<Interval>,
    pub p_recovery: Option<Interval>,
    pub text_kl: Interval,
    /// The set's recovery minus this training's.
    pub difference: Option<Interval>,
    /// Whether the set recovers more; of random sets only.
    pub above: Option<Verdict>,
}

/// What came out.
#[derive(Clone, Debug)]
pub(super) struct Outcome<'a> {
    pub found: Vec<Found<'a>>,
    pub reached: Verdict,
    pub verdict: Verdict,
    /// How far the full training with another seed is from the full one, in recovery.
    pub noise: f64,
    pub n_clusters: usize,
}

impl Outcome<'_> {
    pub fn of(&self, name: &str) -> Option<&Found<'_>> {
        self.found.iter().find(|f| f.arm.name == name)
    }
}

/// Values of all models on some prompts: `[model][prompt]`, the base first, then the arms in their order.
pub(super) struct Values {
    resampler: Resampler,
    design: Design,
    delta: Vec<Vec<f64>>,
    p_b: Vec<Vec<f64>>,
}

impl Values {
    pub fn new(decisions: &[Vec<Decision>], which: &[usize], clusters: &[&str], seed: u64) -> Self {
        let clusters: Vec<&str> = which.iter().map(|&i| clusters[i]).collect();
        let of = |value: &dyn Fn(&Decision) -> f64| -> Vec<Vec<f64>> {
            decisions.iter().map(|all| which.iter().map(|&i| value(&all[i])).collect()).collect()
        };
        Self {
            resampler: Resampler::new(&clusters, seed),
            design: Design::new(&clusters, seed),
            delta: of(&Decision::delta),
            p_b: of(&Decision::p_b),
        }
    }

    pub fn n_clusters(&self) -> usize {
        self.resampler.n_clusters()
    }

    /// `(to − from)·sign(d)` and `|d|`, with d what the full training does.
    fn aligned(values: &[Vec<f64>], full: usize, from: usize, to: usize) -> (Vec<f64>, Vec<f64>) {
        let spans = || values[full].iter().zip(&values[0]).map(|(f, b)| f - b);
        let sign = |d: f64| if d == 0.0 { 0.0 } else { d.signum() };
        let changes = values[to].iter().zip(&values[from]).map(|(t, f)| t - f);
        (changes.zip(spans()).map(|(c, d)| c * sign(d)).collect(), spans().map(f64::abs).collect())
    }

    fn share(&self, (over, under): &(Vec<f64>, Vec<f64>)) -> Option<Interval> {
        // Nothing is 0, never −0.
        let of = |sums: &[f64]| if sums[1] == 0.0 { f64::NAN } else { sums[0] / sums[1] + 0.0 };
        self.resampler.statistic(&[over, under], of)
    }

    /// What a model recovers of delta; model 1 is the full training.
    pub fn recovery(&self, model: usize) -> Option<Interval> {
        self.share(&Self::aligned(&self.delta, 1, 0, model))
    }

    fn p_recovery(&self, model: usize) -> Option<Interval> {
        self.share(&Self::aligned(&self.p_b, 1, 0, model))
    }
}

/// Compares; `curves` are those of the plan's arms, `folders` the run folders of theirs.
///
/// # Errors
/// Numbers that are not finite, or fewer models than the plan has.
pub fn findings(
    plan: &Plan,
    subject: &Subject,
    measured: &Measured,
    held_out: &HeldOut,
    curves: &[Curve],
    folders: &[String],
    seed: u64,
) -> Result<Findings> {
    let n = plan.arms.len();
    if measured.decisions.len() != n + 1 || curves.len() != n || folders.len() != n {
        return Err(Error::Confirm(format!("{} models for {n} trainings", measured.decisions.len())));
    }
    let clusters: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
    let all: Vec<usize> = (0..subject.prompts.len()).collect();
    let values = Values::new(&measured.decisions, &all, &clusters, seed);
    let set = plan.arms.iter().position(|a| a.name == SET).map_or(0, |i| i + 1);
    let again = plan.arms.iter().position(|a| a.name == AGAIN).and_then(|i| values.recovery(i + 1));
    let noise = again.map_or(0.0, |i| (1.0 - i.mean).abs());
    let mut found = Vec::with_capacity(n);
    for (i, (arm, curve)) in plan.arms.iter().zip(curves).enumerate() {
        let difference = values.share(&Values::aligned(&values.delta, 1, i + 1, set));
        found.push(Found {
            arm,
            curve,
            share: plan.share_of(&arm.name),
            recovery: values.recovery(i + 1),
            p_recovery: values.p_recovery(i + 1),
            text_kl: kl_of(measured, i + 1, seed),
            above: arm.is_random().then(|| verdict::above(difference, noise, values.n_clusters())),
            difference,
        });
    }
    let above: Vec<Verdict> = found.iter().filter_map(|f| f.above).collect();
    let reached = verdict::reached(found[set - 1].recovery, plan.needed, values.n_clusters());
    let outcome = Outcome {
        verdict: verdict::all(reached, &above),
        reached,
        noise,
        n_clusters: values.n_clusters(),
        found,
    };
    let comparisons = comparisons(&outcome, &values, set)?;
    let trainings = trainings(&outcome, measured, folders)?;
    let scenarios = scenarios(plan, subject, measured, &clusters, seed)?;
    let section = Section {
        id: "confirm".to_owned(),
        title: "Confirmation".to_owned(),
        question: "Is training the blocks that surgery named enough?".to_owned(),
        paragraphs: words::paragraphs(plan, subject, &outcome),
        figures: figures(plan, subject, &outcome),
        tables: vec![words::summary(&outcome)],
        notes: words::notes(plan, held_out, &outcome),
    };
    let decisions = decisions(plan, subject, measured)?;
    let tables =
        vec![plan.table()?, trainings, comparisons, scenarios, decisions, text_table(plan, measured)?];
    Ok(Findings { tables, section })
}

fn cells(of: Option<Interval>) -> [Cell; 3] {
    [of.map(|i| i.mean).into(), of.map(|i| i.lo).into(), of.map(|i| i.hi).into()]
}

fn mean(values: impl Iterator<Item = f64>) -> f64 {
    let (n, sum) = values.fold((0.0, 0.0), |(n, sum), v| (n + 1.0, sum + v));
    sum / n
}

fn trainings(outcome: &Outcome, measured: &Measured, folders: &[String]) -> Result<Table> {
    let mut table = Table::new(&TRAININGS);
    for (i, f) in outcome.found.iter().enumerate() {
        let reward = &f.curve.reward[f.curve.reward.len().saturating_sub(LAST)..];
        let mut row = vec![
            f.arm.name.as_str().into(),
            f.arm.seed.into(),
            f.arm.blocks.to_string().into(),
            f.arm.blocks.0.len().into(),
            f.arm.n_layers().into(),
            f.arm.parameters.into(),
            f.curve.reward.len().into(),
            f.curve.clear_after.into(),
            f.curve.episodes.into(),
            f.share.into(),
            f.arm.overlap.into(),
            mean(reward.iter().copied()).into(),
        ];
        row.extend(cells(f.recovery));
        row.extend(cells(f.p_recovery));
        row.push(mean(measured.decisions[i + 1].iter().map(Decision::legal_mass)).into());
        row.extend([f.text_kl.mean.into(), f.text_kl.lo.into(), f.text_kl.hi.into()]);
        row.push(folders[i].as_str().into());
        table.push(&row)?;
    }
    Ok(table)
}

fn comparisons(outcome: &Outcome, values: &Values, set: usize) -> Result<Table> {
    let others: Vec<(usize, &Found)> =
        outcome.found.iter().enumerate().map(|(i, f)| (i + 1, f)).filter(|(m, _)| *m != set).collect();
    let compared: Vec<_> = others
        .iter()
        .map(|&(m, _)| values.design.compare(&Values::aligned(&values.delta, 1, m, set).0))
        .collect();
    let q = benjamini_hochberg(&compared.iter().map(|c| c.p).collect::<Vec<_>>());
    let mut table = Table::new(&COMPARISONS);
    for (((_, f), c), q) in others.iter().zip(&compared).zip(q) {
        let mut row = vec![f.arm.name.as_str().into()];
        row.extend(cells(f.difference));
        row.extend([c.p.into(), q.into(), c.effect.into(), f.above.map(|v| v.to_string()).into()]);
        table.push(&row)?;
    }
    Ok(table)
}

/// `base`, then the arms.
fn names(plan: &Plan) -> Vec<&str> {
    [lorascope_engine::BASE].into_iter().chain(plan.arms.iter().map(|a| a.name.as_str())).collect()
}

fn scenarios(
    plan: &Plan,
    subject: &Subject,
    measured: &Measured,
    clusters: &[&str],
    seed: u64,
) -> Result<Table> {
    let mut groups: Vec<(&str, Vec<usize>)> = Vec::new();
    let mut at: BTreeMap<&str, usize> = BTreeMap::new();
    for (i, prompt) in subject.prompts.iter().enumerate().filter(|(_, p)| !p.scenario().is_empty()) {
        let group = *at.entry(prompt.scenario()).or_insert_with(|| {
            groups.push((prompt.scenario(), Vec::new()));
            groups.len() - 1
        });
        groups[group].1.push(i);
    }
    groups.push(("all prompts", (0..subject.prompts.len()).collect()));
    let mut table = Table::new(&SCENARIOS);
    let values: Vec<Values> =
        groups.iter().map(|(_, which)| Values::new(&measured.decisions, which, clusters, seed)).collect();
    for (model, name) in names(plan).into_iter().enumerate() {
        for ((scenario, which), values) in groups.iter().zip(&values) {
            let mut row =
                vec![name.into(), (*scenario).into(), which.len().into(), values.n_clusters().into()];
            row.extend(cells(Some(values.design.mean(&values.delta[model]))));
            row.extend(cells(Some(values.design.mean(&values.p_b[model]))));
            row.extend(cells(values.recovery(model)));
            table.push(&row)?;
        }
    }
    Ok(table)
}

fn decisions(plan: &Plan, subject: &Subject, measured: &Measured) -> Result<Table> {
    let mut table = Table::new(&DECISIONS);
    for (name, decisions) in names(plan).into_iter().zip(&measured.decisions) {
        for (prompt, d) in subject.prompts.iter().zip(decisions) {
            table.push(&[
                name.into(),
                prompt.id().into(),
                prompt.scenario().into(),
                d.delta().into(),
                d.p_b().into(),
                d.legal_mass().into(),
            ])?;
        }
    }
    Ok(table)
}

/// The trainings that are no random sets, in the order of words.
pub(super) const WHOLE: [&str; 2] = [FULL, AGAIN];

#[cfg(test)]
mod tests {
    use super::*;

    fn decision(delta: f64) -> Decision {
        // Log-probabilities that differ by delta and add up to one.
        let b = 1.0 / (1.0 + (-delta).exp());
        Decision { variants_a: vec![(1.0 - b).ln()], variants_b: vec![b.ln()] }
    }

    fn values(deltas: &[[f64; 6]]) -> Vec<Vec<Decision>> {
        deltas.iter().map(|of| of.iter().map(|&d| decision(d)).collect()).collect()
    }

    #[test]
    fn recovery_is_one_of_the_full_training_zero_of_the_base_and_signs_count() {
        let base = [0.5, -1.0, 0.25, 2.0, -0.5, 0.0];
        let full = [2.5, -3.0, 0.25, -1.0, 1.5, 0.0];
        let half: [f64; 6] = std::array::from_fn(|i| (base[i] + full[i]) / 2.0);
        let away: [f64; 6] = std::array::from_fn(|i| 2.0 * base[i] - full[i]);
        let decisions = values(&[base, full, half, away, base]);
        let clusters = ["a", "a", "b", "c", "d", "e"];
        let values = Values::new(&decisions, &[0, 1, 2, 3, 4, 5], &clusters, 3);
        let near = |model: usize, expected: f64| {
            let r = values.recovery(model).unwrap();
            for v in [r.mean, r.lo, r.hi] {
                assert!((v - expected).abs() < 1e-9, "{model}: {r:?}");
            }
        };
        assert_eq!(values.recovery(1), Some(Interval { mean: 1.0, lo: 1.0, hi: 1.0 }));
        assert_eq!(values.recovery(0), Some(Interval { mean: 0.0, lo: 0.0, hi: 0.0 }));
        assert_eq!(values.recovery(4), values.recovery(0));
        near(2, 0.5);
        near(3, -1.0);
        // A set with the very decisions of the full training is no different from it, bit for bit.
        let (over, _) = Values::aligned(&values.delta, 1, 1, 1);
        assert_eq!(over, [0.0; 6]);
        assert_eq!(values.n_clusters(), 5);
    }

    #[test]
    fn nothing_to_recover_is_null() {
        let same = [0.5, -1.0, 0.25, 2.0, -0.5, 0.0];
        let decisions = values(&[same, same, [1.0; 6]]);
        let values = Values::new(&decisions, &[0, 1, 2], &["a", "b", "c", "d", "e", "f"], 0);
        assert_eq!((values.recovery(1), values.recovery(2)), (None, None));
    }
}
