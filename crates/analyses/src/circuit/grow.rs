//! Growing a circuit by joint patching, and pruning it.

use super::score::{Scorer, components};
use super::settings::Settings;
use crate::error::Result;
use crate::interventions::Unit;

/// A circuit on the way.
#[derive(Clone, Debug)]
pub(super) struct Grown {
    /// Members in the order in which they came in, with the faithfulness reached then.
    pub members: Vec<(Unit, f64)>,
    /// All components, by the size of what they do alone, the largest first, with that effect.
    pub ranked: Vec<(Unit, f64)>,
    /// Members that pruning took out again.
    pub pruned: Vec<Unit>,
}

impl Grown {
    pub fn units(&self) -> Vec<Unit> {
        self.members.iter().map(|(unit, _)| *unit).collect()
    }

    /// All components in the order in which a curve takes them in: members first, then the others by their effect.
    pub fn order(&self) -> Vec<Unit> {
        let members = self.units();
        let others = self.ranked.iter().map(|(unit, _)| *unit).filter(|u| !members.contains(u));
        members.iter().copied().chain(others).collect()
    }
}

/// Grows on `prompts`: effects do not add up, so every step tries each candidate together with what is there already; then
/// takes out what is not needed.
pub(super) fn grow(scorer: &Scorer, settings: &Settings, prompts: &[usize], what: &str) -> Result<Grown> {
    let all = components(scorer.context.subject);
    let alone: Vec<Vec<Unit>> = all.iter().map(|&unit| vec![unit]).collect();
    let singles = scorer.score(&format!("{what}: single effects"), &alone, prompts)?;
    let mut ranked: Vec<(Unit, f64)> =
        all.iter().enumerate().map(|(i, &u)| (u, singles.faithfulness(i))).collect();
    // Only what moves towards the source can begin a circuit, but what moves away may matter in company.
    ranked.sort_by(|a, b| b.1.abs().total_cmp(&a.1.abs()).then(a.0.cmp(&b.0)));
    let candidates: Vec<Unit> = ranked.iter().take(settings.candidates).map(|(unit, _)| *unit).collect();
    let mut members: Vec<(Unit, f64)> = Vec::new();
    let mut reached = 0.0;
    while members.len() < settings.max_size && reached < settings.faithfulness {
        let own: Vec<Unit> = members.iter().map(|(unit, _)| *unit).collect();
        let left: Vec<Unit> = candidates.iter().copied().filter(|c| !own.contains(c)).collect();
        let sets: Vec<Vec<Unit>> = left.iter().map(|&c| own.iter().copied().chain([c]).collect()).collect();
        let step = format!("{what}: component {}", members.len() + 1);
        let scores = scorer.score(&step, &sets, prompts)?;
        let best = (0..sets.len())
            .max_by(|&a, &b| scores.faithfulness(a).total_cmp(&scores.faithfulness(b)).then(b.cmp(&a)));
        let Some(best) = best.filter(|&b| scores.faithfulness(b) > reached) else { break };
        reached = scores.faithfulness(best);
        members.push((left[best], reached));
    }
    let mut grown = Grown { members, ranked, pruned: Vec::new() };
    prune(scorer, settings, prompts, what, &mut grown)?;
    Ok(grown)
}

/// Takes out, one after the other, the member whose removal costs least, while that is within the tolerance.
fn prune(
    scorer: &Scorer,
    settings: &Settings,
    prompts: &[usize],
    what: &str,
    grown: &mut Grown,
) -> Result<()> {
    while grown.members.len() > 1 {
        let own = grown.units();
        let mut sets = without_each(&own);
        sets.push(own);
        let scores = scorer.score(&format!("{what}: pruning"), &sets, prompts)?;
        let whole = scores.faithfulness(sets.len() - 1);
        let best = (0..sets.len() - 1)
            .max_by(|&a, &b| scores.faithfulness(a).total_cmp(&scores.faithfulness(b)).then(b.cmp(&a)));
        let Some(best) = best.filter(|&b| whole - scores.faithfulness(b) <= settings.tolerance) else {
            break;
        };
        grown.pruned.push(grown.members.remove(best).0);
    }
    Ok(())
}

/// A set without each of its members in turn.
pub(super) fn without_each(set: &[Unit]) -> Vec<Vec<Unit>> {
    set.iter().map(|out| set.iter().copied().filter(|u| u != out).collect()).collect()
}
