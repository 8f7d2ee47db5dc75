//! What a finished training says: its report, and the policy by state.

use lorascope_engine::Model;
use lorascope_record::RunKey;
use lorascope_report::{Page, ProvenanceItem, Section, SummaryColumn, SummaryTable};
use lorascope_train::{Pool, Settings, Step, Targets, figures};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Steps at the end over which the summary is taken.
const LAST: usize = 8;

/// Means over the last steps of one state.
#[derive(Default)]
struct Means {
    n: f64,
    reward: f64,
    p_defect: f64,
    legal_mass: f64,
    kl: f64,
}

fn means(steps: &[Step], pool: &Pool) -> BTreeMap<String, Means> {
    let mut found: BTreeMap<String, Means> = BTreeMap::new();
    for state in steps[steps.len().saturating_sub(LAST)..].iter().flat_map(|s| &s.states) {
        let last = pool.states[state.prompt].last;
        let m = found.entry(format!("{}{}", last.own.letter(), last.opponent.letter())).or_default();
        m.n += 1.0;
        m.reward += state.reward;
        m.p_defect += state.p_defect;
        m.legal_mass += state.legal_mass;
        m.kl += state.kl;
    }
    found
}

/// One line a state, for the terminal.
pub fn by_state(steps: &[Step], pool: &Pool) -> String {
    let mut text = format!("last {LAST} steps, by own and opponent's last move:\n");
    for (state, m) in means(steps, pool) {
        // Writing into a String can't fail.
        let _ = writeln!(
            text,
            "  {state}  p(defect) {:.3}, legal mass {:.4}, reward {:.2}, KL {:.3}",
            m.p_defect / m.n,
            m.legal_mass / m.n,
            m.reward / m.n,
            m.kl / m.n
        );
    }
    text
}

/// The report of a training.
pub fn page(
    settings: &Settings,
    targets: &Targets,
    key: &RunKey,
    steps: &[Step],
    pool: &Pool,
    model: &Model<f32>,
) -> Page {
    let item = |name: &str, value: String| ProvenanceItem { name: name.to_owned(), value };
    let spec = model.spec();
    let mut provenance = vec![
        item("lorascope", env!("CARGO_PKG_VERSION").to_owned()),
        item("command line", key.command_line.join(" ")),
        item("settings", key.settings.to_string()),
        item("seed", key.seed.to_string()),
        item("arithmetic", "f32; the adapter kept apart from the base, which stays as it is".to_owned()),
    ];
    provenance
        .extend(key.inputs.iter().map(|i| item(&i.name, format!("{} bytes, sha256 {}", i.bytes, i.sha256))));
    Page {
        title: "Training".to_owned(),
        lead: format!(
            "An adapter of rank {} in {} of a {} model, trained for {} steps on {} prompts; {} numbers could move.",
            settings.rank,
            places(settings, targets, spec.n_layers),
            spec.family,
            steps.len(),
            pool.states.len(),
            targets.n_trained(settings.rank)
        ),
        sections: vec![section(steps, pool)],
        provenance,
        ..Page::default()
    }
}

/// Where was trained.
fn places(settings: &Settings, targets: &Targets, n_layers: usize) -> String {
    if !settings.blocks.0.is_empty() {
        return format!("the blocks {}", settings.blocks);
    }
    let layers = targets.layers.as_ref().map_or_else(
        || format!("all {n_layers}"),
        |l| l.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    );
    let heads = settings.heads.to_string();
    let heads = if heads.is_empty() { heads } else { format!("; heads {heads}") };
    format!("{} (layers {layers}{heads})", targets.names.join(", "))
}

fn section(steps: &[Step], pool: &Pool) -> Section {
    let column = |name: &str, doc: &str, numeric| SummaryColumn {
        name: name.to_owned(),
        doc: doc.to_owned(),
        numeric,
    };
    let rows = means(steps, pool).into_iter().map(|(state, m)| {
        let number = |v: f64| format!("{:.3}", v / m.n);
        vec![state, number(m.p_defect), number(m.legal_mass), number(m.reward), number(m.kl)]
    });
    let summary = SummaryTable {
        title: format!("The last {LAST} steps by state"),
        rows: rows.collect(),
        columns: vec![
            column("state", "Own and opponent's last move.", false),
            column("p(defect)", "Probability to defect among the two answers.", true),
            column("legal mass", "Probability of giving either answer.", true),
            column("reward", "Expected reward among the two answers, in points.", true),
            column("KL", "KL(policy ‖ base) among the two answers, in nats.", true),
        ],
    };
    Section {
        id: "training".to_owned(),
        title: "Training".to_owned(),
        question: "What did the policy become, and how?".to_owned(),
        paragraphs: Vec::new(),
        figures: figures(steps, pool),
        tables: vec![summary],
        notes: vec![
            "All numbers are of training prompts. Ask `lorascope decide` for prompts that the adapter has not seen."
                .to_owned(),
        ],
    }
}
