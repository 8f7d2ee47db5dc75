//! The way of each edge: of many gentle curves the one that runs through the fewest components, then the
//! straightest. Strong edges choose first, later ones keep off the ways already taken.

use std::collections::HashMap;

use crate::canvas::Rect;
use crate::graph::data::{GraphEdge, GraphNode, GraphPanel, GraphPlace, HeadInput};
use crate::graph::layout::Layout;

type Point = (f64, f64);

/// A cubic Bézier curve: start, two control points, end.
pub(super) type Curve = [Point; 4];

/// Mean distance of the points at which a curve is tested, by the length of its control polygon.
const SAMPLE_DISTANCE: f64 = 8.0;
/// Nearest that an edge may come to a component that is not its own.
const CLEARANCE: f64 = 3.0;
/// Distance of an edge's ends from its components, whose outlines stand out.
const OUTLINE: f64 = 2.5;
/// Costs, in pixels of detour: a sample inside a component, one outside the panel, one on another's way.
const THROUGH_NODE: f64 = 300.0;
const OUTSIDE: f64 = 60.0;
const ON_ANOTHER: f64 = 1.5;
/// Side of the squares by which ways are compared.
const SQUARE: f64 = 5.0;
/// How far the ends of a curve lean to the side, in widths of a component.
const LEANS: [f64; 11] = [0.0, 0.4, -0.4, 0.8, -0.8, 1.3, -1.3, 2.0, -2.0, 3.0, -3.0];
/// How far a curve's control points stand above its start and below its end: shares of its height; what
/// the unusual costs. Short ones let a curve leave sideways, past what stands right in front.
const REACHES: [(f64, f64, f64); 6] = [
    (0.42, 0.42, 0.0),
    (0.7, 0.7, 15.0),
    (0.2, 0.2, 15.0),
    (0.0, 0.42, 25.0),
    (0.42, 0.0, 25.0),
    (0.0, 0.0, 35.0),
];
/// Least height of a control point, in pixels, if the edge has so much.
const SHORTEST_REACH: f64 = 14.0;
/// Where on a bar an edge may end, in pixels beside its other end.
const SHIFTS: [f64; 9] = [0.0, 10.0, -10.0, 22.0, -22.0, 40.0, -40.0, 70.0, -70.0];

/// One end of an edge.
struct End<'a> {
    node: &'a GraphNode,
    rect: Rect,
}

/// The ways of all edges of a panel, in the order of the edges.
pub(super) fn routes(panel: &GraphPanel, layout: &Layout) -> Vec<Option<Curve>> {
    let ends: Vec<_> = panel.edges.iter().map(|edge| ends_of(panel, layout, edge)).collect();
    let ports = ports(panel, &ends);
    let mut order: Vec<usize> = (0..panel.edges.len()).collect();
    let size = |edge: &GraphEdge| edge.weight.unwrap_or(0.0).abs();
    order.sort_by(|&a, &b| size(&panel.edges[b]).total_cmp(&size(&panel.edges[a])).then(a.cmp(&b)));
    let nodes: Vec<_> =
        panel.nodes.iter().filter_map(|n| Some((n.id.as_str(), layout.rect(n.place, &n.id)?))).collect();
    let mut taken: HashMap<(i64, i64), f64> = HashMap::new();
    let mut routes = vec![None; panel.edges.len()];
    for index in order {
        let Some((from, to)) = &ends[index] else { continue };
        let others: Vec<Rect> = nodes
            .iter()
            .filter(|(id, _)| *id != from.node.id && *id != to.node.id)
            .map(|&(_, rect)| rect)
            .collect();
        let curve = if is_same_layer(from, to) {
            sideways_in(ports[index].0, to.rect)
        } else if is_next_row(from, to) {
            sideways_out(from.rect, ports[index].1)
        } else {
            let obstacles = Obstacles { others: &others, width: layout.size.0, taken: &taken };
            let Some(curve) = cheapest(candidates((from, to), ports[index]), &obstacles) else { continue };
            curve
        };
        for square in samples(&curve).map(square) {
            *taken.entry(square).or_default() += 1.0;
        }
        routes[index] = Some(curve);
    }
    routes
}

fn ends_of<'a>(panel: &'a GraphPanel, layout: &Layout, edge: &GraphEdge) -> Option<(End<'a>, End<'a>)> {
    let end = |id: &str| {
        let node = panel.node(id)?;
        Some(End { node, rect: layout.rect(node.place, &node.id)? })
    };
    Some((end(&edge.from)?, end(&edge.to)?))
}

