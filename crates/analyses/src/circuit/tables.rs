//! The tables of circuits.

use crate::decide::{PROMPT_ID, column};
use lorascope_record::ColumnKind::{Bool, BoolOrNull, Float, FloatOrNull, Int, IntOrNull, Text};
use lorascope_record::{ColumnSpec, TableSpec};

const SOURCE: ColumnSpec = column("source", Text, "", "Model whose behaviour the circuit brings.");
const TARGET: ColumnSpec = column("target", Text, "", "Model that it is brought into.");
const COMPONENT: ColumnSpec = column(
    "component",
    Text,
    "",
    "Head or MLP at the decision point, as `result:LAYER.HEAD` or `mlp_out:LAYER`.",
);
const LAYER: ColumnSpec = column("layer", Int, "", "Layer, from 0.");
const HEAD: ColumnSpec = column("head", IntOrNull, "", "Head; null for an MLP.");
const FAITHFULNESS: ColumnSpec = column(
    "faithfulness",
    FloatOrNull,
    "",
    "Share of the behaviour that arrives, f = Σ sign(d)·change / Σ |d|, on held-out prompts; null where source and target \
     differ on none.",
);

pub(super) static COMPONENTS: TableSpec = TableSpec {
    name: "circuit_components",
    doc: "Every component of one source and target: its effect by itself, and whether it is a member of the circuit. Measured \
          on the prompts that the circuit was grown on.",
    columns: &[
        SOURCE,
        TARGET,
        COMPONENT,
        LAYER,
        HEAD,
        column(
            "rank",
            Int,
            "",
            "Place in the order in which the faithfulness curve takes components in, from 0.",
        ),
        column(
            "step",
            IntOrNull,
            "",
            "Step of growth at which it came in, from 0; null for components that are no members.",
        ),
        column("member", Bool, "", "Whether it is in the circuit after pruning."),
        column("pruned", Bool, "", "Whether growth took it in and pruning took it out again."),
        column(
            "in_half_a",
            Bool,
            "",
            "Whether it is in the circuit grown on the first half of those prompts.",
        ),
        column("in_half_b", Bool, "", "Whether it is in the circuit grown on the second half."),
        column(
            "frequency",
            FloatOrNull,
            "",
            "Share of bootstrap samples of those prompts in whose circuits it is (circuit_samples); null where there are no samples: \
             none asked for, or one cluster only.",
        ),
        column(
            "alone",
            FloatOrNull,
            "",
            "Share of the behaviour that it brings by itself; null where source and target do not differ.",
        ),
        column(
            "reached",
            FloatOrNull,
            "",
            "Share that the growing circuit had reached with it; null for no members.",
        ),
    ],
};

pub(super) static SAMPLES: TableSpec = TableSpec {
    name: "circuit_samples",
    doc: "A member of a circuit that was grown on a bootstrap sample of the prompts for growing: whole clusters drawn with \
          replacement, everything else as for the circuit itself. Samples without a circuit have no row.",
    columns: &[
        SOURCE,
        TARGET,
        column("sample", Int, "", "Which sample, from 0."),
        COMPONENT,
        LAYER,
        HEAD,
        column("step", Int, "", "Place among the members in the order in which they came in, from 0."),
        column("reached", Float, "", "Share that the growing circuit had reached with it, on the sample."),
    ],
};

pub(super) static MEMBERS: TableSpec = TableSpec {
    name: "circuit_members",
    doc: "Every member of a circuit on held-out prompts: what its removal costs (minimality). Null where source and target do not \
          differ on any of them.",
    columns: &[
        SOURCE,
        TARGET,
        COMPONENT,
        LAYER,
        HEAD,
        column(
            "cost",
            FloatOrNull,
            "",
            "Faithfulness of the circuit minus that of the circuit without the component.",
        ),
        column("cost_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over prompt clusters."),
        column("cost_hi", FloatOrNull, "", "Upper end of its interval."),
        column(
            "p",
            FloatOrNull,
            "",
            "Share of random components outside the circuit whose addition changes its faithfulness at least as much, the \
             component counted in: small where the member does more than a stranger.",
        ),
    ],
};

