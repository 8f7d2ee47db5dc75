//! Means over prompts, paired differences with verdicts, and means of the parts of changes.

use super::layout::{Layout, Measure, WRITE_PARTS};
use super::spans::Spans;
use super::tables::{CHECK, DIFFERENCES, EACH, MEANS, SCORES, WRITES};
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::{ALL_PROMPTS, scenarios};
use crate::statistics::{Comparison, Design, benjamini_hochberg};
use lorascope_record::{Cell, Table};
use rayon::prelude::*;

/// At or below this adjusted p-value something counts as shown.
const LEVEL: f64 = 0.05;

/// What a comparison shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Verdict {
    Different,
    Small,
    Equivalent,
    NotResolved,
}

impl Verdict {
    pub const ALL: [Verdict; 4] =
        [Verdict::Different, Verdict::Small, Verdict::Equivalent, Verdict::NotResolved];

    fn new(q: f64, q_equivalence: Option<f64>) -> Self {
        let equivalent = q_equivalence.is_some_and(|q| q <= LEVEL);
        match (q <= LEVEL, equivalent) {
            (true, true) => Verdict::Small,
            (true, false) => Verdict::Different,
            (false, true) => Verdict::Equivalent,
            (false, false) => Verdict::NotResolved,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Verdict::Different => "different",
            Verdict::Small => "small",
            Verdict::Equivalent => "equivalent",
            Verdict::NotResolved => "not resolved",
        }
    }
}

/// All numbers of all prompts.
pub(super) struct Values<'a> {
    pub layout: &'a Layout,
    pub spans: &'a Spans,
    /// Those of each prompt, in the order of the prompts.
    pub numbers: Vec<Vec<f32>>,
}

impl Values<'_> {
    fn number(&self, prompt: usize, at: usize) -> f64 {
        f64::from(self.numbers[prompt][at])
    }

    /// One number of some prompts.
    pub fn of(&self, prompts: &[usize], at: usize) -> Vec<f64> {
        prompts.iter().map(|&p| self.number(p, at)).collect()
    }

    /// How much a head's write raises the tokens of all spans that it attends to.
    pub fn copying(&self, prompt: usize, model: usize, head: (usize, usize)) -> f64 {
        let spans = (0..self.spans.n_named()).filter(|&s| self.spans.has(prompt, s));
        spans.map(|s| self.number(prompt, self.layout.measure(model, head, s, Measure::Copying))).sum()
    }

    /// A head's attention on a span.
    pub fn mass(&self, prompt: usize, model: usize, head: (usize, usize), span: usize) -> f64 {
        self.number(prompt, self.layout.measure(model, head, span, Measure::Mass))
    }

    fn heads(&self) -> Vec<(usize, usize)> {
        (0..self.layout.n_layers).flat_map(|l| (0..self.layout.n_heads).map(move |h| (l, h))).collect()
    }
}

/// Prompts of a scenario that have a span.
struct Group {
    span: usize,
    prompts: Vec<usize>,
    design: Design,
}

/// A head, and the prompts that have a span.
type Place<'g> = ((usize, usize), &'g Group);

/// Scenarios (all prompts first) with their groups.
fn groups(context: &Context, spans: &Spans) -> Vec<(String, Vec<Group>)> {
    let prompts = &context.subject.prompts;
    let mut sets = vec![(ALL_PROMPTS.to_owned(), (0..prompts.len()).collect::<Vec<_>>())];
    let named = scenarios(prompts);
    if named.len() > 1 {
        sets.extend(named.into_iter().map(|s| (s.name, s.prompts)));
    }
    let group = |span: usize, which: &[usize]| {
        let which: Vec<usize> = which.iter().copied().filter(|&p| spans.has(p, span)).collect();
        let clusters: Vec<&str> = which.iter().map(|&p| prompts[p].item.cluster()).collect();
        (!which.is_empty()).then(|| Group {
            span,
            design: Design::new(&clusters, context.seed),
            prompts: which,
        })
    };
    sets.into_iter()
        .map(|(name, which)| (name, (0..spans.n()).filter_map(|s| group(s, &which)).collect()))
        .collect()
}

/// Measures that are compared: the mass in every scenario, all of them over all prompts.
fn measures(scenario: &str) -> &'static [Measure] {
    if scenario == ALL_PROMPTS { &Measure::ALL } else { &[Measure::Mass] }
}

fn is_defined(spans: &Spans, group: &Group, measure: Measure) -> bool {
    measure != Measure::Copying || group.span < spans.n_named()
}

