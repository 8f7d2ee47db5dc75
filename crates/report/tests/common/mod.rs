//! Invented data of the shape that a study has: five models, five scenarios, thirty layers. Nothing here
//! is a result; it is for tests, and for looking at drawings (`cargo run --example sample_report`).

#![allow(dead_code, reason = "each test file takes what it needs")]

pub mod circuits;
pub mod prompts;

use lorascope_report::{
    BarPanel, BarSeries, ColorKey, Figure, FigureKind, HeatmapPanel, HeatmapScale, LinePanel, Page,
    ProvenanceItem, Section, Series, SummaryColumn, SummaryTable, TableFile,
};

pub const MODELS: [&str; 5] = ["base", "strategic", "deontological", "utilitarian", "hybrid"];
pub const SCENARIOS: [&str; 5] =
    ["CC_continue", "CC_temptation", "CD_punished", "DC_exploited", "DD_trapped"];

pub fn color(index: usize) -> ColorKey {
    if index == 0 { ColorKey::Base } else { ColorKey::Model(index - 1) }
}

/// A smooth invented curve of `n_layers` values for one model in one scenario.
fn curve(model: usize, scenario: usize, n_layers: usize) -> Vec<f64> {
    let end = [0.3, 2.4, -2.1, -1.2, 0.9][model % 5] + 0.35 * (scenario as f64 - 2.0);
    let at = |layer: usize| {
        let depth = layer as f64 / (n_layers as f64 - 1.0);
        let wobble = 0.18 * ((layer * (model + 2)) as f64 * 0.7 + scenario as f64).sin();
        end / (1.0 + (-(depth - 0.62) * 11.0).exp()) + wobble * (1.0 - depth * 0.6)
    };
    (0..n_layers).map(at).collect()
}

pub fn trajectories(models: &[&str], scenarios: &[&str], n_layers: usize) -> Figure {
    let series = |model: usize, scenario: usize| {
        let y = curve(model, scenario, n_layers);
        let half = |layer: usize| 0.12 + 0.25 * layer as f64 / n_layers as f64;
        let lo: Vec<_> = y.iter().enumerate().map(|(layer, v)| v - half(layer)).collect();
        let hi: Vec<_> = y.iter().enumerate().map(|(layer, v)| v + half(layer)).collect();
        let x = (0..n_layers).map(|layer| layer as f64).collect();
        Series::new(models[model], color(model), x, &y).with_interval(&lo, &hi)
    };
    let panel = |(scenario, title): (usize, &&str)| LinePanel {
        title: (*title).to_owned(),
        series: (0..models.len()).map(|model| series(model, scenario)).collect(),
    };
    Figure {
        name: "lens-trajectories".to_owned(),
        title: "When does each model turn to defect?".to_owned(),
        caption: "Logit-lens delta, logp(defect) − logp(cooperate), at the decision point after each layer \
                  (resid_post), in nats; mean over 12 prompts a scenario. Bands: 95% bootstrap interval, \
                  clustered by template. Above the dashed line the model prefers to defect."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::Lines {
            x_label: "layer".to_owned(),
            y_label: "delta (nat); > 0 prefers to defect".to_owned(),
            panels: scenarios.iter().enumerate().map(panel).collect(),
            zero_line: true,
        },
    }
}

pub fn decisions(models: &[&str], scenarios: &[&str]) -> Figure {
    let p = |model: usize, scenario: usize| 1.0 / (1.0 + (-curve(model, scenario, 30)[29] * 1.6).exp());
    let grid = |model| (0..scenarios.len()).map(|scenario| Some(p(model, scenario))).collect();
    let ends = |p: f64| (p - 0.3 * p * (1.0 - p), p + 0.35 * p * (1.0 - p));
    let interval = |model| (0..scenarios.len()).map(|scenario| Some(ends(p(model, scenario)))).collect();
    Figure {
        name: "decisions".to_owned(),
        title: "Probability to defect, by model and scenario".to_owned(),
        caption:
            "p_b = σ(delta), mean over 12 prompts a cell; under it the 95% bootstrap interval, clustered by \
                  template. White is indifference (0.5)."
                .to_owned(),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "model".to_owned(),
            col_label: "scenario".to_owned(),
            panels: vec![HeatmapPanel {
                title: String::new(),
                rows: models.iter().map(|m| (*m).to_owned()).collect(),
                cols: scenarios.iter().map(|s| (*s).to_owned()).collect(),
                values: (0..models.len()).map(grid).collect(),
                intervals: (0..models.len()).map(interval).collect(),
            }],
            scale: HeatmapScale::Diverging { center: 0.5, reach: Some(0.5) },
            unit: "probability to defect".to_owned(),
            annotate: true,
        },
    }
}

