//! Causal interaction of pairs: joint effect minus the sum of the single effects, exact, at the decision point.
//!
//! First every head and MLP alone, on some prompts; then all pairs of those with the largest mean effects. Prompts are whole
//! templates, drawn at random.

use super::tables::{EFFECTS, PATCHES};
use super::{NAME, Settings};
use crate::context::Context;
use crate::error::Result;
use crate::interventions::{PatchedRun, Sweep, Unit, components, joint_run, pairs_by_name};
use crate::statistics::{Design, benjamini_hochberg};
use lorascope_record::Table;
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

/// Prompts per part of a run that is kept when it is cut off.
const PROMPTS_PER_PART: usize = 16;

/// The tables of patched runs and of interactions.
pub(super) fn run(context: &Context, settings: &Settings) -> Result<(Table, Table)> {
    let (mut patches, mut effects) = (Table::new(&PATCHES), Table::new(&EFFECTS));
    let subject = context.subject;
    if settings.patched == 0 || subject.model.n_models() == 1 {
        return Ok((patches, effects));
    }
    let prompts = drawn(context, settings.prompts);
    let all = components(subject);
    let mut found = Vec::new();
    for pair in pairs_by_name(NAME, subject, &settings.source, &settings.target)? {
        let measure = Measure { context, pair, prompts: &prompts };
        let singles = measure.sets("singles", &all.iter().map(|&u| vec![u]).collect::<Vec<_>>())?;
        let chosen = largest(&all, &Effects::new(&singles)?, settings.patched);
        let sets: Vec<Vec<Unit>> =
            super::pairs(chosen.len()).iter().map(|&(i, j)| vec![chosen[i], chosen[j]]).collect();
        let joint = measure.sets("pairs", &sets)?;
        let (alone, together) = (Effects::new(&singles)?, Effects::new(&joint)?);
        for set in &sets {
            let [one, other] = [&set[0], &set[1]].map(ToString::to_string);
            found.push((
                pair,
                one.clone(),
                other.clone(),
                interaction(context, &prompts, &alone, &together, (one, other)),
            ));
        }
        patches.append(singles)?;
        patches.append(joint)?;
    }
    let q = benjamini_hochberg(&found.iter().map(|f| f.3.compared.p).collect::<Vec<f64>>());
    let family = found.len();
    for (((source, target), one, other, found), q) in found.into_iter().zip(q) {
        effects.push(&[
            subject.model.name(source).into(),
            subject.model.name(target).into(),
            one.into(),
            other.into(),
            prompts.len().into(),
            found.n_clusters.into(),
            family.into(),
            found.means[0].into(),
            found.means[1].into(),
            found.means[2].into(),
            found.compared.mean.mean.into(),
            found.compared.mean.lo.into(),
            found.compared.mean.hi.into(),
            found.compared.p.into(),
            q.into(),
            found.compared.effect.into(),
        ])?;
    }
    patches.sort_by_keys();
    effects.sort_by_keys();
    Ok((patches, effects))
}

/// Whole templates at random until there are `n` prompts, in the order in which they go through the models.
fn drawn(context: &Context, n: usize) -> Vec<usize> {
    let prompts = &context.subject.prompts;
    let mut templates: Vec<&str> =
        prompts.iter().map(|p| p.item.cluster()).collect::<BTreeSet<_>>().into_iter().collect();
    templates.shuffle(&mut ChaCha8Rng::seed_from_u64(context.seed));
    let mut kept = BTreeSet::new();
    for template in templates {
        if kept.len() >= n {
            break;
        }
        kept.extend((0..prompts.len()).filter(|&p| prompts[p].item.cluster() == template));
    }
    context.subject.blocks().into_iter().flatten().filter(|p| kept.contains(p)).collect()
}

/// Patches of one source and target.
struct Measure<'a> {
    context: &'a Context<'a>,
    pair: (usize, usize),
    prompts: &'a [usize],
}

