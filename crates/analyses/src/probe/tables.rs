//! The tables of probes.

use crate::activations::{LAYER, N_CLUSTERS, POSITION, SITE};
use crate::decide::{MODEL, PROMPT_ID, column};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text, TextOrNull};
use lorascope_record::{ColumnSpec, TableSpec};

const TARGET: ColumnSpec = column(
    "target",
    Text,
    "",
    "What is looked for: a key of the prompts, or `decision` for the model's own.",
);
const N: ColumnSpec = column("n", Int, "", "Prompts that have the label.");

pub(super) static PREDICTIONS: TableSpec = TableSpec {
    name: "probe_predictions",
    doc: "What a linear probe, fitted to the prompts of other templates, says of one prompt of one model.",
    columns: &[
        MODEL,
        TARGET,
        SITE,
        LAYER,
        POSITION,
        PROMPT_ID,
        column("fold", Int, "", "The fold in which it was predicted, from 0."),
        column(
            "strength",
            Float,
            "",
            "Penalty that was chosen inside the fold: the L2 penalty of standardised features is this times the width of the model.",
        ),
        column("truth", Float, "", "The label: 1 for the second class, 0 for the first, or the number."),
        column("score", Float, "", "Log-odds of the second class, or the predicted number."),
        column(
            "result",
            Float,
            "",
            "Classes: 1 where the prediction is right, else 0. Numbers: the squared error.",
        ),
        column(
            "baseline",
            Float,
            "",
            "The same of a probe that knows labels only: the larger class, or the mean, of the prompts that were fitted.",
        ),
        column("control", Float, "", "Mean of `result` over probes of the same strength on shuffled labels."),
        column("control_baseline", Float, "", "Mean of `baseline` over them."),
    ],
};

pub(super) static SCORES: TableSpec = TableSpec {
    name: "probe_scores",
    doc: "How well a label can be read from one place of one model by linear probes, on prompts of templates that they were not \
          fitted to.",
    columns: &[
        MODEL,
        TARGET,
        SITE,
        LAYER,
        POSITION,
        column(
            "metric",
            Text,
            "",
            "Classes: `accuracy`; `majority`, that of the larger class; `control`, that of probes on shuffled labels; \
             `selectivity`, accuracy minus control; `auc`, from pairs within folds. Numbers: `r2`, 1 − squared error / squared error \
             of the mean of the fitted prompts; `control` and `selectivity` likewise; `correlation` within folds.",
        ),
        column("classes", TextOrNull, "", "First and second class, as a JSON array; null for numbers."),
        N,
        N_CLUSTERS,
        column("folds", Int, "", "Folds of whole templates."),
        column("controls", Int, "", "Shuffles of the labels."),
        column("family", Int, "", "Tests that are corrected together: all selectivities of this table."),
        column(
            "status",
            Text,
            "",
            "`ok`, or why there is no value: a class that is missing where a fold is fitted, too few templates.",
        ),
        column(
            "value",
            FloatOrNull,
            "",
            "The metric; null where `status` says why, or where it is undefined.",
        ),
        column("lo", FloatOrNull, "", "Lower end of the 95% bootstrap interval over templates."),
        column("hi", FloatOrNull, "", "Upper end of it."),
        column(
            "p",
            FloatOrNull,
            "",
            "Two-sided sign-flip permutation p-value of a selectivity, whole templates flipped together; null for other metrics.",
        ),
        column("q", FloatOrNull, "", "Benjamini–Hochberg adjusted p-value."),
    ],
};

pub(super) static DIFFERENCES: TableSpec = TableSpec {
    name: "probe_differences",
    doc: "How much better a label can be read from one model than from another at the same place, paired by prompt.",
    columns: &[
        MODEL,
        column("minus", Text, "", "The model that is subtracted."),
        TARGET,
        SITE,
        LAYER,
        POSITION,
        column("metric", Text, "", "`accuracy` or `r2`."),
        N,
        N_CLUSTERS,
        column("family", Int, "", "Tests that are corrected together: all rows of this table."),
        column("mean", Float, "", "Difference of the metric; positive where `model` can be read better."),
        column("lo", Float, "", "Lower end of the 95% bootstrap interval over templates."),
        column("hi", Float, "", "Upper end of it."),
        column("p", Float, "", "Two-sided sign-flip permutation p-value, whole templates flipped together."),
        column("q", Float, "", "Benjamini–Hochberg adjusted p-value."),
        column(
            "effect",
            FloatOrNull,
            "",
            "Mean over standard deviation of the differences by prompt; null where they do not vary.",
        ),
    ],
};
