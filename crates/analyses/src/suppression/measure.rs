//! Every head and MLP patched both ways between the reference and each model.

use super::NAME;
use super::tables::CHANGES;
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{PatchedRun, Sweep, Unit, by_blocks, components, joint_run};
use lorascope_record::Table;

/// Prompts per part of a run that is kept when it is cut off.
const PROMPTS_PER_PART: usize = 16;

/// The table of patched runs.
pub(super) fn patched(context: &Context, sweep: &Sweep, reference: usize, models: &[usize]) -> Result<Table> {
    let subject = context.subject;
    let units = components(subject);
    let pairs: Vec<(usize, usize)> = models.iter().flat_map(|&m| [(reference, m), (m, reference)]).collect();
    let [mut table] = by_blocks(context, [NAME], [&CHANGES], PROMPTS_PER_PART, |block| {
        let tasks: Vec<((usize, usize), usize, &Unit)> = block
            .prompts
            .iter()
            .flat_map(|&p| pairs.iter().map(move |&pair| (pair, p)))
            .flat_map(|(pair, p)| units.iter().map(move |unit| (pair, p, unit)))
            .collect();
        let run = |&(pair, prompt, unit): &((usize, usize), usize, &Unit)| {
            joint_run(sweep, std::slice::from_ref(unit), pair, prompt)
        };
        let runs: Vec<PatchedRun> = tasks.iter().map(run).collect();
        let found = sweep.run(&format!("patching both ways {}", block.so_far), &runs, context.progress)?;
        let mut part = Table::new(&CHANGES);
        for (&((source, target), prompt, unit), patched) in tasks.iter().zip(&found.patched) {
            let plain = |model: usize| found.plain[&(model, prompt)];
            part.push(&[
                subject.model.name(source).into(),
                subject.model.name(target).into(),
                subject.prompts[prompt].id().into(),
                unit.to_string().into(),
                plain(source).into(),
                plain(target).into(),
                (patched - plain(target)).into(),
            ])?;
        }
        Ok([part])
    })?;
    table.sort_by_keys();
    Ok(table)
}