/// The tables of means and of differences.
pub(super) fn summarise(context: &Context, values: &Values, margin: f64) -> Result<(Table, Table)> {
    let (mut means, mut differences) = (Table::new(&MEANS), Table::new(&DIFFERENCES));
    for (scenario, groups) in groups(context, values.spans) {
        for &measure in measures(&scenario) {
            let groups: Vec<&Group> =
                groups.iter().filter(|g| is_defined(values.spans, g, measure)).collect();
            push_means(&mut means, context, values, (&scenario, measure), &groups)?;
            push_differences(&mut differences, context, values, (&scenario, measure), &groups, margin)?;
        }
    }
    means.sort_by_keys();
    differences.sort_by_keys();
    Ok((means, differences))
}

fn push_means(
    table: &mut Table,
    context: &Context,
    values: &Values,
    (scenario, measure): (&str, Measure),
    groups: &[&Group],
) -> Result<()> {
    let heads = values.heads();
    let asked: Vec<(usize, (usize, usize), &Group)> = (0..values.layout.n_models)
        .flat_map(|m| heads.iter().flat_map(move |&h| groups.iter().map(move |&g| (m, h, g))))
        .collect();
    let mean = |&(model, head, group): &(usize, (usize, usize), &Group)| {
        let at = values.layout.measure(model, head, group.span, measure);
        group.design.mean(&values.of(&group.prompts, at))
    };
    let found: Vec<Interval> = asked.par_iter().map(mean).collect();
    for ((model, (layer, head), group), mean) in asked.into_iter().zip(found) {
        table.push(&[
            context.subject.model.name(model).into(),
            scenario.into(),
            layer.into(),
            head.into(),
            values.spans.names[group.span].as_str().into(),
            measure.name().into(),
            group.design.n().into(),
            group.design.n_clusters().into(),
            mean.mean.into(),
            mean.lo.into(),
            mean.hi.into(),
        ])?;
    }
    Ok(())
}

fn push_differences(
    table: &mut Table,
    context: &Context,
    values: &Values,
    (scenario, measure): (&str, Measure),
    groups: &[&Group],
    margin: f64,
) -> Result<()> {
    let (layout, heads) = (values.layout, values.heads());
    let places: Vec<Place> = heads.iter().flat_map(|&h| groups.iter().map(move |&g| (h, g))).collect();
    let asked: Vec<((usize, usize), Place)> =
        layout.pairs.iter().flat_map(|&pair| places.iter().map(move |&place| (pair, place))).collect();
    let compare = |&((model, minus), (head, group)): &((usize, usize), Place)| {
        let [own, other] =
            [model, minus].map(|m| values.of(&group.prompts, layout.measure(m, head, group.span, measure)));
        let differences: Vec<f64> = own.iter().zip(&other).map(|(a, b)| a - b).collect();
        let equivalence = measure.is_share().then(|| group.design.equivalence(&differences, margin));
        (group.design.compare(&differences), equivalence.flatten())
    };
    let found: Vec<(Comparison, Option<f64>)> = asked.par_iter().map(compare).collect();
    let q = benjamini_hochberg(&found.iter().map(|f| f.0.p).collect::<Vec<f64>>());
    let family = found.len();
    let tested: Vec<f64> = found.iter().filter_map(|f| f.1).collect();
    let mut equivalences = benjamini_hochberg(&tested).into_iter();
    for ((((model, minus), ((layer, head), group)), (found, p_equivalence)), q) in
        asked.into_iter().zip(found).zip(q)
    {
        let q_equivalence = p_equivalence.and_then(|_| equivalences.next());
        table.push(&[
            context.subject.model.name(model).into(),
            context.subject.model.name(minus).into(),
            scenario.into(),
            layer.into(),
            head.into(),
            values.spans.names[group.span].as_str().into(),
            measure.name().into(),
            group.design.n().into(),
            group.design.n_clusters().into(),
            family.into(),
            found.mean.mean.into(),
            found.mean.lo.into(),
            found.mean.hi.into(),
            found.p.into(),
            q.into(),
            found.effect.into(),
            measure.is_share().then_some(margin).into(),
            p_equivalence.into(),
            q_equivalence.into(),
            Verdict::new(q, q_equivalence).name().into(),
        ])?;
    }
    Ok(())
}

