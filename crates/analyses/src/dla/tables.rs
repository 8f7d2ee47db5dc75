//! The tables of direct logit attribution, and the components that their rows are about.

use crate::decide::{MODEL, PROMPT_ID, SCENARIO, column};
use lorascope_record::ColumnKind::{Bool, Float, FloatOrNull, Int, IntOrNull, Text};
use lorascope_record::{ColumnSpec, TableSpec};

const KIND: ColumnSpec = column(
    "kind",
    Text,
    "",
    "`embed`, `pos_embed` (GPT-2), `head`, `attn_bias` (where a model has one), `mlp` (its bias included), `final_bias` (of a \
     LayerNorm), `steering` (vectors that a standing edit adds after a layer), `softcap` (what the soft cap changes), `neuron` (on request).",
);
const LAYER: ColumnSpec = column("layer", IntOrNull, "", "Layer, from 0; null outside the layers.");
const HEAD: ColumnSpec = column("head", IntOrNull, "", "Query head, from 0; null but for heads.");

pub(super) static CONTRIBUTIONS: TableSpec = TableSpec {
    name: "dla",
    doc: "What one component of one model contributes to the difference of the two deciding logits at the decision point of one \
          prompt: logit of B's token minus logit of A's. All rows of a model and prompt but `softcap` and `neuron` add up to the \
          difference before the soft cap; a neuron is a part of its layer's `mlp`.",
    columns: &[
        MODEL,
        PROMPT_ID,
        SCENARIO,
        KIND,
        LAYER,
        HEAD,
        column("neuron", IntOrNull, "", "Inner unit of the MLP, from 0; null but for neurons."),
        column("contribution", Float, "logit", "Contribution to the logit difference; positive towards B."),
        column(
            "base_share",
            FloatOrNull,
            "logit",
            "What of it runs through the base's weights of the component's last projection (o_proj of heads, down_proj of MLPs, \
             the embedding); its input is the model's own. Null for the soft cap.",
        ),
        column(
            "adapter_share",
            FloatOrNull,
            "logit",
            "The rest: what runs through the adapter's change of that projection (low-rank path, DoRA's gain, replaced weights).",
        ),
    ],
};

pub(super) static CHECK: TableSpec = TableSpec {
    name: "dla_check",
    doc: "Completeness: whether the contributions of one model on one prompt add up to its own logit difference before the soft \
          cap, computed from the final normalised state and the output matrix.",
    columns: &[
        MODEL,
        PROMPT_ID,
        SCENARIO,
        column("n_components", Int, "", "Components that were added."),
        column("token_a", Int, "", "Id of the first token in which answer A differs."),
        column("token_b", Int, "", "Id of the first token in which answer B differs."),
        column("complete", Bool, "", "Whether the error is within 1e-4 · max(1, |pre_cap|)."),
        column("sum", Float, "logit", "Sum of the contributions."),
        column("pre_cap", Float, "logit", "The model's own logit difference before the soft cap."),
        column("error", Float, "logit", "sum − pre_cap."),
        column("softcap", Float, "logit", "What the soft cap changes; 0 without one."),
        column("delta", Float, "logit", "The logit difference after the soft cap."),
    ],
};

const SUMMARY_SCENARIO: ColumnSpec =
    column("scenario", Text, "", "Prompts of this scenario, or `all prompts`.");
const PART: ColumnSpec = column(
    "part",
    Text,
    "",
    "`all`: every prompt as it is. Where the set has label twins also `meaning`: the mean over the two labellings of each pair, and \
     `label`: half their difference, positive towards the label that is answer B of the first twin.",
);
const SUMMARY_KIND: ColumnSpec =
    column("kind", Text, "", "As in `dla`, without neurons; `total` is the sum of all but the soft cap.");
const N: ColumnSpec = column("n", Int, "", "Prompts, or pairs of twins.");
const N_CLUSTERS: ColumnSpec = column("n_clusters", Int, "", "Templates that they come from.");
const LO: ColumnSpec =
    column("lo", Float, "logit", "Lower end of the 95% bootstrap interval over templates.");
const HI: ColumnSpec = column("hi", Float, "logit", "Upper end of it.");

pub(super) static MEANS: TableSpec = TableSpec {
    name: "dla_means",
    doc: "Mean contribution of one component of one model over prompts.",
    columns: &[
        MODEL,
        SUMMARY_SCENARIO,
        PART,
        SUMMARY_KIND,
        LAYER,
        HEAD,
        N,
        N_CLUSTERS,
        column("mean", Float, "logit", "Mean contribution; positive towards B."),
        LO,
        HI,
        column("adapter_share", FloatOrNull, "logit", "Mean of the adapter's share; null for the soft cap."),
    ],
};

