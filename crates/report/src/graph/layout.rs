//! Where components stand: a row for each layer, attention at the left, MLPs in columns of their own half a
//! row higher, since they come after it; the embedding and the logits as bars over the whole width, because
//! most of the rest is connected to them.
//!
//! The places are made for the components of all panels together, so that panels can be compared.

use std::collections::{BTreeMap, BTreeSet};

use crate::canvas::Rect;
use crate::fonts::{Weight, text_width};
use crate::graph::data::{GraphPanel, GraphPlace};
use crate::scale::NumberForm;

/// Height of a component.
const NODE_HEIGHT: f64 = 19.0;
/// Free height between a bar and the nearest row.
const BAR_GAP: f64 = 16.0;
/// Air inside a component, left and right of its text, together.
const PADDING: f64 = 12.0;
/// Air beside a component, so that edges can pass.
const AISLE: f64 = 12.0;
const NARROWEST_PANEL: f64 = 200.0;
/// Edges in a panel from which on components are drawn narrow.
const CROWD: usize = 60;
const MOST_COLUMNS: usize = 3;

/// What stands in a component.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum LabelForm {
    /// `L5.H3 0.42`.
    WithNumber,
    /// `L5.H3`.
    Name,
    /// `H3`; the row says which layer.
    Short,
}

/// Places and sizes that all panels share, relative to a panel's upper left corner.
pub(super) struct Layout {
    /// Panels side by side.
    pub(super) n_columns: usize,
    /// Width and height of a panel.
    pub(super) size: (f64, f64),
    /// Each layer that is shown, with the y of its row's middle and lower edge.
    pub(super) rows: Vec<(usize, f64, f64)>,
    pub(super) label: LabelForm,
    pub(super) label_size: f64,
    pub(super) form: NumberForm,
    nodes: BTreeMap<(GraphPlace, String), Rect>,
}

/// Components that stand in one row or column group.
struct Zones {
    by_place: BTreeMap<GraphPlace, Vec<String>>,
    /// Most components that the attention, and the MLPs, of one layer have.
    most: (usize, usize),
    layers: Vec<usize>,
}

impl Zones {
    fn of(panels: &[GraphPanel]) -> Self {
        let mut by_place: BTreeMap<GraphPlace, Vec<String>> = BTreeMap::new();
        for node in panels.iter().flat_map(|panel| &panel.nodes) {
            let ids = by_place.entry(node.place).or_default();
            if !ids.contains(&node.id) {
                ids.push(node.id.clone());
            }
        }
        // Shorter names first, or H10 would stand before H2.
        by_place.values_mut().for_each(|ids| ids.sort_by(|a, b| (a.len(), a).cmp(&(b.len(), b))));
        let most = |wanted: fn(&GraphPlace) -> bool| {
            by_place.iter().filter(|(place, _)| wanted(place)).map(|(_, ids)| ids.len()).max().unwrap_or(0)
        };
        let most = (
            most(|place| matches!(place, GraphPlace::Attention(_))),
            most(|place| matches!(place, GraphPlace::Mlp(_))),
        );
        let layers: BTreeSet<_> = by_place.keys().filter_map(|place| place.layer()).collect();
        Self { by_place, most, layers: layers.into_iter().collect() }
    }

    /// Widths of the attention's and the MLPs' part of a panel.
    fn widths(&self, panel_width: f64) -> (f64, f64) {
        // A single column is given somewhat more than its share, for the edges that pass it.
        let share = |n: usize| if n == 0 { 0.0 } else { n as f64 + 0.6 };
        let (attention, mlp) = (share(self.most.0), share(self.most.1));
        let unit = panel_width / (attention + mlp).max(1.0);
        (attention * unit, mlp * unit)
    }

    /// Width that each component may take with its aisle.
    fn slot(&self, panel_width: f64) -> f64 {
        let (attention, mlp) = self.widths(panel_width);
        let slot = |width: f64, n: usize| if n == 0 { f64::INFINITY } else { width / n as f64 };
        slot(attention, self.most.0).min(slot(mlp, self.most.1)).min(panel_width)
    }
}

