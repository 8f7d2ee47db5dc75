//! The tables of surgery.

use crate::decide::{PROMPT_ID, column};
use crate::mixtures::{RECOVERY_HI, RECOVERY_LO};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text, TextOrNull};
use lorascope_record::{ColumnSpec, TableSpec};

const ADAPTER: ColumnSpec = column("adapter", Text, "", "The adapter that is taken apart.");
const PARAMETERS: ColumnSpec =
    column("parameters", Int, "", "Numbers in the factors of the blocks that are on.");
const PARAMETER_SHARE: ColumnSpec =
    column("parameter_share", Float, "", "The same as a share of the whole adapter's.");
const RECOVERY: ColumnSpec = column(
    "recovery",
    FloatOrNull,
    "",
    "Share of the adapter's behaviour that is there: Σ (delta − delta_base)·sign(d) / Σ |d| over prompts, with d = delta_adapter − \
     delta_base; null where the adapter moves no prompt by `floor` or more.",
);
const MEAN_RECOVERY: ColumnSpec = column(
    "mean_recovery",
    FloatOrNull,
    "",
    "Mean over prompts of (delta − delta_base) / d, without those whose |d| is below `floor`.",
);
const P_RECOVERY: ColumnSpec = column(
    "p_recovery",
    FloatOrNull,
    "",
    "As recovery, of the probability of B among both answers instead of delta: the share of the difference in policy.",
);
const RANDOM: ColumnSpec = column(
    "random",
    FloatOrNull,
    "",
    "Mean recovery of random sets of as many blocks: `orders` of them at the size of the smallest set, half as many elsewhere; null where \
     none were measured.",
);
const RANDOM_LO: ColumnSpec =
    column("random_lo", FloatOrNull, "", "2.5th percentile of the recoveries of these random sets.");
const RANDOM_HI: ColumnSpec = column("random_hi", FloatOrNull, "", "97.5th percentile.");
const RANDOM_P: ColumnSpec = column(
    "random_p",
    FloatOrNull,
    "",
    "Share of random sets of as many blocks that recover as much or more, this set counted in: (1 + k) / (1 + n).",
);

/// One masked run.
pub(super) static RUNS: TableSpec = TableSpec {
    name: "surgery_runs",
    doc: "How an adapter decides on one prompt when only some of its blocks are on.",
    columns: &[
        ADAPTER,
        column("prompts", Text, "", "`chosen`: prompts on which sets are chosen; `held out`: others."),
        column(
            "mask",
            Text,
            "",
            "Numbers of the blocks that are on, as in surgery_blocks; `all`, `none`, or `all * F` where the whole adapter is scaled.",
        ),
        PROMPT_ID,
        column("n_blocks", Int, "", "Number of blocks that are on."),
        column("delta", Float, "nat", "ln p(B) − ln p(A)."),
        column("p_b", Float, "", "Probability of B among both answers."),
    ],
};

/// Single blocks.
pub(super) static BLOCKS: TableSpec = TableSpec {
    name: "surgery_blocks",
    doc: "What single blocks of an adapter do to the decision: each left out of the adapter, each alone, and on average over orders.",
    columns: &[
        ADAPTER,
        column("block", Int, "", "Number of the block, from 0."),
        column("layer", Int, "", "Its layer."),
        column("name", Text, "", "Its module; `attention`, `mlp` or `layer` where it is more than one."),
        column("parameters", Int, "", "Numbers in its factors."),
        column("norm", Float, "", "Root of the sum of ‖ΔW‖² over its modules."),
        column(
            "left_out",
            FloatOrNull,
            "",
            "Share of the adapter's behaviour that is lost when this block alone is off; null as for recovery.",
        ),
        column(
            "left_out_lo",
            FloatOrNull,
            "",
            "Lower end of its 95% bootstrap interval over prompt clusters.",
        ),
        column("left_out_hi", FloatOrNull, "", "Upper end of its interval."),
        column("left_out_change", Float, "nat", "Mean change of delta when it is switched off."),
        column(
            "left_out_p",
            Float,
            "",
            "Two-sided sign-flip p-value of what is lost, whole clusters flipped together.",
        ),
        column(
            "left_out_q",
            Float,
            "",
            "left_out_p after Benjamini and Hochberg's correction for the adapter's blocks.",
        ),
        column(
            "alone",
            FloatOrNull,
            "",
            "Share that this block alone recovers: its transplant into the base; null as for recovery.",
        ),
        column("alone_lo", FloatOrNull, "", "Lower end of its interval."),
        column("alone_hi", FloatOrNull, "", "Upper end of its interval."),
        column("alone_change", Float, "nat", "Mean change of the base's delta when it is switched on."),
        column("alone_p", Float, "", "Two-sided sign-flip p-value of what it recovers."),
        column("alone_q", Float, "", "alone_p after correction for the adapter's blocks."),
        column(
            "gradient",
            FloatOrNull,
            "",
            "Estimate of left_out from one gradient for all blocks: Σ value·slope at what A gives, of Σ sign(d)·delta, as a share of Σ |d|.",
        ),
        column(
            "shapley",
            FloatOrNull,
            "",
            "Mean over random orders of what the block adds to the recovery of those before it; they add up to 1. Null unless asked for.",
        ),
        column("shapley_error", FloatOrNull, "", "Its standard error over orders."),
    ],
};

