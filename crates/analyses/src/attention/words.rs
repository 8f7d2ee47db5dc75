//! What the tables say in words, and small tables of the largest changes.

use super::figures::Found;
use super::layout::WRITE_PARTS;
use super::spans::{FIRST, OTHER};
use super::summary::Verdict;
use crate::bootstrap::RESAMPLES;
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::ALL_PROMPTS;
use crate::statistics::FLIPS;
use lorascope_record::Table;
use lorascope_report::{SummaryColumn, SummaryTable};
use std::collections::BTreeMap;

/// Heads that a sentence names.
const NAMED: usize = 3;

/// Layer and head.
pub(super) type Head = (i64, i64);

/// One row of the differences over all prompts.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub head: Head,
    pub span: String,
    pub mean: f64,
    pub lo: f64,
    pub hi: f64,
    q: f64,
    verdict: String,
    /// Means in both models, the first one first.
    levels: [f64; 2],
}

/// All changes of a measure between two models.
pub(super) struct Comparison {
    pub model: String,
    pub minus: String,
    pub changes: Vec<Change>,
}

impl Comparison {
    pub fn title(&self) -> String {
        format!("{} − {}", self.model, self.minus)
    }

    /// For a narrow panel: what is compared with the base goes without saying.
    pub fn short_title(&self) -> String {
        if self.minus == lorascope_engine::BASE { self.model.clone() } else { self.title() }
    }

    /// Those of named spans; all where prompts name none.
    pub fn named(&self) -> Vec<&Change> {
        let is_named = |c: &&Change| ![FIRST, OTHER].contains(&c.span.as_str());
        let named: Vec<&Change> = self.changes.iter().filter(is_named).collect();
        if named.is_empty() { self.changes.iter().collect() } else { named }
    }

    /// Those of named spans with the largest means, whatever their sign.
    pub fn largest(&self, n: usize) -> Vec<&Change> {
        let mut order = self.named();
        let by_size = |a: &&Change, b: &&Change| b.mean.abs().total_cmp(&a.mean.abs());
        order.sort_by(|a, b| by_size(a, b).then((a.head, &a.span).cmp(&(b.head, &b.span))));
        order.truncate(n);
        order
    }
}

pub(super) fn label((layer, head): Head) -> String {
    format!("L{layer} H{head}")
}

pub(super) fn span_words(span: &str) -> String {
    match span {
        FIRST => "first token".to_owned(),
        OTHER => "other tokens".to_owned(),
        named => named.replace('_', " "),
    }
}

fn interval(mean: f64, lo: f64, hi: f64) -> String {
    format!("{mean:+.3} [{lo:+.3}, {hi:+.3}]")
}

/// Means of a measure over all prompts, by model, head and span.
fn levels<'t>(means: &'t Table, measure: &str) -> Result<BTreeMap<(&'t str, Head, &'t str), f64>> {
    let (models, scenarios) = (means.texts("model")?, means.texts("scenario")?);
    let (layers, heads) = (means.ints("layer")?, means.ints("head")?);
    let (spans, measures, mean) = (means.texts("span")?, means.texts("measure")?, means.floats("mean")?);
    let wanted = (0..means.n_rows()).filter(|&i| scenarios[i] == ALL_PROMPTS && measures[i] == measure);
    Ok(wanted.map(|i| ((models[i], (layers[i], heads[i]), spans[i]), mean[i])).collect())
}

/// Comparisons of a measure over all prompts, in the order of the models.
pub(super) fn comparisons(context: &Context, found: &Found, measure: &str) -> Result<Vec<Comparison>> {
    let levels = levels(found.means, measure)?;
    let table = found.differences;
    let (models, minus) = (table.texts("model")?, table.texts("minus")?);
    let (scenarios, measures) = (table.texts("scenario")?, table.texts("measure")?);
    let (layers, heads, spans) = (table.ints("layer")?, table.ints("head")?, table.texts("span")?);
    let (mean, lo, hi) = (table.floats("mean")?, table.floats("lo")?, table.floats("hi")?);
    let (q, verdicts) = (table.floats("q")?, table.texts("verdict")?);
    let mut by_pair: BTreeMap<(&str, &str), Vec<Change>> = BTreeMap::new();
    for i in (0..table.n_rows()).filter(|&i| scenarios[i] == ALL_PROMPTS && measures[i] == measure) {
        let head = (layers[i], heads[i]);
        let level = |model| levels.get(&(model, head, spans[i])).copied().unwrap_or_default();
        by_pair.entry((models[i], minus[i])).or_default().push(Change {
            head,
            span: spans[i].to_owned(),
            mean: mean[i],
            lo: lo[i],
            hi: hi[i],
            q: q[i],
            verdict: verdicts[i].to_owned(),
            levels: [level(models[i]), level(minus[i])],
        });
    }
    let names = context.subject.model.names();
    let place = |name: &str| names.iter().position(|n| *n == name);
    let mut all: Vec<Comparison> = by_pair
        .into_iter()
        .map(|((model, minus), changes)| Comparison {
            model: model.to_owned(),
            minus: minus.to_owned(),
            changes,
        })
        .collect();
    all.sort_by_key(|c| (place(&c.model), place(&c.minus)));
    Ok(all)
}

