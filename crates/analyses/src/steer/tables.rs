//! The tables of steering.

use crate::decide::{PROMPT_ID, SCENARIO, column};
use crate::interventions::with_averages;
use lorascope_record::ColumnKind::{Bool, Float, FloatOrNull, Int, IntOrNull, Text, TextOrNull};
use lorascope_record::{ColumnSpec, TableSpec};

const SOURCE: ColumnSpec = column("source", Text, "", "Model from whose activations the vector is made.");
const TARGET: ColumnSpec = column("target", Text, "", "Model that is steered with it.");
const CONTRAST: ColumnSpec = column(
    "contrast",
    Text,
    "",
    "`models`: mean activation of the source minus that of the base. Else a key of the prompts, or `decision`: mean activation \
     on prompts of its second class minus that on prompts of its first, within the source.",
);
const SITE: ColumnSpec =
    column("site", Text, "", "Where the vector is made and added: `resid_post` and so on.");
const LAYER: ColumnSpec = column("layer", Int, "", "Layer, from 0.");
const POSITION: ColumnSpec = column(
    "position",
    Text,
    "",
    "Tokens to which it is added: `decision` (the decision point, where it is made), or `all` up to there.",
);
const DOSE: ColumnSpec = column("dose", Int, "", "Number of the strength in ascending order, from 0.");
const STRENGTH: ColumnSpec = column("strength", Float, "", "Factor of the vector.");
const CONTROL: ColumnSpec = column(
    "control",
    Text,
    "",
    "`random`: directions drawn uniformly. `shuffled`: differences between the source's mean activations on two random groups of the \
     prompts, directions in which prompts differ. Both have the norm of the vector.",
);

/// Vectors.
pub(super) static VECTORS: TableSpec = TableSpec {
    name: "steer_vectors",
    doc: "One steering vector: what it is made from, and how large it is.",
    columns: &[
        SOURCE,
        CONTRAST,
        SITE,
        LAYER,
        column("minus", Text, "", "What is subtracted: `base`, or the first class."),
        column("plus", Text, "", "What it is subtracted from: the source, or the second class."),
        column("status", Text, "", "`ok`, `does nothing` (it is zero), or why there is no vector."),
        column("n_minus", Int, "", "Prompts behind the subtracted mean."),
        column("n_plus", Int, "", "Prompts behind the other."),
        column(
            "n_halves",
            Int,
            "",
            "2 where vectors for testing are made from one half of the templates and added on the other; 1 where there is one \
             template only, so that vectors are tested on the prompts that they are made from.",
        ),
        column("file", TextOrNull, "", "Safetensors file in the run folder that holds it."),
        column("tensor", TextOrNull, "", "Its name there: the hook point."),
        column(
            "norm",
            FloatOrNull,
            "",
            "Length of the vector from all prompts, which is the one in the file.",
        ),
        column(
            "relative_norm",
            FloatOrNull,
            "",
            "The same, divided by the mean length of the source's activations there.",
        ),
        column(
            "half_cosine",
            FloatOrNull,
            "",
            "Cosine between the vectors of the two halves: near 1 where the direction does not depend on which prompts it is made \
             from; null where one of them is zero, or there is one half only.",
        ),
    ],
};

/// Steered runs.
pub(super) static RUNS: TableSpec = TableSpec {
    name: "steer_runs",
    doc: "One prompt, steered by a vector that is made from the other half of the templates.",
    columns: &[
        SOURCE,
        TARGET,
        CONTRAST,
        SITE,
        LAYER,
        POSITION,
        PROMPT_ID,
        SCENARIO,
        DOSE,
        column("half", Int, "", "Half of the templates that the prompt belongs to."),
        STRENGTH,
        column(
            "delta_source",
            FloatOrNull,
            "logit",
            "delta of the source's own run, where the vector is its difference from the base and another model is steered.",
        ),
        column("delta_target", Float, "logit", "delta of the target's unsteered run."),
        column("delta_patched", Float, "logit", "delta of the steered run."),
        column("change", Float, "logit", "delta_patched − delta_target."),
        column("flipped", Bool, "", "Whether the preferred answer changed."),
        column(
            "mass_target",
            Float,
            "",
            "Legal mass of the unsteered run: probability of the two answers of the primary pair, given the tokens that both begin \
             with.",
        ),
        column("mass_patched", Float, "", "The same of the steered run."),
    ],
};

