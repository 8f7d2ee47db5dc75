//! Figures as data: what is shown, with intervals, independent of how it is drawn. The same JSON serves
//! a drawing here and an interactive viewer elsewhere. A value that is undefined is `None`; in a line it
//! is a gap, in a heat map an empty cell.

use serde::{Deserialize, Serialize};

use crate::attention::AttentionRows;
use crate::by_prompt::ByPrompt;
use crate::error::{Error, Result};
use crate::graph::GraphPanel;

/// Largest magnitude that an axis can span without overflow of its own arithmetic.
const LARGEST: f64 = 1e300;

/// One figure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figure {
    /// File name without extension, and HTML id: ASCII letters, digits, `_`, `-`.
    pub name: String,
    /// Headline inside the drawing.
    pub title: String,
    /// What is shown, for which prompts, the unit and what the uncertainty is; stands beside the drawing.
    pub caption: String,
    /// The same cells for single prompts, where they are known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by_prompt: Option<ByPrompt>,
    /// The data.
    pub kind: FigureKind,
}

/// What kind of picture, and its data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum FigureKind {
    /// Curves over a common x axis; panels share both axes so that they can be compared.
    Lines {
        /// Name and unit of the x axis.
        x_label: String,
        /// Name and unit of the y axis.
        y_label: String,
        /// Small multiples.
        panels: Vec<LinePanel>,
        /// Whether zero is a meaningful threshold: it is then drawn and always in view.
        zero_line: bool,
    },
    /// Cells coloured by value; panels share the scale.
    Heatmap {
        /// Name of the rows.
        row_label: String,
        /// Name of the columns.
        col_label: String,
        /// Small multiples.
        panels: Vec<HeatmapPanel>,
        /// How values become colours.
        scale: HeatmapScale,
        /// What the colour means, with unit.
        unit: String,
        /// Whether each cell shows its number.
        annotate: bool,
    },
    /// Groups of bars from zero; panels share the y axis.
    Bars {
        /// Name and unit of the y axis.
        y_label: String,
        /// Small multiples.
        panels: Vec<BarPanel>,
    },
    /// Bars from zero to the left and right, with the groups under one another in the order given: for
    /// many groups or long names. Panels share the axis of values; each has groups of its own.
    HorizontalBars {
        /// Name and unit of the values.
        x_label: String,
        /// Small multiples.
        panels: Vec<BarPanel>,
    },
    /// Circuits: components by layer, from the embedding at the bottom to the logits at the top, and their
    /// connections. Panels share both scales, and a component has the same place in all.
    Graph {
        /// Small multiples.
        panels: Vec<GraphPanel>,
        /// What a component's colour means, with unit.
        node_unit: String,
        /// Size of a component's weight at which its colour is full; `None`: the largest in the data.
        node_reach: Option<f64>,
        /// What a connection's width means, with unit.
        edge_unit: String,
        /// Size of a connection's weight at which it is widest; `None`: the largest in the data.
        edge_reach: Option<f64>,
    },
    /// Attention over the tokens of prompts, to be looked through by prompt, model, layer and head.
    Attention(AttentionRows),
}

/// One panel of curves.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LinePanel {
    /// Panel title: a scenario, usually.
    pub title: String,
    /// Curves, drawn in order.
    pub series: Vec<Series>,
}

/// One curve, with an interval around it or without.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Series {
    /// Name in the legend; equal names in several panels are one entry.
    pub name: String,
    /// Colour.
    pub color: ColorKey,
    /// Positions.
    pub x: Vec<f64>,
    /// Values, one a position.
    pub y: Vec<Option<f64>>,
    /// Lower ends of the intervals, one a position; empty if there are none.
    #[serde(default)]
    pub lo: Vec<Option<f64>>,
    /// Upper ends of the intervals, one a position; empty if there are none.
    #[serde(default)]
    pub hi: Vec<Option<f64>>,
}

impl Series {
    /// A curve without intervals; NaN is a gap.
    pub fn new(name: impl Into<String>, color: ColorKey, x: Vec<f64>, y: &[f64]) -> Self {
        Self { name: name.into(), color, x, y: defined(y), lo: Vec::new(), hi: Vec::new() }
    }

    /// The same curve with intervals; NaN is a gap.
    #[must_use]
    pub fn with_interval(mut self, lo: &[f64], hi: &[f64]) -> Self {
        (self.lo, self.hi) = (defined(lo), defined(hi));
        self
    }
}

