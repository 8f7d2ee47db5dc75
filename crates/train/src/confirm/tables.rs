//! The tables of a confirmation.

use crate::metrics::column;
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, IntOrNull, Text, TextOrNull};
use lorascope_record::{ColumnSpec, TableSpec};

const TRAINING: ColumnSpec = column(
    "training",
    Text,
    "",
    "`full`: everything, with the recipe; `full_again`: the same with the next seed; `set`: the predicted set alone; `random_1` …: random \
     sets with about as many parameters in as many layers; `base` is untrained.",
);
const PARAMETERS: ColumnSpec = column("parameters", Int, "", "Numbers that could move in training.");
const SHARE: ColumnSpec = column("parameter_share", Float, "", "The same as a share of the full training's.");
const RECOVERY: ColumnSpec = column(
    "recovery",
    FloatOrNull,
    "",
    "Σ (delta − delta_base)·sign(d) / Σ |d| over prompts, with d = delta_full − delta_base; null where the full training moves nothing.",
);
const RECOVERY_LO: ColumnSpec =
    column("recovery_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over prompt clusters.");
const RECOVERY_HI: ColumnSpec = column("recovery_hi", FloatOrNull, "", "Upper end of its interval.");

/// The prediction, written before anything is trained.
pub(super) static PREDICTION: TableSpec = TableSpec {
    name: "confirm_prediction",
    doc: "What surgery predicts and when that counts as confirmed; written before anything is trained, and part of the run's identity.",
    columns: &[
        column("adapter", Text, "", "The adapter that surgery took apart."),
        column("blocks", Text, "", "The set of blocks that is said to be enough."),
        column("n_blocks", Int, "", "How many they are."),
        column("n_layers", Int, "", "Layers in which they lie."),
        PARAMETERS,
        column("n_prompts", Int, "", "Held out prompts of surgery."),
        SHARE,
        column("predicted", Float, "", "Recovery of the set on surgery's held out prompts."),
        column("predicted_lo", Float, "", "Lower end of its 95% bootstrap interval over prompt clusters."),
        column("predicted_hi", Float, "", "Upper end of its interval."),
        column(
            "needed",
            Float,
            "",
            "Recovery that the set's training has to reach: predicted_lo, or the share that surgery sought where that is less.",
        ),
        column(
            "margin",
            Float,
            "",
            "A random set is as good as the set if the set recovers less than so much more.",
        ),
        column(
            "criterion",
            Text,
            "",
            "When the prediction counts as confirmed, not confirmed, or not resolved.",
        ),
    ],
};

/// The trainings.
pub(super) static TRAININGS: TableSpec = TableSpec {
    name: "confirm_trainings",
    doc: "One training: what could move, how it went, what it did to prompts that it never saw, and what to unrelated text.",
    columns: &[
        TRAINING,
        column("seed", Int, "", "Its seed."),
        column("blocks", Text, "", "The blocks that it trains."),
        column("n_blocks", Int, "", "How many they are."),
        column("n_layers", Int, "", "Layers in which they lie."),
        PARAMETERS,
        column("steps", Int, "", "Steps."),
        column(
            "clear_after",
            IntOrNull,
            "",
            "Steps until the action with the larger reward has a probability of 0.9 in every state that the reward decides, five steps in \
             a row, on the steps' own prompts; null where that never happens.",
        ),
        column("episodes", IntOrNull, "", "Episodes (answers with their rewards) until then."),
        SHARE,
        column("overlap", Float, "", "Share of the predicted set's parameters that it trains too."),
        column(
            "reward",
            Float,
            "point",
            "Expected reward among the two answers in training, mean over the last 8 steps.",
        ),
        RECOVERY,
        RECOVERY_LO,
        RECOVERY_HI,
        column("p_recovery", FloatOrNull, "", "As recovery, of the probability of B among both answers."),
        column("p_recovery_lo", FloatOrNull, "", "Lower end of its interval."),
        column("p_recovery_hi", FloatOrNull, "", "Upper end of its interval."),
        column("legal_mass", Float, "", "Probability of giving either answer, mean over prompts."),
        column(
            "text_kl",
            Float,
            "nat/token",
            "KL(base ‖ training) of the next token on unrelated text, mean over tokens.",
        ),
        column("text_kl_lo", Float, "nat/token", "Lower end of its 95% bootstrap interval over documents."),
        column("text_kl_hi", Float, "nat/token", "Upper end of its interval."),
        column("folder", Text, "", "Its run folder, in this one; the adapter is in `adapter/` there."),
    ],
};

