//! Circuits: everything is drawn once, at its place, told apart without colour, and checked beforehand.

#![allow(clippy::unwrap_used, reason = "a helper of these tests may fail them")]

mod common;

use common::circuits::{circuit, circuit_difference, edge, graph, node, small_circuit};
use lorascope_report::{
    Change, Error, Figure, FigureKind, GraphEdge, GraphNode, GraphPanel, GraphPlace, HeadInput, Theme,
    figure_csv, render_png, render_svg,
};

fn svg(figure: &Figure) -> String {
    render_svg(figure, &Theme::default()).unwrap()
}

/// The drawing of the part whose description begins with `name`: `L1.H0`, `L1.H0 → L2.MLP`.
fn part<'a>(svg: &'a str, name: &str) -> &'a str {
    let begins =
        |group: &&str| group.strip_prefix(name).is_some_and(|rest| rest.starts_with(['<', ':', ',']));
    let mut found = svg.split("<title>").filter(begins);
    let group = found.next().unwrap_or_else(|| panic!("no `{name}`"));
    assert!(found.next().is_none(), "`{name}` is drawn twice");
    group.split("</g>").next().unwrap()
}

fn number(text: &str, attribute: &str) -> f64 {
    let start = text.find(attribute).unwrap() + attribute.len();
    text[start..].split('"').next().unwrap().parse().unwrap()
}

/// Corner and size of a component.
fn place(svg: &str, id: &str) -> [f64; 4] {
    let text = part(svg, id);
    [" x=\"", " y=\"", " width=\"", " height=\""].map(|attribute| number(text, attribute))
}

/// Points along an edge.
fn way(svg: &str, name: &str) -> Vec<(f64, f64)> {
    let text = part(svg, name).split("<path d=\"M").nth(1).unwrap().split('"').next().unwrap();
    let p: Vec<f64> = text.split(['C', ' ']).map(|number| number.parse().unwrap()).collect();
    let at = |t: f64, axis: usize| {
        let s = 1.0 - t;
        s.powi(3) * p[axis]
            + 3.0 * s * s * t * p[axis + 2]
            + 3.0 * s * t * t * p[axis + 4]
            + t.powi(3) * p[axis + 6]
    };
    (0..=100).map(|i| f64::from(i) / 100.0).map(|t| (at(t, 0), at(t, 1))).collect()
}

fn panel(nodes: Vec<GraphNode>, edges: Vec<GraphEdge>) -> GraphPanel {
    GraphPanel { title: "p".to_owned(), nodes, edges }
}

fn figure(nodes: Vec<GraphNode>, edges: Vec<GraphEdge>) -> Figure {
    graph("g", "t", vec![panel(nodes, edges)])
}

fn two_heads() -> Vec<GraphNode> {
    vec![
        node("L1.H0", GraphPlace::Attention(1), Some(0.5)),
        node("L2.H1", GraphPlace::Attention(2), Some(-0.5)),
    ]
}

#[test]
fn every_component_and_connection_is_drawn_once_and_between_its_ends() {
    for (seed, size) in [(1, (3, 4)), (5, (18, 34)), (3, (60, 150))] {
        let circuit = circuit("", seed, size, (26, 8));
        assert_eq!((circuit.nodes.len(), circuit.edges.len()), (size.0 + 2, size.1));
        let text = svg(&graph("g", "t", vec![circuit.clone()]));
        for edge in &circuit.edges {
            let way = way(&text, &format!("{} → {}", edge.from, edge.to));
            for (id, (x, y)) in [(&edge.from, way[0]), (&edge.to, way[100])] {
                let [left, top, width, height] = place(&text, id);
                let (beside, above) = ((left - x).max(x - left - width), (top - y).max(y - top - height));
                assert!(
                    beside.max(above) < 11.0,
                    "{} → {}: ends {beside} {above} from {id}",
                    edge.from,
                    edge.to
                );
            }
        }
    }
}

#[test]
fn the_computation_runs_upwards_and_no_components_overlap() {
    let circuit = circuit("", 3, (60, 150), (26, 8));
    let text = svg(&graph("g", "t", vec![circuit.clone()]));
    for (i, a) in circuit.nodes.iter().enumerate() {
        let [ax, ay, width, height] = place(&text, &a.id);
        for b in &circuit.nodes[i + 1..] {
            let [bx, by, b_width, b_height] = place(&text, &b.id);
            assert!(!a.place.is_before(b.place) || ay > by, "{} is above {}", a.id, b.id);
            let apart = ax + width <= bx || bx + b_width <= ax || ay + height <= by || by + b_height <= ay;
            assert!(apart, "{} and {}", a.id, b.id);
        }
    }
    assert!(!text.contains(">7.5</text>") && text.contains(">25</text>"), "layers are numbered");
}

