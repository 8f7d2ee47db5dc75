//! Does a direction steer the decision? Differences of means added to activations (Turner et al. 2023; contrastive activation addition,
//! Rimsky et al. 2024), beside directions of the same length, with what they do to other text.
//!
//! Two kinds of vector at a place: *between models*, `v = mean(a_adapter) − mean(a_base)` over the prompts, what a fine-tune added there,
//! put into the base; and *between classes of prompts* within a model, `v = mean(a | class 2) − mean(a | class 1)`, put into that model.
//! Both are made at the decision point. `strength · v` is added to the activation, and the change of delta is measured; strengths are
//! multiples of the vector as it is, not of a unit vector, so that places with small and large activations can be compared.
//!
//! No prompt is steered by a vector that it helped to make: vectors from one half of the templates are added on the other half, and the
//! other way round. Each stands beside random directions and beside differences between random groups of prompts, of the same length.
//! All strengths, controls and prompts are branches of the unsteered runs ([`crate::interventions`]).

mod against;
mod directions;
mod export;
mod figures;
mod measure;
mod settings;
mod side_effects;
mod tables;
mod vectors;
mod words;

use crate::Analysis;
use crate::activations::{Activations, Reading};
use crate::context::{Context, Findings};
use crate::error::Result;
use crate::flags::Flag;
use crate::interventions::{Sweep, average};
use crate::subject::Subject;
use lorascope_engine::Site;
use lorascope_record::{Table, TableSpec};
use measure::Unit;
use serde_json::Value;
use settings::Settings;
use side_effects::Texts;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use tables::{AGAINST, CONTROLS, EFFECTS, RUNS, SIDE_EFFECTS, VECTORS};
use vectors::{Made, Recipe};

pub(crate) struct Steer;

const NAME: &str = "steer";

static TABLES: &[&TableSpec] = &[&VECTORS, &RUNS, &EFFECTS, &CONTROLS, &AGAINST, &SIDE_EFFECTS];

/// The tables of all vectors.
struct Tables {
    vectors: Table,
    effects: Table,
    against: Table,
    side_effects: Table,
}

impl Analysis for Steer {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Steering"
    }
    fn question(&self) -> &'static str {
        "Does adding one direction bring what a fine-tune changed, more than other directions of its length, and at what price?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn by_default(&self) -> bool {
        false
    }
    fn compares_models(&self) -> bool {
        true
    }
    fn flags(&self) -> &'static [Flag] {
        settings::FLAGS
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        Ok(serde_json::to_value(Settings::read(given)?).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        let settings = Settings::read(settings)?;
        settings.reading(subject)?;
        side_effects::texts(subject, settings.texts)?;
        vectors::check(subject, &settings)
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings = Settings::read(settings)?;
        let subject = context.subject;
        vectors::check(subject, &settings)?;
        let reading = settings.reading(subject)?;
        let activations = Activations::gather(context, &reading)?;
        let recipes = vectors::recipes(subject, &settings, context.seed, || activations.deltas(context))?;
        let made = make(context, &reading, &activations, &recipes)?;
        let files: Vec<String> = recipes
            .iter()
            .enumerate()
            .map(|(r, recipe)| export::place(subject.model.name(recipe.source), recipe, r))
            .collect();
        let mut vectors = Table::new(&VECTORS);
        for ((recipe, made), file) in recipes.iter().zip(&made).zip(&files) {
            describe(subject, &reading, recipe, made, file, &mut vectors)?;
            let some: Vec<&Made> = made.iter().filter(|m| !m.does_nothing()).collect();
            if !some.is_empty() {
                let name = subject.model.name(recipe.source);
                export::write(context.run, file, name, &settings, (recipe, &some))?;
            }
        }
        vectors.sort_by_keys();
        let (runs, controls, side_effects) = steer(context, &settings, &recipes, &made)?;
        context.progress.begin("comparing with controls", 1);
        let effects = average(context, &against::steered(&runs)?, &EFFECTS)?;
        let against = against::against(&effects, &controls)?;
        context.progress.end();
        let tables = Tables { vectors, effects, against, side_effects };
        let mut section = figures::section(self, context, &settings, &recipes, &tables)?;
        section.notes.extend(Sweep::new(subject, context.memory)?.caveat());
        let Tables { vectors, effects, against, side_effects } = tables;
        Ok(Findings { tables: vec![vectors, runs, effects, controls, against, side_effects], section })
    }
}