pub(super) static CURVE: TableSpec = TableSpec {
    name: "circuit_curve",
    doc: "Faithfulness of the first components of a circuit's order on held-out prompts, and of random orders.",
    columns: &[
        SOURCE,
        TARGET,
        column("size", Int, "", "Number of components."),
        column("fraction", Float, "", "Share of all components."),
        FAITHFULNESS,
        column(
            "faithfulness_lo",
            FloatOrNull,
            "",
            "Lower end of its 95% bootstrap interval over prompt clusters.",
        ),
        column("faithfulness_hi", FloatOrNull, "", "Upper end of its interval."),
        column("random", FloatOrNull, "", "Mean faithfulness of equally many components in random orders."),
    ],
};

pub(super) static TESTS: TableSpec = TableSpec {
    name: "circuit_tests",
    doc: "What was tested of a circuit as a whole, on held-out prompts.",
    columns: &[
        SOURCE,
        TARGET,
        column(
            "test",
            Text,
            "",
            "`faithfulness` (sufficiency: against random circuits of equal size), `complement` (everything but the circuit; \
             partial necessity: against complements of random circuits), `all` (every component), `grown` (faithfulness of the \
             finished circuit on the prompts that it was grown on), `cpr` and `cmd` (areas under f and |1 − f| over the fraction of \
             components), `stability` (Jaccard index of the circuits of two halves of the prompts that the circuit was grown on, against random \
             circuits), `bootstrap` (mean Jaccard index over all pairs of circuits of bootstrap samples of those prompts, against \
             as many random circuits).",
        ),
        column("size", Int, "", "Components of the circuit."),
        column(
            "value",
            FloatOrNull,
            "",
            "What was measured; null where it is undefined: source and target do not differ, or there is no circuit to compare.",
        ),
        column("value_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over prompt clusters."),
        column("value_hi", FloatOrNull, "", "Upper end of its interval."),
        column("null_mean", FloatOrNull, "", "Mean over random circuits."),
        column("null_lo", FloatOrNull, "", "2.5th percentile over random circuits."),
        column("null_hi", FloatOrNull, "", "97.5th percentile over random circuits."),
        column("p", FloatOrNull, "", "Share of random circuits that do as well, the circuit counted in."),
        column("n_random", IntOrNull, "", "Random circuits."),
    ],
};

pub(super) static PAIRS: TableSpec = TableSpec {
    name: "circuit_pairs",
    doc: "How two members of a circuit act together, on held-out prompts. Null where source and target do not differ on any of \
          them.",
    columns: &[
        SOURCE,
        TARGET,
        column("one", Text, "", "A member."),
        column("other", Text, "", "Another, later one."),
        column("alone_one", FloatOrNull, "", "Share of the behaviour that the first brings by itself."),
        column("alone_other", FloatOrNull, "", "Share that the second brings by itself."),
        column("together", FloatOrNull, "", "Share that both bring."),
        column("interaction", FloatOrNull, "", "together − alone_one − alone_other; 0 if effects added up."),
        column(
            "interaction_lo",
            FloatOrNull,
            "",
            "Lower end of its 95% bootstrap interval over prompt clusters.",
        ),
        column("interaction_hi", FloatOrNull, "", "Upper end of its interval."),
    ],
};

pub(super) static EDGES: TableSpec = TableSpec {
    name: "circuit_edges",
    doc: "Components and edges of all circuits of one target, patched from each source on held-out prompts.",
    columns: &[
        SOURCE,
        TARGET,
        column("sender", Text, "", "The component whose output is the source's."),
        column(
            "receiver",
            Text,
            "",
            "The one reader that sees it: `head:LAYER.HEAD`, `mlp:LAYER`, `logits`; `all` for the component itself, seen by \
             everything after it.",
        ),
        PROMPT_ID,
        column("change", Float, "logit", "Change of delta."),
    ],
};

