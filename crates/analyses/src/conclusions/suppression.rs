//! How components that push the reference's way are suppressed in the other models.

use super::LEVEL;
use super::claim::{Answer, Claim, Verdict, share};
use super::rows::Selection;
use crate::context::Context;
use crate::dla::Component;
use crate::error::Result;
use lorascope_record::Table;

/// Heads that a sentence names.
const NAMED: usize = 4;
/// Classes of heads that changed, the two that the claim counts first.
const CHANGED: [&str; 5] = ["suppressed", "inverted", "counteracting", "rerouted", "strengthened"];

pub(super) fn claims(context: &Context) -> Result<Answer> {
    let tables = (context.finished("suppression")?, context.finished("suppression_totals")?);
    let (Some(components), Some(totals)) = tables else {
        let claim = Claim::not_asked("heads_suppressed", "Suppression", "add suppression to the analyses");
        return Ok(Answer { claims: vec![claim], ..Answer::default() });
    };
    let reference = components.texts("reference")?.first().copied().unwrap_or_default().to_owned();
    let mut models: Vec<&str> = Vec::new();
    for model in components.texts("model")? {
        if !models.contains(&model) {
            models.push(model);
        }
    }
    let order = context.subject.model.names();
    models.sort_by_key(|m| order.iter().position(|n| n == m));
    let mut answer = Answer { summary: format!("The reference is {reference}."), claims: Vec::new() };
    for model in models {
        let about = format!("{reference} against {model}");
        let rows = Rows::of(&components, model)?;
        answer.claims.extend(suppressed(&rows, &about, model));
        answer.claims.extend(by_kind(&totals, &about, model)?);
        answer.claims.extend(restored(&rows, &about, (&reference, model)));
    }
    Ok(answer)
}

/// One component of the model.
struct Row<'t> {
    label: String,
    component: &'t str,
    is_head: bool,
    class: &'t str,
    push_lo: Option<f64>,
    index: Option<(f64, f64, f64)>,
    restored: Option<(f64, f64, f64)>,
    restored_q: f64,
    direct: Option<f64>,
    n: usize,
}

struct Rows<'t>(Vec<Row<'t>>);

impl<'t> Rows<'t> {
    fn of(table: &'t Table, model: &str) -> Result<Self> {
        let (models, components, classes) =
            (table.texts("model")?, table.texts("component")?, table.texts("class")?);
        let (layers, heads, n) = (table.ints("layer")?, table.ints_or_null("head")?, table.ints("n")?);
        let push_lo = table.floats_or_null("push_lo")?;
        let (index, index_lo, index_hi) = (
            table.floats_or_null("index")?,
            table.floats_or_null("index_lo")?,
            table.floats_or_null("index_hi")?,
        );
        let direct = table.floats_or_null("direct")?;
        let (restored, lo, hi) = (
            table.floats_or_null("restored")?,
            table.floats_or_null("restored_lo")?,
            table.floats_or_null("restored_hi")?,
        );
        let q = table.floats("restored_q")?;
        let row = |i: usize| Row {
            label: Component::unit(layers[i], heads[i]).label(),
            component: components[i],
            is_head: heads[i].is_some(),
            class: classes[i],
            push_lo: push_lo[i],
            index: index[i].map(|v| (v, index_lo[i].unwrap_or(v), index_hi[i].unwrap_or(v))),
            restored: restored[i].map(|v| (v, lo[i].unwrap_or(v), hi[i].unwrap_or(v))),
            restored_q: q[i],
            direct: direct[i],
            n: usize::try_from(n[i]).unwrap_or_default(),
        };
        Ok(Self((0..table.n_rows()).filter(|&i| models[i] == model).map(row).collect()))
    }

    /// The heads of a class, the largest direct share first.
    fn heads(&self, class: &str) -> Vec<&Row<'t>> {
        let mut found: Vec<&Row> = self.0.iter().filter(|r| r.is_head && r.class == class).collect();
        let size = |r: &Row| r.direct.map_or(0.0, f64::abs);
        found.sort_by(|a, b| size(b).total_cmp(&size(a)));
        found
    }
}

/// The first few of these heads, and how many more there are.
fn list<'t>(heads: &[&Row<'t>], word: impl Fn(&&Row<'t>) -> String) -> String {
    let names: Vec<String> = heads.iter().take(NAMED).map(word).collect();
    let more = heads.len().saturating_sub(NAMED);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{more}", names.join(", "))
}

