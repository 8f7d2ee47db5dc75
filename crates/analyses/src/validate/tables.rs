//! The tables of validation.

use crate::decide::{MODEL, PROMPT_ID, SCENARIO, column};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, IntOrNull, Text, TextOrNull};
use lorascope_record::TableSpec;

pub(super) static CHECKS: TableSpec = TableSpec {
    name: "validation",
    doc: "One check of a model, or of the prompt set where no model is named.",
    columns: &[
        column("model", TextOrNull, "", "The model; null for a check of the prompt set."),
        column(
            "check",
            Text,
            "",
            "`calibration`, `legal_calibration`, `token_by_token`, `legal_mass`, `pair_share`, `unscored_spellings`, \
             `prompt_sensitivity`; `templates`, `both_labellings`, `duplicates`, `context`.",
        ),
        column("verdict", Text, "", "`ok`, `warn` or `fail`."),
        column("meaning", Text, "", "What was looked at."),
        column("value", FloatOrNull, "", "What was found; null where nothing could be."),
        column("warn_at", FloatOrNull, "", "From where on it warns; null where it never does."),
        column("fail_at", FloatOrNull, "", "From where on it fails; null where it never does."),
    ],
};

pub(super) static TESTS: TableSpec = TableSpec {
    name: "calibration_tests",
    doc: "Whether drawn answers of one model are as frequent as its probabilities say, over all prompts.",
    columns: &[
        MODEL,
        column(
            "of",
            Text,
            "",
            "`p_b`: B among draws of either answer; `legal_mass`: either answer among all draws.",
        ),
        column("prompts", Int, "", "Prompts with at least one draw that counts."),
        column("draws", Int, "", "Draws that count."),
        column("observed", FloatOrNull, "", "Share of them that are B, or legal."),
        column("expected", FloatOrNull, "", "That share according to the probabilities."),
        column("observed_lo", FloatOrNull, "", "Lower end of its 95% interval (Clopper and Pearson)."),
        column("observed_hi", FloatOrNull, "", "Upper end."),
        column(
            "deviance",
            Float,
            "",
            "Twice the log-likelihood ratio of frequencies against probabilities, over prompts.",
        ),
        column("expected_deviance", Float, "", "Its mean under the null."),
        column(
            "p",
            Float,
            "",
            "Share of draws from the null with at least this deviance (the observed one counted in).",
        ),
        column("q", Float, "", "The same, corrected for all models and both tests (Benjamini-Hochberg)."),
    ],
};

pub(super) static BINS: TableSpec = TableSpec {
    name: "calibration",
    doc: "Drawn answers of one model on prompts with similar p_b. Bins without draws are left out.",
    columns: &[
        MODEL,
        column("bin", Int, "", "Number of the bin, from 0."),
        column("prompts", Int, "", "Prompts in it."),
        column("draws", Int, "", "Draws of either answer to them."),
        column("b", Int, "", "Those that are B."),
        column("lo", Float, "", "Least p_b of the bin."),
        column("hi", Float, "", "Where the bin ends."),
        column("p_b", Float, "", "Mean p_b, prompts weighted by draws."),
        column("observed", Float, "", "Share of B among the draws."),
        column(
            "observed_lo",
            Float,
            "",
            "Lower end of its 95% interval (Clopper and Pearson; if p_b varies in the bin, too wide).",
        ),
        column("observed_hi", Float, "", "Upper end."),
    ],
};

pub(super) static COMPONENTS: TableSpec = TableSpec {
    name: "variance_components",
    doc: "Where one model's delta varies: nested analysis of variance over prompts.",
    columns: &[
        MODEL,
        column(
            "component",
            Text,
            "",
            "`scenario`; `template` within scenario; `prompt` within template (none where every template has one prompt in a scenario: \
             it is in `template` then).",
        ),
        column("groups", IntOrNull, "", "Number of scenarios, of templates in scenarios, of prompts."),
        column(
            "variance",
            FloatOrNull,
            "nat²",
            "Estimate; below zero where groups differ less than chance would have them.",
        ),
        column(
            "share",
            FloatOrNull,
            "",
            "Share of all variance, estimates below zero counted as zero: the intraclass correlation.",
        ),
        column("share_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over templates."),
        column("share_hi", FloatOrNull, "", "Upper end."),
    ],
};

pub(super) static SENSITIVITY: TableSpec = TableSpec {
    name: "prompt_sensitivity",
    doc: "How far one adapter moves delta on the same prompt, against how far prompts of one scenario lie apart on the base. Empty \
          without adapters.",
    columns: &[
        MODEL,
        column(
            "verdict",
            Text,
            "",
            "`fine-tuning moves more` or `wording moves more` where the interval of the ratio leaves out 1; else `not resolved`.",
        ),
        column("prompts", Int, "", "Number of prompts."),
        column("change", Float, "nat", "Root mean square of delta minus the base's on the same prompt."),
        column(
            "change_of_scenarios",
            Float,
            "nat",
            "The same of the means of scenarios: what is left of it where wordings are averaged over.",
        ),
        column(
            "wording",
            FloatOrNull,
            "nat",
            "Root mean square difference of two prompts of one scenario on the base: √2 · standard deviation within.",
        ),
        column(
            "ratio",
            FloatOrNull,
            "",
            "change / wording; null where wordings do not differ. 0 for an adapter that does nothing.",
        ),
        column("ratio_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over templates."),
        column("ratio_hi", FloatOrNull, "", "Upper end."),
    ],
};

pub(super) static POWER: TableSpec = TableSpec {
    name: "power",
    doc: "Which mean difference of delta between two models a study with these prompts finds, and what it takes to find a wanted one. \
          Empty without adapters.",
    columns: &[
        MODEL,
        column("minus", Text, "", "The model that is subtracted."),
        column("n", Int, "", "Prompts."),
        column("n_clusters", Int, "", "Templates that they come from."),
        column("mean", Float, "nat", "Mean difference of delta."),
        column("error", FloatOrNull, "nat", "Its standard error over templates; null with one."),
        column(
            "detectable",
            FloatOrNull,
            "nat",
            "Smallest mean difference that a two-sided t-test at the level of 5% finds in 80% of such studies.",
        ),
        column("wanted", Float, "nat", "The setting `detect`."),
        column(
            "clusters_needed",
            IntOrNull,
            "",
            "Templates with which that one is detectable, if differences spread as here; null if 100,000 are too few.",
        ),
    ],
};

pub(super) static SAMPLES: TableSpec = TableSpec {
    name: "samples",
    doc: "Answers drawn from one model to one prompt.",
    columns: &[
        MODEL,
        PROMPT_ID,
        SCENARIO,
        column("draws", Int, "", "Number of draws."),
        column("a", Int, "", "Those that begin with a scored spelling of answer A."),
        column("b", Int, "", "The same of B."),
        column("a_unscored", Int, "", "Those that begin with answer A as text, in other tokens."),
        column("b_unscored", Int, "", "The same of B."),
        column("neither", Int, "", "All others."),
        column("p_b", Float, "", "Probability of B among the two answers, as in `decisions`."),
        column("share_b", FloatOrNull, "", "b / (a + b); null where neither was drawn."),
        column("legal_mass", Float, "", "Probability of either answer, as in `decisions`."),
        column("delta", Float, "nat", "logp_b − logp_a from one pass, as in `decisions`."),
        column(
            "delta_by_token",
            Float,
            "nat",
            "The same from the models that were drawn from, token by token.",
        ),
        column(
            "pair_share",
            Float,
            "",
            "Share of the legal mass that the primary pair holds, as in `decisions`.",
        ),
    ],
};
