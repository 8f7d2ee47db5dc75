//! The tables of the attention analysis.

use crate::decide::{MODEL, PROMPT_ID, SCENARIO, column};
use lorascope_record::ColumnKind::{Float, FloatOrNull, Int, Text};
use lorascope_record::{ColumnSpec, TableSpec};

const LAYER: ColumnSpec = column("layer", Int, "", "Layer, from 0.");
const HEAD: ColumnSpec = column("head", Int, "", "Query head, from 0.");
const SPAN: ColumnSpec = column(
    "span",
    Text,
    "",
    "Named span of the prompt, without the tokens of spans inside it; `other`: tokens of none; `first_token`: the first one by \
     itself (BOS where there is one). Together they are all tokens up to the decision point.",
);
const MINUS: ColumnSpec = column("minus", Text, "", "The model that is subtracted.");
const IN_SCENARIO: ColumnSpec = column(
    "scenario",
    Text,
    "",
    "Prompts of this scenario (attention mass only), or `all prompts`; those that have the span.",
);
const MEASURE: ColumnSpec = column(
    "measure",
    Text,
    "",
    "`mass`: attention from the decision point. `norm_share`: share of Σ pattern · ‖value result‖ (Kobayashi et al. 2020). \
     `write`: what the head writes from the span's tokens along the decision direction, in logits towards B; over all spans it \
     is the head's direct logit attribution. `copying`: how much that write raises the logits of the very tokens above the mean \
     over all tokens of spans, final norm frozen.",
);
const N: ColumnSpec = column("n", Int, "", "Prompts.");
const N_CLUSTERS: ColumnSpec = column("n_clusters", Int, "", "Templates that they come from.");
const LO: ColumnSpec = column("lo", Float, "", "Lower end of the 95% bootstrap interval over templates.");
const HI: ColumnSpec = column("hi", Float, "", "Upper end of it.");

pub(super) static EACH: TableSpec = TableSpec {
    name: "attention",
    doc: "What one head of one model reads of one span at the decision point of one prompt. Only with `each_prompt`.",
    columns: &[
        MODEL,
        PROMPT_ID,
        SCENARIO,
        LAYER,
        HEAD,
        SPAN,
        column("mass", Float, "", "Attention mass; over all spans it is 1."),
        column(
            "norm_share",
            Float,
            "",
            "Share of pattern · ‖value result‖, the value taken through the head's slice of the output projection, adapter \
             included, and the frozen post-attention norm where there is one.",
        ),
        column(
            "write",
            Float,
            "logit",
            "What is written from there along the decision direction, towards B.",
        ),
        column(
            "copying",
            FloatOrNull,
            "logit",
            "How much that raises the logits of the span's own tokens; null for `other` and `first_token`.",
        ),
    ],
};

pub(super) static MEANS: TableSpec = TableSpec {
    name: "attention_means",
    doc: "Mean of one measure of one head and span over prompts.",
    columns: &[
        MODEL,
        IN_SCENARIO,
        LAYER,
        HEAD,
        SPAN,
        MEASURE,
        N,
        N_CLUSTERS,
        column("mean", Float, "", "Mean over prompts; a share, or logits for `write` and `copying`."),
        LO,
        HI,
    ],
};

pub(super) static DIFFERENCES: TableSpec = TableSpec {
    name: "attention_differences",
    doc: "How one measure of one head and span differs between two models, paired by prompt, and whether the two are \
          different, equivalent, or neither is shown.",
    columns: &[
        MODEL,
        MINUS,
        IN_SCENARIO,
        LAYER,
        HEAD,
        SPAN,
        MEASURE,
        N,
        N_CLUSTERS,
        column(
            "family",
            Int,
            "",
            "Tests that are corrected together: all heads and spans of all comparisons of this scenario and measure.",
        ),
        column("mean", Float, "", "Mean difference; positive where `model` has more."),
        LO,
        HI,
        column("p", Float, "", "Two-sided sign-flip permutation p-value, whole templates flipped together."),
        column("q", Float, "", "Benjamini–Hochberg adjusted p-value."),
        column(
            "effect",
            FloatOrNull,
            "",
            "Mean over standard deviation; null where differences do not vary.",
        ),
        column("margin", FloatOrNull, "", "Margin of equivalence; null for measures that are no shares."),
        column(
            "p_equivalence",
            FloatOrNull,
            "",
            "p-value of two one-sided t-tests that the mean lies the margin or more from zero; null without margin, and with one \
             template.",
        ),
        column("q_equivalence", FloatOrNull, "", "Benjamini–Hochberg adjusted, within the same family."),
        column(
            "verdict",
            Text,
            "",
            "`different`: q ≤ 0.05. `equivalent`: within the margin at q_equivalence ≤ 0.05. `small`: both, a difference that is \
             smaller than the margin. `not resolved`: neither.",
        ),
    ],
};