impl Layout {
    /// Places everything in `room` pixels of width; `gap` is that between panels, their row labels included.
    pub(super) fn new(panels: &[GraphPanel], room: f64, gap: f64, text_size: f64) -> Self {
        let zones = Zones::of(panels);
        let weights = panels.iter().flat_map(|panel| &panel.nodes).filter_map(|node| node.weight);
        let form = NumberForm::of(weights);
        let widest = |label| {
            let nodes =
                panels.iter().flat_map(|panel| &panel.nodes).filter(|node| node.place.layer().is_some());
            let width = |text: String| text_width(&text, text_size, Weight::Regular);
            nodes
                .map(|node| width(label_text(label, form, &node.id, node.place, node.weight)))
                .fold(0.0, f64::max)
        };
        let needed = |label| widest(label) + PADDING + AISLE;
        let panel_width = |n: usize| (room - (n - 1) as f64 * gap) / n as f64;
        let fits = |n: usize, label| {
            panel_width(n) >= NARROWEST_PANEL && zones.slot(panel_width(n)) >= needed(label)
        };
        let most = panels.len().min(MOST_COLUMNS);
        // Whole names if possible; but two panels with short ones before one above the other.
        let fitting = [LabelForm::Name, LabelForm::Short].into_iter().find_map(|label| {
            (1..=most).rev().find(|&n| fits(n, label)).filter(|&n| n > 1 || panels.len() == 1)
        });
        let fitting = fitting.unwrap_or(1);
        let n_columns = panels.len().div_ceil(panels.len().div_ceil(fitting));
        // No wider than what keeps a small circuit together.
        let n_slots = (zones.most.0 + zones.most.1).max(2) as f64;
        let ample = n_slots * 1.8 * needed(LabelForm::WithNumber);
        let width = panel_width(n_columns).min(ample.max(NARROWEST_PANEL));
        let slot = zones.slot(width);
        let forms = [LabelForm::WithNumber, LabelForm::Name, LabelForm::Short];
        // Where many edges need room, names alone.
        let is_crowded = panels.iter().any(|panel| panel.edges.len() > CROWD);
        let forms = if is_crowded { &forms[1..] } else { &forms[..] };
        let label = forms.iter().copied().find(|&label| needed(label) <= slot).unwrap_or(LabelForm::Short);
        let node_width = (widest(label) + PADDING).min(slot * 0.9);
        let label_size = text_size.min(text_size * (node_width - 2.0) / widest(label).max(1.0));
        let mut layout = Self {
            n_columns,
            size: (width, 0.0),
            rows: Vec::new(),
            label,
            label_size: (label_size * 10.0).floor() / 10.0,
            form,
            nodes: BTreeMap::new(),
        };
        layout.place(&zones, node_width);
        layout
    }

    fn place(&mut self, zones: &Zones, node_width: f64) {
        let width = self.size.0;
        let n_rows = zones.layers.len() as f64;
        let both = zones.most.0 > 0 && zones.most.1 > 0;
        let pitch =
            if both { (620.0 / n_rows).clamp(38.0, 76.0) } else { (620.0 / n_rows).clamp(36.0, 64.0) };
        let mut y = 0.0;
        if let Some(ids) = zones.by_place.get(&GraphPlace::Logits) {
            self.place_bars(GraphPlace::Logits, ids, y);
            y += NODE_HEIGHT + BAR_GAP;
        }
        let (attention_width, mlp_width) = zones.widths(width);
        for &layer in zones.layers.iter().rev() {
            self.rows.push((layer, y + pitch / 2.0, y + pitch));
            let parts = [
                (
                    GraphPlace::Mlp(layer),
                    (attention_width, mlp_width, zones.most.1),
                    if both { 0.25 } else { 0.5 },
                ),
                (
                    GraphPlace::Attention(layer),
                    (0.0, attention_width, zones.most.0),
                    if both { 0.75 } else { 0.5 },
                ),
            ];
            for (place, (left, part_width, most), height) in parts {
                let ids = zones.by_place.get(&place).map(Vec::as_slice).unwrap_or_default();
                for (i, id) in ids.iter().enumerate() {
                    // On one of the columns that the fullest layer needs, so that aisles stay free between them.
                    let column = ((i as f64 + 0.5) * most as f64 / ids.len() as f64 - 0.5).round();
                    let center = left + part_width * (column + 0.5) / most as f64;
                    let (x, y) = (center - node_width / 2.0, y + pitch * height - NODE_HEIGHT / 2.0);
                    let rect = Rect { x, y, width: node_width, height: NODE_HEIGHT };
                    self.nodes.insert((place, id.clone()), rect);
                }
            }
            y += pitch;
        }
        if let Some(ids) = zones.by_place.get(&GraphPlace::Embed) {
            y += BAR_GAP;
            self.place_bars(GraphPlace::Embed, ids, y);
            y += NODE_HEIGHT;
        }
        self.size.1 = y;
    }

    /// Components that share the whole width.
    fn place_bars(&mut self, place: GraphPlace, ids: &[String], y: f64) {
        let width = self.size.0 / ids.len() as f64;
        for (i, id) in ids.iter().enumerate() {
            let rect = Rect { x: i as f64 * width + 2.0, y, width: width - 4.0, height: NODE_HEIGHT };
            self.nodes.insert((place, id.clone()), rect);
        }
    }

    /// Where a component stands.
    pub(super) fn rect(&self, place: GraphPlace, id: &str) -> Option<Rect> {
        self.nodes.get(&(place, id.to_owned())).copied()
    }
}

/// What a component's label says.
pub(super) fn label_text(
    label: LabelForm,
    form: NumberForm,
    id: &str,
    place: GraphPlace,
    weight: Option<f64>,
) -> String {
    let layer = place.layer().map(|layer| format!("L{layer}.")).unwrap_or_default();
    match (label, weight) {
        (LabelForm::WithNumber, Some(weight)) => format!("{id}  {}", form.text(weight)),
        (LabelForm::Short, _) => {
            id.strip_prefix(&layer).filter(|rest| !rest.is_empty()).unwrap_or(id).to_owned()
        }
        _ => id.to_owned(),
    }
}