/// Curves.
pub(super) static CURVES: TableSpec = TableSpec {
    name: "surgery_curves",
    doc: "Behaviour recovered by the first blocks of an order, against the parameters that they have.",
    columns: &[
        ADAPTER,
        column(
            "order",
            Text,
            "",
            "`greedy`: the best next blocks, step by step; `alone`, `norm`, `gradient`: by that column of surgery_blocks, the largest first; \
             `random`: the mean over random orders.",
        ),
        column("n_blocks", Int, "", "Number of first blocks that are on."),
        PARAMETER_SHARE,
        RECOVERY,
        RECOVERY_LO,
        RECOVERY_HI,
        MEAN_RECOVERY,
        P_RECOVERY,
        RANDOM,
        RANDOM_LO,
        RANDOM_HI,
        RANDOM_P,
    ],
};

/// Sets.
pub(super) static SETS: TableSpec = TableSpec {
    name: "surgery_sets",
    doc: "The smallest set of blocks found that recovers the wanted share of an adapter's behaviour, and the prediction that follows: \
          what it recovers on prompts on which it was not chosen.",
    columns: &[
        ADAPTER,
        column(
            "set",
            Text,
            "",
            "`greedy`: as the greedy order reached the share; `smallest`: the shortest beginning of the greedy, alone, gradient or norm \
             order that reaches it, after pruning.",
        ),
        column("blocks", Text, "", "Its blocks."),
        column("n_blocks", Int, "", "How many they are."),
        PARAMETERS,
        PARAMETER_SHARE,
        RECOVERY,
        RECOVERY_LO,
        RECOVERY_HI,
        MEAN_RECOVERY,
        P_RECOVERY,
        RANDOM,
        RANDOM_LO,
        RANDOM_HI,
        RANDOM_P,
        column(
            "held_out",
            FloatOrNull,
            "",
            "recovery on the held out prompts: the prediction; null without such prompts.",
        ),
        column("held_out_lo", FloatOrNull, "", "Lower end of its interval."),
        column("held_out_hi", FloatOrNull, "", "Upper end of its interval."),
        column("n_held_out", Int, "", "Held out prompts."),
        column(
            "folder",
            TextOrNull,
            "",
            "PEFT folder in the run folder that holds exactly these updates; null for sets that are not written.",
        ),
    ],
};

/// Doses.
pub(super) static DOSES: TableSpec = TableSpec {
    name: "surgery_doses",
    doc: "The whole adapter scaled: 0 is the base, 1 the adapter as it was trained.",
    columns: &[
        ADAPTER,
        column("dose", Int, "", "Number of the dose, from 0."),
        column("scale", Float, "", "Factor of everything that the adapter adds."),
        RECOVERY,
        RECOVERY_LO,
        RECOVERY_HI,
        MEAN_RECOVERY,
        P_RECOVERY,
        column("delta", Float, "nat", "Mean of delta over prompts."),
        column("delta_lo", Float, "nat", "Lower end of its 95% bootstrap interval over prompt clusters."),
        column("delta_hi", Float, "nat", "Upper end of its interval."),
    ],
};