fn counts(changes: &[&Change]) -> String {
    let n = |verdict: Verdict| changes.iter().filter(|c| c.verdict == verdict.name()).count();
    let [different, small, equivalent, open] = Verdict::ALL.map(n);
    format!(
        "{different} different, {small} different by less than the margin, {equivalent} equivalent, {open} not resolved"
    )
}

fn named(changes: &[&Change]) -> String {
    let name = |c: &&Change| {
        format!("{} on {} {}", label(c.head), span_words(&c.span), interval(c.mean, c.lo, c.hi))
    };
    changes.iter().map(name).collect::<Vec<_>>().join(", ")
}

/// What changed about the mass of one comparison.
pub(super) fn difference(comparison: &Comparison, margin: f64) -> String {
    let all: Vec<&Change> = comparison.changes.iter().collect();
    let attended: Vec<&Change> =
        all.iter().copied().filter(|c| c.levels.iter().any(|l| *l >= margin)).collect();
    format!(
        "{}: of {} heads × spans, {} to which either model gives at least {margin} of a head's attention on average: {}. (Where \
         neither attends, equivalence says little: {}.) Largest changes of attention mass to named spans: {}.",
        comparison.title(),
        all.len(),
        attended.len(),
        counts(&attended),
        counts(&all.iter().copied().filter(|c| c.levels.iter().all(|l| *l < margin)).collect::<Vec<_>>()),
        named(&comparison.largest(NAMED))
    )
}

/// Where a model's heads attend most.
pub(super) fn kinds(context: &Context, heads: &Table) -> Result<Vec<String>> {
    let (models, kinds) = (heads.texts("model")?, heads.texts("kind")?);
    let place: Vec<Head> = heads.ints("layer")?.into_iter().zip(heads.ints("head")?).collect();
    let (mean, lo, hi) = (heads.floats("mean")?, heads.floats("lo")?, heads.floats("hi")?);
    let change = heads.floats_or_null("change")?;
    let ends = heads.floats_or_null("change_lo")?.iter().zip(heads.floats_or_null("change_hi")?);
    let ends: Vec<(f64, f64)> = ends.map(|(l, h)| (l.unwrap_or_default(), h.unwrap_or_default())).collect();
    let base = context.subject.model.name(0);
    let mut sentences = Vec::new();
    for (kind, words) in
        [("previous_token", "previous-token"), ("induction", "induction"), ("span_copying", "span-copying")]
    {
        let rows = |model: &str| -> Vec<usize> {
            (0..heads.n_rows()).filter(|&i| models[i] == model && kinds[i] == kind).collect()
        };
        let mut of_base = rows(base);
        if of_base.is_empty() {
            continue;
        }
        of_base.sort_by(|&a, &b| mean[b].total_cmp(&mean[a]).then(place[a].cmp(&place[b])));
        let name = |&i: &usize| format!("{} {}", label(place[i]), interval(mean[i], lo[i], hi[i]));
        let top: Vec<String> = of_base.iter().take(NAMED).map(name).collect();
        let largest = |model: &&str| {
            let worst = rows(model).into_iter().max_by(|&a, &b| {
                let size = |i: usize| change[i].unwrap_or_default().abs();
                size(a).total_cmp(&size(b)).then(place[b].cmp(&place[a]))
            })?;
            let (lo, hi) = ends[worst];
            Some(format!("{model} {} {}", label(place[worst]), interval(change[worst]?, lo, hi)))
        };
        let names = context.subject.model.names();
        let changed: Vec<String> = names[1..].iter().filter_map(largest).collect();
        let changed = if changed.is_empty() {
            String::new()
        } else {
            format!(" Largest change in each adapter: {}.", changed.join(", "))
        };
        sentences.push(format!("Highest {words} scores in the base: {}.{changed}", top.join(", ")));
    }
    Ok(sentences)
}