#[test]
fn edges_keep_off_the_components_that_are_not_theirs() {
    // Three heads under one another: the straight line from the first to the last runs through the middle.
    let nodes = (1..4).map(|l| node(&format!("L{l}.H0"), GraphPlace::Attention(l), Some(0.1))).collect();
    let text = svg(&figure(nodes, vec![edge("L1.H0", "L3.H0", 0.3)]));
    assert_eq!(n_inside(&text, &["L1.H0", "L2.H0", "L3.H0"], &[("L1.H0", "L3.H0")]), 0);

    let circuit = circuit("", 5, (18, 34), (26, 8));
    let text = svg(&graph("g", "t", vec![circuit.clone()]));
    let ids: Vec<_> = circuit.nodes.iter().map(|node| node.id.as_str()).collect();
    let edges: Vec<_> = circuit.edges.iter().map(|edge| (edge.from.as_str(), edge.to.as_str())).collect();
    assert_eq!(n_inside(&text, &ids, &edges), 0);
}

/// How many edges run through a component that is not their own.
fn n_inside(svg: &str, ids: &[&str], edges: &[(&str, &str)]) -> usize {
    let runs_through = |&&(from, to): &&(&str, &str)| {
        let way = way(svg, &format!("{from} → {to}"));
        ids.iter().filter(|&&id| id != from && id != to).any(|id| {
            let [x, y, width, height] = place(svg, id);
            way.iter().any(|point| point.0 > x && point.0 < x + width && point.1 > y && point.1 < y + height)
        })
    };
    edges.iter().filter(runs_through).count()
}

#[test]
fn a_component_has_the_same_place_in_every_panel() {
    let first = panel(two_heads(), vec![]);
    let mut second = panel(two_heads().split_off(1), vec![]);
    second.nodes.push(node("L2.H0", GraphPlace::Attention(2), None));
    let text = svg(&graph("g", "t", vec![first, second]));
    let corners: Vec<_> = text
        .split("<title>L2.H1:")
        .skip(1)
        .map(|group| (number(group, " x=\""), number(group, " y=\"")))
        .collect();
    let [left, right] = corners[..] else { panic!("{corners:?}") };
    assert_eq!(left.1, right.1);
    assert!(right.0 > left.0 + 100.0, "side by side: {corners:?}");
    assert_eq!(text.matches(">1</text>").count(), 2, "layer 1 has its row in both");
}

#[test]
fn the_sign_is_told_by_colour_and_by_the_end_of_the_edge() {
    let text = svg(&figure(
        vec![
            node("L1.H0", GraphPlace::Attention(1), Some(0.5)),
            node("L2.H1", GraphPlace::Attention(2), None),
            node("logits", GraphPlace::Logits, None),
        ],
        vec![
            edge("L1.H0", "L2.H1", 0.5),
            edge("L2.H1", "logits", -0.25),
            GraphEdge { weight: None, interval: None, ..edge("L1.H0", "logits", 0.0) },
        ],
    ));
    let (raises, lowers) = (part(&text, "L1.H0 → L2.H1"), part(&text, "L2.H1 → logits"));
    let unknown = part(&text, "L1.H0 → logits");
    let count = |part: &str| (part.matches("<path").count(), part.matches("<line").count());
    assert_eq!((count(raises), count(lowers), count(unknown)), ((2, 0), (1, 1), (1, 0)));
    assert!(raises.contains(&lorascope_report::diverging(1.0).to_string()));
    assert!(lowers.contains(&lorascope_report::diverging(-1.0).to_string()));
    assert!(number(raises, "stroke-width=\"") > 1.5 * number(lowers, "stroke-width=\""));
    assert!(part(&text, "L1.H0").contains(&lorascope_report::diverging(1.0).to_string()), "fullest colour");
}

#[test]
fn what_changed_is_told_without_colour_and_explained() {
    let text = svg(&circuit_difference());
    let FigureKind::Graph { panels, .. } = circuit_difference().kind else { panic!() };
    let dashes = |part: &str| {
        part.split("stroke-dasharray=\"").nth(1).map(|rest| rest.split('"').next().unwrap().to_owned())
    };
    let mut styles = Vec::new();
    for change in [Change::Shared, Change::Gained, Change::Lost, Change::Reweighted] {
        assert!(text.contains(&format!(">{}</text>", change.name())), "{change:?} is in the key");
        let node = panels[0].nodes.iter().find(|node| node.change == Some(change)).unwrap();
        let edge = panels[0].edges.iter().find(|edge| edge.change == Some(change)).unwrap();
        let style = dashes(part(&text, &node.id));
        assert_eq!(style, dashes(part(&text, &format!("{} → {}", edge.from, edge.to))), "{change:?}");
        styles.push(style);
    }
    styles.sort();
    styles.dedup();
    assert_eq!(styles.len(), 4);
    assert!(!svg(&small_circuit()).contains(">gained</text>"), "what does not occur is not explained");
}