/// From attention to the MLP of the same layer: up into the gap between the rows, and along it.
fn is_same_layer(from: &End<'_>, to: &End<'_>) -> bool {
    from.node.place.layer().is_some() && from.node.place.layer() == to.node.place.layer()
}

fn sideways_in((x, y): Point, to: Rect) -> Curve {
    // Below the middle, where no edge leaves to the next row.
    let middle = to.y + to.height * 0.7;
    let left = to.x - OUTLINE;
    [(x, y), (x, middle), ((x + left) / 2.0, middle), (left, middle)]
}

/// From an MLP to attention that stands so little higher that a curve would lie flat: out at the side, and
/// along the gap between the rows.
fn is_next_row(from: &End<'_>, to: &End<'_>) -> bool {
    let is_pair = matches!((from.node.place, to.node.place), (GraphPlace::Mlp(_), GraphPlace::Attention(_)));
    is_pair && from.rect.y - (to.rect.y + to.rect.height) < 12.0
}

fn sideways_out(from: Rect, (x, y): Point) -> Curve {
    let middle = from.y + from.height * 0.3;
    let left = from.x - OUTLINE;
    [(left, middle), ((x + left) / 2.0, middle), (x, middle), (x, y)]
}

/// Where each edge leaves and arrives if its ends are no bars: the edges of a component are spread over its
/// width from left to right as their other ends stand, by input first.
fn ports(panel: &GraphPanel, ends: &[Option<(End<'_>, End<'_>)>]) -> Vec<(Point, Point)> {
    let center = |rect: Rect| rect.x + rect.width / 2.0;
    let mut ports = vec![((0.0, 0.0), (0.0, 0.0)); ends.len()];
    for node in &panel.nodes {
        let mut out: Vec<(f64, usize)> = Vec::new();
        let mut into: Vec<(Option<HeadInput>, f64, usize)> = Vec::new();
        for (index, pair) in ends.iter().enumerate() {
            let Some((from, to)) = pair else { continue };
            if from.node.id == node.id && !is_next_row(from, to) {
                out.push((center(to.rect), index));
                ports[index].0.1 = from.rect.y - OUTLINE;
            }
            if to.node.id == node.id && !is_same_layer(from, to) {
                into.push((panel.edges[index].input, center(from.rect), index));
                ports[index].1.1 = to.rect.y + to.rect.height + OUTLINE;
            }
        }
        out.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        into.sort_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
        let spread =
            |rect: Rect, i: usize, n: usize| rect.x + rect.width * (0.15 + 0.7 * (i as f64 + 0.5) / n as f64);
        for (i, &(_, index)) in out.iter().enumerate() {
            if let Some((from, _)) = &ends[index] {
                ports[index].0.0 = spread(from.rect, i, out.len());
            }
        }
        for (i, &(input, _, index)) in into.iter().enumerate() {
            let Some((_, to)) = &ends[index] else { continue };
            let same = |&&(other, ..): &&(Option<HeadInput>, f64, usize)| other == input;
            let (n, before) = (into.iter().filter(same).count(), into[..i].iter().filter(same).count());
            // An input has its own third of the lower side, whether the others are used or not.
            let third = Rect { width: to.rect.width / 3.0, ..to.rect };
            ports[index].1.0 = match input {
                None => spread(to.rect, i, into.len()),
                Some(input) => {
                    let x = to.rect.x + input as usize as f64 * third.width;
                    spread(Rect { x, ..third }, before, n)
                }
            };
        }
    }
    ports
}