fn column(name: &str, doc: &str, numeric: bool) -> SummaryColumn {
    SummaryColumn { name: name.to_owned(), doc: doc.to_owned(), numeric }
}

/// The largest changes of mass of a comparison, with the products that changed the scores.
pub(super) fn score_table(found: &Found, comparison: &Comparison, top: usize) -> Result<SummaryTable> {
    let table = found.scores;
    let (models, minus) = (table.texts("model")?, table.texts("minus")?);
    let (layers, heads) = (table.ints("layer")?, table.ints("head")?);
    let (spans, parts, mean) = (table.texts("span")?, table.texts("part")?, table.floats("mean")?);
    let mut by_place: BTreeMap<(Head, &str), Vec<(&str, f64)>> = BTreeMap::new();
    for i in (0..table.n_rows()).filter(|&i| models[i] == comparison.model && minus[i] == comparison.minus) {
        by_place.entry(((layers[i], heads[i]), spans[i])).or_default().push((parts[i], mean[i]));
    }
    let names: Vec<&str> = found.score_parts.iter().copied().chain(["total"]).collect();
    let row = |change: &&Change| {
        let parts = by_place.get(&(change.head, change.span.as_str()));
        let part = |name: &&str| {
            let value = parts.and_then(|p| p.iter().find(|(n, _)| n == name));
            value.map_or_else(String::new, |(_, v)| format!("{v:+.3}"))
        };
        let mut row = vec![
            label(change.head),
            span_words(&change.span),
            format!("{:.3}", change.levels[1]),
            interval(change.mean, change.lo, change.hi),
            format!("{:.3}", change.q),
            change.verdict.clone(),
        ];
        row.extend(names.iter().map(part));
        row
    };
    let mut columns = vec![
        column("head", "Layer and head.", false),
        column("span", "Where it attends from the decision point.", false),
        column("before", "Mean attention mass in the second model.", true),
        column(
            "mass",
            &format!(
                "Mean change of the mass, with 95% bootstrap interval over templates ({RESAMPLES} resamples)."
            ),
            true,
        ),
        column(
            "q",
            &format!(
                "Sign-flip permutation p-value (all patterns up to 16 clusters, else {FLIPS} random ones), Benjamini–Hochberg \
                 adjusted over all heads and spans of all comparisons."
            ),
            true,
        ),
        column("verdict", "See attention_differences.", false),
    ];
    columns.extend(names.iter().map(|name| {
        let doc = "Mean change of the scores of the span's tokens before softmax, less what all scores share, in logits: this part \
                   of it (attention_scores).";
        column(&name.replace('_', " "), doc, true)
    }));
    let rows = comparison.largest(top).iter().map(row).collect();
    Ok(SummaryTable {
        title: format!("Largest changes of attention to named spans: {}", comparison.title()),
        columns,
        rows,
    })
}

/// The heads whose write changed most, with the parts of the change.
pub(super) fn write_table(found: &Found, comparison: &Comparison, top: usize) -> Result<SummaryTable> {
    let table = found.writes;
    let (models, minus) = (table.texts("model")?, table.texts("minus")?);
    let place: Vec<Head> = table.ints("layer")?.into_iter().zip(table.ints("head")?).collect();
    let (parts, mean) = (table.texts("part")?, table.floats("mean")?);
    let (lo, hi) = (table.floats("lo")?, table.floats("hi")?);
    let mut by_head: BTreeMap<Head, BTreeMap<&str, usize>> = BTreeMap::new();
    for i in (0..table.n_rows()).filter(|&i| models[i] == comparison.model && minus[i] == comparison.minus) {
        by_head.entry(place[i]).or_default().insert(parts[i], i);
    }
    let total = |rows: &BTreeMap<&str, usize>| rows.get("total").map_or(0.0, |&i| mean[i]);
    let mut order: Vec<(&Head, &BTreeMap<&str, usize>)> = by_head.iter().collect();
    order.sort_by(|a, b| total(b.1).abs().total_cmp(&total(a.1).abs()).then(a.0.cmp(b.0)));
    order.truncate(top);
    let row = |(head, rows): &(&Head, &BTreeMap<&str, usize>)| {
        let whole = rows.get("total").map(|&i| interval(mean[i], lo[i], hi[i])).unwrap_or_default();
        let part = |name: &&str| rows.get(name).map(|&i| format!("{:+.3}", mean[i])).unwrap_or_default();
        [label(**head), whole].into_iter().chain(WRITE_PARTS.iter().map(part)).collect()
    };
    let mut columns = vec![
        column("head", "Layer and head.", false),
        column(
            "change",
            &format!(
                "Mean change of what it writes along the decision direction, in logits, with 95% bootstrap interval over templates \
                 ({RESAMPLES} resamples)."
            ),
            true,
        ),
    ];
    let part = |name: &&str| column(&name.replace('_', " "), "This part of it (attention_writes).", true);
    columns.extend(WRITE_PARTS.iter().map(part));
    let rows = order.iter().map(row).collect();
    Ok(SummaryTable {
        title: format!("Largest changes of what heads write: {}", comparison.title()),
        columns,
        rows,
    })
}

