//! Every group of every pair, and what it brings.

use super::NAME;
use super::settings::{Groups, Settings, refuse};
use super::tables::TRANSPLANT_RUNS;
use crate::bootstrap::Interval;
use crate::context::Context;
use crate::error::Result;
use crate::mixtures::{Answer, Recovery, Whole, answers, check_blocks, interval, is_mlp, place, write};
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
        match resolve(settings.groups, n_layers) {
            Groups::Auto => {}
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
    if resolve(settings.groups, n_layers) == Groups::Span {
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

/// Whether all adapters of all pairs consist of blocks, and some are left to be moved.
pub(super) fn check(subject: &Subject, settings: &Settings) -> Result<()> {
    let matrix = Matrix::new(subject, settings, Vec::new())?;
    let leave_out = "`source` and `target`";
    matrix.models().into_iter().try_for_each(|model| check_blocks(NAME, leave_out, subject, model))?;
    if matrix.groups.is_empty() {
        return refuse(format!(
            "no adapter changes anything in layers {:?}; name other layers",
            settings.layer
        ));
    }
    Ok(())
}

/// What is put into whom.
pub(super) struct Matrix {
    pub groups: Vec<Group>,
    /// `(source, target)`.
    pub pairs: Vec<(ModelId, ModelId)>,
    pub prompts: Vec<usize>,
}

/// Answers of models to the prompts of a matrix.
pub(super) struct Found {
    /// Of whole adapters.
    whole: BTreeMap<ModelId, Vec<Answer>>,
    /// By source, target and group.
    patched: BTreeMap<(ModelId, ModelId, usize), Vec<Answer>>,
}

/// How far pairs are apart, and what recovers the most.
pub(super) struct Compared {
    /// Mean of `|delta_X − delta_Y|` by pair.
    pub sizes: Vec<Interval>,
    /// Rows of the table follow pairs, then groups; this one recovers the most and was written.
    pub best: Option<usize>,
}

impl Matrix {
    pub fn new(subject: &Subject, settings: &Settings, prompts: Vec<usize>) -> Result<Self> {
        let mut matrix = Self { groups: Vec::new(), pairs: settings.pairs(subject)?, prompts };
        let models = matrix.models();
        let adapters: Vec<&Adapter> = models.iter().map(|&m| &subject.model.adapters()[m - 1]).collect();
        matrix.groups = groups(settings, &adapters, subject.model.spec().n_layers);
        Ok(matrix)
    }

    fn models(&self) -> BTreeSet<ModelId> {
        self.pairs.iter().flat_map(|&(s, t)| [s, t]).collect()
    }

    /// Carries all transplants out; `runs` gets a row for each of them on each prompt.
    pub fn run(&self, context: &Context, runs: &mut Table) -> Result<Found> {
        let subject = context.subject;
        let models = self.models();
        let plain: Vec<Mixture> = models.iter().map(|&m| transplant(subject, m, m, &[])).collect();
        let plain = answers(context, &self.prompts, &plain, &|_| {})?;
        let whole = models.into_iter().zip(plain).collect();
        let mut patched: BTreeMap<(ModelId, ModelId, usize), Vec<Answer>> = BTreeMap::new();
        context.progress.begin("transplants", (self.pairs.len() * self.groups.len()) as u64);
        // Transplants into one adapter share its layers before the first that is exchanged.
        let targets: BTreeSet<ModelId> = self.pairs.iter().map(|p| p.1).collect();
        let (mut names, mut units) = (Vec::new(), Vec::new());
        for &target in &targets {
            let mut asked: Vec<(ModelId, usize)> = Vec::new();
            for group in 0..self.groups.len() {
                asked.extend(self.pairs.iter().filter(|p| p.1 == target).map(|p| (p.0, group)));
            }
            asked.sort_by_key(|&(_, group)| self.groups[group].layers.0);
            for (number, part) in asked.chunks(PART).enumerate() {
                names.push(format!("{NAME}-{target}-{number:05}"));
                units.push((target, part.to_vec()));
            }
        }
        let table = context.parts(&names, &TRANSPLANT_RUNS, |u| {
            let (target, part) = (units[u].0, &units[u].1);
            let mixture = |&(source, group): &(ModelId, usize)| {
                transplant(subject, source, target, &self.groups[group].places)
            };
            let mixtures: Vec<Mixture> = part.iter().map(mixture).collect();
            let done = u * PART;
            let at = |share: f64| context.progress.at((done as f64 + share * part.len() as f64) as u64);
            let found = answers(context, &self.prompts, &mixtures, &at)?;
            self.rows(context, target, part, &found)
        })?;
        let values = table.floats("delta")?.into_iter().zip(table.floats("p_b")?);
        let values: Vec<Answer> = values.map(|(delta, p_b)| Answer { delta, p_b }).collect();
        let moved = units.iter().flat_map(|(target, part)| part.iter().map(move |&(s, g)| (s, *target, g)));
        for (moved, answers) in moved.zip(values.chunks(self.prompts.len())) {
            patched.insert(moved, answers.to_vec());
        }
        runs.append(table)?;
        context.progress.end();
        Ok(Found { whole, patched })
    }

    fn rows(
        &self,
        context: &Context,
        target: ModelId,
        part: &[(ModelId, usize)],
        found: &[Vec<Answer>],
    ) -> Result<Table> {
        let mut table = Table::new(&TRANSPLANT_RUNS);
        let subject = context.subject;
        for (&(source, group), answers) in part.iter().zip(found) {
            for (&prompt, answer) in self.prompts.iter().zip(answers) {
                table.push(&[
                    subject.model.name(source).into(),
                    subject.model.name(target).into(),
                    group.into(),
                    self.groups[group].label().into(),
                    subject.prompts[prompt].id().into(),
                    answer.delta.into(),
                    answer.p_b.into(),
                ])?;
            }
        }
        Ok(table)
    }

    /// Fills the table of what each of them brings, and writes the one that brings the most.
    pub fn compare(
        &self,
        context: &Context,
        settings: &Settings,
        found: &Found,
        table: &mut Table,
    ) -> Result<Compared> {
        let subject = context.subject;
        let mut sizes = Vec::new();
        let mut best: Option<(f64, usize)> = None;
        for &(source, target) in &self.pairs {
            let [base, all] = [target, source].map(|m| found.whole[&m].clone());
            let of_pair = Whole::new(context, &self.prompts, base, all, settings.floor);
            let answers: Vec<&Vec<Answer>> =
                (0..self.groups.len()).map(|g| &found.patched[&(source, target, g)]).collect();
            let compared: Vec<_> =
                answers.iter().map(|a| of_pair.design.compare(&of_pair.aligned(&of_pair.base, a))).collect();
            let q = benjamini_hochberg(&compared.iter().map(|c| c.p).collect::<Vec<_>>());
            for (g, group) in self.groups.iter().enumerate() {
                let Recovery { delta, mean, p } = of_pair.recovery(answers[g]);
                if let Some(of) = delta
                    && best.is_none_or(|(most, _)| of.mean > most)
                {
                    best = Some((of.mean, table.n_rows()));
                }
                let change: Vec<f64> =
                    answers[g].iter().zip(&of_pair.base).map(|(a, b)| a.delta - b.delta).collect();
                let change = of_pair.design.mean(&change);
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
            sizes.push(of_pair.size());
        }
        let best = best.map(|(_, row)| row);
        if let Some(row) = best {
            let ((source, target), group) = self.of_row(row);
            write(
                context,
                &folder(context, source, target),
                &transplant(subject, source, target, &group.places),
            )?;
        }
        Ok(Compared { sizes, best })
    }

    /// Pair and group of a row of the table.
    pub fn of_row(&self, row: usize) -> ((ModelId, ModelId), &Group) {
        (self.pairs[row / self.groups.len()], &self.groups[row % self.groups.len()])
    }
}

/// Where the transplant that recovers the most goes in the run folder.
pub(super) fn folder(context: &Context, source: ModelId, target: ModelId) -> String {
    place(context, &[source, target], "transplant")
}

/// Numbers in the factors that a source gives.
fn moved(source: &Adapter, group: &Group) -> usize {
    let numbers = |&(layer, module): &(usize, Module)| {
        let update = source.update(layer, module)?;
        Some(update.factors.rank * (update.factors.a.n_cols() + update.outputs.len()))
    };
    group.places.iter().filter_map(numbers).sum()
}
