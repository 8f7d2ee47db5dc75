//! Edges and spans over prompts.

use super::{FIRST, KIND, LAST, RECEIVER, SENDER, SOURCE, TARGET};
use crate::interventions::with_averages;
use lorascope_record::TableSpec;

pub(super) static PATH_EFFECTS: TableSpec = TableSpec {
    name: "path_effects",
    doc: "What one edge does on average over prompts.",
    columns: &with_averages::<4, 17>([SOURCE, TARGET, SENDER, RECEIVER]),
};

pub(super) static SPAN_EFFECTS: TableSpec = TableSpec {
    name: "span_effects",
    doc: "What the components of consecutive layers do together on average over prompts.",
    columns: &with_averages::<5, 18>([SOURCE, TARGET, KIND, FIRST, LAST]),
};
