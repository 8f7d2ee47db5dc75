//! Patches over prompts: one row for each pair and place.

use super::{COMPONENT, DIRECTION, HEAD, LAYER, POSITION, SITE, SOURCE, TARGET};
use crate::error::Result;
use crate::interventions::with_averages;
use lorascope_record::{Table, TableSpec};

pub(super) static EFFECTS: TableSpec = TableSpec {
    name: "patch_effects",
    doc: "What patching one place does on average over prompts, with 95% bootstrap intervals over prompt clusters.",
    columns: &with_averages::<8, 23>([SOURCE, TARGET, DIRECTION, SITE, LAYER, HEAD, COMPONENT, POSITION]),
};

/// What identifies a row.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub source: String,
    pub target: String,
    pub direction: String,
    pub site: String,
    pub layer: Option<i64>,
    pub head: Option<i64>,
    pub component: Option<i64>,
    pub position: String,
}

impl Key {
    /// The place in words: `L3.H1 z`, `L5 mlp_out`.
    pub fn place(&self) -> String {
        let part = match (self.layer, self.head, self.component) {
            (Some(l), Some(h), _) => format!("L{l}.H{h} "),
            (Some(l), _, Some(n)) => format!("L{l}#{n} "),
            (Some(l), ..) => format!("L{l} "),
            (None, ..) => String::new(),
        };
        format!("{part}{}", self.site)
    }
}

/// Keys of a table that has the key columns.
pub(crate) fn keys(table: &Table) -> Result<Vec<Key>> {
    let text = |name: &str| -> Result<Vec<String>> {
        Ok(table.texts(name)?.into_iter().map(str::to_owned).collect())
    };
    let (source, target, direction) = (text("source")?, text("target")?, text("direction")?);
    let (site, position) = (text("site")?, text("position")?);
    let (layer, head) = (table.ints_or_null("layer")?, table.ints_or_null("head")?);
    let component = table.ints_or_null("component")?;
    let key = |i: usize| Key {
        source: source[i].clone(),
        target: target[i].clone(),
        direction: direction[i].clone(),
        site: site[i].clone(),
        layer: layer[i],
        head: head[i],
        component: component[i],
        position: position[i].clone(),
    };
    Ok((0..table.n_rows()).map(key).collect())
}
