//! The section of the report: behaviour by step with its change, updates by step and layer, and both beside each other.

use super::blocks::{ALL, BlockRow};
use super::changes::Change;
use super::settings::Settings;
use super::words::Words;
use super::{NAME, Results, Trajectory, TrajectoryAnalysis};
use crate::Analysis;
use crate::bootstrap::{Interval, RESAMPLES};
use crate::context::Context;
use crate::scenarios::{ALL_PROMPTS, n_clusters};
use crate::slices::with_prompts;
use lorascope_report::{
    Cell, ColorKey, Figure, FigureKind, HeatmapPanel, HeatmapScale, LinePanel, Section, Series,
};

/// The section, from everything that was found.
pub(super) fn section(context: &Context, settings: &Settings, results: &Results) -> Section {
    let figures = Figures { context, results };
    let words = Words { context, settings, results };
    let analysis: &dyn Analysis = &TrajectoryAnalysis;
    Section {
        id: NAME.to_owned(),
        title: analysis.title().to_owned(),
        question: analysis.question().to_owned(),
        paragraphs: words.paragraphs(),
        figures: figures.all(),
        tables: words.tables(),
        notes: words.notes(),
    }
}

struct Figures<'a> {
    context: &'a Context<'a>,
    results: &'a Results,
}

impl Figures<'_> {
    fn all(&self) -> Vec<Figure> {
        vec![self.behaviour(), self.progress(), self.ratios(), self.cosines(), self.modules()]
    }

    /// Trajectories with their blocks.
    fn each(&self) -> impl Iterator<Item = (&Trajectory, &Vec<BlockRow>)> {
        self.results.trajectories.iter().zip(&self.results.blocks)
    }

    /// How intervals came about.
    fn basis(&self) -> String {
        let prompts = &self.context.subject.prompts;
        let all: Vec<usize> = (0..prompts.len()).collect();
        format!(
            "{} prompts of {} templates; 95% bootstrap intervals over templates ({RESAMPLES} resamples).",
            prompts.len(),
            n_clusters(prompts, &all)
        )
    }

    /// Scenarios that have a curve of behaviour.
    fn curves(&self, t: &Trajectory) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for row in self.results.behaviour.iter().filter(|r| r.trajectory == t.name) {
            if !names.contains(&row.scenario.as_str()) {
                names.push(&row.scenario);
            }
        }
        // Scenarios tell more than their mean.
        if names.len() > 1 {
            names.retain(|n| *n != ALL_PROMPTS);
        }
        names
    }

    /// The figure of behaviour with every prompt in the curve of its scenario.
    fn with_prompts(&self, figure: Figure) -> Figure {
        let prompts = &self.context.subject.prompts;
        let shown: Vec<Vec<&str>> = self.results.trajectories.iter().map(|t| self.curves(t)).collect();
        with_prompts(figure, prompts, |prompt, Cell { panel, row, col }| {
            // After the curves stands the mark of the change, which is of all prompts.
            let name = shown[panel].get(row)?;
            let own = *name == ALL_PROMPTS || *name == prompts[prompt].scenario();
            own.then(|| self.results.decided[panel].steps[col].delta[prompt])
        })
    }

    fn behaviour(&self) -> Figure {
        let meanings = &self.context.subject.meanings;
        let panel = |t: &Trajectory| {
            let rows = self.results.behaviour.iter().filter(|r| r.trajectory == t.name);
            let names = self.curves(t);
            let curve = |(i, name): (usize, &&str)| {
                let own = rows.clone().filter(|r| r.scenario == **name);
                let points: Vec<(f64, Interval)> =
                    own.filter_map(|r| Some((r.step? as f64, r.delta))).collect();
                interval_curve(name, ColorKey::Model(i), &points)
            };
            let mut series: Vec<Series> = names.iter().enumerate().map(curve).collect();
            series.extend(mark(self.results.change(t), &series, "change of behaviour"));
            LinePanel { title: t.name.clone(), series }
        };
        let figure = Figure {
            by_prompt: None,
            name: "trajectory_behaviour".to_owned(),
            title: "Behaviour by step".to_owned(),
            caption: format!(
                "Mean of delta by checkpoint and scenario; above zero {} is preferred. Vertical: the middle between the two checkpoints where \
                 behaviour on all prompts has its main change (best piecewise-constant fit), the band its 95% interval; none where the order of \
                 steps means nothing. {}",
                meanings.b,
                self.basis()
            ),
            kind: FigureKind::Lines {
                x_label: "step".to_owned(),
                y_label: format!("ln p({}) − ln p({}), nat", meanings.b, meanings.a),
                panels: self.results.trajectories.iter().map(panel).collect(),
                zero_line: true,
            },
        };
        self.with_prompts(figure)
    }

    /// Behaviour and weights on one scale.
    fn progress(&self) -> Figure {
        let panel = |(t, blocks): (&Trajectory, &Vec<BlockRow>)| {
            let rows = self.results.behaviour.iter();
            let own = rows.filter(|r| r.trajectory == t.name && r.scenario == ALL_PROMPTS);
            let recovery: Vec<(f64, Interval)> =
                own.filter_map(|r| Some((r.step? as f64, r.recovery?))).collect();
            let whole: Vec<&BlockRow> =
                blocks.iter().filter(|r| r.layer.is_none() && r.module == ALL).collect();
            let last = whole.last().map_or(0.0, |r| r.norm);
            let x: Vec<f64> = whole.iter().map(|r| r.step as f64).collect();
            let norms: Vec<f64> =
                whole.iter().map(|r| if last > 0.0 { r.norm / last } else { f64::NAN }).collect();
            let cosines: Vec<f64> = whole.iter().map(|r| r.cosine_final.unwrap_or(f64::NAN)).collect();
            let mut series = Vec::new();
            if !recovery.is_empty() {
                series.push(interval_curve("behaviour: recovery", ColorKey::Model(0), &recovery));
            }
            series.push(Series::new("weights: norm / last norm", ColorKey::Model(1), x.clone(), &norms));
            series.push(Series::new("weights: cosine to the last", ColorKey::Model(2), x, &cosines));
            series.extend(mark(self.results.change(t), &series, "change of behaviour"));
            LinePanel { title: t.name.clone(), series }
        };
        Figure {
            by_prompt: None,
            name: "trajectory_progress".to_owned(),
            title: "How far along, in behaviour and in weights".to_owned(),
            caption: format!(
                "Recovery: share of the way from the base's decisions to the last checkpoint's. Norm of the whole update over that of the last \
                 checkpoint, and cosine of the two as one vector. All are 1 at the last checkpoint by definition; the way there is what to look \
                 at. {}",
                self.basis()
            ),
            kind: FigureKind::Lines {
                x_label: "step".to_owned(),
                y_label: "share of the last checkpoint".to_owned(),
                panels: self.each().map(panel).collect(),
                zero_line: true,
            },
        }
    }

    /// A panel of step × layer for each trajectory.
    fn layers(&self, value: &dyn Fn(&BlockRow) -> Option<f64>) -> Vec<HeatmapPanel> {
        let n_layers = self.context.subject.model.spec().n_layers;
        let panel = |(t, blocks): (&Trajectory, &Vec<BlockRow>)| {
            let cell = |layer: usize, step: u64| {
                let at = |r: &&BlockRow| r.layer == Some(layer) && r.module == ALL && r.step == step;
                blocks.iter().find(at).and_then(value)
            };
            let layers = || (0..n_layers).rev();
            HeatmapPanel {
                title: t.name.clone(),
                rows: layers().map(|l| format!("L{l}")).collect(),
                cols: t.steps.iter().map(u64::to_string).collect(),
                values: layers().map(|l| t.steps.iter().map(|&s| cell(l, s)).collect()).collect(),
                intervals: Vec::new(),
            }
        };
        self.each().map(panel).collect()
    }

    fn ratios(&self) -> Figure {
        let panels = self.layers(&|r| r.ratio().map(|v| 100.0 * v));
        let largest =
            panels.iter().flat_map(|p| p.values.iter().flatten().flatten()).fold(0.0, |m, v| v.max(m));
        heat(
            "trajectory_ratio",
            "How much each layer changed, by step",
            "Norm of the update over the norm of the base's weights, ‖s·B·A‖/‖W‖ (Frobenius), in per cent, all adapted maps of a layer together. \
             Exact, no sampling; numbers are in the table trajectory_blocks, by module too.",
            panels,
            if largest > 0.0 { largest } else { 1.0 },
            "% of the weights' norm",
        )
    }

    fn cosines(&self) -> Figure {
        heat(
            "trajectory_cosine",
            "How near each layer's update is to its last form",
            "Cosine of the update and that of the last checkpoint, all adapted maps of a layer as one vector; empty where one of them is zero, 1 \
             in the last column by definition. Checkpoints of one training share a beginning, so a high cosine is no finding by itself; \
             layers that get there later than others are. Cosines below 0 have the colour of 0.",
            self.layers(&|r| r.cosine_final),
            1.0,
            "cosine",
        )
    }

    fn modules(&self) -> Figure {
        let spec = self.context.subject.model.spec();
        let panel = |(t, blocks): (&Trajectory, &Vec<BlockRow>)| {
            let series = spec.modules().enumerate().filter_map(|(i, module)| {
                let own = blocks.iter().filter(|r| r.layer.is_none() && r.module == module.name());
                let (x, y): (Vec<f64>, Vec<f64>) =
                    own.map(|r| (r.step as f64, 100.0 * r.ratio().unwrap_or(f64::NAN))).unzip();
                let name = module.name().rsplit('.').next().unwrap_or_default();
                (!x.is_empty()).then(|| Series::new(name, ColorKey::Model(i), x, &y))
            });
            let mut series: Vec<Series> = series.collect();
            series.extend(mark(self.results.change(t), &series, "change of behaviour"));
            LinePanel { title: t.name.clone(), series }
        };
        Figure {
            by_prompt: None,
            name: "trajectory_modules".to_owned(),
            title: "How much each kind of module changed, by step".to_owned(),
            caption: "Norm of the update over the norm of the base's weights, in per cent, all layers of a linear map together. Exact, no \
                      sampling. Vertical: the main change of behaviour on all prompts, with its interval."
                .to_owned(),
            kind: FigureKind::Lines {
                x_label: "step".to_owned(),
                y_label: "% of the weights' norm".to_owned(),
                panels: self.each().map(panel).collect(),
                zero_line: true,
            },
        }
    }
}