pub(super) static SCORES: TableSpec = TableSpec {
    name: "attention_scores",
    doc: "Through which products of queries and keys the scores of a span changed between two models, before softmax and before \
          any soft cap: mean over prompts of the mean change of its tokens' scores at the decision point, less the change that \
          all scores share (mean over keys by the second model's pattern), which changes no pattern. The parts of a head and span \
          add up to its whole change.",
    columns: &[
        MODEL,
        MINUS,
        LAYER,
        HEAD,
        SPAN,
        column(
            "part",
            Text,
            "",
            "`q_adapter`: what the adapters' factors of the query projection add, against the second model's keys; `q_inputs`: the \
             rest of the query's change, the base's weights on changed inputs; `k_adapter`, `k_inputs`: the same of keys, against \
             the second model's query; `both`: change of query times change of key. Where queries and keys are normalised (Qwen3, \
             Gemma-3) no factor acts linearly on scores, and there are `q`, `k` and `both`. `total`: their sum.",
        ),
        N,
        N_CLUSTERS,
        column("mean", Float, "logit", "Mean change of the score; positive where `model` attends more."),
        LO,
        HI,
    ],
};

pub(super) static WRITES: TableSpec = TableSpec {
    name: "attention_writes",
    doc: "Through which factor what a head writes along the decision direction changed between two models; the parts add up to \
          the difference of its direct logit attribution.",
    columns: &[
        MODEL,
        MINUS,
        LAYER,
        HEAD,
        column(
            "part",
            Text,
            "",
            "`pattern`: other attention to the second model's values; `v_adapter`: what the adapters' factors of the value \
             projection add, under the second model's pattern; `v_inputs`: the rest of the values' change; `pattern_and_v`: both \
             changes together; `o_adapter`: what the adapters' change of the output projection reads of the first model's z; \
             `scales`: norm scales, and a replaced output matrix. `total`: their sum.",
        ),
        N,
        N_CLUSTERS,
        column("mean", Float, "logit", "Mean change; positive towards B."),
        LO,
        HI,
    ],
};

pub(super) static HEADS: TableSpec = TableSpec {
    name: "attention_heads",
    doc: "What kind of head each is.",
    columns: &[
        MODEL,
        LAYER,
        HEAD,
        column(
            "kind",
            Text,
            "",
            "`previous_token`: mean attention to the token before, on random tokens that repeat. `induction`: there, mean \
             attention to what came after the same token the first time. `span_copying`: how much the head's write at the decision \
             point raises the logits of the tokens of spans that it attends to, in logits above the mean over all tokens of spans.",
        ),
        column("n", Int, "", "Random sequences, or prompts."),
        column("mean", Float, "", "Mean score."),
        LO,
        HI,
        column("change", FloatOrNull, "", "Mean paired difference to the base; null for the base."),
        column("change_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval."),
        column("change_hi", FloatOrNull, "", "Upper end of it."),
    ],
};

pub(super) static CHECK: TableSpec = TableSpec {
    name: "attention_check",
    doc: "Whether spans are complete: the largest error over all heads of one model on one prompt.",
    columns: &[
        MODEL,
        PROMPT_ID,
        column("mass_error", Float, "", "Largest distance of a head's masses, added up over spans, from 1."),
        column(
            "change_error",
            FloatOrNull,
            "logit",
            "Largest distance between the parts of a head's change of its write (model minus base), added up, and the difference \
             of its writes over spans; null for the base.",
        ),
    ],
};