/// For each recipe, its vectors at all places; nothing where it has a problem.
fn make(
    context: &Context,
    reading: &Reading,
    activations: &Activations,
    recipes: &[Recipe],
) -> Result<Vec<Vec<Made>>> {
    let n = context.subject.prompts.len();
    let mut made: Vec<Vec<Made>> = recipes.iter().map(|_| Vec::new()).collect();
    for &layer in &reading.layers {
        let rows = activations.layer(context, layer)?;
        for (place, rows) in reading.places(layer).into_iter().zip(&rows) {
            for (recipe, made) in recipes.iter().zip(&mut made) {
                if recipe.problem.is_none() {
                    made.push(Made::new(recipe, place.clone(), rows, n));
                }
            }
        }
    }
    Ok(made)
}

/// Adds every vector at every strength, and its controls: runs, controls, side effects.
fn steer(
    context: &Context,
    settings: &Settings,
    recipes: &[Recipe],
    made: &[Vec<Made>],
) -> Result<(Table, Table, Table)> {
    let subject = context.subject;
    let spec = subject.model.spec();
    let sweep = Sweep::new(subject, context.memory)?.keeping_prompts();
    let tokens = side_effects::texts(subject, settings.texts)?;
    let mut texts: BTreeMap<usize, Texts> = BTreeMap::new();
    let plain = measure::plain(context, recipes)?;
    let mut random: BTreeMap<(usize, Site), Vec<Vec<f64>>> = BTreeMap::new();
    for place in made.iter().flatten().map(|m| &m.place) {
        random.entry((place.layer, place.site)).or_insert_with(|| {
            // A number of its own for every place, whatever places are asked for.
            let site = Site::all().position(|s| s == place.site).unwrap_or_default();
            let mut rng = directions::rng(context.seed, (site * spec.n_layers + place.layer) as u64);
            directions::uniform(settings.random, spec.d_model, &mut rng)
        });
    }
    let mut units: Vec<(usize, &Recipe, &Made)> = Vec::new();
    for (recipe, made) in recipes.iter().zip(made) {
        let some = || made.iter().filter(|m| !m.does_nothing());
        units.extend(recipe.targets.iter().flat_map(|&t| some().map(move |m| (t, recipe, m))));
    }
    let n = units.len();
    let name = |u: usize| ["", "-text", "-controls"].map(|of| format!("{NAME}{of}-{u:05}"));
    let names: Vec<[String; 3]> = (0..n).map(name).collect();
    let specs = [&RUNS, &SIDE_EFFECTS, &CONTROLS];
    let [mut runs, mut side_effects, mut controls] = context.parts_together(&names, specs, |u| {
        let (target, recipe, made) = units[u];
        let random = &random[&(made.place.layer, made.place.site)];
        let texts = match texts.entry(target) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => new.insert(Texts::new(context, target, tokens.clone(), settings.position)?),
        };
        let unit = Unit { context, settings, sweep: &sweep, recipe, made, target, random, plain: &plain };
        let so_far = format!("({} of {n})", u + 1);
        let runs = unit.runs(&format!("steering {so_far}"))?;
        let side_effects = unit.side_effects(&format!("steering text {so_far}"), texts, &runs)?;
        Ok([runs, side_effects, unit.controls(&format!("steering by controls {so_far}"))?])
    })?;
    for table in [&mut runs, &mut controls, &mut side_effects] {
        table.sort_by_keys();
    }
    Ok((runs, controls, side_effects))
}

/// The rows of a recipe in the table of vectors.
fn describe(
    subject: &Subject,
    reading: &Reading,
    recipe: &Recipe,
    made: &[Made],
    file: &str,
    table: &mut Table,
) -> Result<()> {
    let [n_minus, n_plus] = recipe.sides(&recipe.prompts).map(|side| side.len());
    for place in reading.layers.iter().flat_map(|&layer| reading.places(layer)) {
        let made = made.iter().find(|m| m.place == place);
        let some = made.filter(|m| !m.does_nothing());
        let status = match (&recipe.problem, some) {
            (Some(problem), _) => problem.as_str(),
            (None, Some(_)) => "ok",
            (None, None) => "does nothing",
        };
        table.push(&[
            subject.model.name(recipe.source).into(),
            recipe.contrast.as_str().into(),
            place.site.short_name().into(),
            place.layer.into(),
            recipe.minus.as_str().into(),
            recipe.plus.as_str().into(),
            status.into(),
            n_minus.into(),
            n_plus.into(),
            recipe.halves.len().into(),
            some.map(|_| file).into(),
            some.map(export::tensor).into(),
            made.map(|m| m.norm).into(),
            made.and_then(|m| m.relative_norm).into(),
            made.and_then(|m| m.half_cosine).into(),
        ])?;
    }
    Ok(())
}
