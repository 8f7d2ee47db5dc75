//! A circuit as data: components, the connections between them, and what changed from another circuit.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

/// One circuit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphPanel {
    /// Panel title: a model or a scenario, usually; empty for none.
    pub title: String,
    /// Components. One of the same name stands at the same place in every panel.
    pub nodes: Vec<GraphNode>,
    /// Connections, from an earlier component to a later one.
    pub edges: Vec<GraphEdge>,
}

/// A component of the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphNode {
    /// Unique name within the panel, drawn as its label: `L5.H3`, `L7.MLP`, `embed`, `logits`.
    pub id: String,
    /// Where in the model it stands.
    pub place: GraphPlace,
    /// Its signed effect, which becomes its colour; `None` leaves it uncoloured.
    pub weight: Option<f64>,
    /// Interval of the weight; in the numbers beside the drawing and under the pointer.
    #[serde(default)]
    pub interval: Option<(f64, f64)>,
    /// Whether it belongs to the circuit; components that don't have no outline.
    #[serde(default = "yes")]
    pub member: bool,
    /// What became of it, if the figure shows a difference of two circuits.
    #[serde(default)]
    pub change: Option<Change>,
}

/// Where a component stands; the order is that of the computation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GraphPlace {
    /// Before the first layer.
    Embed,
    /// A head, or the whole attention, of this layer.
    Attention(usize),
    /// The MLP of this layer; it may read the attention of the same layer.
    Mlp(usize),
    /// After the last layer.
    Logits,
}

/// A connection of two components.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GraphEdge {
    /// Name of the sender.
    pub from: String,
    /// Name of the receiver, which stands later.
    pub to: String,
    /// By which of a head's inputs it is received, where that is told apart.
    #[serde(default)]
    pub input: Option<HeadInput>,
    /// Its signed effect: the width is its size, the colour and the mark at the end its sign. `None` is a
    /// thin line without either.
    pub weight: Option<f64>,
    /// Interval of the weight; in the numbers beside the drawing and under the pointer.
    #[serde(default)]
    pub interval: Option<(f64, f64)>,
    /// What became of it, if the figure shows a difference of two circuits.
    #[serde(default)]
    pub change: Option<Change>,
}

/// An input of an attention head; drawn from left to right in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeadInput {
    /// The query.
    Query,
    /// The key.
    Key,
    /// The value.
    Value,
}

/// What became of a part of one circuit in another. Each has a line style of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    /// In both.
    Shared,
    /// Only in the second.
    Gained,
    /// Only in the first.
    Lost,
    /// In both, with different weights.
    Reweighted,
}

impl Change {
    /// All, in the order of the legend.
    pub(crate) const ALL: [Self; 4] = [Self::Shared, Self::Gained, Self::Lost, Self::Reweighted];

    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Gained => "gained",
            Self::Lost => "lost",
            Self::Reweighted => "re-weighted",
        }
    }

    /// Its line style, which tells it without colour.
    pub(crate) fn dashes(self) -> Option<&'static str> {
        match self {
            Self::Shared => None,
            Self::Gained => Some("9 3"),
            Self::Lost => Some("1.5 3"),
            Self::Reweighted => Some("8 3 1.5 3"),
        }
    }
}

impl HeadInput {
    /// `q`, `k` or `v`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Query => "q",
            Self::Key => "k",
            Self::Value => "v",
        }
    }
}

impl GraphPlace {
    /// The layer, if it is in one.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Attention(layer) | Self::Mlp(layer) => Some(layer),
            Self::Embed | Self::Logits => None,
        }
    }

    /// Position in the order of the computation.
    fn step(self) -> (usize, usize) {
        match self {
            Self::Embed => (0, 0),
            Self::Attention(layer) => (1, 2 * layer),
            Self::Mlp(layer) => (1, 2 * layer + 1),
            Self::Logits => (2, 0),
        }
    }

    /// Whether what arises here can be read at `other`.
    pub fn is_before(self, other: Self) -> bool {
        self.step() < other.step()
    }
}

impl GraphPanel {
    /// The node of this name.
    pub(crate) fn node(&self, id: &str) -> Option<&GraphNode> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// What is wrong with the names, if anything: unique, known, and edges in the order of computation.
    pub(crate) fn structure_problem(&self) -> Option<String> {
        let mut seen = HashSet::new();
        for node in &self.nodes {
            if node.id.is_empty() {
                return Some("a node has an empty id; ids are the labels".to_owned());
            }
            if !seen.insert(&node.id) {
                return Some(format!("node id `{}` appears twice; give each node one of its own", node.id));
            }
        }
        let mut seen = HashSet::new();
        for edge in &self.edges {
            let GraphEdge { from, to, input, .. } = edge;
            for end in [from, to] {
                if self.node(end).is_none() {
                    return Some(format!("edge `{}` names `{end}`, which is no node here", edge.name()));
                }
            }
            let (sender, receiver) = (self.node(from)?.place, self.node(to)?.place);
            if !sender.is_before(receiver) {
                let name = edge.name();
                return Some(format!(
                    "edge `{name}` runs backwards: `{to}` is computed before `{from}` or with it"
                ));
            }
            if input.is_some() && !matches!(receiver, GraphPlace::Attention(_)) {
                return Some(format!("edge `{}` names an input of a head, but `{to}` is none", edge.name()));
            }
            if !seen.insert((from, to, input)) {
                return Some(format!("edge `{}` appears twice; add the two up, or drop one", edge.name()));
            }
        }
        None
    }
}

impl GraphEdge {
    /// `L1.H0 → L5.H3`, with the input in brackets.
    pub(crate) fn name(&self) -> String {
        let input = self.input.map(|input| format!(" ({})", input.name())).unwrap_or_default();
        format!("{} → {}{input}", self.from, self.to)
    }
}

fn yes() -> bool {
    true
}