pub fn heads(n_layers: usize, n_heads: usize) -> Figure {
    let value = |layer: usize, head: usize| {
        let v = ((layer * 7 + head * 13) as f64).sin() * (layer as f64 / n_layers as f64).powi(2) * 0.4;
        (layer + head != 4).then_some(v)
    };
    let rows = (0..n_heads).map(|head| (0..n_layers).map(|layer| value(layer, head)).collect()).collect();
    Figure {
        name: "heads".to_owned(),
        title: "Direct contribution of each head to delta".to_owned(),
        caption: "Contribution in nats, frozen final norm; mean over prompts. Struck cells: undefined."
            .to_owned(),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "head".to_owned(),
            col_label: "layer".to_owned(),
            panels: vec![HeatmapPanel {
                title: "strategic − base".to_owned(),
                rows: (0..n_heads).map(|head| head.to_string()).collect(),
                cols: (0..n_layers).map(|layer| layer.to_string()).collect(),
                values: rows,
                intervals: Vec::new(),
            }],
            scale: HeatmapScale::Diverging { center: 0.0, reach: None },
            unit: "contribution (nat)".to_owned(),
            annotate: false,
        },
    }
}

pub fn bars(models: &[&str], scenarios: &[&str]) -> Figure {
    let series = |(model, name): (usize, &&str)| BarSeries {
        name: (*name).to_owned(),
        color: color(model),
        values: (0..scenarios.len()).map(|s| Some(curve(model, s, 30)[29])).collect(),
        intervals: (0..scenarios.len())
            .map(|s| curve(model, s, 30)[29])
            .map(|v| Some((v - 0.3, v + 0.4)))
            .collect(),
    };
    Figure {
        name: "delta-bars".to_owned(),
        title: "Decision delta, by scenario and model".to_owned(),
        caption: "logp(defect) − logp(cooperate) in nats; whiskers: 95% bootstrap interval.".to_owned(),
        by_prompt: None,
        kind: FigureKind::Bars {
            y_label: "delta (nat)".to_owned(),
            panels: vec![BarPanel {
                title: String::new(),
                groups: scenarios.iter().map(|s| (*s).to_owned()).collect(),
                series: models.iter().enumerate().map(series).collect(),
            }],
        },
    }
}

pub fn page() -> Page {
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    let row = |(i, model): (usize, &&str)| {
        vec![
            (*model).to_owned(),
            format!("{:.2}", 0.3 * i as f64 - 0.4),
            format!("{:.3}", 0.9 + 0.01 * i as f64),
        ]
    };
    let decisions = Section {
        id: "decide".to_owned(),
        title: "Decisions".to_owned(),
        question: "What does each model choose, and how firmly?".to_owned(),
        paragraphs: vec!["The strategic adapter defects in every scenario but CC_continue.".to_owned()],
        figures: [decisions(&MODELS, &SCENARIOS), bars(&MODELS, &SCENARIOS)].map(prompts::with_slices).into(),
        tables: vec![SummaryTable {
            title: "Decision metric by model".to_owned(),
            columns: vec![
                column("model", "Model name; the base model is called base.", false),
                column("delta", "logp(B) − logp(A), nats, mean over prompts.", true),
                column(
                    "legal_mass",
                    "Probability of either answer; far below 1, the metric says little.",
                    true,
                ),
            ],
            rows: MODELS.iter().enumerate().map(row).collect(),
        }],
        notes: vec!["Twelve prompts a cell: the intervals are wide.".to_owned()],
    };
    let lens = Section {
        id: "lens".to_owned(),
        title: "Logit lens".to_owned(),
        question: "At which layer does the decision form?".to_owned(),
        figures: [trajectories(&MODELS, &SCENARIOS, 30), heads(30, 9)].map(prompts::with_slices).into(),
        ..Section::default()
    };
    let item = |name: &str, value: &str| ProvenanceItem { name: name.to_owned(), value: value.to_owned() };
    Page {
        title: "Sample report (invented data)".to_owned(),
        lead:
            "Five models, five scenarios. Every number on this page is invented; it shows how a report looks."
                .to_owned(),
        verdicts: prompts::verdicts(),
        models: MODELS.map(str::to_owned).into(),
        prompts: prompts::prompts(),
        tables: vec![TableFile {
            section: "decide".to_owned(),
            name: "decisions".to_owned(),
            doc: "One model's decision on one prompt.".to_owned(),
            rows: 75,
            columns: ["model", "prompt_id", "delta"].map(str::to_owned).into(),
        }],
        sections: vec![decisions, lens],
        provenance: vec![
            item("lorascope", "0.1.0"),
            item("seed", "7"),
            item("prompts", "60, sha256 4f53cda1…"),
        ],
        ..Page::default()
    }
}