fn defined(values: &[f64]) -> Vec<Option<f64>> {
    values.iter().map(|value| (!value.is_nan()).then_some(*value)).collect()
}

/// Which colour of the theme; the same model keeps its colour in every figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColorKey {
    /// The base model: grey.
    Base,
    /// The adapter of this index, in the order in which the run names them.
    Model(usize),
    /// What models are held against, not a model: a chance level, a control. Dashed, a pattern for each index.
    Reference(usize),
}

/// One panel of a heat map.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HeatmapPanel {
    /// Panel title; empty for none.
    pub title: String,
    /// Row names, top to bottom.
    pub rows: Vec<String>,
    /// Column names, left to right.
    pub cols: Vec<String>,
    /// `values[row][col]`.
    pub values: Vec<Vec<Option<f64>>>,
    /// `intervals[row][col]`, shown under the number; empty if there are none.
    #[serde(default)]
    pub intervals: Vec<Vec<Option<(f64, f64)>>>,
}

/// How a value becomes a colour.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum HeatmapScale {
    /// Two hues, symmetric about a value that means "neither".
    Diverging {
        /// That value; it is drawn almost white.
        center: f64,
        /// Distance from the centre at which the colour is full; `None`: the largest in the data.
        reach: Option<f64>,
    },
    /// One hue, light to dark. Values outside have the colour of the nearer end.
    Sequential {
        /// Value of the lightest colour.
        min: f64,
        /// Value of the darkest colour.
        max: f64,
    },
}

/// One panel of bars.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarPanel {
    /// Panel title; empty for none.
    pub title: String,
    /// Names of the groups along the x axis.
    pub groups: Vec<String>,
    /// One bar of each in every group.
    pub series: Vec<BarSeries>,
}

/// The bars of one model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BarSeries {
    /// Name in the legend.
    pub name: String,
    /// Colour.
    pub color: ColorKey,
    /// Heights, one a group.
    pub values: Vec<Option<f64>>,
    /// Interval of each, one a group; empty if there are none.
    #[serde(default)]
    pub intervals: Vec<Option<(f64, f64)>>,
}

impl Figure {
    /// Whether the figure can be drawn: names, lengths and numbers.
    ///
    /// # Errors
    /// [`Error::BadName`], [`Error::Empty`], [`Error::LengthMismatch`], [`Error::NotDrawable`],
    /// [`Error::Graph`], [`Error::BadSlices`].
    pub fn check(&self) -> Result<()> {
        check_name(&self.name)?;
        if self.by_prompt.as_ref().is_some_and(|slices| slices.unpacked(&self.kind).is_none()) {
            return Err(Error::BadSlices { figure: self.name.clone() });
        }
        let (n_panels, filled) = match &self.kind {
            FigureKind::Lines { panels, .. } => (panels.len(), panels.iter().all(|p| !p.series.is_empty())),
            FigureKind::Heatmap { panels, .. } => {
                (panels.len(), panels.iter().all(|p| !p.rows.is_empty() && !p.cols.is_empty()))
            }
            FigureKind::Bars { panels, .. } | FigureKind::HorizontalBars { panels, .. } => {
                (panels.len(), panels.iter().all(|p| !p.series.is_empty() && !p.groups.is_empty()))
            }
            FigureKind::Graph { panels, .. } => (panels.len(), panels.iter().all(|p| !p.nodes.is_empty())),
            FigureKind::Attention(rows) => match rows.problem() {
                None => return Ok(()),
                Some(problem) => {
                    return Err(Error::Empty { figure: self.name.clone(), problem: problem.to_owned() });
                }
            },
        };
        if n_panels == 0 || !filled {
            let problem = if n_panels == 0 {
                "it has no panels"
            } else {
                "a panel has no series, rows, columns or nodes"
            };
            return Err(Error::Empty { figure: self.name.clone(), problem: problem.to_owned() });
        }
        match &self.kind {
            FigureKind::Lines { panels, .. } => panels.iter().try_for_each(|panel| self.check_lines(panel)),
            FigureKind::Heatmap { panels, scale, .. } => {
                self.check_scale(scale)?;
                panels.iter().try_for_each(|panel| self.check_heatmap(panel))
            }
            FigureKind::Bars { panels, .. } | FigureKind::HorizontalBars { panels, .. } => {
                panels.iter().try_for_each(|panel| self.check_bars(panel))
            }
            FigureKind::Graph { panels, node_reach, edge_reach, .. } => {
                self.drawable("scale", [*node_reach, *edge_reach].into_iter().flatten())?;
                panels.iter().try_for_each(|panel| self.check_graph(panel))
            }
            FigureKind::Attention(_) => Ok(()),
        }
    }