/// The tables of the parts of changes: of scores, and of what heads write.
pub(super) fn parts(context: &Context, values: &Values) -> Result<(Table, Table)> {
    let (mut scores, mut writes) = (Table::new(&SCORES), Table::new(&WRITES));
    let layout = values.layout;
    let all = groups(context, values.spans).swap_remove(0).1;
    let asked: Vec<(usize, (usize, usize))> =
        (0..layout.pairs.len()).flat_map(|p| values.heads().into_iter().map(move |h| (p, h))).collect();
    let names = |pair: usize| {
        let (model, minus) = layout.pairs[pair];
        [context.subject.model.name(model), context.subject.model.name(minus)].map(Cell::from)
    };
    let every: Vec<usize> = (0..values.numbers.len()).collect();
    // Every prompt has its first token, so its design is that of all prompts.
    let whole = all.last();
    type Means = Vec<Interval>;
    let of_head = |&(pair, head): &(usize, (usize, usize))| -> (Vec<Means>, Means) {
        let n_parts = layout.score_parts.len();
        let by_span = |group: &Group| {
            let part = |p: usize| values.of(&group.prompts, layout.score_part(pair, head, group.span, p));
            means_with_total(&group.design, (0..n_parts).map(part).collect())
        };
        let part = |p: usize| values.of(&every, layout.write_part(pair, head, p));
        let of_write = whole.map(|g| means_with_total(&g.design, (0..WRITE_PARTS.len()).map(part).collect()));
        (all.iter().map(by_span).collect(), of_write.unwrap_or_default())
    };
    let found: Vec<(Vec<Means>, Means)> = asked.par_iter().map(of_head).collect();
    for ((pair, (layer, head)), (by_span, of_write)) in asked.into_iter().zip(found) {
        let place = [layer.into(), head.into()];
        for (group, means) in all.iter().zip(by_span) {
            for (part, mean) in layout.score_parts.iter().chain(&["total"]).zip(means) {
                let mut row: Vec<Cell> = names(pair).into_iter().chain(place.clone()).collect();
                row.extend([values.spans.names[group.span].as_str().into(), (*part).into()]);
                row.extend(numbers(&group.design, mean));
                scores.push(&row)?;
            }
        }
        for (part, mean) in WRITE_PARTS.iter().chain(&["total"]).zip(of_write) {
            let Some(group) = whole else { continue };
            let mut row: Vec<Cell> = names(pair).into_iter().chain(place.clone()).collect();
            row.push((*part).into());
            row.extend(numbers(&group.design, mean));
            writes.push(&row)?;
        }
    }
    scores.sort_by_keys();
    writes.sort_by_keys();
    Ok((scores, writes))
}

/// The mean of each part, and last of their sum.
fn means_with_total(design: &Design, mut parts: Vec<Vec<f64>>) -> Vec<Interval> {
    let total = (0..design.n()).map(|i| parts.iter().map(|part| part[i]).sum()).collect();
    parts.push(total);
    parts.iter().map(|part| design.mean(part)).collect()
}

fn numbers(design: &Design, mean: Interval) -> [Cell; 5] {
    [design.n().into(), design.n_clusters().into(), mean.mean.into(), mean.lo.into(), mean.hi.into()]
}

/// The table of single prompts.
pub(super) fn each(context: &Context, values: &Values) -> Result<Table> {
    let mut table = Table::new(&EACH);
    let layout = values.layout;
    for (p, prompt) in context.subject.prompts.iter().enumerate() {
        for model in 0..layout.n_models {
            for head in values.heads() {
                for span in (0..values.spans.n()).filter(|&s| values.spans.has(p, s)) {
                    let number = |m: Measure| values.number(p, layout.measure(model, head, span, m));
                    let copying = number(Measure::Copying);
                    table.push(&[
                        context.subject.model.name(model).into(),
                        prompt.id().into(),
                        prompt.item.scenario.clone().into(),
                        head.0.into(),
                        head.1.into(),
                        values.spans.names[span].as_str().into(),
                        number(Measure::Mass).into(),
                        number(Measure::Norm).into(),
                        number(Measure::Write).into(),
                        (!copying.is_nan()).then_some(copying).into(),
                    ])?;
                }
            }
        }
    }
    table.sort_by_keys();
    Ok(table)
}

/// Whether masses add up to 1, and parts of changes to the changes.
pub(super) fn check(context: &Context, values: &Values) -> Result<Table> {
    let mut table = Table::new(&CHECK);
    let layout = values.layout;
    for (p, prompt) in context.subject.prompts.iter().enumerate() {
        for model in 0..layout.n_models {
            let sum = |which: usize, head: (usize, usize), measure: Measure| -> f64 {
                let here = (0..values.spans.n()).filter(|&s| values.spans.has(p, s));
                here.map(|s| values.number(p, layout.measure(which, head, s, measure))).sum()
            };
            let mass_error = values
                .heads()
                .into_iter()
                .fold(0.0f64, |m, h| m.max((sum(model, h, Measure::Mass) - 1.0).abs()));
            let pair = layout.pairs.iter().position(|&pair| pair == (model, 0));
            let change_error = pair.map(|pair| {
                values.heads().into_iter().fold(0.0f64, |worst, h| {
                    let parts =
                        (0..WRITE_PARTS.len()).map(|i| values.number(p, layout.write_part(pair, h, i)));
                    let change = sum(model, h, Measure::Write) - sum(0, h, Measure::Write);
                    worst.max((parts.sum::<f64>() - change).abs())
                })
            });
            table.push(&[
                context.subject.model.name(model).into(),
                prompt.id().into(),
                mass_error.into(),
                change_error.into(),
            ])?;
        }
    }
    table.sort_by_keys();
    Ok(table)
}
