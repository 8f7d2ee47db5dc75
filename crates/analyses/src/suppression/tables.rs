//! The tables of suppression.

use crate::decide::{MODEL, PROMPT_ID, column};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, IntOrNull, Text};
use lorascope_record::{ColumnSpec, TableSpec};

const REFERENCE: ColumnSpec =
    column("reference", Text, "", "The model whose components may have been suppressed.");
const COMPONENT: ColumnSpec =
    column("component", Text, "", "As `patch` names it: `result:LAYER.HEAD` or `mlp_out:LAYER`.");

pub(super) static SUPPRESSION: TableSpec = TableSpec {
    name: "suppression",
    doc: "What became of one component of the reference in another model. Shares are of Σ |d| over prompts, d = delta_reference − \
          delta_model, every prompt counted in the reference's direction; null where the two models decide alike.",
    columns: &[
        REFERENCE,
        MODEL,
        COMPONENT,
        column("layer", Int, "", "Layer, from 0."),
        column("head", IntOrNull, "", "Query head, from 0; null for an MLP."),
        column(
            "class",
            Text,
            "",
            "`unchanged`: q_equivalence ≤ 0.05. Else, with direct_q ≤ 0.05: `suppressed` (pushes the reference's way in the reference, \
             less so in the model), `inverted` (pushes the other way there), `counteracting` (does not push in the reference, pushes \
             the other way in the model), `strengthened` (pushes more). Else `rerouted`: no clear difference directly, but \
             restored_q or removed_q ≤ 0.05. Else `not resolved`.",
        ),
        column("n", Int, "", "Prompts."),
        column("n_clusters", Int, "", "Templates that they come from."),
        column("family", Int, "", "Tests that are corrected together: all components of all models."),
        column("push", FloatOrNull, "", "Direct share in the reference: Σ s·c_reference / Σ |d|."),
        column("push_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over templates."),
        column("push_hi", FloatOrNull, "", "Upper end of it."),
        column("push_model", FloatOrNull, "", "The same in the model: Σ s·c_model / Σ |d|."),
        column("push_model_lo", FloatOrNull, "", "Lower end of its interval."),
        column("push_model_hi", FloatOrNull, "", "Upper end of it."),
        column(
            "index",
            FloatOrNull,
            "",
            "Suppression index 1 − push_model / push: 0 as before, 1 silent, above 1 inverted. Null where push is not clearly positive.",
        ),
        column("index_lo", FloatOrNull, "", "Lower end of its interval."),
        column("index_hi", FloatOrNull, "", "Upper end of it."),
        column("direct", FloatOrNull, "", "push − push_model: over all components it adds up to 1."),
        column("direct_lo", FloatOrNull, "", "Lower end of its interval."),
        column("direct_hi", FloatOrNull, "", "Upper end of it."),
        column(
            "direct_q",
            Float,
            "",
            "Sign-flip p-value of it, templates flipped together, after Benjamini–Hochberg.",
        ),
        column(
            "restored",
            FloatOrNull,
            "",
            "Causal share: what of the difference the reference's output brings back when it is put into the model.",
        ),
        column("restored_lo", FloatOrNull, "", "Lower end of its interval."),
        column("restored_hi", FloatOrNull, "", "Upper end of it."),
        column("restored_q", Float, "", "As direct_q."),
        column(
            "removed",
            FloatOrNull,
            "",
            "Causal share: what of the difference goes when the model's output is put into the reference.",
        ),
        column("removed_lo", FloatOrNull, "", "Lower end of its interval."),
        column("removed_hi", FloatOrNull, "", "Upper end of it."),
        column("removed_q", Float, "", "As direct_q."),
        column(
            "q_equivalence",
            FloatOrNull,
            "",
            "Largest p-value of two one-sided t-tests that direct, restored and removed lie `margin` or more from zero, after \
             Benjamini–Hochberg; null with one template.",
        ),
    ],
};

pub(super) static TOTALS: TableSpec = TableSpec {
    name: "suppression_totals",
    doc: "Through which kind of component the difference of two models' decisions is written: sums of `direct`, which add up to 1.",
    columns: &[
        REFERENCE,
        MODEL,
        column(
            "kind",
            Text,
            "",
            "`heads`, `mlps`, or `rest` (embedding, biases, and what the soft cap changes).",
        ),
        column("n", Int, "", "Prompts."),
        column("n_clusters", Int, "", "Templates that they come from."),
        column("difference", Float, "logit", "Mean |d|: what the shares are shares of."),
        column("direct", FloatOrNull, "", "Σ s·(c_reference − c_model) / Σ |d| over the kind."),
        column("direct_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over templates."),
        column("direct_hi", FloatOrNull, "", "Upper end of it."),
    ],
};

pub(super) static CHANGES: TableSpec = TableSpec {
    name: "suppression_patches",
    doc: "One patched run behind the causal shares: a component's output of the source put into the target at the decision point.",
    columns: &[
        column("source", Text, "", "Model whose activation is taken."),
        column("target", Text, "", "Model that it is put into."),
        PROMPT_ID,
        COMPONENT,
        column("delta_source", Float, "logit", "delta of the source's own run."),
        column("delta_target", Float, "logit", "delta of the target's unpatched run."),
        column("change", Float, "logit", "Change of delta by the patch."),
    ],
};
