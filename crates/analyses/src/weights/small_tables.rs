//! Small tables of the report: the largest changes, similarities beside floors, alignments, and components with their words.

use super::alignment::TokenPair;
use super::components::first_pair;
use super::figures::short;
use super::similarity::ALL_MODULES;
use crate::error::Result;
use crate::subject::Subject;
use lorascope_record::Table;
use lorascope_report::{SummaryColumn, SummaryTable};
use std::collections::BTreeSet;

/// Rows of each small table, per model.
const LARGEST: usize = 8;
/// Words of a component that the report shows on each side.
const WORDS: usize = 5;

/// A number with its sign; what rounds to zero has none.
pub(super) fn signed(value: f64) -> String {
    if value.abs() < 0.0005 { "0.000".to_owned() } else { format!("{value:+.3}") }
}

/// An adjusted p-value.
fn shown_q(q: f64) -> String {
    if q < 0.001 { "<0.001".to_owned() } else { format!("{q:.3}") }
}

/// Rows in the order of the models.
pub(super) fn in_order(subject: &Subject, models: &[&str]) -> Vec<usize> {
    let names = subject.model.names();
    let mut rows: Vec<usize> = (0..models.len()).collect();
    rows.sort_by_key(|&i| names.iter().position(|n| *n == models[i]));
    rows
}

fn column(name: &str, doc: &str, numeric: bool) -> SummaryColumn {
    SummaryColumn { name: name.to_owned(), doc: doc.to_owned(), numeric }
}

/// The weights that changed most.
pub(super) fn largest_table(subject: &Subject, weights: &Table) -> Result<SummaryTable> {
    let (models, modules) = (weights.texts("model")?, weights.texts("module")?);
    let layers = weights.ints_or_null("layer")?;
    let numbers = |c: &str| weights.floats_or_null(c).map(<[Option<f64>]>::to_vec);
    let (ratio, share, delta) = (numbers("ratio")?, numbers("share")?, weights.floats("delta_norm")?);
    let (stable, effective) = (numbers("stable_rank")?, numbers("effective_rank")?);
    let mut rows = Vec::new();
    for name in &subject.model.names()[1..] {
        let mut own: Vec<usize> = (0..models.len()).filter(|&i| models[i] == *name).collect();
        own.sort_by(|&a, &b| delta[b].total_cmp(&delta[a]));
        let shown = |v: Option<f64>, digits: usize| v.map_or_else(String::new, |v| format!("{v:.digits$}"));
        rows.extend(own.into_iter().take(LARGEST).map(|i| {
            vec![
                (*name).to_owned(),
                layers[i].map_or_else(String::new, |l| format!("L{l}")),
                modules[i].to_owned(),
                format!("{:.4}", delta[i]),
                shown(ratio[i].map(|r| 100.0 * r), 3),
                shown(share[i].map(|r| 100.0 * r), 2),
                shown(stable[i], 2),
                shown(effective[i], 2),
            ]
        }));
    }
    Ok(SummaryTable {
        title: format!("The {LARGEST} weights of each adapter that changed most"),
        columns: vec![
            column("model", "The adapter.", false),
            column("layer", "From 0.", false),
            column("module", "Linear map, or path in the checkpoint.", false),
            column("‖ΔW‖", "Frobenius norm of the change.", true),
            column("% of ‖W‖", "The same over the norm of the base's weight.", true),
            column("% of the change", "Share of the adapter's whole squared norm.", true),
            column("stable rank", "‖·‖_F² / ‖·‖₂² of the low-rank part.", true),
            column("effective rank", "exp of the entropy of its normalised singular values.", true),
        ],
        rows,
    })
}

/// Similarities beside floors, with tests.
pub(super) fn similarity_table(subject: &Subject, summary: &Table) -> Result<Option<SummaryTable>> {
    let (models, others, controls) =
        (summary.texts("model")?, summary.texts("other")?, summary.texts_or_null("control")?);
    let (modules, measures) = (summary.texts("module")?, summary.texts("measure")?);
    let (mean, lo, hi) = (summary.floats("mean")?, summary.floats("lo")?, summary.floats("hi")?);
    let (excess, q) = (summary.floats_or_null("excess")?, summary.floats_or_null("q")?);
    let order = |name: &str| subject.model.names().iter().position(|n| *n == name);
    let place = |i: usize| (order(models[i]), order(others[i]), measures[i].to_owned());
    let find = |i: usize, control: &str| {
        (0..models.len()).find(|&j| {
            controls[j].as_deref() == Some(control) && modules[j] == ALL_MODULES && place(j) == place(i)
        })
    };
    let mut own: Vec<usize> =
        (0..models.len()).filter(|&i| controls[i].is_none() && modules[i] == ALL_MODULES).collect();
    own.sort_by_key(|&i| place(i));
    let shown = |v: Option<f64>| v.map_or_else(String::new, signed);
    let row = |&i: &usize| {
        let (shuffled, random) = (find(i, "shuffled"), find(i, "random"));
        vec![
            models[i].to_owned(),
            others[i].to_owned(),
            measures[i].replace('_', " "),
            format!("{} [{}, {}]", signed(mean[i]), signed(lo[i]), signed(hi[i])),
            shown(shuffled.map(|j| mean[j])),
            shown(random.map(|j| mean[j])),
            shown(shuffled.and_then(|j| excess[j])),
            shuffled.and_then(|j| q[j]).map_or_else(String::new, shown_q),
        ]
    };
    let rows: Vec<Vec<String>> = own.iter().map(row).collect();
    Ok((!rows.is_empty()).then(|| SummaryTable {
        title: "Similarity and its floors, all modules".to_owned(),
        columns: vec![
            column("model", "First model.", false),
            column("other", "Second model.", false),
            column(
                "measure",
                "cosine, overlap out and overlap in are means over blocks; cosine whole is the cosine of all blocks as one vector.",
                false,
            ),
            column("value", "With 95% interval from resampling layers.", true),
            column("shuffled", "The first model with the second's updates in other layers.", true),
            column("random", "The first model with random directions of the second's sizes.", true),
            column("excess", "Value − shuffled, paired by block.", true),
            column("q", "Sign-flip p-value of the excess over layers, Benjamini–Hochberg adjusted over all comparisons of the run.", true),
        ],
        rows,
    }))
}