/// Averages.
pub(super) static EFFECTS: TableSpec = TableSpec {
    name: "steer_effects",
    doc: "What a vector does at one strength, on average over prompts that it is not made from, with 95% bootstrap intervals over \
          prompt clusters. Strength 0 is a check and no test; it is in steer_runs.",
    columns: &with_averages::<8, 23>([SOURCE, TARGET, CONTRAST, SITE, LAYER, POSITION, DOSE, STRENGTH]),
};

/// Controls, one by one.
pub(super) static CONTROLS: TableSpec = TableSpec {
    name: "steer_controls",
    doc: "One direction of the vector's norm in the vector's place, on the same prompts. A direction is the same at all strengths; \
          random ones are the same for all vectors, too.",
    columns: &[
        SOURCE,
        TARGET,
        CONTRAST,
        SITE,
        LAYER,
        POSITION,
        DOSE,
        CONTROL,
        column("draw", Int, "", "Number of the direction, from 0."),
        STRENGTH,
        column("change", Float, "logit", "Mean change of delta over prompts."),
        column("recovery", FloatOrNull, "", "As in steer_effects."),
    ],
};

/// Vectors against controls.
pub(super) static AGAINST: TableSpec = TableSpec {
    name: "steer_against_controls",
    doc: "A vector's effect beside those of the controls. The effect is the recovery where there is one, else the mean change.",
    columns: &[
        SOURCE,
        TARGET,
        CONTRAST,
        SITE,
        LAYER,
        POSITION,
        DOSE,
        CONTROL,
        column("measure", Text, "", "`recovery` or `change`."),
        column(
            "n_controls",
            Int,
            "",
            "Directions behind the row; 1/(n_controls + 1) is the smallest possible p.",
        ),
        column(
            "n_tests",
            Int,
            "",
            "Rows of the same source, target and control: the family of the correction.",
        ),
        STRENGTH,
        column("effect", Float, "", "Effect of the vector."),
        column("control_mean", Float, "", "Mean effect of the controls."),
        column("control_sd", FloatOrNull, "", "Their standard deviation; null with one control."),
        column("control_lo", Float, "", "2.5th percentile of their effects."),
        column("control_hi", Float, "", "97.5th percentile."),
        column(
            "z",
            FloatOrNull,
            "",
            "(effect − control_mean) / control_sd; null where the controls do not vary.",
        ),
        column(
            "p",
            Float,
            "",
            "Share of controls whose effect is at least as large in size as the vector's, the vector counted in.",
        ),
        column(
            "q",
            Float,
            "",
            "p after Benjamini and Hochberg's correction for all rows of the same source, target and control.",
        ),
    ],
};

/// Side effects.
pub(super) static SIDE_EFFECTS: TableSpec = TableSpec {
    name: "steer_side_effects",
    doc: "What steering does besides: to the next token of text that has nothing to do with the prompts (the vector from all prompts, \
          added to the last token of each text, or with position `all` to every token), and to the legal mass on the prompts.",
    columns: &[
        SOURCE,
        TARGET,
        CONTRAST,
        SITE,
        LAYER,
        POSITION,
        DOSE,
        column("direction", Text, "", "`vector`, or `random`: random directions of its norm."),
        column("n_texts", Int, "", "Texts."),
        column("n_directions", Int, "", "Directions behind the row."),
        column("n_prompts", IntOrNull, "", "Prompts behind the mass; null for random directions."),
        STRENGTH,
        column(
            "kl",
            FloatOrNull,
            "nat",
            "Mean over texts (and directions) of KL(unsteered ‖ steered) of the next token: nats per token; null without texts.",
        ),
        column("kl_lo", FloatOrNull, "nat", "Lower end of its 95% bootstrap interval over texts."),
        column("kl_hi", FloatOrNull, "nat", "Upper end of its interval."),
        column(
            "mass",
            FloatOrNull,
            "",
            "Mean legal mass of the steered prompts; null for random directions.",
        ),
        column("mass_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over prompt clusters."),
        column("mass_hi", FloatOrNull, "", "Upper end of its interval."),
    ],
};
