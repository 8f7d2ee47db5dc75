//! Probes at one place of one model: fitted fold by fold, strength chosen inside the fold, with baseline and control.

use super::folds::{Fold, Folds};
use super::settings::Settings;
use crate::linear::{Features, Logistic, Ridges, Split, mean_log_loss};
use lorascope_engine::Mat;

/// A target's labels at one model; those of prompts outside the folds are never read.
#[derive(Debug)]
pub(super) struct Labels<'a> {
    pub classes: bool,
    pub values: &'a [f64],
}

/// What became of one prompt when it was predicted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Outcome {
    pub prompt: usize,
    pub fold: usize,
    /// The penalty per coordinate that was chosen.
    pub strength: f64,
    pub truth: f64,
    /// Log-odds of the second class, or the predicted number.
    pub score: f64,
    /// Classes: 1 if right, else 0. Numbers: the squared error.
    pub result: f64,
    /// The same of the larger class, or of the mean, of the rows that were fitted.
    pub baseline: f64,
    /// Mean of `result` over the shuffles.
    pub control: f64,
    /// Mean of `baseline` over the shuffles.
    pub control_baseline: f64,
}

/// Predictions of one fold for each of several targets with the same labelled prompts; `None` where a fit does not come to an
/// end. `rows` are the activations of all prompts.
pub(super) fn fold_outcomes(
    rows: &Mat<f32>,
    folds: &Folds,
    which: usize,
    targets: &[Labels],
    settings: &Settings,
) -> Vec<Option<Vec<Outcome>>> {
    let fold = &folds.folds[which];
    let penalties: Vec<f64> = settings.strengths.iter().map(|s| s * rows.cols as f64).collect();
    let chosen = choose(rows, fold, targets, &penalties);
    let features = Features::new(rows, &fold.outer.fit, &fold.outer.predict);
    let needs_ridge = targets.iter().any(|t| !t.classes);
    let ridges = if needs_ridge { Ridges::new(&features.fit, &penalties) } else { None };
    let one = |(target, best): (&Labels, &Option<usize>)| -> Option<Vec<Outcome>> {
        let best = (*best)?;
        let at = Fitting { features: &features, ridges: ridges.as_ref(), penalties: &penalties };
        let own = |i: usize| target.values[i];
        let real = at.predict(target.classes, &take(&fold.outer.fit, own), best)?;
        let mut outcomes: Vec<Outcome> = Vec::with_capacity(fold.outer.predict.len());
        for (k, &prompt) in fold.outer.predict.iter().enumerate() {
            let (result, baseline) = real.judged(target.classes, k, own(prompt));
            outcomes.push(Outcome {
                prompt,
                fold: which,
                strength: settings.strengths[best],
                truth: own(prompt),
                score: real.scores[k],
                result,
                baseline,
                control: 0.0,
                control_baseline: 0.0,
            });
        }
        let share = 1.0 / folds.shuffles.len() as f64;
        for shuffle in &folds.shuffles {
            let given = |i: usize| target.values[shuffle[i]];
            let control = at.predict(target.classes, &take(&fold.outer.fit, given), best)?;
            for (k, outcome) in outcomes.iter_mut().enumerate() {
                let (result, baseline) = control.judged(target.classes, k, given(outcome.prompt));
                outcome.control += share * result;
                outcome.control_baseline += share * baseline;
            }
        }
        Some(outcomes)
    };
    targets.iter().zip(&chosen).map(one).collect()
}

fn take(which: &[usize], of: impl Fn(usize) -> f64) -> Vec<f64> {
    which.iter().map(|&i| of(i)).collect()
}

