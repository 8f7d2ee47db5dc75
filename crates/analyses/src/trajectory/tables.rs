//! The tables of trajectories.

use crate::decide::column;
use lorascope_record::ColumnKind::{BoolOrNull, Float, FloatOrNull, Int, IntOrNull, Text, TextOrNull};
use lorascope_record::{ColumnSpec, TableSpec};

const TRAJECTORY: ColumnSpec = column(
    "trajectory",
    Text,
    "",
    "The adapter whose checkpoints these are; the model is `TRAJECTORY@STEP`.",
);
const LAYER: ColumnSpec = column("layer", IntOrNull, "", "Layer, from 0; null for all layers together.");

pub(super) static BLOCKS: TableSpec = TableSpec {
    name: "trajectory_blocks",
    doc: "The update s·B·A of one checkpoint in one linear map of one layer, and in layers, maps and the whole model as one vector. \
          All numbers are exact and come from the factors.",
    columns: &[
        TRAJECTORY,
        column("step", Int, "", "Step of the checkpoint."),
        LAYER,
        column("module", Text, "", "Linear map, e.g. `attn.q_proj`; `all` for all maps together."),
        column("norm", Float, "", "‖s·B·A‖_F, as `factor_norm` of the table `weights`."),
        column("weight_norm", Float, "", "‖W‖_F of the base's weights."),
        column("ratio", FloatOrNull, "", "norm / weight_norm; null where W is zero."),
        column(
            "cosine_final",
            FloatOrNull,
            "",
            "Cosine of the update and that of the last checkpoint; null where one is zero.",
        ),
        column(
            "increment_norm",
            FloatOrNull,
            "",
            "‖·‖_F of the difference to the checkpoint before; null for the first.",
        ),
        column(
            "cosine_increment",
            FloatOrNull,
            "",
            "Cosine of this difference and the one before it: 1 where training goes straight on; null where one is zero or missing.",
        ),
        column(
            "stable_rank",
            FloatOrNull,
            "",
            "‖·‖_F² / ‖·‖₂² of the update; null for a zero update and for several blocks.",
        ),
        column(
            "effective_rank",
            FloatOrNull,
            "",
            "exp of the entropy of its singular values divided by their sum; null likewise.",
        ),
    ],
};

pub(super) static BEHAVIOUR: TableSpec = TableSpec {
    name: "trajectory_behaviour",
    doc: "What one checkpoint decides on the prompts of one scenario, and on all; differences are paired by prompt.",
    columns: &[
        TRAJECTORY,
        column("step", IntOrNull, "", "Step of the checkpoint; null for the base."),
        column("scenario", Text, "", "The scenario, or `all prompts`."),
        column("n", Int, "", "Prompts."),
        column("n_clusters", Int, "", "Their clusters."),
        column("family", Int, "", "Tests that are corrected together: all p-values of this table."),
        column("delta", Float, "nat", "Mean of ln p(B) − ln p(A)."),
        column("delta_lo", Float, "nat", "Lower end of its 95% bootstrap interval over templates."),
        column("delta_hi", Float, "nat", "Upper end of it."),
        column("p_b", Float, "", "Mean probability of B among both answers."),
        column("p_b_lo", Float, "", "Lower end of its interval."),
        column("p_b_hi", Float, "", "Upper end of it."),
        column("legal_mass", Float, "", "Mean probability of giving either answer."),
        column(
            "recovery",
            FloatOrNull,
            "",
            "Σ (delta − delta_base)·sign(d) / Σ |d| over prompts, with d = delta_last − delta_base of the last checkpoint: 0 is the base, 1 \
             the last checkpoint. Prompts whose |d| is below the setting `floor` are left out; null where none is left.",
        ),
        column("recovery_lo", FloatOrNull, "", "Lower end of its interval."),
        column("recovery_hi", FloatOrNull, "", "Upper end of it."),
        column("from_base", FloatOrNull, "nat", "Mean of delta minus the base's; null for the base."),
        column("from_base_lo", FloatOrNull, "nat", "Lower end of its interval."),
        column("from_base_hi", FloatOrNull, "nat", "Upper end of it."),
        column(
            "from_base_p",
            FloatOrNull,
            "",
            "Two-sided sign-flip p-value, whole templates flipped together.",
        ),
        column("from_base_q", FloatOrNull, "", "Benjamini–Hochberg adjusted p-value."),
        column(
            "from_base_effect",
            FloatOrNull,
            "",
            "Mean over standard deviation of the differences; null where they do not vary.",
        ),
        column(
            "from_previous",
            FloatOrNull,
            "nat",
            "Mean of delta minus that of the checkpoint before; null for the first.",
        ),
        column("from_previous_lo", FloatOrNull, "nat", "Lower end of its interval."),
        column("from_previous_hi", FloatOrNull, "nat", "Upper end of it."),
        column("from_previous_p", FloatOrNull, "", "Two-sided sign-flip p-value."),
        column("from_previous_q", FloatOrNull, "", "Benjamini–Hochberg adjusted p-value."),
        column("from_previous_effect", FloatOrNull, "", "Mean over standard deviation of the differences."),
    ],
};