pub(super) static OVERLAP: TableSpec = TableSpec {
    name: "circuit_overlap",
    doc: "How much two circuits have in common, against random circuits of the same sizes.",
    columns: &[
        column("source_one", Text, "", "Source of the first circuit."),
        column("target_one", Text, "", "Its target."),
        column("source_other", Text, "", "Source of the second circuit."),
        column("target_other", Text, "", "Its target."),
        column("size_one", Int, "", "Components of the first."),
        column("size_other", Int, "", "Components of the second."),
        column("shared", Int, "", "Components in both."),
        column(
            "jaccard",
            FloatOrNull,
            "",
            "Shared components over components in either; null for two empty circuits.",
        ),
        column(
            "expected",
            FloatOrNull,
            "",
            "Mean Jaccard index of random circuits with as many heads and MLPs each.",
        ),
        column(
            "p",
            FloatOrNull,
            "",
            "Share of such random pairs that overlap at least as much, the pair counted in.",
        ),
    ],
};

pub(super) static CROSSED: TableSpec = TableSpec {
    name: "circuit_crossed",
    doc: "One source's behaviour brought through the components of another source's circuit, on held-out prompts. Circuits without \
          members have no row.",
    columns: &[
        SOURCE,
        TARGET,
        column("circuit_of", Text, "", "Source whose circuit it is."),
        column("size_own", Int, "", "Components of the source's own circuit."),
        column("size", Int, "", "Components of the other circuit."),
        column("own", FloatOrNull, "", "Share of the behaviour that the own circuit brings (faithfulness)."),
        column(
            "value",
            FloatOrNull,
            "",
            "Share that the other circuit brings; null where source and target do not differ.",
        ),
        column("value_lo", FloatOrNull, "", "Lower end of its 95% bootstrap interval over prompt clusters."),
        column("value_hi", FloatOrNull, "", "Upper end of its interval."),
        column(
            "less",
            FloatOrNull,
            "",
            "own − value, paired by prompt: above zero where the own circuit serves better.",
        ),
        column("less_lo", FloatOrNull, "", "Lower end of its interval."),
        column("less_hi", FloatOrNull, "", "Upper end of its interval."),
        column(
            "null_mean",
            FloatOrNull,
            "",
            "Mean over random circuits with as many heads and MLPs as the other.",
        ),
        column("null_lo", FloatOrNull, "", "2.5th percentile over random circuits."),
        column("null_hi", FloatOrNull, "", "97.5th percentile over random circuits."),
        column(
            "p",
            FloatOrNull,
            "",
            "Share of random circuits that bring as much, the other circuit counted in.",
        ),
        column("n_random", IntOrNull, "", "Random circuits."),
    ],
};

pub(super) static DIFFERENCES: TableSpec = TableSpec {
    name: "circuit_differences",
    doc: "Components and edges of two circuits of one target, paired by held-out prompt.",
    columns: &[
        column("source_one", Text, "", "Source of the first circuit."),
        column("source_other", Text, "", "Source of the second circuit."),
        TARGET,
        column("sender", Text, "", "The component."),
        column("receiver", Text, "", "The reader; `all` for the component itself."),
        column(
            "status",
            Text,
            "",
            "`shared`: clear in both, no clear difference; `reweighted`: clear in both and different; `lost`: clear in the \
             first only, and different; `gained`: clear in the second only, and different; `unclear`: anything else. Clear \
             means that a 95% interval excludes zero.",
        ),
        column(
            "in_one",
            BoolOrNull,
            "",
            "Whether the component is a member of the first circuit; null for edges.",
        ),
        column("in_other", BoolOrNull, "", "Whether it is a member of the second; null for edges."),
        column("change_one", Float, "logit", "Mean change of delta from the first source."),
        column("change_other", Float, "logit", "Mean change of delta from the second source."),
        column("difference", Float, "logit", "change_other − change_one."),
        column(
            "difference_lo",
            Float,
            "logit",
            "Lower end of its 95% bootstrap interval over prompt clusters.",
        ),
        column("difference_hi", Float, "logit", "Upper end of its interval."),
    ],
};
