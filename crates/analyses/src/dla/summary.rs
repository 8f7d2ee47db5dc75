//! Means over prompts and paired differences between models, by component, scenario and part.

use super::tables::{Component, DIFFERENCES, Kind, MEANS};
use crate::context::Context;
use crate::error::Result;
use crate::scenarios::{ALL_PROMPTS, scenarios};
use crate::statistics::{Comparison, Design, benjamini_hochberg};
use crate::subject::{Prompt, Subject};
use crate::twins::{Twins, label_twins};
use lorascope_record::Table;
use rayon::prelude::*;
use std::collections::{BTreeSet, HashMap};

/// Contributions by component, model and prompt. Components that some models lack (an adapter's bias) contribute 0 there.
pub(crate) struct Values {
    pub components: Vec<Component>,
    n_models: usize,
    n_prompts: usize,
    contributions: Vec<f64>,
    /// NaN where undefined.
    adapter_shares: Vec<f64>,
}

impl Values {
    /// Takes them from the table; the totals are added.
    pub fn new(subject: &Subject, table: &Table) -> Result<Self> {
        let kinds = table.texts("kind")?.into_iter().map(Kind::from_name);
        let (layers, heads) = (table.ints_or_null("layer")?, table.ints_or_null("head")?);
        let unit = |v: Option<i64>| v.and_then(|v| usize::try_from(v).ok());
        let components: Vec<Option<Component>> = kinds
            .zip(layers.iter().zip(heads))
            .map(|(kind, (&layer, &head))| {
                let kind = kind.filter(|k| *k != Kind::Neuron)?;
                Some(Component { kind, layer: unit(layer), head: unit(head) })
            })
            .collect();
        let mut distinct: BTreeSet<Component> = components.iter().flatten().copied().collect();
        distinct.insert(Component::whole(Kind::Total));
        let known: Vec<Component> = distinct.into_iter().collect();
        let place: HashMap<Component, usize> = known.iter().enumerate().map(|(i, c)| (*c, i)).collect();
        let models: HashMap<&str, usize> =
            subject.model.names().into_iter().enumerate().map(|(i, n)| (n, i)).collect();
        let prompts: HashMap<&str, usize> =
            subject.prompts.iter().enumerate().map(|(i, p)| (p.id(), i)).collect();
        let (n_models, n_prompts) = (models.len(), prompts.len());
        let mut values = Self {
            contributions: vec![0.0; known.len() * n_models * n_prompts],
            adapter_shares: vec![0.0; known.len() * n_models * n_prompts],
            components: known,
            n_models,
            n_prompts,
        };
        let total = place[&Component::whole(Kind::Total)];
        let keys = table.texts("model")?.into_iter().zip(table.texts("prompt_id")?);
        let numbers = table.floats("contribution")?.into_iter().zip(table.floats_or_null("adapter_share")?);
        for ((component, (model, prompt)), (contribution, share)) in components.iter().zip(keys).zip(numbers)
        {
            let Some(component) = component else { continue };
            let (model, prompt) = (models[model], prompts[prompt]);
            let at = values.index(place[component], model, prompt);
            values.contributions[at] = contribution;
            values.adapter_shares[at] = share.unwrap_or(f64::NAN);
            if component.kind.adds_up() {
                let at = values.index(total, model, prompt);
                values.contributions[at] += contribution;
                values.adapter_shares[at] += share.unwrap_or(0.0);
            }
        }
        Ok(values)
    }

    fn index(&self, component: usize, model: usize, prompt: usize) -> usize {
        (component * self.n_models + model) * self.n_prompts + prompt
    }

    /// Contributions of one component of one model, one per prompt.
    pub fn contributions(&self, component: usize, model: usize) -> &[f64] {
        self.of(component, model)[0]
    }

    /// Contributions and adapter's shares of one component of one model, one per prompt.
    fn of(&self, component: usize, model: usize) -> [&[f64]; 2] {
        let first = self.index(component, model, 0);
        let span = first..first + self.n_prompts;
        [&self.contributions[span.clone()], &self.adapter_shares[span]]
    }
}

/// Which part of a contribution is averaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    All,
    Meaning,
    Label,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Part::All => "all",
            Part::Meaning => "meaning",
            Part::Label => "label",
        }
    }
}

/// What is averaged over: prompts of a scenario, or pairs of label twins in it.
struct Group {
    scenario: String,
    part: Part,
    /// Two prompts for a pair of twins, the same one twice for a prompt by itself.
    units: Vec<(usize, usize)>,
    design: Design,
}

impl Group {
    fn new(prompts: &[Prompt], scenario: &str, part: Part, units: Vec<(usize, usize)>, seed: u64) -> Self {
        let clusters: Vec<&str> = units.iter().map(|&(one, _)| prompts[one].item.cluster()).collect();
        let design = Design::new(&clusters, seed);
        Self { scenario: scenario.to_owned(), part, units, design }
    }

    /// One value per unit.
    fn take(&self, values: &[f64]) -> Vec<f64> {
        let unit = |&(one, other): &(usize, usize)| match self.part {
            Part::All => values[one],
            Part::Meaning => Twins::meaning(values[one], values[other]),
            Part::Label => Twins::label(values[one], values[other]),
        };
        self.units.iter().map(unit).collect()
    }

