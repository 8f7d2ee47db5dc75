//! `play` as an analysis: from a subject whose prompts are those of the settings to tables and a report section.

use crate::answer::{Answers, Question};
use crate::contrasts::contrasts;
use crate::engine::{Played, play};
use crate::figures::Scene;
use crate::metrics::{Clusters, measure, value_of};
use crate::policies::{FACTORS, Policy, policies};
use crate::regret::judgement;
use crate::scored::Scored;
use crate::settings::{Policies, Settings};
use crate::tables::{
    MATCHES, PLAY, REGRETS, TABLES, contrast_rows, match_row, play_row, regret_row, robustness,
};
use crate::tournament::Tournament;
use lorascope_analyses::{Analysis, Context, Findings, Interval, Result, Subject};
use lorascope_prompts::PromptSet;
use lorascope_record::{Table, TableSpec};
use lorascope_report::{Section, SummaryColumn, SummaryTable};
use serde_json::Value;

/// Matrix games, played.
pub struct Play;

impl Analysis for Play {
    fn name(&self) -> &'static str {
        "play"
    }
    fn title(&self) -> &'static str {
        "Play"
    }
    fn question(&self) -> &'static str {
        "How does each model play matrix games, against whom, and how do moral frameworks judge it?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn by_default(&self) -> bool {
        false
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        Ok(serde_json::to_value(Settings::from_json(given)?).unwrap_or_default())
    }
    fn prompts(&self, settings: &Value) -> Result<Option<PromptSet>> {
        Settings::from_json(settings)?.prompt_set().map(Some)
    }
    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        tournament(subject, settings).map(drop)
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let subject = context.subject;
        let t = tournament(subject, settings)?;
        let mut models = Scored::new(context);
        let mut answers = Answers::new(&mut models);
        if t.settings.policies == Policies::All {
            let prompts = 0..subject.prompts.len();
            answers.learn(
                t.asked()
                    .into_iter()
                    .flat_map(|model| prompts.clone().map(move |prompt| Question { model, prompt })),
            )?;
        }
        let played = play(&t, &mut answers, context.seed)?;
        let mean_policies = policies(&t, &answers, context.seed);
        let mut asked = models.table;
        asked.sort_by_keys();
        let clusters = Clusters::new(&t, context.seed);
        let [matches, cells, regrets] = tables(&t, &clusters, &played)?;
        let scene =
            Scene { subject, tournament: &t, clusters: &clusters, played: &played, policies: &mean_policies };
        let section = section(&scene, asked.n_rows());
        let compared = contrasts(&t, &clusters, &played, context.seed);
        let compared = contrast_rows(&t, &clusters, &compared)?;
        let tables = vec![matches, cells, regrets, compared, asked, robustness(&t, &mean_policies)?];
        Ok(Findings { tables, section })
    }
}

fn tournament(subject: &Subject, settings: &Value) -> Result<Tournament> {
    let items = subject.prompts.iter().map(|prompt| &prompt.item);
    Tournament::new(Settings::from_json(settings)?, &subject.model.names(), items)
}

/// Matches, metrics and regrets.
fn tables(t: &Tournament, clusters: &Clusters, played: &[Played]) -> Result<[Table; 3]> {
    let (mut matches, mut cells, mut regrets) =
        (Table::new(&MATCHES), Table::new(&PLAY), Table::new(&REGRETS));
    let cell = |one: &Played| (one.which.model, one.which.game, one.which.opponent);
    for of_cell in played.chunk_by(|one, next| cell(one) == cell(next)) {
        let one = &of_cell[0];
        for played in of_cell {
            matches.push(&match_row(t, played))?;
        }
        let of_cell: Vec<&Played> = of_cell.iter().collect();
        for measured in measure(t, clusters, &of_cell) {
            cells.push(&play_row(t, clusters, one, &measured))?;
        }
        for reward in &t.settings.rewards {
            let judged = judgement(t, clusters, &of_cell, reward);
            regrets.push(&regret_row(t, clusters, one, reward, &judged))?;
        }
    }
    Ok([matches, cells, regrets])
}