/// Which heads are silent, turned round, or read differently.
fn suppressed(rows: &Rows, about: &str, model: &str) -> Option<Claim> {
    let n_heads = rows.0.iter().filter(|r| r.is_head).count();
    let n = rows.0.first()?.n;
    if rows.0.iter().all(|r| r.direct.is_none()) {
        let statement = format!("{about}: both decide alike, so that nothing is suppressed.");
        return Some(Claim::new("heads_suppressed", Verdict::No, statement).about(about).n(n));
    }
    let pushing: Vec<&Row> =
        rows.0.iter().filter(|r| r.is_head && r.push_lo.is_some_and(|lo| lo > 0.0)).collect();
    let pushers = if pushing.is_empty() {
        String::new()
    } else {
        format!(" ({})", list(&pushing, |r| r.label.clone()))
    };
    let pushing = pushing.len();
    let unchanged = rows.heads("unchanged").len();
    let named = |class: &str, found: &[&Row]| -> Option<String> {
        let index = |r: &&Row| match r.index {
            Some((index, lo, hi)) => format!("{} (index {index:.2} [{lo:.2}, {hi:.2}])", r.label),
            None => r.label.clone(),
        };
        (!found.is_empty()).then(|| format!("{} {class}: {}", found.len(), list(found, index)))
    };
    let parts: Vec<String> =
        CHANGED.into_iter().filter_map(|class| named(class, &rows.heads(class))).collect();
    let found = rows.heads("suppressed").len() + rows.heads("inverted").len();
    let verdict = match found {
        0 if unchanged == n_heads => Verdict::No,
        0 => Verdict::NotResolved,
        _ => Verdict::Yes,
    };
    let changed =
        if parts.is_empty() { "none is shown to have changed".to_owned() } else { parts.join("; ") };
    let statement = format!(
        "{about}: {pushing} of {n_heads} heads push that way in the reference{pushers}; {changed}; {unchanged} are shown to be unchanged."
    );
    // The heads that the statement names; where there are none, all heads are what shows it.
    let heads = Selection::of("model", model);
    let classes: Vec<&str> = CHANGED.into_iter().filter(|class| !rows.heads(class).is_empty()).collect();
    let heads = if classes.is_empty() { heads } else { heads.and_one_of("class", &classes) };
    Some(
        Claim::new("heads_suppressed", verdict, statement)
            .about(about)
            .value(Some(found as f64), None)
            .null(Some(LEVEL * found as f64))
            .n(n)
            .from("suppression", &heads.and_known("head"), Some("suppression_direct")),
    )
}

/// Whether heads or MLPs write the difference.
fn by_kind(totals: &Table, about: &str, model: &str) -> Result<Option<Claim>> {
    let (models, kinds, n) = (totals.texts("model")?, totals.texts("kind")?, totals.ints("n")?);
    let (direct, lo, hi) = (
        totals.floats_or_null("direct")?,
        totals.floats_or_null("direct_lo")?,
        totals.floats_or_null("direct_hi")?,
    );
    let row = |kind: &str| (0..totals.n_rows()).find(|&i| models[i] == model && kinds[i] == kind);
    let of = |i: usize| Some((direct[i]?, lo[i]?, hi[i]?));
    let (Some(at), Some(mlps)) = (row("heads"), row("mlps").and_then(of)) else { return Ok(None) };
    let Some(heads) = of(at) else { return Ok(None) };
    let verdict = if heads.1 > mlps.2 {
        Verdict::Yes
    } else if heads.2 < mlps.1 {
        Verdict::No
    } else {
        Verdict::NotResolved
    };
    let statement = format!(
        "Directly, heads write {} of the difference between the two and MLPs {}; the rest is the embedding, biases and the soft cap.",
        share(heads.0, Some((heads.1, heads.2))),
        share(mlps.0, Some((mlps.1, mlps.2)))
    );
    Ok(Some(
        Claim::new("heads_write_more_than_mlps", verdict, statement)
            .about(about)
            .value(Some(heads.0), Some((heads.1, heads.2)))
            .n(usize::try_from(n[at]).unwrap_or_default())
            .from("suppression_totals", &Selection::of("model", model), Some("suppression_components")),
    ))
}

/// The component whose return brings back most.
fn restored(rows: &Rows, about: &str, (reference, model): (&str, &str)) -> Option<Claim> {
    let size = |r: &&Row| r.restored.map_or(f64::NEG_INFINITY, |s| s.0);
    let largest = rows.0.iter().max_by(|a, b| size(a).total_cmp(&size(b)))?;
    let (value, lo, hi) = largest.restored?;
    let shown = largest.restored_q <= LEVEL && lo > 0.0;
    let statement = format!(
        "Put back from {reference} into {model}, no component restores more of it than {} ({}): {}.",
        largest.label,
        largest.class,
        share(value, Some((lo, hi)))
    );
    Some(
        Claim::new(
            "one_component_restores",
            if shown { Verdict::Yes } else { Verdict::NotResolved },
            statement,
        )
        .about(about)
        .value(Some(value), Some((lo, hi)))
        .null(Some(0.0))
        .p(Some(largest.restored_q))
        .n(largest.n)
        .from(
            "suppression",
            &Selection::of("model", model).and("component", largest.component),
            Some("suppression_restored"),
        ),
    )
}