    /// Mean without interval; `None` where undefined.
    fn plain_mean(&self, values: &[f64]) -> Option<f64> {
        let taken = self.take(values);
        let mean = taken.iter().sum::<f64>() / taken.len() as f64;
        mean.is_finite().then_some(mean)
    }
}

/// All prompts, and each scenario where there are several; as they are, and by twins where there are some.
fn groups(prompts: &[Prompt], seed: u64) -> Vec<Group> {
    let twins = label_twins(prompts);
    let mut sets = vec![(ALL_PROMPTS.to_owned(), (0..prompts.len()).collect::<Vec<_>>())];
    let named = scenarios(prompts);
    if named.len() > 1 {
        sets.extend(named.into_iter().map(|s| (s.name, s.prompts)));
    }
    let mut groups = Vec::new();
    for (name, which) in sets {
        let pairs = twins.iter().filter(|t| which.contains(&t.one) && which.contains(&t.other));
        let pairs: Vec<(usize, usize)> = pairs.map(|t| (t.one, t.other)).collect();
        let alone = which.iter().map(|&i| (i, i)).collect();
        groups.push(Group::new(prompts, &name, Part::All, alone, seed));
        if !pairs.is_empty() {
            groups.push(Group::new(prompts, &name, Part::Meaning, pairs.clone(), seed));
            groups.push(Group::new(prompts, &name, Part::Label, pairs, seed));
        }
    }
    groups
}

/// The tables of means and of differences: each adapter minus the base, and with `pairs` every later adapter minus every
/// earlier one.
pub(super) fn summarise(context: &Context, values: &Values, pairs: bool) -> Result<(Table, Table)> {
    let (mut means, mut differences) = (Table::new(&MEANS), Table::new(&DIFFERENCES));
    let names = context.subject.model.names();
    let first = |model: usize| if pairs { model } else { model.min(1) };
    let compared: Vec<(usize, usize)> =
        (1..names.len()).flat_map(|m| (0..first(m)).map(move |minus| (m, minus))).collect();
    for group in groups(&context.subject.prompts, context.seed) {
        push_means(&mut means, &names, values, &group)?;
        push_differences(&mut differences, &names, values, &group, &compared)?;
    }
    means.sort_by_keys();
    differences.sort_by_keys();
    Ok((means, differences))
}

/// All components for each of some things, things outermost.
fn for_each_component<T: Copy + Sync>(things: &[T], values: &Values) -> Vec<(T, usize)> {
    things.iter().flat_map(|&t| (0..values.components.len()).map(move |c| (t, c))).collect()
}

fn push_means(table: &mut Table, names: &[&str], values: &Values, group: &Group) -> Result<()> {
    let models: Vec<usize> = (0..names.len()).collect();
    let asked = for_each_component(&models, values);
    let mean = |&(model, component): &(usize, usize)| {
        let [contributions, shares] = values.of(component, model);
        (group.design.mean(&group.take(contributions)), group.plain_mean(shares))
    };
    let found: Vec<_> = asked.par_iter().map(mean).collect();
    for ((model, component), (mean, share)) in asked.into_iter().zip(found) {
        let component = values.components[component];
        table.push(&[
            names[model].into(),
            group.scenario.as_str().into(),
            group.part.name().into(),
            component.kind.name().into(),
            component.layer.into(),
            component.head.into(),
            group.design.n().into(),
            group.design.n_clusters().into(),
            mean.mean.into(),
            mean.lo.into(),
            mean.hi.into(),
            share.into(),
        ])?;
    }
    Ok(())
}

fn push_differences(
    table: &mut Table,
    names: &[&str],
    values: &Values,
    group: &Group,
    compared: &[(usize, usize)],
) -> Result<()> {
    let asked = for_each_component(compared, values);
    let compare = |&((model, minus), component): &((usize, usize), usize)| {
        let ([own, own_shares], [other, other_shares]) =
            (values.of(component, model), values.of(component, minus));
        let difference =
            |own: &[f64], other: &[f64]| own.iter().zip(other).map(|(a, b)| a - b).collect::<Vec<f64>>();
        let comparison = group.design.compare(&group.take(&difference(own, other)));
        (comparison, group.plain_mean(&difference(own_shares, other_shares)))
    };
    let found: Vec<(Comparison, Option<f64>)> = asked.par_iter().map(compare).collect();
    let is_test = |component: usize| values.components[component].kind != Kind::Total;
    let p: Vec<f64> = asked
        .iter()
        .zip(&found)
        .filter(|((_, c), _)| is_test(*c))
        .map(|(_, (comparison, _))| comparison.p)
        .collect();
    let mut q = benjamini_hochberg(&p).into_iter();
    for (((model, minus), component), (comparison, share)) in asked.into_iter().zip(found) {
        let q = if is_test(component) { q.next() } else { None };
        let component = values.components[component];
        table.push(&[
            names[model].into(),
            names[minus].into(),
            group.scenario.as_str().into(),
            group.part.name().into(),
            component.kind.name().into(),
            component.layer.into(),
            component.head.into(),
            group.design.n().into(),
            group.design.n_clusters().into(),
            p.len().into(),
            comparison.mean.mean.into(),
            comparison.mean.lo.into(),
            comparison.mean.hi.into(),
            comparison.p.into(),
            q.into(),
            comparison.effect.into(),
            share.into(),
        ])?;
    }
    Ok(())
}
