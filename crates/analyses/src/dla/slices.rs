//! Contributions on single prompts, in the cells of the heat maps.

use super::figures::component_of;
use super::summary::Values;
use super::words::Summary;
use crate::slices::with_prompts;
use crate::subject::Subject;
use crate::twins::{Twins, label_twins};
use lorascope_report::{Cell, Figure};
use std::collections::HashMap;

/// The figure with the values of single prompts. For the meaning and label part those of its pair of twins stand at both
/// prompts, since only a pair has them.
pub(super) fn sliced(
    subject: &Subject,
    values: &Values,
    figure: Figure,
    of: &[Summary],
    part: &str,
) -> Figure {
    let spec = subject.model.spec();
    let names = subject.model.names();
    let model = |name: &str| names.iter().position(|n| *n == name);
    let compared: Vec<_> =
        of.iter().map(|s| (model(&s.model), s.minus.as_deref().map(|minus| model(minus)))).collect();
    let place: HashMap<_, usize> = values.components.iter().enumerate().map(|(i, c)| (*c, i)).collect();
    let twins = label_twins(&subject.prompts);
    let pair_of: HashMap<usize, (usize, usize)> =
        twins.iter().flat_map(|t| [(t.one, (t.one, t.other)), (t.other, (t.one, t.other))]).collect();
    let on_prompt = |component: usize, model: usize, prompt: usize| {
        let all = values.contributions(component, model);
        match (part, pair_of.get(&prompt)) {
            ("meaning", Some(&(one, other))) => Some(Twins::meaning(all[one], all[other])),
            ("label", Some(&(one, other))) => Some(Twins::label(all[one], all[other])),
            ("all", _) => Some(all[prompt]),
            _ => None,
        }
    };
    with_prompts(figure, &subject.prompts, |prompt, Cell { panel, row, col }| {
        let component = *place.get(&component_of(spec, row, col))?;
        let (model, minus) = compared[panel];
        let value = on_prompt(component, model?, prompt)?;
        let less = minus.map_or(Some(0.0), |minus| on_prompt(component, minus?, prompt))?;
        Some(value - less)
    })
}