/// Alignment with the decision by module, beside controls.
pub(super) fn alignment_table(subject: &Subject, aligned: &Table) -> Result<Option<SummaryTable>> {
    let (models, modules, controls) =
        (aligned.texts("model")?, aligned.texts("module")?, aligned.texts_or_null("control")?);
    let (a, b) = (aligned.texts("token_a")?, aligned.texts("token_b")?);
    let (mean, lo, hi) = (aligned.floats("mean")?, aligned.floats("lo")?, aligned.floats("hi")?);
    let (above, n) = (aligned.ints_or_null("above")?, aligned.ints("n")?);
    let row = |i: usize| {
        vec![
            models[i].to_owned(),
            controls[i].clone().unwrap_or_default(),
            short(modules[i]),
            format!("{:?} against {:?}", b[i], a[i]),
            format!("{:.2} [{:.2}, {:.2}]", mean[i], lo[i], hi[i]),
            above[i].map_or_else(String::new, |above| format!("{above} of {}", n[i])),
        ]
    };
    let rows: Vec<Vec<String>> = in_order(subject, &models).into_iter().map(row).collect();
    Ok((!rows.is_empty()).then(|| SummaryTable {
        title: "Writing along the decision".to_owned(),
        columns: vec![
            column("model", "The adapter.", false),
            column("control", "Empty for the adapter itself.", false),
            column("module", "Those that write into the residual stream.", false),
            column("tokens", "Pair of deciding tokens.", false),
            column(
                "ratio",
                "Alignment over that of a random direction, mean over updates with 95% interval over layers.",
                true,
            ),
            column("q ≤ 0.05", "Updates that pass random directions.", true),
        ],
        rows,
    }))
}

/// The largest components of each adapter that write into the residual stream, with their words.
pub(super) fn component_table(
    subject: &Subject,
    components: &Table,
    pairs: &[TokenPair],
) -> Result<SummaryTable> {
    let (models, modules, layers) =
        (components.texts("model")?, components.texts("module")?, components.ints("layer")?);
    let index = components.ints("component")?;
    let (promotes, suppresses) =
        (components.texts_or_null("promotes")?, components.texts_or_null("suppresses")?);
    let (share, total) = (components.floats("share")?, components.floats("total_share")?);
    let cosine = components.floats_or_null("cosine_w")?;
    let words = |json: &Option<String>| {
        let parsed: Vec<(String, f64)> =
            json.as_deref().and_then(|t| serde_json::from_str(t).ok()).unwrap_or_default();
        let shown = parsed.iter().take(WORDS).map(|(text, _)| format!("{text:?}"));
        shown.collect::<Vec<_>>().join(" ")
    };
    let mut rows = Vec::new();
    for name in &subject.model.names()[1..] {
        let mut own: Vec<usize> =
            (0..models.len()).filter(|&i| models[i] == *name && promotes[i].is_some()).collect();
        own.sort_by(|&x, &y| total[y].total_cmp(&total[x]));
        rows.extend(own.into_iter().take(LARGEST).map(|i| {
            vec![
                (*name).to_owned(),
                format!("L{} {}", layers[i], short(modules[i])),
                index[i].to_string(),
                format!("{:.2}", 100.0 * total[i]),
                format!("{:.0}", 100.0 * share[i]),
                cosine[i].map_or_else(String::new, |c| format!("{c:.3}")),
                words(&promotes[i]),
                words(&suppresses[i]),
            ]
        }));
    }
    let names: BTreeSet<&str> = models.iter().copied().collect();
    Ok(SummaryTable {
        title: format!(
            "The {LARGEST} largest components of {} adapter(s) that write into the residual stream",
            names.len()
        ),
        columns: vec![
            column("model", "The adapter.", false),
            column("place", "Layer and module.", false),
            column("component", "Of the module's update, the largest 0.", true),
            column("% of the change", "Share of the squared norm of all of the adapter's updates.", true),
            column("% of the update", "Share of that of the module's.", true),
            column(
                "cosine",
                &format!(
                    "Of what it writes with the direction of the decision; positive: it favours {}.",
                    first_pair(subject, pairs)
                ),
                true,
            ),
            column("promotes", "Tokens that the direction alone makes most probable.", false),
            column(
                "suppresses",
                "The same for the opposite direction, which an input of the opposite sign writes.",
                false,
            ),
        ],
        rows,
    })
}