/// Which parts of changed scores weigh most, over all heads and named spans.
pub(super) fn through(found: &Found, comparison: &Comparison) -> Result<String> {
    let sizes = |table: &Table, parts: &[&'static str]| -> Result<Vec<(&'static str, f64)>> {
        let (models, minus) = (table.texts("model")?, table.texts("minus")?);
        let (of, mean) = (table.texts("part")?, table.floats("mean")?);
        let rows =
            (0..table.n_rows()).filter(|&i| models[i] == comparison.model && minus[i] == comparison.minus);
        let mut sums: Vec<(&'static str, f64)> = parts.iter().map(|p| (*p, 0.0)).collect();
        for i in rows {
            sums.iter_mut().filter(|(part, _)| *part == of[i]).for_each(|(_, sum)| *sum += mean[i].abs());
        }
        Ok(sums)
    };
    let shares = |sums: Vec<(&'static str, f64)>| -> String {
        let all: f64 = sums.iter().map(|s| s.1).sum();
        if all == 0.0 {
            return "nothing changed".to_owned();
        }
        let share =
            |(part, sum): &(&str, f64)| format!("{} {:.0}%", part.replace('_', " "), 100.0 * sum / all);
        sums.iter().map(share).collect::<Vec<_>>().join(", ")
    };
    Ok(format!(
        "{}: shares of the summed sizes of mean changes. Scores, by product of queries and keys: {}. Writes along the decision \
         direction, by factor: {}. Parts of opposite sign cancel in a head's change, so that the shares say what moved, not what \
         remains.",
        comparison.title(),
        shares(sizes(found.scores, found.score_parts)?),
        shares(sizes(found.writes, &WRITE_PARTS)?)
    ))
}

pub(super) fn notes(context: &Context, found: &Found, margin: f64, n_named: usize) -> Result<Vec<String>> {
    let largest = |values: &[Option<f64>]| values.iter().flatten().fold(0.0f64, |m, v| m.max(v.abs()));
    let masses: Vec<Option<f64>> = found.check.floats("mass_error")?.into_iter().map(Some).collect();
    let mut notes = vec![
        format!(
            "Completeness: a head's masses add up to 1 within {:.1e}, and the parts of a change of its write to the change within \
             {:.1e} logits, over all models, prompts and heads (attention_check).",
            largest(&masses),
            largest(found.check.floats_or_null("change_error")?)
        ),
        format!(
            "Equivalent means: two one-sided t-tests over templates show the mean difference to be within ±{margin} of a head's \
             attention. Scores are split before softmax and before any soft cap; a token counts for the innermost span that \
             holds it."
        ),
        "Attention is not effect: what a head reads may not matter for the decision; patching and the column write say more."
            .to_owned(),
    ];
    if n_named == 0 {
        notes.push(
            "The prompts name no spans: only the first token and the rest can be told apart.".to_owned(),
        );
    }
    let clusters = context.subject.prompts.iter().map(|p| p.item.cluster());
    let n = clusters.collect::<std::collections::BTreeSet<_>>().len();
    if n < 6 {
        notes.push(format!(
            "Only {n} cluster(s) of prompts: the smallest p-value that the sign-flip test can give is {}, so that no difference can \
             be shown after correction, and intervals mean little.",
            0.5f64.powi(i32::try_from(n).unwrap_or(1) - 1)
        ));
    }
    Ok(notes)
}
