//! The tables of interactions.

use crate::decide::{MODEL, PROMPT_ID, column};
use crate::patch::{SOURCE, TARGET};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text, TextOrNull};
use lorascope_record::{ColumnSpec, TableSpec};

const ONE: ColumnSpec =
    column("one", Text, "", "A component as patch names it: `result:LAYER.HEAD` or `mlp_out:LAYER`.");
const OTHER: ColumnSpec = column("other", Text, "", "The other component of the pair, never an earlier one.");
const N: ColumnSpec = column("n", Int, "", "Prompts.");
const N_CLUSTERS: ColumnSpec = column("n_clusters", Int, "", "Templates that they come from.");
const P_FLIP: ColumnSpec =
    column("p", Float, "", "Two-sided sign-flip permutation p-value, whole templates flipped together.");
const Q: ColumnSpec = column("q", Float, "", "Benjamini–Hochberg adjusted p-value.");

pub(super) static COMPONENTS: TableSpec = TableSpec {
    name: "interaction_components",
    doc: "The components whose contributions to the decision vary most within scenario and template, over all models together.",
    columns: &[
        MODEL,
        column("component", Text, "", "As patch names it."),
        N,
        column("mean", Float, "logit", "Mean contribution; positive towards B."),
        column("deviation", Float, "logit", "Standard deviation within scenario and template."),
    ],
};

pub(super) static CORRELATIONS: TableSpec = TableSpec {
    name: "interaction_correlations",
    doc: "How the signed contributions of two components go together over prompts, in one model, after means of scenarios and \
          templates are removed.",
    columns: &[
        MODEL,
        ONE,
        OTHER,
        N,
        N_CLUSTERS,
        column("family", Int, "", "Tests that are corrected together: all pairs of the model."),
        column(
            "r",
            Float,
            "",
            "Pearson correlation; positive where both push the same way on the same prompts.",
        ),
        column("lo", Float, "", "Lower end of the 95% bootstrap interval over templates."),
        column("hi", Float, "", "Upper end of it."),
        column(
            "p",
            Float,
            "",
            "Two-sided permutation p-value: whole templates exchanged where every scenario has every template, else prompts within \
             their scenario.",
        ),
        Q,
        column(
            "verdict",
            Text,
            "",
            "`correlated`: q ≤ 0.05 on at least `enough` prompts; else `not resolved`, at this sample size.",
        ),
    ],
};

pub(super) static DIFFERENCES: TableSpec = TableSpec {
    name: "interaction_differences",
    doc: "How the correlation of two components differs between two models on the same prompts.",
    columns: &[
        MODEL,
        column("minus", Text, "", "The model that is subtracted."),
        ONE,
        OTHER,
        N,
        N_CLUSTERS,
        column("family", Int, "", "Tests that are corrected together: all pairs of all comparisons."),
        column("r", Float, "", "Correlation in `model`."),
        column("r_minus", Float, "", "Correlation in `minus`."),
        column("difference", Float, "", "r − r_minus."),
        column(
            "lo",
            Float,
            "",
            "Lower end of its 95% bootstrap interval over templates, from influence values.",
        ),
        column("hi", Float, "", "Upper end of it."),
        P_FLIP,
        Q,
        column(
            "verdict",
            Text,
            "",
            "`different`: q ≤ 0.05 on at least `enough` prompts; else `not resolved`.",
        ),
    ],
};

pub(super) static PATCHES: TableSpec = TableSpec {
    name: "interaction_patches",
    doc: "One patched run: one or two components of the source put into the target at the decision point, and what that does to \
          delta.",
    columns: &[
        SOURCE,
        TARGET,
        PROMPT_ID,
        ONE,
        column("other", TextOrNull, "", "The other component; null for one alone."),
        column("change", Float, "logit", "delta_patched − delta_target."),
    ],
};

pub(super) static EFFECTS: TableSpec = TableSpec {
    name: "interaction_effects",
    doc: "Causal interaction of two components: the effect of both together minus the sum of their single effects.",
    columns: &[
        SOURCE,
        TARGET,
        ONE,
        OTHER,
        N,
        N_CLUSTERS,
        column("family", Int, "", "Tests that are corrected together: all pairs of all comparisons."),
        column("effect_one", Float, "logit", "Mean change of delta with `one` alone."),
        column("effect_other", Float, "logit", "Mean change with `other` alone."),
        column("joint", Float, "logit", "Mean change with both."),
        column("interaction", Float, "logit", "joint − effect_one − effect_other; positive towards B."),
        column("lo", Float, "logit", "Lower end of its 95% bootstrap interval over templates."),
        column("hi", Float, "logit", "Upper end of it."),
        P_FLIP,
        Q,
        column(
            "effect",
            FloatOrNull,
            "",
            "Mean over standard deviation; null where interactions do not vary.",
        ),
    ],
};
