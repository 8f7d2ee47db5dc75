//! Components as added, taken from one model into another at the decision point, one or several together.

use super::places::{PlaceKind, Unit, units_of};
use super::sweep::{Change, PatchedRun, Replacement, Source, Sweep};
use crate::subject::Subject;
use lorascope_engine::Site;

/// All heads (`result`) and MLPs (`mlp_out`): together they are the residual stream, up to embedding and biases.
pub(crate) fn components(subject: &Subject) -> Vec<Unit> {
    units_of(subject, &[PlaceKind::Head(Site::Result), PlaceKind::Whole(Site::MlpOut)], None, &[])
}

/// A run of `target` on a prompt with what `source` has in a unit, at the decision point.
pub(crate) fn change_at_decision(sweep: &Sweep, unit: &Unit, source: usize, prompt: usize) -> Change {
    let position = sweep.decision_position(prompt);
    Change {
        point: unit.point(),
        units: unit.values(sweep.subject.model.spec(), position),
        position,
        replacement: Replacement::From(Source { model: source, prompt, position }),
    }
}

/// A run of `target` on a prompt with these units from `source`, at least one, at the decision point.
pub(crate) fn joint_run(
    sweep: &Sweep,
    units: &[Unit],
    (source, target): (usize, usize),
    prompt: usize,
) -> PatchedRun {
    let changes = units.iter().map(|unit| change_at_decision(sweep, unit, source, prompt)).collect();
    PatchedRun { model: target, prompt, changes }
}
