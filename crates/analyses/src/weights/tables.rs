//! The tables of the analysis of weights.

use crate::decide::{MODEL, column};
use lorascope_record::ColumnKind::{Bool, Float, FloatOrNull, Int, IntOrNull, Text, TextOrNull};
use lorascope_record::{ColumnSpec, TableSpec};

const OTHER: ColumnSpec = column("other", Text, "", "The other model.");
const OTHER_CONTROL: ColumnSpec = column(
    "control",
    TextOrNull,
    "",
    "Null where the other model itself is compared; `random` or `shuffled` where a control made from it is.",
);
const LAYER: ColumnSpec = column("layer", Int, "", "Layer, from 0.");
const MODULE: ColumnSpec = column("module", Text, "", "Linear map, e.g. `attn.q_proj`.");
const COMPONENT: ColumnSpec = column(
    "component",
    Int,
    "",
    "Component of the singular value decomposition of s·B·A, the largest first, from 0.",
);
const N_LAYERS: ColumnSpec = column("n_layers", Int, "", "Layers that they lie in.");
const TOKEN_A: ColumnSpec =
    column("token_a", Text, "", "Deciding token of answer A in the first prompt of the pair.");
const TOKEN_B: ColumnSpec = column("token_b", Text, "", "Deciding token of answer B there.");

pub(super) static WEIGHTS: TableSpec = TableSpec {
    name: "weights",
    doc: "One weight that an adapter changes. Spectral numbers are of s·B·A, the low-rank part of the change; with plain LoRA that \
          is the whole change. With DoRA and weights of an adapter's own the whole change is not low-rank: `delta_norm` and `ratio` \
          are of the whole, everything else of the low-rank part.",
    columns: &[
        MODEL,
        column("layer", IntOrNull, "", "Layer, from 0; null outside the linear maps of layers."),
        column(
            "module",
            Text,
            "",
            "Linear map of a layer, e.g. `attn.q_proj`, or the path in the checkpoint.",
        ),
        column(
            "kind",
            Text,
            "",
            "`low-rank`, `DoRA`, `replaced + low-rank`, `replaced`, `embedding` or `bias`.",
        ),
        column("rank", IntOrNull, "", "Rank of the factors; null without factors."),
        column(
            "parameters",
            IntOrNull,
            "",
            "Numbers in A and in the module's rows of B; parts of a fused matrix share A.",
        ),
        column("numerical_rank", IntOrNull, "", "Singular values above 1e-6 of the largest."),
        column("scale", FloatOrNull, "", "s: alpha/rank, or alpha/√rank."),
        column("delta_norm", Float, "", "‖ΔW‖_F of the whole change."),
        column("weight_norm", Float, "", "‖W‖_F of the base's weight."),
        column("ratio", FloatOrNull, "", "‖ΔW‖_F / ‖W‖_F; null where W is zero."),
        column(
            "share",
            FloatOrNull,
            "",
            "Share of ΔW's squared norm in that of all that the adapter changes.",
        ),
        column("factor_norm", FloatOrNull, "", "‖s·B·A‖_F."),
        column("spectral_norm", FloatOrNull, "", "Largest singular value of s·B·A."),
        column("stable_rank", FloatOrNull, "", "‖·‖_F² / ‖·‖₂²; null for a zero change."),
        column(
            "effective_rank",
            FloatOrNull,
            "",
            "exp of the entropy of the singular values divided by their sum (Roy & Vetterli 2007); null for a zero change.",
        ),
    ],
};

pub(super) static SPECTRUM: TableSpec = TableSpec {
    name: "weights_spectrum",
    doc: "One singular value of one update.",
    columns: &[
        MODEL,
        LAYER,
        MODULE,
        COMPONENT,
        column("singular_value", Float, "", "Of s·B·A."),
        column("share", FloatOrNull, "", "Share of ‖s·B·A‖²; null for a zero change."),
    ],
};