/// Curves to choose from, with the detour of each in pixels.
fn candidates((from, to): (&End<'_>, &End<'_>), (start, end): (Point, Point)) -> Vec<(Curve, f64)> {
    let is_bar = |end: &End<'_>| matches!(end.node.place, GraphPlace::Embed | GraphPlace::Logits);
    let unit = if is_bar(from) { to.rect.width } else { from.rect.width }.min(70.0);
    let on_bar = |rect: Rect, x: f64| x.clamp(rect.x + 6.0, rect.x + rect.width - 6.0);
    let ends = SHIFTS.iter().map(|&shift| match (is_bar(from), is_bar(to)) {
        (true, false) => (on_bar(from.rect, end.0 + shift), end.0, 0.4 * shift.abs()),
        (false, true) => (start.0, on_bar(to.rect, start.0 + shift), 0.4 * shift.abs()),
        // From bar to bar anywhere.
        (true, true) => {
            let x = from.rect.x + from.rect.width * (0.5 + shift / 150.0);
            (x, on_bar(to.rect, x), 0.1 * shift.abs())
        }
        (false, false) => (start.0, end.0, 0.0),
    });
    let n_ends = if is_bar(from) || is_bar(to) { SHIFTS.len() } else { 1 };
    let mut options = Vec::with_capacity(n_ends * REACHES.len() * LEANS.len() * LEANS.len());
    for (from_x, to_x, shifted) in ends.take(n_ends) {
        let (start, end) = ((from_x, start.1), (to_x, end.1));
        for (share, end_share, unusual) in REACHES {
            let height = start.1 - end.1;
            let reach = |share: f64| (height * share).max(SHORTEST_REACH.min(height * 0.42));
            let (up, down) = (reach(share), reach(end_share));
            for first in LEANS {
                for second in LEANS {
                    let (a, b) = (first * unit, second * unit);
                    let curve = [start, (start.0 + a, start.1 - up), (end.0 + b, end.1 + down), end];
                    let detour = 0.5 * (a.abs() + b.abs()) + 0.3 * (a - b).abs() + shifted + unusual;
                    options.push((curve, detour));
                }
            }
        }
    }
    options
}

/// What edges should keep off.
struct Obstacles<'a> {
    /// Components that are not the edge's own.
    others: &'a [Rect],
    /// The panel's width.
    width: f64,
    /// How many edges already run through each square.
    taken: &'a HashMap<(i64, i64), f64>,
}

/// The curve whose detour and obstructions together are least; the first of equals.
fn cheapest(mut options: Vec<(Curve, f64)>, obstacles: &Obstacles<'_>) -> Option<Curve> {
    options.sort_by(|a, b| a.1.total_cmp(&b.1));
    let mut best: Option<(f64, Curve)> = None;
    for (curve, detour) in options {
        let limit = best.map_or(f64::INFINITY, |(cost, _)| cost);
        // All that follow are longer still.
        if detour >= limit {
            break;
        }
        if let Some(cost) = obstacles.cost(&curve, detour, limit) {
            best = Some((cost, curve));
        }
    }
    best.map(|(_, curve)| curve)
}

impl Obstacles<'_> {
    /// A curve's detour and what stands in its way, as pixels of detour that it is worth; `None` if it
    /// isn't below `limit`.
    fn cost(&self, curve: &Curve, detour: f64, limit: f64) -> Option<f64> {
        let mut cost = detour;
        for (x, y) in samples(curve) {
            let inside = |rect: &&Rect| {
                x > rect.x - CLEARANCE
                    && x < rect.x + rect.width + CLEARANCE
                    && y > rect.y - CLEARANCE
                    && y < rect.y + rect.height + CLEARANCE
            };
            cost += THROUGH_NODE * self.others.iter().filter(inside).count() as f64;
            let outside = (2.0 - x).max(x - (self.width - 2.0));
            if outside > 0.0 {
                cost += OUTSIDE * (1.0 + outside / 10.0);
            }
            cost += ON_ANOTHER * self.taken.get(&square((x, y))).copied().unwrap_or(0.0);
            if cost >= limit {
                return None;
            }
        }
        Some(cost)
    }
}

fn square((x, y): Point) -> (i64, i64) {
    ((x / SQUARE).floor() as i64, (y / SQUARE).floor() as i64)
}

/// Points along the curve, without its ends, close enough that no component slips between two of them.
fn samples(curve: &Curve) -> impl Iterator<Item = Point> + '_ {
    let [a, b, c, d] = *curve;
    let length: f64 = [(a, b), (b, c), (c, d)].iter().map(|(p, q)| (q.0 - p.0).hypot(q.1 - p.1)).sum();
    let n = (length / SAMPLE_DISTANCE).ceil().max(8.0) as usize;
    (1..n).map(move |i| at(curve, i as f64 / n as f64))
}

/// The curve's point at `t` in [0, 1].
fn at(&[a, b, c, d]: &Curve, t: f64) -> Point {
    let s = 1.0 - t;
    let (wa, wb, wc, wd) = (s * s * s, 3.0 * s * s * t, 3.0 * s * t * t, t * t * t);
    (wa * a.0 + wb * b.0 + wc * c.0 + wd * d.0, wa * a.1 + wb * b.1 + wc * c.1 + wd * d.1)
}