impl Measure<'_> {
    /// Every set on every prompt.
    fn sets(&self, what: &str, sets: &[Vec<Unit>]) -> Result<Table> {
        let (context, subject) = (self.context, self.context.subject);
        let sweep = Sweep::new(subject, context.memory)?;
        let names = [self.pair.0, self.pair.1].map(|m| subject.model.name(m));
        let blocks: Vec<&[usize]> = self.prompts.chunks(PROMPTS_PER_PART).collect();
        let name = |b: usize| format!("{NAME}-{what}-{}-{}-{b:05}", self.pair.0, self.pair.1);
        let parts: Vec<String> = (0..blocks.len()).map(name).collect();
        context.parts(&parts, &PATCHES, |b| {
            let tasks: Vec<(usize, &Vec<Unit>)> =
                blocks[b].iter().flat_map(|&p| sets.iter().map(move |set| (p, set))).collect();
            let runs: Vec<PatchedRun> =
                tasks.iter().map(|(prompt, set)| joint_run(&sweep, set, self.pair, *prompt)).collect();
            let says = format!("patching {what} of {} into {}", names[0], names[1]);
            let found = sweep.run(&says, &runs, context.progress)?;
            let mut part = Table::new(&PATCHES);
            for (&(prompt, set), patched) in tasks.iter().zip(&found.patched) {
                part.push(&[
                    names[0].into(),
                    names[1].into(),
                    subject.prompts[prompt].id().into(),
                    set[0].to_string().into(),
                    set.get(1).map(ToString::to_string).into(),
                    (patched - found.plain[&(self.pair.1, prompt)]).into(),
                ])?;
            }
            Ok(part)
        })
    }
}

/// Changes of delta by set and prompt.
struct Effects<'t>(BTreeMap<(&'t str, Option<&'t str>), BTreeMap<&'t str, f64>>);

impl<'t> Effects<'t> {
    fn new(table: &'t Table) -> Result<Self> {
        let mut found: BTreeMap<_, BTreeMap<&str, f64>> = BTreeMap::new();
        let keys = table.texts("one")?.into_iter().zip(table.texts_or_null("other")?);
        let values = table.texts("prompt_id")?.into_iter().zip(table.floats("change")?);
        for ((one, other), (prompt, change)) in keys.zip(values) {
            found.entry((one, other.as_deref())).or_default().insert(prompt, change);
        }
        Ok(Self(found))
    }

    /// One value per prompt, in a fixed order; nothing for a set that was not measured.
    fn of(&self, one: &str, other: Option<&str>, prompts: &[&str]) -> Vec<f64> {
        let set = self.0.get(&(one, other));
        prompts.iter().filter_map(|p| set?.get(p).copied()).collect()
    }

    fn mean(&self, one: &str) -> f64 {
        let set = self.0.get(&(one, None));
        set.map_or(0.0, |set| set.values().sum::<f64>() / set.len() as f64)
    }
}

/// Those with the largest mean effects, in the order of the forward pass.
fn largest(all: &[Unit], effects: &Effects, n: usize) -> Vec<Unit> {
    let mut order: Vec<(f64, Unit)> = all.iter().map(|&u| (effects.mean(&u.to_string()).abs(), u)).collect();
    order.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    let mut chosen: Vec<Unit> = order.into_iter().take(n).map(|o| o.1).collect();
    chosen.sort();
    chosen
}

struct Interaction {
    n_clusters: usize,
    /// Of one, of the other, and of both.
    means: [f64; 3],
    compared: crate::statistics::Comparison,
}

fn interaction(
    context: &Context,
    prompts: &[usize],
    alone: &Effects,
    together: &Effects,
    (one, other): (String, String),
) -> Interaction {
    let all = &context.subject.prompts;
    let ids: Vec<&str> = prompts.iter().map(|&p| all[p].id()).collect();
    let clusters: Vec<&str> = prompts.iter().map(|&p| all[p].item.cluster()).collect();
    let design = Design::new(&clusters, context.seed);
    let both = together.of(&one, Some(&other), &ids);
    let [one, other] = [&one, &other].map(|unit| alone.of(unit, None, &ids));
    let more: Vec<f64> = both.iter().zip(one.iter().zip(&other)).map(|(b, (o, p))| b - o - p).collect();
    let mean = |v: &[f64]| v.iter().sum::<f64>() / v.len() as f64;
    let means = [mean(&one), mean(&other), mean(&both)];
    Interaction { n_clusters: design.n_clusters(), means, compared: design.compare(&more) }
}
