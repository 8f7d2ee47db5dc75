//! Invented circuits, sweeps over layers and heads, and ranked lists, of the sizes that analyses have.

use lorascope_report::{
    BarPanel, BarSeries, Change, ColorKey, Figure, FigureKind, GraphEdge, GraphNode, GraphPanel, GraphPlace,
    HeadInput, HeatmapPanel, HeatmapScale,
};

/// An invented number in [-1, 1) for each `seed`, without visible pattern.
pub fn noise(seed: usize) -> f64 {
    let x = (seed as f64 * 12.9898 + 4.1414).sin() * 43_758.547;
    2.0 * (x - x.floor()) - 1.0
}

pub fn node(id: &str, place: GraphPlace, weight: Option<f64>) -> GraphNode {
    let interval = weight.map(|w| (w - 0.1, w + 0.1));
    GraphNode { id: id.to_owned(), place, weight, interval, member: true, change: None }
}

pub fn edge(from: &str, to: &str, weight: f64) -> GraphEdge {
    let (from, to) = (from.to_owned(), to.to_owned());
    let interval = Some((weight - 0.05, weight + 0.05));
    GraphEdge { from, to, input: None, weight: Some(weight), interval, change: None }
}

/// A circuit of `n_nodes` components besides embedding and logits, with about `n_edges` edges.
pub fn circuit(
    title: &str,
    seed: usize,
    (n_nodes, n_edges): (usize, usize),
    (layers, heads): (usize, usize),
) -> GraphPanel {
    let mut nodes = vec![node("embed", GraphPlace::Embed, None)];
    for attempt in 0..20 * n_nodes {
        if nodes.len() > n_nodes {
            break;
        }
        let draw = |i: usize| (noise(seed * 7919 + attempt * 3 + i) + 1.0) / 2.0;
        let layer = (draw(0) * layers as f64) as usize;
        let (id, place) = match (draw(1) * (heads as f64 * 1.3)) as usize {
            head if head < heads => (format!("L{layer}.H{head}"), GraphPlace::Attention(layer)),
            _ => (format!("L{layer}.MLP"), GraphPlace::Mlp(layer)),
        };
        if nodes.iter().all(|known| known.id != id) {
            nodes.push(node(&id, place, Some(noise(seed + attempt * 31).powi(3) * 0.8)));
        }
    }
    nodes.push(node("logits", GraphPlace::Logits, None));
    let mut edges: Vec<GraphEdge> = Vec::new();
    for attempt in 0..40 * n_edges {
        if edges.len() == n_edges {
            break;
        }
        let pick =
            |i: usize| ((noise(seed * 104_729 + attempt * 2 + i) + 1.0) / 2.0 * nodes.len() as f64) as usize;
        let (from, to) = (&nodes[pick(0)], &nodes[pick(1)]);
        let known = edges.iter().any(|e| e.from == from.id && e.to == to.id);
        if from.place.is_before(to.place) && !known {
            edges.push(edge(&from.id, &to.id, noise(seed + attempt * 17).powi(3) * 0.5));
        }
    }
    GraphPanel { title: title.to_owned(), nodes, edges }
}

pub fn graph(name: &str, title: &str, panels: Vec<GraphPanel>) -> Figure {
    Figure {
        name: name.to_owned(),
        title: title.to_owned(),
        caption: "Components and connections whose joint patching recovers 85% of delta; colour and width: \
                  effect in nats, mean over prompts. Invented data."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::Graph {
            panels,
            node_unit: "effect of the component (nat)".to_owned(),
            node_reach: None,
            edge_unit: "effect of the connection (nat)".to_owned(),
            edge_reach: None,
        },
    }
}

/// Three components and the inputs by which they read.
pub fn small_circuit() -> Figure {
    let nodes = vec![
        node("embed", GraphPlace::Embed, None),
        node("L2.H1", GraphPlace::Attention(2), Some(0.31)),
        GraphNode { member: false, ..node("L2.MLP", GraphPlace::Mlp(2), Some(-0.08)) },
        node("L5.H3", GraphPlace::Attention(5), Some(-0.62)),
        node("logits", GraphPlace::Logits, None),
    ];
    let by = |input, edge| GraphEdge { input: Some(input), ..edge };
    let edges = vec![
        edge("embed", "L2.H1", 0.2),
        edge("L2.H1", "L2.MLP", -0.05),
        by(HeadInput::Query, edge("L2.H1", "L5.H3", -0.3)),
        by(HeadInput::Value, edge("L2.H1", "L5.H3", 0.12)),
        by(HeadInput::Key, edge("embed", "L5.H3", 0.1)),
        edge("L5.H3", "logits", -0.6),
        edge("L2.H1", "logits", 0.15),
        GraphEdge { weight: None, interval: None, ..edge("embed", "logits", 0.0) },
    ];
    graph("circuit-small", "A circuit of two heads", vec![GraphPanel { title: String::new(), nodes, edges }])
}

