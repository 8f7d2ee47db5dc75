//! Invented prompts, and figures' values on single ones.

use lorascope_report::{
    AttentionPrompt, AttentionRows, ByPrompt, Cell, Excerpt, Figure, FigureKind, HeatmapPanel, HeatmapScale,
    PromptText, Verdict, VerdictKind, pack_weights,
};

use super::{MODELS, SCENARIOS};

pub const N_PROMPTS: usize = 15;

pub fn prompts() -> Vec<PromptText> {
    let prompt = |i: usize| PromptText {
        id: format!("p{i:02}"),
        scenario: SCENARIOS[i % SCENARIOS.len()].to_owned(),
        text: format!(
            "Round {i}. You and <b>another player</b> choose action1 or action2.\nWhat do you choose?"
        ),
        answer_a: "action1".to_owned(),
        answer_b: "action2".to_owned(),
    };
    (0..N_PROMPTS).map(prompt).collect()
}

/// The figure with values of every prompt scattered about its averages; a prompt has a part only in what is called as
/// its scenario, where anything is.
pub fn with_slices(figure: Figure) -> Figure {
    let prompts = prompts();
    let ids = prompts.iter().map(|prompt| prompt.id.clone()).collect();
    let value = |prompt: usize, cell: Cell| {
        let (mean, names) = mean_and_names(&figure.kind, cell);
        let foreign = SCENARIOS.iter().any(|scenario| {
            names.iter().any(|name| name == scenario) && prompts[prompt].scenario != *scenario
        });
        let noise = ((prompt * 37 + cell.row * 11 + cell.col * 5 + cell.panel * 3) as f64).sin() * 0.2;
        mean.filter(|_| !foreign).map(|mean| mean * (1.0 + noise))
    };
    let by_prompt = Some(ByPrompt::new(&figure.kind, ids, value));
    Figure { by_prompt, ..figure }
}

fn mean_and_names(kind: &FigureKind, Cell { panel, row, col }: Cell) -> (Option<f64>, Vec<String>) {
    match kind {
        FigureKind::Lines { panels, .. } => {
            (panels[panel].series[row].y[col], vec![panels[panel].title.clone()])
        }
        FigureKind::Heatmap { panels, .. } => (
            panels[panel].values[row][col],
            vec![panels[panel].title.clone(), panels[panel].cols[col].clone()],
        ),
        FigureKind::Bars { panels, .. } | FigureKind::HorizontalBars { panels, .. } => {
            (panels[panel].series[row].values[col], vec![panels[panel].groups[col].clone()])
        }
        FigureKind::Graph { .. } | FigureKind::Attention(_) => (None, Vec::new()),
    }
}

/// A heat map of `n` by `n` cells.
pub fn large_map(n: usize) -> Figure {
    let value = |r: usize, c: usize| Some(((r * 7 + c * 13) as f64).sin() * (c as f64 / n as f64));
    let names = || (0..n).map(|i| i.to_string()).collect();
    with_slices(Figure {
        name: "large-map".to_owned(),
        title: "A map of many cells".to_owned(),
        caption: format!("{n} by {n} cells of invented values, with values of {N_PROMPTS} prompts."),
        by_prompt: None,
        kind: FigureKind::Heatmap {
            row_label: "head".to_owned(),
            col_label: "layer".to_owned(),
            panels: vec![HeatmapPanel {
                title: "strategic − base".to_owned(),
                rows: names(),
                cols: names(),
                values: (0..n).map(|r| (0..n).map(|c| value(r, c)).collect()).collect(),
                intervals: Vec::new(),
            }],
            scale: HeatmapScale::Diverging { center: 0.0, reach: None },
            unit: "contribution (nat)".to_owned(),
            annotate: false,
        },
    })
}

/// Attention of three layers of four heads over twenty tokens.
pub fn attention() -> Figure {
    let tokens = || -> Vec<String> {
        let words = ["<bos>", "You", " and", " another", " <b>player</b>", " choose", ".", "\n"];
        words.into_iter().cycle().take(20).map(str::to_owned).collect()
    };
    let prompt = |id: &str| AttentionPrompt {
        id: id.to_owned(),
        tokens: tokens(),
        spans: ["payoffs", "other"].map(str::to_owned).into(),
        span_of: (0..20).map(|t| usize::from(t % 5 != 0)).collect(),
    };
    let prompts: Vec<_> = ["p00", "p01"].into_iter().map(prompt).collect();
    let n = prompts.len() * MODELS.len() * 3 * 4;
    let weight = |row: usize, t: usize| (1.0 + ((row * 5 + t * 3) as f32).sin()) / 20.0;
    let weights = (0..n).flat_map(|row| (0..20).map(move |t| weight(row, t)));
    Figure {
        name: "attention-rows".to_owned(),
        title: "What each head reads".to_owned(),
        caption: "Invented weights.".to_owned(),
        by_prompt: None,
        kind: FigureKind::Attention(AttentionRows {
            models: MODELS.map(str::to_owned).into(),
            n_layers: 3,
            n_heads: 4,
            prompts,
            weights: pack_weights(weights),
        }),
    }
}

pub fn verdicts() -> Vec<Verdict> {
    let claim = |question: &str, claim: &str, verdict, value: &str, figure: &str| Verdict {
        question: question.to_owned(),
        claim: claim.to_owned(),
        about: "strategic".to_owned(),
        verdict,
        statement: "Invented: the claim in words, with the number that carries it.".to_owned(),
        value: value.to_owned(),
        figure: Some(figure.to_owned()),
        table: Some("decisions".to_owned()),
        rows: "model=strategic".to_owned(),
        excerpt: Some(Excerpt {
            columns: ["model", "prompt_id", "delta"].map(str::to_owned).into(),
            column: Some(2),
            rows: vec![["strategic", "p-00", "<0.25>"].map(str::to_owned).into()],
            n_rows: 15,
        }),
    };
    let first = "May the decisions be read as the metric reads them?";
    vec![
        claim(first, "answers are probable", VerdictKind::Yes, "0.93 [0.91, 0.95]", "decisions"),
        claim(first, "labels do not decide", VerdictKind::NotResolved, "0.12 [−0.30, 0.54]", "delta-bars"),
        claim("Are circuits distinct?", "circuits differ", VerdictKind::No, "0.04", "heads"),
        claim("Are circuits distinct?", "edges differ", VerdictKind::NotAsked, "", "nowhere"),
    ]
}