/// The set against the others.
pub(super) static COMPARISONS: TableSpec = TableSpec {
    name: "confirm_comparisons",
    doc: "The training of the predicted set against another, paired by prompt.",
    columns: &[
        column("against", Text, "", "The other training."),
        column("difference", FloatOrNull, "", "Recovery of the set's training minus that of the other."),
        column(
            "difference_lo",
            FloatOrNull,
            "",
            "Lower end of its 95% bootstrap interval over prompt clusters.",
        ),
        column("difference_hi", FloatOrNull, "", "Upper end of its interval."),
        column(
            "p",
            Float,
            "",
            "Two-sided sign-flip p-value of the paired differences, whole clusters flipped together.",
        ),
        column("q", Float, "", "p after Benjamini and Hochberg's correction for the rows of this table."),
        column("effect", FloatOrNull, "", "Mean over standard deviation of the paired differences."),
        column(
            "above",
            TextOrNull,
            "",
            "Whether the set recovers more than this random set, and by more than another seed does: `confirmed`, `not confirmed` or `not resolved`; null for trainings that \
             are no random sets.",
        ),
    ],
};

/// Behaviour by scenario.
pub(super) static SCENARIOS: TableSpec = TableSpec {
    name: "confirm_scenarios",
    doc: "What the base and every training do in one scenario, and in all.",
    columns: &[
        TRAINING,
        column("scenario", Text, "", "The scenario, or `all prompts`."),
        column("n_prompts", Int, "", "Its prompts."),
        column("n_clusters", Int, "", "Their clusters."),
        column("delta", Float, "nat", "Mean of ln p(B) − ln p(A)."),
        column("delta_lo", Float, "nat", "Lower end of its 95% bootstrap interval over prompt clusters."),
        column("delta_hi", Float, "nat", "Upper end of its interval."),
        column("p_b", Float, "", "Mean probability of B among both answers."),
        column("p_b_lo", Float, "", "Lower end of its interval."),
        column("p_b_hi", Float, "", "Upper end of its interval."),
        RECOVERY,
        RECOVERY_LO,
        RECOVERY_HI,
    ],
};

/// Single decisions.
pub(super) static DECISIONS: TableSpec = TableSpec {
    name: "confirm_decisions",
    doc: "The decision of the base or a training on one prompt on which neither the set was chosen nor anything was trained.",
    columns: &[
        TRAINING,
        column("prompt_id", Text, "", "The prompt's id."),
        column("scenario", Text, "", "The prompt's scenario; empty where it names none."),
        column("delta", Float, "nat", "ln p(B) − ln p(A)."),
        column("p_b", Float, "", "Probability of B among both answers."),
        column("legal_mass", Float, "", "Probability of giving either answer."),
    ],
};

/// Side effects.
pub(super) static TEXT: TableSpec = TableSpec {
    name: "confirm_text",
    doc: "How far a training moves the base on one document that has nothing to do with the prompts.",
    columns: &[
        TRAINING,
        column("document", Int, "", "Number of the document, from 0."),
        column("tokens", Int, "", "Its tokens that were read."),
        column("kl", Float, "nat/token", "KL(base ‖ training) of the next token, mean over these tokens."),
    ],
};

/// All tables of a confirmation.
pub static TABLES: &[&TableSpec] = &[&PREDICTION, &TRAININGS, &COMPARISONS, &SCENARIOS, &DECISIONS, &TEXT];