    fn check_lines(&self, panel: &LinePanel) -> Result<()> {
        for series in &panel.series {
            let place = format!("panel `{}`, series `{}`", panel.title, series.name);
            let n = series.x.len();
            self.same_length(&place, "positions", n, series.y.len())?;
            for bound in [&series.lo, &series.hi] {
                if !bound.is_empty() || series.lo.len() != series.hi.len() {
                    self.same_length(&place, "positions", n, bound.len())?;
                }
            }
            self.drawable(&place, series.x.iter().copied())?;
            let values = [&series.y, &series.lo, &series.hi].into_iter().flatten().flatten();
            self.drawable(&place, values.copied())?;
        }
        Ok(())
    }

    fn check_heatmap(&self, panel: &HeatmapPanel) -> Result<()> {
        let place = format!("panel `{}`", panel.title);
        self.same_length(&place, "rows", panel.rows.len(), panel.values.len())?;
        for row in &panel.values {
            self.same_length(&place, "columns", panel.cols.len(), row.len())?;
            self.drawable(&place, row.iter().flatten().copied())?;
        }
        if !panel.intervals.is_empty() {
            self.same_length(&place, "rows", panel.rows.len(), panel.intervals.len())?;
        }
        for row in &panel.intervals {
            self.same_length(&place, "columns", panel.cols.len(), row.len())?;
            self.drawable(&place, row.iter().flatten().flat_map(|&(lo, hi)| [lo, hi]))?;
        }
        Ok(())
    }

    fn check_scale(&self, scale: &HeatmapScale) -> Result<()> {
        match *scale {
            HeatmapScale::Diverging { center, reach } => {
                self.drawable("scale", [center, reach.unwrap_or(1.0)].into_iter())
            }
            HeatmapScale::Sequential { min, max } => self.drawable("scale", [min, max].into_iter()),
        }
    }

    fn check_bars(&self, panel: &BarPanel) -> Result<()> {
        for series in &panel.series {
            let place = format!("panel `{}`, series `{}`", panel.title, series.name);
            self.same_length(&place, "groups", panel.groups.len(), series.values.len())?;
            if !series.intervals.is_empty() {
                self.same_length(&place, "groups", panel.groups.len(), series.intervals.len())?;
            }
            self.drawable(&place, series.values.iter().flatten().copied())?;
            self.drawable(&place, series.intervals.iter().flatten().flat_map(|&(lo, hi)| [lo, hi]))?;
        }
        Ok(())
    }

    fn check_graph(&self, panel: &GraphPanel) -> Result<()> {
        if let Some(problem) = panel.structure_problem() {
            return Err(Error::Graph { figure: self.name.clone(), panel: panel.title.clone(), problem });
        }
        let nodes = panel.nodes.iter().map(|node| (node.id.clone(), node.weight, node.interval));
        let edges = panel.edges.iter().map(|edge| (edge.name(), edge.weight, edge.interval));
        for (name, weight, interval) in nodes.chain(edges) {
            let values = weight.into_iter().chain(interval.into_iter().flat_map(|(lo, hi)| [lo, hi]));
            self.drawable(&format!("panel `{}`, `{name}`", panel.title), values)?;
        }
        Ok(())
    }

    fn same_length(&self, place: &str, of: &'static str, expected: usize, given: usize) -> Result<()> {
        if expected == given {
            return Ok(());
        }
        let (figure, place) = (self.name.clone(), place.to_owned());
        Err(Error::LengthMismatch { figure, place, of, expected, given })
    }

    fn drawable(&self, place: &str, mut values: impl Iterator<Item = f64>) -> Result<()> {
        match values.find(|value| value.is_nan() || value.abs() > LARGEST) {
            None => Ok(()),
            Some(value) => {
                Err(Error::NotDrawable { figure: self.name.clone(), place: place.to_owned(), value })
            }
        }
    }
}

/// Refuses what can't be a file name and an HTML id everywhere.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if name.starts_with(|c: char| c.is_ascii_alphabetic()) && name.chars().all(allowed) {
        return Ok(());
    }
    let problem = "it must be ASCII letters, digits, `_` and `-`, beginning with a letter";
    Err(Error::BadName { name: name.to_owned(), problem })
}
