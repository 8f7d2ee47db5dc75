//! Growing circuits by joint patching, and pruning them; any number side by side, on draws of the same prompts.

use super::known::{Asked, Draw, Known};
use super::settings::Settings;
use crate::error::Result;
use crate::interventions::Unit;
use crate::interventions::components;

/// A circuit that was grown.
#[derive(Clone, Debug)]
pub(super) struct Grown {
    /// Members in the order in which they came in, with the faithfulness reached then.
    pub members: Vec<(Unit, f64)>,
    /// All components, by the size of what they do alone, the largest first, with that effect; `None` where source and target
    /// do not differ.
    pub ranked: Vec<(Unit, Option<f64>)>,
    /// Members that pruning took out again.
    pub pruned: Vec<Unit>,
}

impl Grown {
    pub fn units(&self) -> Vec<Unit> {
        self.members.iter().map(|(unit, _)| *unit).collect()
    }

    pub fn has(&self, unit: Unit) -> bool {
        self.members.iter().any(|(u, _)| *u == unit)
    }

    /// All components in the order in which a curve takes them in: members first, then the others by their effect.
    pub fn order(&self) -> Vec<Unit> {
        let members = self.units();
        let others = self.ranked.iter().map(|(unit, _)| *unit).filter(|u| !members.contains(u));
        members.iter().copied().chain(others).collect()
    }
}

/// Grows a circuit on each draw: effects do not add up, so every step tries each candidate together with what is there
/// already; then takes out what is not needed. All draws take a step together, so that what they need is run together.
pub(super) fn grow(known: &mut Known, settings: &Settings, draws: &[Draw], what: &str) -> Result<Vec<Grown>> {
    let all = components(known.scorer.context.subject);
    let alone: Vec<Vec<Unit>> = all.iter().map(|&unit| vec![unit]).collect();
    let asked: Vec<Asked> = draws.iter().map(|draw| (draw, alone.clone())).collect();
    let effects = known.faithfulness(&format!("{what}: single effects"), &asked)?;
    let mut growing: Vec<Growing> = draws
        .iter()
        .zip(effects)
        .map(|(draw, effects)| Growing::new(draw, &all, &effects, settings))
        .collect();
    for size in 1..=settings.max_size {
        let tries = |circuit: &Growing| circuit.additions(settings);
        let found = tried(known, &growing, &format!("{what}: component {size}"), tries)?;
        growing.iter_mut().zip(found).for_each(|(circuit, found)| circuit.add(&found));
    }
    growing.iter_mut().for_each(|circuit| circuit.is_done = false);
    for _ in 1..settings.max_size {
        let found = tried(known, &growing, &format!("{what}: pruning"), |circuit| circuit.removals())?;
        growing.iter_mut().zip(found).for_each(|(circuit, found)| circuit.remove(&found, settings));
    }
    Ok(growing.into_iter().map(|circuit| circuit.grown).collect())
}

/// Faithfulness of the sets that every circuit wants to try.
fn tried(
    known: &mut Known,
    growing: &[Growing],
    what: &str,
    tries: impl Fn(&Growing) -> Vec<Vec<Unit>>,
) -> Result<Vec<Vec<Option<f64>>>> {
    let asked: Vec<Asked> = growing.iter().map(|circuit| (circuit.draw, tries(circuit))).collect();
    known.faithfulness(what, &asked)
}

/// A circuit on the way.
struct Growing<'d> {
    draw: &'d Draw,
    grown: Grown,
    candidates: Vec<Unit>,
    /// Whether there is nothing more to try in this phase.
    is_done: bool,
}

impl<'d> Growing<'d> {
    fn new(draw: &'d Draw, all: &[Unit], effects: &[Option<f64>], settings: &Settings) -> Self {
        let mut ranked: Vec<(Unit, Option<f64>)> = all.iter().copied().zip(effects.iter().copied()).collect();
        // Only what moves towards the source can begin a circuit, but what moves away may matter in company.
        let size = |effect: Option<f64>| effect.unwrap_or(0.0).abs();
        ranked.sort_by(|a, b| size(b.1).total_cmp(&size(a.1)).then(a.0.cmp(&b.0)));
        let candidates = ranked.iter().take(settings.candidates).map(|(unit, _)| *unit).collect();
        let grown = Grown { members: Vec::new(), ranked, pruned: Vec::new() };
        Self { draw, grown, candidates, is_done: false }
    }

    fn reached(&self) -> f64 {
        self.grown.members.last().map_or(0.0, |(_, reached)| *reached)
    }

    fn left(&self) -> Vec<Unit> {
        self.candidates.iter().copied().filter(|&c| !self.grown.has(c)).collect()
    }

    /// The circuit with each candidate in turn.
    fn additions(&self, settings: &Settings) -> Vec<Vec<Unit>> {
        if self.is_done || self.reached() >= settings.faithfulness {
            return Vec::new();
        }
        let own = self.grown.units();
        self.left().into_iter().map(|c| own.iter().copied().chain([c]).collect()).collect()
    }

    /// Takes in the candidate that brings most, if it brings anything.
    fn add(&mut self, found: &[Option<f64>]) {
        match best(found).filter(|(_, f)| *f > self.reached()) {
            Some((i, reached)) => self.grown.members.push((self.left()[i], reached)),
            None => self.is_done = true,
        }
    }

    /// The circuit without each member in turn, and the circuit itself.
    fn removals(&self) -> Vec<Vec<Unit>> {
        if self.is_done || self.grown.members.len() < 2 {
            return Vec::new();
        }
        let own = self.grown.units();
        let mut sets = without_each(&own);
        sets.push(own);
        sets
    }

    /// Takes out the member whose removal costs least, if that is within the tolerance.
    fn remove(&mut self, found: &[Option<f64>], settings: &Settings) {
        let chosen = found.split_last().and_then(|(whole, without)| Some(((*whole)?, best(without)?)));
        match chosen.filter(|(whole, (_, f))| whole - f <= settings.tolerance) {
            Some((_, (i, _))) => self.grown.pruned.push(self.grown.members.remove(i).0),
            None => self.is_done = true,
        }
    }
}

/// The largest of these and its place; the first of equals.
fn best(found: &[Option<f64>]) -> Option<(usize, f64)> {
    let defined = found.iter().enumerate().filter_map(|(i, f)| f.map(|f| (i, f)));
    defined.max_by(|a, b| a.1.total_cmp(&b.1).then(b.0.cmp(&a.0)))
}

/// A set without each of its members in turn.
pub(super) fn without_each(set: &[Unit]) -> Vec<Vec<Unit>> {
    set.iter().map(|out| set.iter().copied().filter(|u| u != out).collect()).collect()
}