pub(super) static CHANGES: TableSpec = TableSpec {
    name: "trajectory_changes",
    doc: "Change points of one curve over checkpoints: where a piecewise-constant fit by penalised least squares goes from one level to \
          another. One row for each change; a curve without one has a row with nulls. Behaviour: delta of one scenario, or of \
          all scenarios, which then change together. Norm: ‖s·B·A‖_F of a block, a layer, or everything. A curve that grows evenly has its \
          change half-way; `jump` tells it from a step.",
    columns: &[
        TRAJECTORY,
        column("curve", Text, "", "`behaviour` or `norm`."),
        column("scenario", TextOrNull, "", "The scenario, or `all prompts`; null for norms."),
        LAYER,
        column("module", TextOrNull, "", "Linear map, or `all`; null for behaviour."),
        column("change", IntOrNull, "", "Number of the change, from 0; null where there is none."),
        column("main", BoolOrNull, "", "Whether it is the change that explains the most of the curve."),
        column("n_steps", Int, "", "Checkpoints."),
        column("n_changes", Int, "", "Changes of the curve, at most 5."),
        column("after_step", IntOrNull, "", "The last checkpoint before the change."),
        column("at_step", IntOrNull, "", "The first after it: the change lies between the two."),
        column(
            "lo_step",
            IntOrNull,
            "",
            "The change lies after this step. Behaviour: 95% bootstrap interval over templates, the number of changes held; null with one \
             cluster. Norm, which no sampling blurs: positions that explain at most 5 points less of the curve's variation.",
        ),
        column("hi_step", IntOrNull, "", "And not after this one."),
        column(
            "order",
            TextOrNull,
            "",
            "For norms: `before` or `after` the behaviour's main change on all prompts, where the intervals do not overlap and both curves \
             have q within the level; else `unresolved`. Null without a change of both.",
        ),
        column("family", Int, "", "Curves that are corrected together: all of this table that vary."),
        column("before", FloatOrNull, "", "Level before the change (nat for behaviour)."),
        column("after", FloatOrNull, "", "Level after it."),
        column(
            "size",
            FloatOrNull,
            "",
            "Size of the change of level: root of the mean square over scenarios where they change together.",
        ),
        column(
            "jump",
            FloatOrNull,
            "",
            "Share of the change of level between the two checkpoints alone: 1 is a step, little is even growth.",
        ),
        column(
            "agreement",
            FloatOrNull,
            "",
            "For behaviour: share of resamples with the change between the same two checkpoints.",
        ),
        column("explained", FloatOrNull, "", "Share of the curve's variation that all its changes explain."),
        column(
            "penalty",
            FloatOrNull,
            "",
            "What a change costs, in squared units of the curve: what permuted orders of steps pass in 5% of cases (setting `level`).",
        ),
        column(
            "p",
            FloatOrNull,
            "",
            "Share of orders of the steps, permuted within each template, with at least as much of a change; null for a flat curve.",
        ),
        column("q", FloatOrNull, "", "Benjamini–Hochberg adjusted p-value."),
    ],
};