pub(super) static DIFFERENCES: TableSpec = TableSpec {
    name: "dla_differences",
    doc: "How the contribution of one component differs between two models, paired by prompt.",
    columns: &[
        MODEL,
        column("minus", Text, "", "The model that is subtracted."),
        SUMMARY_SCENARIO,
        PART,
        SUMMARY_KIND,
        LAYER,
        HEAD,
        N,
        N_CLUSTERS,
        column(
            "family",
            Int,
            "",
            "Tests that are corrected together: all components of all comparisons of this scenario and part, totals apart.",
        ),
        column("mean", Float, "logit", "Mean difference; positive where `model` contributes more towards B."),
        LO,
        HI,
        column("p", Float, "", "Two-sided sign-flip permutation p-value, whole templates flipped together."),
        column("q", FloatOrNull, "", "Benjamini–Hochberg adjusted p-value; null for totals."),
        column(
            "effect",
            FloatOrNull,
            "",
            "Mean over standard deviation of the differences; null where they do not vary.",
        ),
        column(
            "adapter_share",
            FloatOrNull,
            "logit",
            "What of the mean runs through the adapters' changes of the component's last projection; the rest is a changed input, \
             read through the base's weights. Null for the soft cap.",
        ),
    ],
};

/// What a contribution is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Embed,
    PosEmbed,
    Head,
    AttnBias,
    Mlp,
    FinalBias,
    Steering,
    Softcap,
    Neuron,
    /// The sum of all but the soft cap; in summaries only.
    Total,
}

impl Kind {
    const ALL: [Kind; 10] = [
        Kind::Embed,
        Kind::PosEmbed,
        Kind::Head,
        Kind::AttnBias,
        Kind::Mlp,
        Kind::FinalBias,
        Kind::Steering,
        Kind::Softcap,
        Kind::Neuron,
        Kind::Total,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Kind::Embed => "embed",
            Kind::PosEmbed => "pos_embed",
            Kind::Head => "head",
            Kind::AttnBias => "attn_bias",
            Kind::Mlp => "mlp",
            Kind::FinalBias => "final_bias",
            Kind::Steering => "steering",
            Kind::Softcap => "softcap",
            Kind::Neuron => "neuron",
            Kind::Total => "total",
        }
    }

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|k| k.name() == name)
    }

    /// Whether it is one of the parts that add up to the logit difference before the soft cap.
    pub fn adds_up(self) -> bool {
        !matches!(self, Kind::Softcap | Kind::Neuron | Kind::Total)
    }
}

/// A component of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Component {
    pub kind: Kind,
    pub layer: Option<usize>,
    pub head: Option<usize>,
}

impl Component {
    /// Outside the layers.
    pub fn whole(kind: Kind) -> Self {
        Self { kind, layer: None, head: None }
    }

    /// The head of a layer, or its MLP, from the columns of a table.
    pub fn unit(layer: i64, head: Option<i64>) -> Self {
        let number = |v: i64| usize::try_from(v).ok();
        let kind = if head.is_some() { Kind::Head } else { Kind::Mlp };
        Self { kind, layer: number(layer), head: head.and_then(number) }
    }

    /// A head or MLP as `patch` names it: `result:3.1`, `mlp_out:3`.
    pub fn unit_name(self) -> String {
        let layer = self.layer.unwrap_or_default();
        match self.head {
            Some(head) => format!("result:{layer}.{head}"),
            None => format!("mlp_out:{layer}"),
        }
    }

    /// Name for readers: `L12 H3`, `L12 MLP`.
    pub fn label(self) -> String {
        let layer = self.layer.map(|l| format!("L{l} ")).unwrap_or_default();
        let name = match self.kind {
            Kind::Head => format!("H{}", self.head.unwrap_or_default()),
            Kind::Mlp => "MLP".to_owned(),
            Kind::AttnBias => "attention bias".to_owned(),
            Kind::Embed => "embedding".to_owned(),
            Kind::PosEmbed => "position embedding".to_owned(),
            Kind::FinalBias => "bias of the final norm".to_owned(),
            Kind::Steering => "steering vector".to_owned(),
            other => other.name().to_owned(),
        };
        format!("{layer}{name}")
    }
}