/// What one circuit has that another has not.
pub fn circuit_difference() -> Figure {
    let mut panel = circuit("strategic against base", 5, (18, 34), (26, 8));
    let change = |i: usize| Some([Change::Shared, Change::Gained, Change::Lost, Change::Reweighted][i % 4]);
    for (i, node) in panel.nodes.iter_mut().enumerate().filter(|(_, node)| node.weight.is_some()) {
        node.change = change(i);
    }
    panel.edges.iter_mut().enumerate().for_each(|(i, edge)| edge.change = change(i * 7 / 3));
    graph("circuit-difference", "What the adapter changed in the circuit", vec![panel])
}

/// Effects of every head and MLP, layers down, components across.
pub fn sweep(name: &str, n_panels: usize, n_layers: usize, cols: &[String], reach: Option<f64>) -> Figure {
    let value = |panel: usize, layer: usize, col: usize| {
        let v = noise(panel * 7717 + layer * 97 + col).powi(5) * 0.6;
        // One outlier, as the last MLP often is.
        Some(if layer + 1 == n_layers && col + 1 == cols.len() { 3.0 } else { v })
    };
    let panel = |panel: usize| HeatmapPanel {
        title: format!("{} → base", super::MODELS[1 + panel % 4]),
        rows: (0..n_layers).map(|layer| layer.to_string()).collect(),
        cols: cols.to_vec(),
        values: (0..n_layers)
            .map(|layer| (0..cols.len()).map(|col| value(panel, layer, col)).collect())
            .collect(),
        intervals: Vec::new(),
    };
    Figure {
        name: name.to_owned(),
        title: "Which heads and MLPs carry the difference?".to_owned(),
        caption: "Change of delta when the component's output is taken from the other model, in nats; mean \
                  over prompts. Invented data."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "component".to_owned(),
            panels: (0..n_panels).map(panel).collect(),
            scale: HeatmapScale::Diverging { center: 0.0, reach },
            unit: "change of delta (nat)".to_owned(),
            annotate: false,
        },
    }
}

/// `H0` … and then `rest`.
pub fn components(n_heads: usize, rest: &[&str]) -> Vec<String> {
    (0..n_heads).map(|head| format!("H{head}")).chain(rest.iter().map(|name| (*name).to_owned())).collect()
}

/// The `n` strongest components for and against each model's decision.
pub fn ranked(name: &str, titles: &[&str], n: usize, series: &[&str]) -> Figure {
    let value = |panel: usize, i: usize, model: usize| {
        let size = 1.4 * (-(i as f64) / 9.0).exp() + 0.02;
        (if i < n / 2 { size } else { -1.4 * (-((n - 1 - i) as f64) / 9.0).exp() })
            * (1.0 - 0.2 * model as f64)
            + 0.03 * noise(panel * 31 + i)
    };
    let panel = |(panel, title): (usize, &&str)| BarPanel {
        title: (*title).to_owned(),
        groups: (0..n).map(|i| format!("L{}.H{}", (i * 7 + panel) % 26, (i * 5) % 8)).collect(),
        series: (series.iter().enumerate())
            .map(|(model, name)| BarSeries {
                name: (*name).to_owned(),
                color: if series.len() == 1 { ColorKey::Model(0) } else { super::color(model) },
                values: (0..n).map(|i| Some(value(panel, i, model))).collect(),
                intervals: (0..n)
                    .map(|i| value(panel, i, model))
                    .map(|v| Some((v - 0.06 - 0.1 * v.abs(), v + 0.05 + 0.1 * v.abs())))
                    .collect(),
            })
            .collect(),
    };
    Figure {
        name: name.to_owned(),
        title: "Components that speak most for and against defecting".to_owned(),
        caption: "Direct contribution to delta in nats, mean over prompts; whiskers: 95% interval. Invented."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::HorizontalBars {
            x_label: "contribution to delta (nat)".to_owned(),
            panels: titles.iter().enumerate().map(panel).collect(),
        },
    }
}
