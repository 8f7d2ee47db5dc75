//! What a study of this size can detect, and what size would detect a wanted difference.

use super::Settings;
use super::sensitivity::of_model;
use super::tables::POWER;
use crate::context::Context;
use crate::decide::by_prompt;
use crate::error::Result;
use crate::statistics::{Design, clusters_for, detectable};
use lorascope_record::Table;

/// Every two models.
pub(super) fn power(context: &Context, settings: &Settings, samples: &Table) -> Result<Table> {
    let subject = context.subject;
    let clusters: Vec<&str> = subject.prompts.iter().map(|p| p.item.cluster()).collect();
    let design = Design::new(&clusters, context.seed);
    let deltas = by_prompt(samples, "delta")?;
    let names = subject.model.names();
    let mut table = Table::new(&POWER);
    for (m, model) in names.iter().enumerate() {
        for minus in &names[..m] {
            let [own, other] = [model, minus].map(|name| of_model(&deltas, &subject.prompts, name));
            let difference: Vec<f64> = own.iter().zip(&other).map(|(a, b)| a - b).collect();
            let error = design.standard_error(&difference);
            let n_clusters = design.n_clusters();
            let needed = error.and_then(|e| clusters_for(settings.detect, e, n_clusters));
            table.push(&[
                (*model).into(),
                (*minus).into(),
                design.n().into(),
                n_clusters.into(),
                (difference.iter().sum::<f64>() / difference.len() as f64).into(),
                error.into(),
                error.and_then(|e| detectable(n_clusters).map(|d| d * e)).into(),
                settings.detect.into(),
                needed.into(),
            ])?;
        }
    }
    table.sort_by_keys();
    Ok(table)
}

/// What the table says, in a sentence; nothing without two models.
pub(super) fn sentence(table: &Table) -> Result<Option<String>> {
    let (found, needed) = (table.floats_or_null("detectable")?, table.ints_or_null("clusters_needed")?);
    let Some(worst) = found.iter().flatten().copied().reduce(f64::max) else { return Ok(None) };
    let (clusters, wanted) = (table.ints("n_clusters")?[0], table.floats("wanted")?[0]);
    let most = match needed.iter().copied().reduce(|a, b| Some(a?.max(b?))).flatten() {
        Some(most) => format!("{most} templates are enough"),
        None => "no number of templates that could be built is enough".to_owned(),
    };
    Ok(Some(format!(
        "With these {clusters} templates a mean difference of delta between two models is found in 80% of such studies (two-sided, \
         level 5%) if it is {worst:.2} nat or more, for every pair of models; for one of {wanted} nat {most}."
    )))
}
