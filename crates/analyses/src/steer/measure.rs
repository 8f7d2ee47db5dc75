//! Steered runs: the vector at every strength, and the controls in its place.

use super::directions::of_length;
use super::settings::{Position, Settings};
use super::tables::{CONTROLS, RUNS};
use super::vectors::{MODELS, Made, Recipe};
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{Change, PatchedRun, Replacement, Sweep};
use lorascope_engine::{HookPoint, Site};
use lorascope_record::{Cell, Table};
use std::collections::BTreeMap;
use std::sync::Arc;

/// One vector at one place, added to one model.
pub(super) struct Unit<'a> {
    pub context: &'a Context<'a>,
    pub settings: &'a Settings,
    pub sweep: &'a Sweep<'a>,
    pub recipe: &'a Recipe,
    pub made: &'a Made,
    pub target: usize,
    /// Random directions of the place.
    pub random: &'a [Vec<f64>],
    /// delta of sources on prompts.
    pub plain: &'a BTreeMap<(usize, usize), f64>,
}

/// A direction in the vector's place.
struct Control {
    kind: &'static str,
    draw: usize,
    /// At the length of each half's vector.
    of_halves: Vec<Arc<Vec<f32>>>,
}

impl Unit<'_> {
    pub fn point(&self) -> HookPoint {
        HookPoint::Layer(self.made.place.layer, self.made.place.site)
    }

    /// The cells that say which vector it is, where it is added, and to which tokens.
    pub fn identity(&self) -> Vec<Cell> {
        let model = &self.context.subject.model;
        vec![
            model.name(self.recipe.source).into(),
            model.name(self.target).into(),
            self.recipe.contrast.as_str().into(),
            self.made.place.site.short_name().into(),
            self.made.place.layer.into(),
            self.settings.position.name().into(),
        ]
    }

    /// delta of the source's own run, where it differs from the target by what the vector is about.
    fn delta_source(&self, prompt: usize) -> Option<f64> {
        let has_source = self.recipe.contrast == MODELS && self.recipe.source != self.target;
        has_source.then(|| self.plain[&(self.recipe.source, prompt)])
    }

    fn run(&self, prompt: usize, vector: &Arc<Vec<f32>>, strength: f64) -> PatchedRun {
        let decision = self.sweep.decision_position(prompt);
        let positions = match self.settings.position {
            Position::Decision => decision..decision + 1,
            Position::All => 0..decision + 1,
        };
        let change = |position| Change {
            point: self.point(),
            units: 0..vector.len(),
            position,
            replacement: Replacement::Add { vector: vector.clone(), factor: strength as f32 },
        };
        PatchedRun { model: self.target, prompt, changes: positions.map(change).collect() }
    }

    /// Every prompt at every strength.
    pub fn runs(&self, what: &str) -> Result<Table> {
        let halves: Vec<Arc<Vec<f32>>> = self.made.halves.iter().map(|v| Arc::new(v.clone())).collect();
        let (subject, recipe) = (self.context.subject, self.recipe);
        let mut runs = Vec::new();
        for &prompt in &recipe.prompts {
            let vector = &halves[recipe.half_of(prompt)];
            runs.extend(self.settings.strengths.iter().map(|&s| self.run(prompt, vector, s)));
        }
        let found = self.sweep.run_with_masses(what, &runs, self.context.progress)?;
        let mut table = Table::new(&RUNS);
        let mut steered = found.patched.iter().zip(&found.masses);
        for &prompt in &recipe.prompts {
            let key = (self.target, prompt);
            let (target, mass_target) = (found.plain[&key], found.plain_masses[&key]);
            for ((dose, &strength), (&patched, &mass)) in
                self.settings.strengths.iter().enumerate().zip(&mut steered)
            {
                let mut cells = self.identity();
                cells.extend([
                    subject.prompts[prompt].id().into(),
                    subject.prompts[prompt].item.scenario.clone().into(),
                    dose.into(),
                    recipe.half_of(prompt).into(),
                    strength.into(),
                    self.delta_source(prompt).into(),
                    target.into(),
                    patched.into(),
                    (patched - target).into(),
                    ((patched > 0.0) != (target > 0.0)).into(),
                    mass_target.into(),
                    mass.into(),
                ]);
                table.push(&cells)?;
            }
        }
        Ok(table)
    }

    /// Every control at every strength but 0, averaged over prompts.
    pub fn controls(&self, what: &str) -> Result<Table> {
        let recipe = self.recipe;
        let strengths = self.settings.strengths.iter().copied().enumerate().filter(|(_, s)| *s != 0.0);
        let strengths: Vec<(usize, f64)> = strengths.collect();
        let mut asked: Vec<(&str, usize, usize, f64)> = Vec::new();
        let mut runs = Vec::new();
        for control in control_vectors(self.random, self.made) {
            for &(dose, strength) in &strengths {
                asked.push((control.kind, control.draw, dose, strength));
                let run = |&p: &usize| self.run(p, &control.of_halves[recipe.half_of(p)], strength);
                runs.extend(recipe.prompts.iter().map(run));
            }
        }
        let found = self.sweep.run(what, &runs, self.context.progress)?;
        let mut table = Table::new(&CONTROLS);
        let n = recipe.prompts.len();
        for ((kind, draw, dose, strength), patched) in asked.into_iter().zip(found.patched.chunks(n)) {
            let (mut change, mut over, mut under) = (0.0, 0.0, 0.0);
            for (&prompt, patched) in recipe.prompts.iter().zip(patched) {
                let target = found.plain[&(self.target, prompt)];
                change += patched - target;
                if let Some(d) = self.delta_source(prompt).map(|s| s - target) {
                    over += (patched - target) * d.signum();
                    under += d.abs();
                }
            }
            let mut cells = self.identity();
            cells.extend([
                dose.into(),
                kind.into(),
                draw.into(),
                strength.into(),
                (change / n as f64).into(),
                (under > 0.0).then(|| over / under).into(),
            ]);
            table.push(&cells)?;
        }
        Ok(table)
    }
}

