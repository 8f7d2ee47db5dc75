//! Blocks of one adapter put into another in place of its own.
//!
//! `X → Y` at a group of modules is the model that has X's updates there and Y's everywhere else: an adapter put together of two, each
//! module with the rank and the scale of its own. With `d = delta_X − delta_Y`, it recovers `(delta_patched − delta_Y) / d` of what X
//! does otherwise than Y. A group may be any module, the attention or the MLP of a layer, a layer, or a span of layers.

use super::NAME;
use super::apart::{Patient, interval};
use super::blocks::{check, is_mlp};
use super::export;
use super::measure::{Recovery, Whole};
use super::mixtures::{Answer, answers};
use super::settings::{Groups, Settings};
use super::tables::TRANSPLANT_RUNS;
use crate::circuit::prompts::Split;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::statistics::benjamini_hochberg;
use crate::subject::Subject;
use lorascope_engine::{Adapter, Mixture, ModelId, Module, Part};
use lorascope_record::Table;
use std::collections::{BTreeMap, BTreeSet};

/// Mixtures of a part that is kept when the run is cut off.
const PART: usize = 16;
/// Up to this number of layers `auto` takes kinds of every layer.
const SHALLOW: usize = 12;

/// Modules that are moved together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// Its first and last layer.
    pub layers: (usize, usize),
    /// The module's name; `attention`, `mlp`, or `layer` for all of them.
    pub name: &'static str,
    pub places: Vec<(usize, Module)>,
}

impl Group {
    /// `L3`, `L0-4`.
    pub fn span(&self) -> String {
        match self.layers {
            (first, last) if first == last => format!("L{first}"),
            (first, last) => format!("L{first}-{last}"),
        }
    }

    /// `L3 mlp`, `L0-4`.
    pub fn label(&self) -> String {
        if self.name == "layer" { self.span() } else { format!("{} {}", self.span(), self.name) }
    }
}

/// The size that `auto` stands for.
fn resolve(groups: Groups, n_layers: usize) -> Groups {
    match groups {
        Groups::Auto if n_layers <= SHALLOW => Groups::Kind,
        Groups::Auto => Groups::Span,
        given => given,
    }
}

/// The groups of the places at which some of these adapters have an update, by first layer.
pub(super) fn groups(settings: &Settings, adapters: &[&Adapter], n_layers: usize) -> Vec<Group> {
    let wanted = |layer: usize| settings.layer.is_empty() || settings.layer.contains(&layer);
    let places: BTreeSet<(usize, Module)> =
        adapters.iter().flat_map(|a| a.adapted()).filter(|&(layer, _)| wanted(layer)).collect();
    let kind = |module: Module| if is_mlp(module) { "mlp" } else { "attention" };
    let length = n_layers.div_ceil(settings.spans).max(1);
    let mut found: Vec<Group> = Vec::new();
    let mut add = |span: (usize, usize), name: &'static str, place: (usize, Module)| match found
        .iter_mut()
        .find(|g| g.layers == span && g.name == name)
    {
        Some(group) => group.places.push(place),
        None => found.push(Group { layers: span, name, places: vec![place] }),
    };
    let (first, last) = (places.first().map_or(0, |p| p.0), places.last().map_or(0, |p| p.0));
    for &(layer, module) in &places {
        let of_layer = (layer, layer);
        match resolve(settings.transplants, n_layers) {
            Groups::None | Groups::Auto => {}
            Groups::Module => add(of_layer, module.name(), (layer, module)),
            Groups::Kind => add(of_layer, kind(module), (layer, module)),
            Groups::Layer => add(of_layer, "layer", (layer, module)),
            Groups::Span => {
                let start = layer / length * length;
                add((start, (start + length).min(n_layers) - 1), "layer", (layer, module));
                add((first, last), kind(module), (layer, module));
            }
        }
    }
    // Whole spans first, then what runs through all of them.
    let order = |g: &Group| (g.name != "layer" && g.layers.0 != g.layers.1, g.layers, g.name != "attention");
    if resolve(settings.transplants, n_layers) == Groups::Span {
        found.sort_by_key(order);
    }
    found
}

