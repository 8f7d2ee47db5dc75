//! The tables of the comparison of representations.

use crate::activations::{LAYER, N_CLUSTERS, POSITION, SITE};
use crate::decide::{MODEL, column};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text};
use lorascope_record::{ColumnSpec, TableSpec};

const REFERENCE: ColumnSpec = column(
    "reference",
    Text,
    "",
    "The model that it is compared with; the difference is `model` minus this one.",
);
const N: ColumnSpec = column("n", Int, "", "Prompts.");

pub(super) static SIMILARITY: TableSpec = TableSpec {
    name: "compare_similarity",
    doc: "How alike the activations of two models are at one place, over prompts.",
    columns: &[
        MODEL,
        REFERENCE,
        SITE,
        LAYER,
        POSITION,
        column(
            "metric",
            Text,
            "",
            "`cosine`: mean cosine of both models' activations on the same prompt. `relative_norm`: mean of ‖difference‖ / ‖reference's \
             activation‖. `cosine_prompts`, `relative_norm_prompts`: the same between two different prompts on the reference, as a \
             scale for both. `cka`: linear centred kernel alignment over prompts, too high where prompts are fewer than coordinates. \
             `cka_debiased`: without that bias.",
        ),
        N,
        N_CLUSTERS,
        column(
            "value",
            FloatOrNull,
            "",
            "The metric; null where an activation is zero, or where activations do not vary.",
        ),
        column("lo", FloatOrNull, "", "Lower end of the 95% bootstrap interval over templates."),
        column("hi", FloatOrNull, "", "Upper end of it."),
    ],
};

pub(super) static DECISION: TableSpec = TableSpec {
    name: "compare_decision",
    doc: "How much of the difference of two models' activations points along the decision: what the difference would add to the \
          logit of B's deciding token minus A's if the reference's output read it there, its final norm frozen at the scale that it has at \
          that position.",
    columns: &[
        MODEL,
        REFERENCE,
        SITE,
        LAYER,
        POSITION,
        N,
        N_CLUSTERS,
        column("family", Int, "", "Tests that are corrected together: all rows of this table."),
        column("mean", Float, "logit", "Mean over prompts; positive towards B."),
        column("lo", Float, "logit", "Lower end of the 95% bootstrap interval over templates."),
        column("hi", Float, "logit", "Upper end of it."),
        column("p", Float, "", "Two-sided sign-flip permutation p-value, whole templates flipped together."),
        column("q", Float, "", "Benjamini–Hochberg adjusted p-value."),
        column(
            "effect",
            FloatOrNull,
            "",
            "Mean over standard deviation of the values by prompt; null where they do not vary.",
        ),
        column(
            "cosine",
            FloatOrNull,
            "",
            "Mean cosine of the difference and the decision direction; null where a difference is zero. Of random directions it is \
             about 0 ± 1/√width.",
        ),
    ],
};

pub(super) static TOKENS: TableSpec = TableSpec {
    name: "compare_tokens",
    doc: "Which tokens the mean difference of two models' activations promotes and suppresses, read through the reference's final \
          norm at a frozen scale and its output matrix, before any soft cap.",
    columns: &[
        MODEL,
        REFERENCE,
        SITE,
        LAYER,
        POSITION,
        column("direction", Text, "", "`promoted` or `suppressed`."),
        column("rank", Int, "", "From 0."),
        column("token_id", Int, "", "Id of the token."),
        column("token", Text, "", "The token."),
        column(
            "logit",
            Float,
            "logit",
            "What the mean difference adds to the token's logit, less the mean over all tokens.",
        ),
    ],
};