/// All controls at the lengths of the halves' vectors.
fn control_vectors(random: &[Vec<f64>], made: &Made) -> Vec<Control> {
    let lengths = &made.half_norms;
    let long = |(direction, &length): (&Vec<f64>, &f64)| Arc::new(of_length(direction, length));
    let random = random.iter().enumerate().map(|(draw, direction)| Control {
        kind: "random",
        draw,
        of_halves: lengths.iter().map(|length| long((direction, length))).collect(),
    });
    let shuffled = made.shuffled.iter().enumerate().map(|(draw, directions)| Control {
        kind: "shuffled",
        draw,
        of_halves: directions.iter().zip(lengths).map(long).collect(),
    });
    random.chain(shuffled).collect()
}

/// delta of the sources of vectors between models on all prompts: runs in which nothing changes.
pub(super) fn plain(context: &Context, recipes: &[Recipe]) -> Result<BTreeMap<(usize, usize), f64>> {
    let subject = context.subject;
    let spec = subject.model.spec();
    // They are run once: nothing of them is kept.
    let sweep = Sweep::new(subject, context.memory)?;
    let mut runs = Vec::new();
    for prompt in 0..subject.prompts.len() {
        for recipe in recipes.iter().filter(|r| r.contrast == MODELS) {
            let change = Change {
                point: HookPoint::Layer(spec.n_layers - 1, Site::ResidPost),
                units: 0..spec.d_model,
                position: sweep.decision_position(prompt),
                replacement: Replacement::Scale(1.0),
            };
            runs.push(PatchedRun { model: recipe.source, prompt, changes: vec![change] });
        }
    }
    Ok(sweep.run("reading the sources", &runs, context.progress)?.plain)
}

#[cfg(test)]
mod tests {
    use super::super::directions::{norm, rng, uniform};
    use super::*;
    use crate::activations::Place;

    #[test]
    fn controls_have_the_length_of_the_vector_whose_place_they_take() {
        let directions = uniform(5, 48, &mut rng(0, 0));
        let made = Made {
            place: Place { site: Site::ResidPost, layer: 0, position: "decision".to_owned() },
            whole: vec![0.0; 48],
            norm: 2.0,
            relative_norm: None,
            halves: vec![vec![0.0; 48]; 2],
            half_norms: vec![1.5, 3.25],
            half_cosine: None,
            shuffled: vec![directions[3..].to_vec(); 2],
        };
        let controls = control_vectors(&directions[..3], &made);
        let kinds: Vec<(&str, usize)> = controls.iter().map(|c| (c.kind, c.draw)).collect();
        assert_eq!(kinds, [("random", 0), ("random", 1), ("random", 2), ("shuffled", 0), ("shuffled", 1)]);
        for control in &controls {
            for (vector, expected) in control.of_halves.iter().zip([1.5, 3.25]) {
                let wide: Vec<f64> = vector.iter().map(|&v| f64::from(v)).collect();
                assert!((norm(&wide) - expected).abs() < 1e-6 * expected, "{}", norm(&wide));
            }
        }
    }
}
