//! Edges and spans over prompts.

use super::settings::ESTIMATORS;
use super::{FIRST, KIND, LAST, RECEIVER, SENDER, SOURCE, TARGET};
use crate::error::Result;
use crate::interventions::with_averages;
use crate::statistics::spearman;
use lorascope_record::{Table, TableSpec};
use std::collections::BTreeMap;

pub(super) static PATH_EFFECTS: TableSpec = TableSpec {
    name: "path_effects",
    doc: "What one edge does on average over prompts.",
    columns: &with_averages::<4, 19>([SOURCE, TARGET, SENDER, RECEIVER]),
};

pub(super) static SPAN_EFFECTS: TableSpec = TableSpec {
    name: "span_effects",
    doc: "What the components of consecutive layers do together on average over prompts.",
    columns: &with_averages::<5, 20>([SOURCE, TARGET, KIND, FIRST, LAST]),
};

/// What the estimates of edges are worth, in a sentence for each estimator: means over prompts against exact ones.
pub(super) fn estimates(paths: &Table) -> Result<Vec<String>> {
    let (source, target) = (paths.texts("source")?, paths.texts("target")?);
    let (sender, receiver) = (paths.texts("sender")?, paths.texts("receiver")?);
    let change = paths.floats("change")?;
    let mut sentences = Vec::new();
    for name in ESTIMATORS {
        let estimate = paths.floats_or_null(name)?;
        let mut edges: BTreeMap<[&str; 4], (f64, f64, f64)> = BTreeMap::new();
        for i in 0..paths.n_rows() {
            let Some(estimate) = estimate[i] else { continue };
            let sums = edges.entry([source[i], target[i], sender[i], receiver[i]]).or_default();
            *sums = (sums.0 + estimate, sums.1 + change[i], sums.2 + 1.0);
        }
        let means: Vec<_> = edges.iter().map(|(edge, (e, c, n))| (edge, e / n, c / n)).collect();
        let (estimated, exact): (Vec<f64>, Vec<f64>) = means.iter().map(|m| (m.1, m.2)).unzip();
        let error = |m: &&(&[&str; 4], f64, f64)| (m.1 - m.2).abs();
        let worst = means.iter().max_by(|a, b| error(a).total_cmp(&error(b)));
        let (Some(worst), Some(rank)) = (worst, spearman(&estimated, &exact)) else { continue };
        let [source, target, sender, receiver] = worst.0;
        sentences.push(format!(
            "Estimates of edges ({name}) have a rank correlation of {rank:.2} with the exact mean changes of {} edges; the worst is \
             {:+.3} instead of {:+.3} logits, at {sender} to {receiver}, {source} into {target}.",
            means.len(),
            worst.1,
            worst.2
        ));
    }
    Ok(sentences)
}