fn section(scene: &Scene, n_answers: usize) -> Section {
    let t = scene.tournament;
    let pooled: Vec<_> =
        t.players.iter().map(|&model| (model, scene.measured(|m| m.model == model))).collect();
    let value = |measured: &[_], name: &str, given: &str| told(value_of(measured, name, given));
    let rows = pooled.iter().map(|(model, measured)| {
        vec![
            t.models[*model].clone(),
            value(measured, "cooperation", ""),
            value(measured, "cooperation", "*C"),
            value(measured, "cooperation", "*D"),
            value(measured, "reciprocity", ""),
            value(measured, "joint_efficiency", ""),
            value(measured, "illegal_mass", ""),
        ]
    });
    let column = |name: &str, doc: &str| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric: name != "model",
    };
    let summary = SummaryTable {
        title: "All games and opponents together".to_owned(),
        columns: vec![
            column("model", "The model."),
            column("cooperates", "Share of legal answers that cooperate."),
            column("after C", "The same where the opponent cooperated last."),
            column("after D", "The same where the opponent defected last."),
            column("reciprocity", "The difference of the two: 1 copies the opponent, 0 does not look at it."),
            column("efficiency", "Points of both, from the least (0) to the most (1) that the games have."),
            column("illegal mass", "Probability of an answer that is neither action."),
        ],
        rows: rows.collect(),
    };
    let paragraphs = pooled.iter().map(|(model, measured)| {
        format!(
            "{} cooperates in {} of its rounds: {} after the opponent cooperated, {} after it defected.",
            t.models[*model],
            value(measured, "cooperation", ""),
            value(measured, "cooperation", "*C"),
            value(measured, "cooperation", "*D"),
        )
    });
    let counted = format!(
        "{} matches of {} rounds, played together; {n_answers} distinct questions were asked of the models.",
        scene.played.len(),
        t.settings.rounds
    );
    Section {
        id: "play".to_owned(),
        title: Play.title().to_owned(),
        question: Play.question().to_owned(),
        paragraphs: std::iter::once(counted).chain(paragraphs).collect(),
        figures: scene.figures(),
        tables: std::iter::once(summary).chain(spread(scene)).collect(),
        notes: notes(scene),
    }
}

/// How far each model's mean policy moves between the levels of each factor that should not matter.
fn spread(scene: &Scene) -> Option<SummaryTable> {
    let t = scene.tournament;
    let moved = |model: usize, factor: &str| {
        let levels = scene.by_level(model, factor);
        let ends = levels.iter().fold((1.0f64, 0.0f64), |(lo, hi), (_, p)| (lo.min(*p), hi.max(*p)));
        (levels.len() > 1).then_some(ends.1 - ends.0)
    };
    let asked = t.asked();
    let varied: Vec<&str> = FACTORS.into_iter().filter(|f| moved(asked[0], f).is_some()).collect();
    if varied.is_empty() {
        return None;
    }
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |v| format!("{v:.3}"));
    let rows = asked.iter().map(|&model| {
        let cells = varied.iter().map(|factor| number(moved(model, factor)));
        std::iter::once(t.models[model].clone()).chain(cells).collect()
    });
    let model = SummaryColumn { name: "model".to_owned(), doc: "The model.".to_owned(), numeric: false };
    let column = |factor: &&str| SummaryColumn {
        name: (*factor).to_owned(),
        doc: format!("Largest minus smallest mean probability to cooperate between levels of {factor}."),
        numeric: true,
    };
    Some(SummaryTable {
        title: "How far policies move with what should not matter".to_owned(),
        rows: rows.collect(),
        columns: std::iter::once(model).chain(varied.iter().map(column)).collect(),
    })
}

fn told(value: Option<Interval>) -> String {
    value.map_or_else(|| "-".to_owned(), |v| format!("{:.3} [{:.3}, {:.3}]", v.mean, v.lo, v.hi))
}

fn notes(scene: &Scene) -> Vec<String> {
    let (t, mut notes) = (scene.tournament, Vec::new());
    if scene.clusters.count() < 6 {
        notes.push(format!(
            "Only {} {} to resample: intervals mean little.",
            scene.clusters.count(),
            scene.clusters.what()
        ));
    }
    let mostly = |model: usize| {
        let of_model: Vec<&Policy> =
            scene.policies.iter().filter(|p| p.model == model && p.factor == crate::policies::ALL).collect();
        let mean = of_model.iter().map(|p| p.illegal_mass).sum::<f64>() / of_model.len() as f64;
        (mean > 0.5).then(|| format!("{} ({:.1}%)", t.models[model], 100.0 * mean))
    };
    let illegal: Vec<String> = t.asked().into_iter().filter_map(mostly).collect();
    if !illegal.is_empty() {
        notes.push(format!(
            "Most of the probability goes to answers that are neither action in {}: what is played there compares two unlikely \
             answers, unless `actions` is `as_generated`.",
            illegal.join(", ")
        ));
    }
    notes
}