/// The target's updates everywhere but in a group, where they are the source's.
fn transplant(subject: &Subject, source: ModelId, target: ModelId, group: &[(usize, Module)]) -> Mixture {
    let adapters = subject.model.adapters();
    let mut mixture = Mixture::default();
    let mut take = |model: ModelId, (layer, module): (usize, Module)| {
        mixture.take(layer, module, Part { model, factor: 1.0 });
    };
    let of_target = adapters[target - 1].adapted().filter(|place| !group.contains(place));
    of_target.for_each(|place| take(target, place));
    let has = |place: &&(usize, Module)| adapters[source - 1].rank(place.0, place.1).is_some();
    group.iter().filter(has).for_each(|&place| take(source, place));
    mixture
}

/// Whether all adapters of all pairs consist of blocks.
pub(super) fn check_pairs(subject: &Subject, settings: &Settings, adapters: &[usize]) -> Result<()> {
    let pairs = settings.pairs(subject, adapters)?;
    pairs.iter().try_for_each(|&(source, target)| {
        check(subject, source)?;
        check(subject, target)
    })?;
    let named: Vec<&Adapter> = models(&pairs).iter().map(|&m| &subject.model.adapters()[m - 1]).collect();
    if !pairs.is_empty() && groups(settings, &named, subject.model.spec().n_layers).is_empty() {
        let why = format!("no adapter changes anything in layers {:?}; name other layers", settings.layer);
        return Err(Error::Settings { analysis: NAME, why });
    }
    Ok(())
}

fn models(pairs: &[(usize, usize)]) -> BTreeSet<usize> {
    pairs.iter().flat_map(|&(s, t)| [s, t]).collect()
}

/// What was put into whom.
pub(super) struct Matrix {
    pub groups: Vec<Group>,
    /// `(source, target)`.
    pub pairs: Vec<(ModelId, ModelId)>,
    /// Mean of `|delta_X − delta_Y|` by pair, and how many prompts it moves by the floor or more.
    pub sizes: Vec<(crate::bootstrap::Interval, usize)>,
    /// Rows of the table follow pairs, then groups; this one recovers the most and was written.
    pub best: Option<usize>,
    pub n_prompts: usize,
}

/// Carries all transplants out and fills both tables.
pub(super) fn run(
    context: &Context,
    settings: &Settings,
    split: &Split,
    patients: &[Patient],
    [table, runs]: [&mut Table; 2],
) -> Result<Matrix> {
    let subject = context.subject;
    let adapters = settings.adapters(subject)?;
    let pairs = settings.pairs(subject, &adapters)?;
    let named: Vec<&Adapter> = models(&pairs).iter().map(|&m| &subject.model.adapters()[m - 1]).collect();
    let groups = groups(settings, &named, subject.model.spec().n_layers);
    let whole = wholes(context, split, patients, &pairs)?;
    // Transplants into one adapter share its layers before the first that is exchanged.
    let targets: BTreeSet<usize> = pairs.iter().map(|p| p.1).collect();
    let mut found: BTreeMap<(ModelId, ModelId, usize), Vec<Answer>> = BTreeMap::new();
    context.progress.begin("transplants", (pairs.len() * groups.len()) as u64);
    for &target in &targets {
        let mut asked: Vec<(ModelId, usize)> = Vec::new();
        for group in 0..groups.len() {
            asked.extend(pairs.iter().filter(|p| p.1 == target).map(|p| (p.0, group)));
        }
        asked.sort_by_key(|&(_, group)| groups[group].layers.0);
        for (number, part) in asked.chunks(PART).enumerate() {
            let done = found.len();
            let name = format!("surgery-transplants-{target}-{number:05}");
            let part_table = context.part(&name, &TRANSPLANT_RUNS, || {
                let mixture = |&(source, group): &(usize, usize)| {
                    transplant(subject, source, target, &groups[group].places)
                };
                let mixtures: Vec<Mixture> = part.iter().map(mixture).collect();
                let at = |share: f64| context.progress.at((done as f64 + share * part.len() as f64) as u64);
                let found = answers(context, &split.grow, &mixtures, &at)?;
                rows(context, split, target, part, &groups, &found)
            })?;
            let values = part_table.floats("delta")?.into_iter().zip(part_table.floats("p_b")?);
            let values: Vec<Answer> = values.map(|(delta, p_b)| Answer { delta, p_b }).collect();
            for (&(source, group), answers) in part.iter().zip(values.chunks(split.grow.len())) {
                found.insert((source, target, group), answers.to_vec());
            }
            runs.append(part_table)?;
        }
    }
    context.progress.end();
    let mut sizes = Vec::new();
    let mut best: Option<(f64, usize)> = None;
    for &(source, target) in &pairs {
        let of_pair =
            Whole::new(context, &split.grow, whole[&target].clone(), whole[&source].clone(), settings.floor);
        let answers: Vec<&Vec<Answer>> = (0..groups.len()).map(|g| &found[&(source, target, g)]).collect();
        let compared: Vec<_> =
            answers.iter().map(|a| of_pair.design.compare(&of_pair.aligned(&of_pair.base, a))).collect();
        let q = benjamini_hochberg(&compared.iter().map(|c| c.p).collect::<Vec<_>>());
        for (g, group) in groups.iter().enumerate() {
            let recovery = of_pair.recovery(answers[g]);
            if let Some(of) = recovery.delta
                && best.is_none_or(|(most, _)| of.mean > most)
            {
                best = Some((of.mean, table.n_rows()));
            }
            let change: Vec<f64> =
                answers[g].iter().zip(&of_pair.base).map(|(a, b)| a.delta - b.delta).collect();
            let change = of_pair.design.mean(&change);
            let Recovery { delta, mean, p } = recovery;
            let mut cells = vec![
                subject.model.name(source).into(),
                subject.model.name(target).into(),
                g.into(),
                group.layers.0.into(),
                group.layers.1.into(),
                group.name.into(),
                moved(&subject.model.adapters()[source - 1], group).into(),
            ];
            cells.extend(interval(delta));
            cells.extend([mean.into(), p.into()]);
            cells.extend([change.mean.into(), change.lo.into(), change.hi.into()]);
            cells.extend([compared[g].p.into(), q[g].into()]);
            table.push(&cells)?;
        }
        sizes.push((of_pair.size(), of_pair.n_moved()));
    }
    let best = best.map(|(_, row)| row);
    if let Some(row) = best {
        let ((source, target), group) = (pairs[row / groups.len()], &groups[row % groups.len()]);
        let place = place(context, source, target);
        export::write(context, &place, &transplant(subject, source, target, &group.places))?;
    }
    Ok(Matrix { groups, pairs, sizes, best, n_prompts: split.grow.len() })
}

