//! Faithfulness of sets of components: how much of the source's behaviour the target gets when exactly these are the source's.
//!
//! `f(S) = (m(S) − m(∅)) / (m(all) − m(∅))` (Mueller et al. 2025, arXiv 2504.13151), where m is delta, each prompt counted
//! in the direction in which source and target differ on it: `f = Σ sign(d)·(delta_S − delta_target) / Σ |d|` with `d =
//! delta_source − delta_target`. Components are heads (`result`) and MLPs (`mlp_out`) at the decision point, as added: all of
//! them together are the source's residual stream, up to its embedding and biases.

use crate::bootstrap::{Interval, Resampler};
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{PatchedRun, PlaceKind, Sweep, Unit, change_at_decision, joint_run};
use lorascope_engine::Site;

/// Evaluates sets for one source and target.
pub(super) struct Scorer<'a> {
    pub context: &'a Context<'a>,
    pub sweep: &'a Sweep<'a>,
    pub source: usize,
    pub target: usize,
}

/// What each set does on each prompt.
pub(super) struct Scores {
    /// `[set][prompt]`: change of delta in the direction of the source.
    pub aligned: Vec<Vec<f64>>,
    /// `[prompt]`: |delta_source − delta_target|.
    pub spans: Vec<f64>,
}

/// f from the change towards the source and the size of the difference on each prompt; `None` where source and target differ
/// on none of them, so that there is nothing to be faithful to.
pub(super) fn faithfulness(aligned: &[f64], spans: &[f64]) -> Option<f64> {
    let span: f64 = spans.iter().sum();
    (span != 0.0).then(|| aligned.iter().sum::<f64>() / span)
}

impl Scores {
    /// f of a set over all prompts.
    pub fn faithfulness(&self, set: usize) -> Option<f64> {
        faithfulness(&self.aligned[set], &self.spans)
    }

    /// f of some sets over all prompts.
    pub fn faithfulness_of(&self, sets: std::ops::Range<usize>) -> Option<Vec<f64>> {
        sets.map(|set| self.faithfulness(set)).collect()
    }

    /// f of a set with its interval over clusters.
    pub fn interval(&self, set: usize, resampler: &Resampler) -> Interval {
        self.ratio(&self.aligned[set], resampler)
    }

    /// `f(one) − f(other)` with its interval.
    pub fn difference(&self, one: usize, other: usize, resampler: &Resampler) -> Interval {
        let difference: Vec<f64> =
            self.aligned[one].iter().zip(&self.aligned[other]).map(|(a, b)| a - b).collect();
        self.ratio(&difference, resampler)
    }

    /// Σ values / Σ |d|, not finite where that is undefined.
    pub fn ratio(&self, values: &[f64], resampler: &Resampler) -> Interval {
        resampler.ratio(values, &self.spans)
    }
}

impl Scorer<'_> {
    /// Carries out all sets on all prompts; `what` names the work. Where there is no set, nothing is known of the prompts
    /// either.
    pub fn score(&self, what: &str, sets: &[Vec<Unit>], prompts: &[usize]) -> Result<Scores> {
        let tasks: Vec<(usize, &[Unit])> =
            prompts.iter().flat_map(|&p| sets.iter().map(move |set| (p, set.as_slice()))).collect();
        let found = self.measure(what, &tasks)?;
        let mut scores = Scores { aligned: vec![Vec::new(); sets.len()], spans: Vec::new() };
        for of_prompt in found.chunks(sets.len().max(1)) {
            scores.spans.push(of_prompt[0].1);
            scores.aligned.iter_mut().zip(of_prompt).for_each(|(all, (aligned, _))| all.push(*aligned));
        }
        Ok(scores)
    }

    /// Carries out sets on prompts: for each, the change of delta in the direction of the source, and |delta_source −
    /// delta_target| of the prompt. Those of one prompt should follow one another.
    pub fn measure(&self, what: &str, tasks: &[(usize, &[Unit])]) -> Result<Vec<(f64, f64)>> {
        if tasks.is_empty() {
            return Ok(Vec::new());
        }
        let runs: Vec<PatchedRun> = tasks.iter().map(|(prompt, set)| self.run(set, *prompt)).collect();
        let found = self.sweep.run(what, &runs, self.context.progress)?;
        let of_task = |(&(prompt, _), patched): (&(usize, &[Unit]), &f64)| {
            let (source, target) = (found.plain[&(self.source, prompt)], found.plain[&(self.target, prompt)]);
            let direction = if source > target { 1.0 } else { -1.0 };
            (direction * (patched - target), (source - target).abs())
        };
        Ok(tasks.iter().zip(&found.patched).map(of_task).collect())
    }

    /// The target's run with a set of components from the source. The empty set copies a component from the target
    /// itself, which changes nothing.
    fn run(&self, set: &[Unit], prompt: usize) -> PatchedRun {
        if !set.is_empty() {
            return joint_run(self.sweep, set, (self.source, self.target), prompt);
        }
        // The source's own run is needed for delta_source, whatever the set.
        let layer = self.context.subject.model.spec().n_layers - 1;
        let last = Unit { layer, kind: PlaceKind::Whole(Site::MlpOut), index: 0 };
        // First the source's, then the target's own again.
        let changes =
            [self.source, self.target].map(|m| change_at_decision(self.sweep, &last, m, prompt)).to_vec();
        PatchedRun { model: self.target, prompt, changes }
    }
}