pub(super) static HEADS: TableSpec = TableSpec {
    name: "weights_heads",
    doc: "One head's slice of an update of attention: rows of q_proj, k_proj and v_proj, columns of o_proj.",
    columns: &[
        MODEL,
        LAYER,
        MODULE,
        column(
            "head",
            Int,
            "",
            "Query head for q_proj and o_proj, key/value head for k_proj and v_proj, from 0.",
        ),
        column("n_heads", Int, "", "Heads of the module: an even share is one over it."),
        column("norm", Float, "", "‖·‖_F of the slice of s·B·A."),
        column("weight_norm", Float, "", "‖·‖_F of the same slice of W."),
        column("ratio", FloatOrNull, "", "norm / weight_norm."),
        column("share", FloatOrNull, "", "Share of the module's ‖s·B·A‖²; null for a zero change."),
    ],
};

pub(super) static SIMILARITY: TableSpec = TableSpec {
    name: "weights_similarity",
    doc: "How alike the updates of one module are in two models, or in a model and a control. An adapter and its own controls \
          are compared too: what is left there does not depend on place (shuffled) or on direction (random).",
    columns: &[
        MODEL,
        OTHER,
        OTHER_CONTROL,
        LAYER,
        MODULE,
        column("components", Int, "", "Numerical rank of the first update."),
        column("other_components", Int, "", "Numerical rank of the second."),
        column("cosine", FloatOrNull, "", "⟨ΔW₁, ΔW₂⟩ / (‖ΔW₁‖·‖ΔW₂‖); null where one is zero."),
        column(
            "cosine_sd",
            Float,
            "",
            "Standard deviation of the cosine for uniformly random directions: 1/√(outputs·inputs).",
        ),
        column(
            "overlap_out",
            FloatOrNull,
            "",
            "Mean cos² of the principal angles between the spaces of left singular vectors (what the updates write into).",
        ),
        column(
            "chance_out",
            FloatOrNull,
            "",
            "Its expectation for random spaces: the larger number of components / outputs.",
        ),
        column("overlap_in", FloatOrNull, "", "The same for right singular vectors (what the updates read)."),
        column("chance_in", FloatOrNull, "", "Its expectation: the larger number of components / inputs."),
        column("product", Float, "", "⟨ΔW₁, ΔW₂⟩."),
        column("norm", Float, "", "‖ΔW₁‖."),
        column("other_norm", Float, "", "‖ΔW₂‖."),
    ],
};

pub(super) static SIMILARITY_SUMMARY: TableSpec = TableSpec {
    name: "weights_similarity_summary",
    doc: "Similarity of two models, or of a model and a control, over modules.",
    columns: &[
        MODEL,
        OTHER,
        OTHER_CONTROL,
        column("module", Text, "", "One linear map over all layers, or `all`."),
        column(
            "measure",
            Text,
            "",
            "`cosine`, `overlap_out`, `overlap_in`: means over blocks (module × layer); `cosine_whole`: the cosine of all blocks as \
             one vector.",
        ),
        column("n", Int, "", "Blocks that both models adapt and where the measure is defined."),
        N_LAYERS,
        column("family", Int, "", "Tests that are corrected together: all rows with a p-value."),
        column("mean", Float, "", "Mean (or the cosine of the whole)."),
        column("lo", Float, "", "Lower end of the 95% interval from resampling layers."),
        column("hi", Float, "", "Upper end of it."),
        column(
            "chance",
            FloatOrNull,
            "",
            "Mean expectation for random directions: 0 for cosines, k/d for overlaps.",
        ),
        column(
            "excess",
            FloatOrNull,
            "",
            "For a control: mean of (the models themselves − control), paired by block.",
        ),
        column("excess_lo", FloatOrNull, "", "Lower end of its 95% interval."),
        column("excess_hi", FloatOrNull, "", "Upper end of it."),
        column("p", FloatOrNull, "", "Two-sided sign-flip p-value of the excess, layers flipped together."),
        column("q", FloatOrNull, "", "Benjamini–Hochberg adjusted p."),
        column("effect", FloatOrNull, "", "Mean over standard deviation of the paired differences."),
    ],
};

const RANDOM_CONTROL: ColumnSpec = column(
    "control",
    TextOrNull,
    "",
    "Null for the adapter itself; `random` for the random control that is made from it.",
);