/// Where the transplant that recovers the most goes in the run folder.
pub(super) fn place(context: &Context, source: ModelId, target: ModelId) -> String {
    export::place(context, &[source, target], "transplant")
}

/// What whole adapters answer; those that were taken apart have been asked.
fn wholes(
    context: &Context,
    split: &Split,
    patients: &[Patient],
    pairs: &[(usize, usize)],
) -> Result<BTreeMap<ModelId, Vec<Answer>>> {
    let mut known: BTreeMap<ModelId, Vec<Answer>> =
        patients.iter().map(|p| (p.model, p.answers.clone())).collect();
    let missing: Vec<ModelId> = models(pairs).into_iter().filter(|m| !known.contains_key(m)).collect();
    if !missing.is_empty() {
        let mixtures: Vec<Mixture> =
            missing.iter().map(|&m| transplant(context.subject, m, m, &[])).collect();
        let found = answers(context, &split.grow, &mixtures, &|_| {})?;
        known.extend(missing.into_iter().zip(found));
    }
    Ok(known)
}

/// Numbers in the factors that a source gives.
fn moved(source: &Adapter, group: &Group) -> usize {
    let numbers = |&(layer, module): &(usize, Module)| {
        let update = source.update(layer, module)?;
        Some(update.factors.rank * (update.factors.a.n_cols() + update.outputs.len()))
    };
    group.places.iter().filter_map(numbers).sum()
}

fn rows(
    context: &Context,
    split: &Split,
    target: ModelId,
    part: &[(ModelId, usize)],
    groups: &[Group],
    found: &[Vec<Answer>],
) -> Result<Table> {
    let mut table = Table::new(&TRANSPLANT_RUNS);
    let subject = context.subject;
    for (&(source, group), answers) in part.iter().zip(found) {
        for (&prompt, answer) in split.grow.iter().zip(answers) {
            table.push(&[
                subject.model.name(source).into(),
                subject.model.name(target).into(),
                group.into(),
                groups[group].label().into(),
                subject.prompts[prompt].id().into(),
                answer.delta.into(),
                answer.p_b.into(),
            ])?;
        }
    }
    Ok(table)
}