#[test]
fn members_are_outlined_and_inputs_enter_from_left_to_right() {
    let text = svg(&small_circuit());
    assert!(part(&text, "L2.H1").contains("fill=\"none\""));
    assert!(!part(&text, "L2.MLP").contains("fill=\"none\""));
    assert!(text.contains(">in the circuit</text>") && text.contains("left: q, middle: k, right: v"));
    let end = |name: &str| way(&text, name)[100].0;
    let (q, k, v) = (end("L2.H1 → L5.H3 (q)"), end("embed → L5.H3 (k)"), end("L2.H1 → L5.H3 (v)"));
    assert!(q < k && k < v, "{q} {k} {v}");
}

#[test]
fn what_does_not_fit_together_is_refused_with_its_names() {
    let refusal = |nodes, edges| render_svg(&figure(nodes, edges), &Theme::default()).unwrap_err();
    let message = |nodes, edges| {
        let error = refusal(nodes, edges);
        assert!(matches!(error, Error::Graph { .. }), "{error:?}");
        error.to_string()
    };
    let unknown = message(two_heads(), vec![edge("L1.H0", "L9.H9", 0.1)]);
    assert_eq!(unknown, "figure `g`, panel `p`: edge `L1.H0 → L9.H9` names `L9.H9`, which is no node here");
    let twice = message([two_heads(), two_heads()].concat(), vec![]);
    assert!(twice.contains("node id `L1.H0` appears twice"), "{twice}");
    let backwards = message(two_heads(), vec![edge("L2.H1", "L1.H0", 0.1)]);
    assert!(backwards.contains("`L2.H1 → L1.H0` runs backwards"), "{backwards}");
    assert!(message(two_heads(), vec![edge("L1.H0", "L1.H0", 0.1)]).contains("runs backwards"));
    let doubled = message(two_heads(), vec![edge("L1.H0", "L2.H1", 0.1), edge("L1.H0", "L2.H1", 0.2)]);
    assert!(doubled.contains("appears twice"), "{doubled}");
    let nodes = [two_heads(), vec![node("logits", GraphPlace::Logits, None)]].concat();
    let input = GraphEdge { input: Some(HeadInput::Key), ..edge("L1.H0", "logits", 0.1) };
    assert!(message(nodes, vec![input]).contains("`logits` is none"));
    assert!(message(vec![node("", GraphPlace::Embed, None)], vec![]).contains("empty id"));

    let nan = refusal(two_heads(), vec![edge("L1.H0", "L2.H1", f64::NAN)]);
    assert!(matches!(&nan, Error::NotDrawable { place, .. } if place.contains("L1.H0 → L2.H1")), "{nan:?}");
    let nan = refusal(vec![node("L1.H0", GraphPlace::Attention(1), Some(f64::NAN))], vec![]);
    assert!(matches!(nan, Error::NotDrawable { .. }));
    assert!(matches!(refusal(vec![], vec![]), Error::Empty { .. }));
    let mut reach = figure(two_heads(), vec![]);
    let FigureKind::Graph { edge_reach, .. } = &mut reach.kind else { panic!() };
    *edge_reach = Some(f64::NAN);
    assert!(matches!(reach.check(), Err(Error::NotDrawable { .. })));
}

#[test]
fn extremes_are_drawn_with_finite_coordinates() {
    let plain = |id: &str, place| GraphNode { interval: None, ..node(id, place, None) };
    let weighted = |weight| {
        let mut nodes = two_heads();
        nodes[0].weight = Some(weight);
        figure(nodes, vec![GraphEdge { interval: None, ..edge("L1.H0", "L2.H1", weight) }])
    };
    let long = "a-component-with-a-very-long-name".repeat(4);
    let crowd = (0..40).map(|h| node(&format!("L3.H{h}"), GraphPlace::Attention(3), Some(0.1))).collect();
    for figure in [
        weighted(1e300),
        weighted(5e-324),
        weighted(0.0),
        figure(vec![plain("logits", GraphPlace::Logits)], vec![]),
        figure(
            vec![plain(&long, GraphPlace::Mlp(0)), plain("<b>", GraphPlace::Embed)],
            vec![edge("<b>", &long, 1.0)],
        ),
        figure(crowd, vec![]),
    ] {
        let text = svg(&figure);
        assert!(!text.contains("NaN") && !text.contains("inf"));
        assert!(!text.contains("<b>"));
        render_png(&text).unwrap();
    }
}

#[test]
fn the_numbers_of_a_graph_are_complete() {
    let csv = figure_csv(&small_circuit()).unwrap();
    assert_eq!(csv.lines().count(), 1 + 5 + 8);
    assert!(
        csv.starts_with(
            "panel,part,node,receiver,input,weight,lo,hi,change,member\n,node,embed,,,,,,,true\n"
        )
    );
    assert!(csv.contains("\n,node,L2.MLP,,,-0.08,"), "{csv}");
    assert!(csv.contains("\n,edge,L2.H1,L5.H3,q,-0.3,"), "{csv}");
    assert!(csv.contains("\n,edge,embed,logits,,,,,,\n"), "{csv}");
    assert!(figure_csv(&circuit_difference()).unwrap().contains(",re-weighted,"));
}
