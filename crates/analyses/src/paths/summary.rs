//! Edges and spans over prompts.

use super::{FIRST, KIND, LAST, RECEIVER, SENDER, SOURCE, TARGET};
use crate::interventions::AVERAGES;
use lorascope_record::TableSpec;

pub(super) static PATH_EFFECTS: TableSpec = TableSpec {
    name: "path_effects",
    doc: "What one edge does on average over prompts.",
    columns: &[
        SOURCE,
        TARGET,
        SENDER,
        RECEIVER,
        AVERAGES[0],
        AVERAGES[1],
        AVERAGES[2],
        AVERAGES[3],
        AVERAGES[4],
        AVERAGES[5],
        AVERAGES[6],
        AVERAGES[7],
        AVERAGES[8],
        AVERAGES[9],
        AVERAGES[10],
        AVERAGES[11],
        AVERAGES[12],
    ],
};

pub(super) static SPAN_EFFECTS: TableSpec = TableSpec {
    name: "span_effects",
    doc: "What the components of consecutive layers do together on average over prompts.",
    columns: &[
        SOURCE,
        TARGET,
        KIND,
        FIRST,
        LAST,
        AVERAGES[0],
        AVERAGES[1],
        AVERAGES[2],
        AVERAGES[3],
        AVERAGES[4],
        AVERAGES[5],
        AVERAGES[6],
        AVERAGES[7],
        AVERAGES[8],
        AVERAGES[9],
        AVERAGES[10],
        AVERAGES[11],
        AVERAGES[12],
    ],
};
