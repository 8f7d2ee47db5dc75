//! The tables of transplants.

use crate::decide::{PROMPT_ID, column};
use crate::mixtures::{RECOVERY_HI, RECOVERY_LO};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text};
use lorascope_record::{ColumnSpec, TableSpec};

const SOURCE: ColumnSpec = column("source", Text, "", "The adapter X whose updates are put in.");
const TARGET: ColumnSpec =
    column("target", Text, "", "The adapter Y in which they take the place of its own.");
const GROUP: ColumnSpec =
    column("group", Int, "", "Number of the group of modules that is exchanged, from 0.");

/// Transplants between adapters.
pub(super) static TRANSPLANTS: TableSpec = TableSpec {
    name: "transplants",
    doc: "What updates of one adapter do in another: X's at some modules, Y's everywhere else.",
    columns: &[
        SOURCE,
        TARGET,
        GROUP,
        column("first_layer", Int, "", "Its first layer."),
        column("last_layer", Int, "", "Its last layer."),
        column(
            "name",
            Text,
            "",
            "Its module in each of these layers; `attention`, `mlp`, or `layer` for all modules.",
        ),
        column("parameters", Int, "", "Numbers in the factors that X gives; 0 where it only takes Y's away."),
        column(
            "recovery",
            FloatOrNull,
            "",
            "Share of the difference between X and Y that is there: Σ (delta − delta_Y)·sign(d) / Σ |d| over prompts, with d = delta_X − \
             delta_Y; null where they differ on no prompt by `floor` or more.",
        ),
        RECOVERY_LO,
        RECOVERY_HI,
        column(
            "mean_recovery",
            FloatOrNull,
            "",
            "Mean over prompts of (delta − delta_Y) / d, without those whose |d| is below `floor`.",
        ),
        column("p_recovery", FloatOrNull, "", "As recovery, of the probability of B among both answers."),
        column("change", Float, "nat", "Mean change of Y's delta."),
        column("change_lo", Float, "nat", "Lower end of its 95% bootstrap interval over prompt clusters."),
        column("change_hi", Float, "nat", "Upper end of its interval."),
        column(
            "p",
            Float,
            "",
            "Two-sided sign-flip p-value of what it recovers, whole clusters flipped together.",
        ),
        column("q", Float, "", "p after Benjamini and Hochberg's correction for the groups of the pair."),
    ],
};

/// Runs of transplants.
pub(super) static TRANSPLANT_RUNS: TableSpec = TableSpec {
    name: "transplant_runs",
    doc: "How an adapter decides on one prompt when it has updates of another.",
    columns: &[
        SOURCE,
        TARGET,
        GROUP,
        column("label", Text, "", "The group in words."),
        PROMPT_ID,
        column("delta", Float, "nat", "ln p(B) − ln p(A)."),
        column("p_b", Float, "", "Probability of B among both answers."),
    ],
};