fn heat(name: &str, title: &str, caption: &str, panels: Vec<HeatmapPanel>, max: f64, unit: &str) -> Figure {
    Figure {
        by_prompt: None,
        name: name.to_owned(),
        title: title.to_owned(),
        caption: caption.to_owned(),
        kind: FigureKind::Heatmap {
            row_label: "layer".to_owned(),
            col_label: "step".to_owned(),
            panels,
            scale: HeatmapScale::Sequential { min: 0.0, max },
            unit: unit.to_owned(),
            annotate: false,
        },
    }
}

fn interval_curve(name: &str, color: ColorKey, points: &[(f64, Interval)]) -> Series {
    let of = |f: fn(&Interval) -> f64| points.iter().map(|(_, i)| f(i)).collect::<Vec<f64>>();
    let x = points.iter().map(|(x, _)| *x).collect();
    Series::new(name, color, x, &of(|i| i.mean)).with_interval(&of(|i| i.lo), &of(|i| i.hi))
}

/// A change as a vertical line as high as the curves, and its interval as a band.
fn mark(change: Option<&Change>, curves: &[Series], name: &str) -> Vec<Series> {
    let Some(change) = change else { return Vec::new() };
    let values = curves.iter().flat_map(|s| s.y.iter().chain(&s.lo).chain(&s.hi)).flatten();
    // Zero is in view in all of these figures.
    let (lo, hi) = values.fold((0.0f64, 0.0f64), |(lo, hi), v| (lo.min(*v), hi.max(*v)));
    let color = ColorKey::Reference(0);
    let middle = (change.between.0 + change.between.1) as f64 / 2.0;
    let mut marks = vec![Series::new(name, color, vec![middle; 2], &[lo, hi])];
    if let Some((from, to)) = change.interval {
        let ends = vec![from as f64, to as f64];
        marks.push(Series::new(name, color, ends, &[f64::NAN; 2]).with_interval(&[lo; 2], &[hi; 2]));
    }
    marks
}