/// For each target, the index of the penalty with the least loss on the inner folds; the larger of equals. Inner folds that
/// would be fitted to one class only are passed over.
fn choose(rows: &Mat<f32>, fold: &Fold, targets: &[Labels], penalties: &[f64]) -> Vec<Option<usize>> {
    let mut losses = vec![vec![0.0; penalties.len()]; targets.len()];
    let mut judged = vec![false; targets.len()];
    let mut failed = vec![false; targets.len()];
    for split in &fold.inner {
        let features = Features::new(rows, &split.fit, &split.predict);
        let needs_ridge = targets.iter().any(|t| !t.classes);
        let ridges = if needs_ridge { Ridges::new(&features.fit, penalties) } else { None };
        for (t, target) in targets.iter().enumerate() {
            let of_split = inner_losses(target, split, &features, ridges.as_ref(), penalties);
            match of_split {
                Inner::OneClass => {}
                Inner::Failed => failed[t] = true,
                Inner::Losses(of_split) => {
                    judged[t] = true;
                    losses[t].iter_mut().zip(of_split).for_each(|(sum, loss)| *sum += loss);
                }
            }
        }
    }
    let mut order: Vec<usize> = (0..penalties.len()).collect();
    order.sort_by(|&a, &b| penalties[b].total_cmp(&penalties[a]));
    let least = |of: &Vec<f64>| order.iter().copied().min_by(|&a, &b| of[a].total_cmp(&of[b]));
    let states = judged.iter().zip(&failed);
    losses
        .iter()
        .zip(states)
        .map(|(of, (&judged, &failed))| if judged && !failed { least(of) } else { None })
        .collect()
}

/// Summed losses on an inner fold, by penalty.
enum Inner {
    OneClass,
    Failed,
    Losses(Vec<f64>),
}

fn inner_losses(
    target: &Labels,
    split: &Split,
    features: &Features,
    ridges: Option<&Ridges>,
    penalties: &[f64],
) -> Inner {
    let (fit, truth) = (take(&split.fit, |i| target.values[i]), take(&split.predict, |i| target.values[i]));
    if target.classes {
        let classes = |values: &[f64]| values.iter().map(|v| *v > 0.5).collect::<Vec<bool>>();
        if fit.iter().all(|v| *v == fit[0]) {
            return Inner::OneClass;
        }
        let Some(models) = Logistic::fit(&features.fit, &classes(&fit), penalties) else {
            return Inner::Failed;
        };
        let loss =
            |m: &Logistic| mean_log_loss(&m.scores(&features.predict), &classes(&truth)) * truth.len() as f64;
        return Inner::Losses(models.iter().map(loss).collect());
    }
    let Some(ridges) = ridges else { return Inner::Failed };
    let loss = |p: usize| {
        let predicted = ridges.predict(p, &fit, &features.predict);
        predicted.iter().zip(&truth).map(|(f, y)| (f - y).powi(2)).sum()
    };
    Inner::Losses((0..penalties.len()).map(loss).collect())
}

/// A fold's features, ready for any labels.
struct Fitting<'a> {
    features: &'a Features,
    ridges: Option<&'a Ridges>,
    penalties: &'a [f64],
}

/// What was predicted for the rows of a fold, and by a baseline that knows the labels alone.
struct Predicted {
    scores: Vec<f64>,
    baseline: f64,
}

impl Fitting<'_> {
    fn predict(&self, classes: bool, labels: &[f64], penalty: usize) -> Option<Predicted> {
        let mean = labels.iter().sum::<f64>() / labels.len() as f64;
        let n = self.features.predict.rows;
        if !classes {
            let scores = self.ridges?.predict(penalty, labels, &self.features.predict);
            return Some(Predicted { scores, baseline: mean });
        }
        let baseline = if mean > 0.5 { 1.0 } else { 0.0 };
        // Shuffled labels of a fold may be of one class: then the fit knows no other. The scores are not kept.
        if mean == 0.0 || mean == 1.0 {
            return Some(Predicted { scores: vec![2.0 * mean - 1.0; n], baseline });
        }
        let truth: Vec<bool> = labels.iter().map(|v| *v > 0.5).collect();
        let model = Logistic::fit(&self.features.fit, &truth, &[self.penalties[penalty]])?.pop()?;
        Some(Predicted { scores: model.scores(&self.features.predict), baseline })
    }
}

impl Predicted {
    /// Result and baseline of the k-th row.
    fn judged(&self, classes: bool, k: usize, truth: f64) -> (f64, f64) {
        if classes {
            let right = |is_second: bool| f64::from(u8::from(is_second == (truth > 0.5)));
            return (right(self.scores[k] > 0.0), right(self.baseline > 0.5));
        }
        ((self.scores[k] - truth).powi(2), (self.baseline - truth).powi(2))
    }
}