pub(super) static ALIGNMENT: TableSpec = TableSpec {
    name: "weights_alignment",
    doc: "How much of an update that writes into the residual stream (o_proj, down_proj) lies along the direction that the \
          difference of the two deciding logits reads, w = W_U[b] − W_U[a] through the final norm's weight and, where the family \
          has one, through the norm after the module.",
    columns: &[
        MODEL,
        RANDOM_CONTROL,
        LAYER,
        MODULE,
        TOKEN_A,
        TOKEN_B,
        column("n_prompts", Int, "", "Prompts whose deciding tokens are these two, in either role."),
        column(
            "alignment",
            FloatOrNull,
            "",
            "‖ΔWᵀw‖² / (‖ΔW‖²·‖w‖²): the share of ΔW's squared norm along w. Null for a zero change.",
        ),
        column("chance", Float, "", "Its expectation for a random w: 1/width."),
        column("ratio", FloatOrNull, "", "alignment / chance: 1 is what a random direction gets."),
        column("ratio_95", FloatOrNull, "", "The ratio that 5% of random directions pass."),
        column(
            "gain",
            FloatOrNull,
            "logit",
            "‖ΔWᵀw‖: largest change of the logit difference per unit of input, at a final scale of 1.",
        ),
        column(
            "p",
            FloatOrNull,
            "",
            "Share of random directions with at least this alignment (of 1000, this one counted in).",
        ),
        column(
            "q",
            FloatOrNull,
            "",
            "Benjamini–Hochberg adjusted over all rows that are no controls; null for controls.",
        ),
    ],
};

pub(super) static ALIGNMENT_SUMMARY: TableSpec = TableSpec {
    name: "weights_alignment_summary",
    doc: "Alignment with the decision over layers.",
    columns: &[
        MODEL,
        RANDOM_CONTROL,
        column("module", Text, "", "`attn.o_proj`, `mlp.down_proj`, or `all`."),
        TOKEN_A,
        TOKEN_B,
        column("n", Int, "", "Updates."),
        N_LAYERS,
        column("above", IntOrNull, "", "Updates with q ≤ 0.05; null for controls."),
        column("mean", Float, "", "Mean ratio; 1 is what a random direction gets."),
        column("lo", Float, "", "Lower end of the 95% interval from resampling layers."),
        column("hi", Float, "", "Upper end of it."),
    ],
};

pub(super) static COMPONENTS: TableSpec = TableSpec {
    name: "weights_components",
    doc: "One component of an update: σ·u·vᵀ reads v and writes u. The sign of a component is a convention, since u and v can change \
          theirs together: of u and −u that one is taken which gives some token the largest logit. An input of the opposite sign \
          exchanges what it promotes and suppresses.",
    columns: &[
        MODEL,
        LAYER,
        MODULE,
        COMPONENT,
        column(
            "promotes",
            TextOrNull,
            "",
            "JSON: tokens with the largest logits when u alone goes through the final norm and the output matrix, with these \
             logits. Null where the module does not write into the residual stream.",
        ),
        column("suppresses", TextOrNull, "", "JSON: the same for −u."),
        column("singular_value", Float, "", "σ."),
        column("share", Float, "", "Share of the module's ‖s·B·A‖²."),
        column("total_share", Float, "", "Share of ‖s·B·A‖² of all of the adapter's updates."),
        column(
            "cosine_w",
            FloatOrNull,
            "",
            "Cosine of u with the decision direction w of the most frequent pair of tokens; positive: u favours its token_b.",
        ),
    ],
};

pub(super) static INTRUDERS: TableSpec = TableSpec {
    name: "weights_intruders",
    doc: "One of the largest left singular vectors of W + ΔW, against those of W (intruder dimensions, Shuttleworth et al. 2024).",
    columns: &[
        MODEL,
        RANDOM_CONTROL,
        LAYER,
        MODULE,
        column("component", Int, "", "Singular vector of W + ΔW, the largest first, from 0."),
        column("nearest", Int, "", "The singular vector of W with the largest cosine, counted likewise."),
        column("intruder", Bool, "", "Whether max_cosine is below the setting `intruder_cosine`."),
        column("singular_value", Float, "", "Of W + ΔW."),
        column("max_cosine", Float, "", "Largest |cosine| with any left singular vector of W."),
    ],
};
