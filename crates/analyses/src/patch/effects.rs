//! Patches over prompts: one row for each pair and place.

use super::{DIRECTION, HEAD, LAYER, NEURON, POSITION, SITE, SOURCE, TARGET};
use crate::bootstrap::Resampler;
use crate::context::Context;
use crate::decide::column;
use crate::error::Result;
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int};
use lorascope_record::{Table, TableSpec};
use std::collections::BTreeMap;

pub(super) static EFFECTS: TableSpec = TableSpec {
    name: "patch_effects",
    doc: "What patching one place does on average over prompts, with 95% bootstrap intervals over prompt clusters.",
    columns: &[
        SOURCE,
        TARGET,
        DIRECTION,
        SITE,
        LAYER,
        HEAD,
        NEURON,
        POSITION,
        column("n", Int, "", "Patched runs behind the row."),
        column("n_clusters", Int, "", "Clusters of prompts behind it."),
        column("n_flipped", Int, "", "Runs in which the preferred answer changed."),
        column("change", Float, "logit", "Mean of delta_patched − delta_target."),
        column("change_lo", Float, "logit", "Lower end of its interval."),
        column("change_hi", Float, "logit", "Upper end of its interval."),
        column(
            "recovery",
            FloatOrNull,
            "",
            "Share of the difference between source and target that the patch brings: Σ change·sign(d) / Σ |d| with d = \
             delta_source − delta_target, so that prompts with small differences do not dominate; null without a source, or \
             where there is no difference.",
        ),
        column("recovery_lo", FloatOrNull, "", "Lower end of its interval."),
        column("recovery_hi", FloatOrNull, "", "Upper end of its interval."),
    ],
};

/// What identifies a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub source: String,
    pub target: String,
    pub direction: String,
    pub site: String,
    pub layer: Option<i64>,
    pub head: Option<i64>,
    pub neuron: Option<i64>,
    pub position: String,
}

impl Key {
    /// The place in words: `L3.H1 z`, `L5 mlp_out`.
    pub fn place(&self) -> String {
        let part = match (self.layer, self.head, self.neuron) {
            (Some(l), Some(h), _) => format!("L{l}.H{h} "),
            (Some(l), _, Some(n)) => format!("L{l}.N{n} "),
            (Some(l), ..) => format!("L{l} "),
            (None, ..) => String::new(),
        };
        format!("{part}{}", self.site)
    }
}

/// Keys of a table that has the key columns.
pub(super) fn keys(table: &Table) -> Result<Vec<Key>> {
    let text = |name: &str| -> Result<Vec<String>> {
        Ok(table.texts(name)?.into_iter().map(str::to_owned).collect())
    };
    let (source, target, direction) = (text("source")?, text("target")?, text("direction")?);
    let (site, position) = (text("site")?, text("position")?);
    let (layer, head) = (table.ints_or_null("layer")?, table.ints_or_null("head")?);
    let neuron = table.ints_or_null("neuron")?;
    let key = |i: usize| Key {
        source: source[i].clone(),
        target: target[i].clone(),
        direction: direction[i].clone(),
        site: site[i].clone(),
        layer: layer[i],
        head: head[i],
        neuron: neuron[i],
        position: position[i].clone(),
    };
    Ok((0..table.n_rows()).map(key).collect())
}

/// Averages the patches.
pub(super) fn effects(context: &Context, patches: &Table) -> Result<Table> {
    let prompts = &context.subject.prompts;
    let cluster: BTreeMap<&str, &str> = prompts.iter().map(|p| (p.id(), p.item.cluster())).collect();
    let mut groups: BTreeMap<Key, Vec<usize>> = BTreeMap::new();
    for (row, key) in keys(patches)?.into_iter().enumerate() {
        groups.entry(key).or_default().push(row);
    }
    let ids = patches.texts("prompt_id")?;
    let (change, flipped) = (patches.floats("change")?, patches.bools_or_null("flipped")?);
    let (source, target) = (patches.floats_or_null("delta_source")?, patches.floats("delta_target")?);
    // Groups over the same prompts share their draws.
    let mut resamplers: BTreeMap<Vec<&str>, Resampler> = BTreeMap::new();
    let mut table = Table::new(&EFFECTS);
    for (key, rows) in groups {
        let clusters: Vec<&str> = rows.iter().map(|&r| cluster[ids[r]]).collect();
        let resampler =
            resamplers.entry(clusters.clone()).or_insert_with(|| Resampler::new(&clusters, context.seed));
        let changes: Vec<f64> = rows.iter().map(|&r| change[r]).collect();
        let mean = resampler.mean(&changes);
        let spans: Option<Vec<f64>> = rows.iter().map(|&r| source[r].map(|s| s - target[r])).collect();
        let recovery = spans.filter(|s| s.iter().any(|d| *d != 0.0)).map(|spans| {
            let aligned: Vec<f64> = changes.iter().zip(&spans).map(|(c, d)| c * d.signum()).collect();
            let sizes: Vec<f64> = spans.iter().map(|d| d.abs()).collect();
            resampler.ratio(&aligned, &sizes)
        });
        table.push(&[
            key.source.into(),
            key.target.into(),
            key.direction.into(),
            key.site.into(),
            key.layer.into(),
            key.head.into(),
            key.neuron.into(),
            key.position.into(),
            rows.len().into(),
            resampler.n_clusters().into(),
            rows.iter().filter(|&&r| flipped[r] == Some(true)).count().into(),
            mean.mean.into(),
            mean.lo.into(),
            mean.hi.into(),
            recovery.map(|r| r.mean).into(),
            recovery.map(|r| r.lo).filter(|v| v.is_finite()).into(),
            recovery.map(|r| r.hi).filter(|v| v.is_finite()).into(),
        ])?;
    }
    table.sort_by_keys();
    Ok(table)
}
