//! What is wrong with settings as soon as models and prompts are known, before anything is computed or written.

use super::positions::{check_names, partners, positions};
use super::settings::{From, PositionName, Settings, refused};
use crate::error::Result;
use crate::interventions::{PlaceKind, Sweep, Unit, check_component};
use crate::subject::Subject;
use lorascope_engine::Site;

/// Refuses settings that ask for something that does not exist.
pub(crate) fn check(settings: &Settings, subject: &Subject) -> Result<()> {
    check_names(settings, subject)?;
    let mut n_sets = 0;
    for pair in settings.pairs(subject)? {
        let sets = settings.sets(subject, pair)?;
        check_ablation(settings, subject, pair.0, &sets)?;
        let models = [pair.0.model().unwrap_or(pair.1), pair.1];
        for unit in sets.iter().flatten() {
            check_component(subject, unit, &models)?;
        }
        n_sets += sets.len();
    }
    if n_sets == 0 {
        return Err(refused("no site and no joint set is left to patch".to_owned()));
    }
    let by_number = settings.position.iter().any(|p| matches!(p, PositionName::Number(_)));
    if by_number || !settings.between.is_empty() {
        // Where a prompt decides depends on its answers' probabilities on the base.
        let sweep = Sweep::new(subject, 0)?;
        partners(settings, subject, &sweep)?;
        for (i, prompt) in subject.prompts.iter().enumerate() {
            positions(&settings.position, prompt, sweep.decision_position(i))?;
        }
    }
    Ok(())
}

/// Refuses ablations that have no meaning.
fn check_ablation(settings: &Settings, subject: &Subject, source: From, sets: &[Vec<Unit>]) -> Result<()> {
    let is_component = |u: &Unit| matches!(u.kind, PlaceKind::AdapterRank(_));
    if matches!(source, From::Zero | From::Mean) && sets.iter().flatten().any(is_component) {
        return Err(refused(
            "components of an update can be patched from a model, not ablated by numbers; take base as the source".to_owned(),
        ));
    }
    if !matches!(source, From::Mean | From::Resample) {
        return Ok(());
    }
    if source == From::Resample && subject.prompts.len() < 2 {
        return Err(refused("resampling needs at least two prompts".to_owned()));
    }
    let decision = PositionName::Name("decision".to_owned());
    if let Some(other) = settings.position.iter().find(|p| **p != decision) {
        return Err(refused(format!(
            "mean and resample take the decision point of other prompts; they can't be put at `{other}`"
        )));
    }
    if sets.iter().flatten().any(|u| u.kind == PlaceKind::Head(Site::Pattern)) {
        return Err(refused(
            "patterns of prompts of different lengths can't be averaged or exchanged".to_owned(),
        ));
    }
    Ok(())
}
