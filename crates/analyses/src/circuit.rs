//! Which few components together carry a fine-tuned model's behaviour? Circuits grown by joint patching, pruned, tested and
//! compared.
//!
//! A circuit of a source and a target is a set of heads and MLPs which, taken from the source at the decision point, bring its
//! behaviour into the target. Effects do not add up, so it is grown greedily by *joint* patching and pruned backwards (Conmy et
//! al. 2023 search in a like manner), on some prompts; and judged on others, against random circuits of equal size.

mod areas;
mod crossed;
mod edges;
mod figures;
mod grow;
mod hypotheses;
mod known;
pub(crate) mod prompts;
pub(crate) mod random;
mod score;
mod settings;
mod stability;
mod tables;
mod words;

use crate::Analysis;
use crate::bootstrap::Resampler;
use crate::context::{Context, Findings, read_settings};
use crate::error::{Error, Result};
use crate::flags::Flag;
use crate::interventions::{Sweep, Unit, pairs_by_name};
use crate::subject::Subject;
use crate::units::WorkUnit;
use edges::{Measured, Two, differences, measured, nodes};
use figures::Basis;
use grow::grow;
use hypotheses::Tested;
use known::Known;
use lorascope_engine::ModelSpec;
use lorascope_record::{Cell, Table, TableSpec};
use prompts::{Split, split};
use random::Random;
use score::Scorer;
use serde_json::Value;
use settings::{NAME, Settings};
use stability::{Samples, halves, push_tests};
use std::collections::BTreeMap;
use tables::{COMPONENTS, CROSSED, CURVE, DIFFERENCES, EDGES, MEMBERS, OVERLAP, PAIRS, SAMPLES, TESTS};

pub(crate) struct Circuit;

static TABLES: &[&TableSpec] =
    &[&COMPONENTS, &MEMBERS, &CURVE, &TESTS, &PAIRS, &EDGES, &OVERLAP, &DIFFERENCES, &SAMPLES, &CROSSED];

/// A circuit, read back from the table of components.
pub(super) struct Found {
    source: usize,
    target: usize,
    /// Members in the order of growth.
    members: Vec<Unit>,
    /// All components in the order of the curve.
    order: Vec<Unit>,
    alone: BTreeMap<Unit, f64>,
    /// Share of bootstrap samples in whose circuits each component is; empty where there are no samples.
    frequency: BTreeMap<Unit, f64>,
    measured: Measured,
}

impl Analysis for Circuit {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Circuits"
    }
    fn question(&self) -> &'static str {
        "Which few components together carry each model's behaviour, and do the models share them?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn compares_models(&self) -> bool {
        true
    }
    fn flags(&self) -> &'static [Flag] {
        settings::FLAGS
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        let settings: Settings = read_settings(NAME, given)?;
        settings.check()?;
        Ok(serde_json::to_value(settings).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        let settings: Settings = read_settings(NAME, settings)?;
        pairs_by_name(NAME, subject, &settings.source, &settings.target).map(|_| ())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings: Settings = read_settings(NAME, settings)?;
        let subject = context.subject;
        let sweep = Sweep::new(subject, context.memory)?.keeping_prompts();
        let split = split(subject, context.seed, settings.prompts, settings.heldout);
        let mut all: Vec<Table> = TABLES.iter().map(|spec| Table::new(spec)).collect();
        let pairs = pairs_by_name(NAME, subject, &settings.source, &settings.target)?;
        // The steps of one circuit share what they have measured, so they are one unit of work.
        let units: Vec<WorkUnit> =
            pairs.iter().map(|&pair| STEPS.map(|step| step_of(step, pair)).to_vec()).collect();
        context.units(&units, &mut |own, i| {
            let (source, target) = pairs[i];
            one_circuit(&Scorer { context: own, sweep: &sweep, source, target }, &settings, &split)
        })?;
        let mut found = Vec::new();
        for &(source, target) in &pairs {
            let scorer = Scorer { context, sweep: &sweep, source, target };
            found.push(read_circuit(&scorer, &mut all)?);
        }
        measure_edges(context, &sweep, &split, &mut found, &mut all[5])?;
        overlaps(context, &found, &mut all[6])?;
        compare(context, &split, &found, &mut all[7])?;
        crossed::exchange(context, &sweep, &settings, &split.test, &found, &mut all[9])?;
        all.iter_mut().for_each(Table::sort_by_keys);
        let basis = Basis {
            n_grow: split.grow.len(),
            n_test: split.test.len(),
            n_samples: settings.samples,
            is_clean: split.is_clean,
        };
        let mut section = figures::section(self, context, &found, &all[3], &all[2], &all[7], &basis)?;
        section.figures.extend(crossed::figure(&all[9], &subject.model.names(), basis.n_test)?);
        section.paragraphs.extend(crossed::sentence(&all[9])?);
        section.notes.extend(sweep.caveat());
        Ok(Findings { tables: all, section })
    }
}

fn resampler(context: &Context, prompts: &[usize]) -> Resampler {
    let clusters: Vec<&str> = prompts.iter().map(|&i| context.subject.prompts[i].item.cluster()).collect();
    Resampler::new(&clusters, context.seed)
}

/// The steps of a circuit, each of which is a part of its own.
const STEPS: [&str; 6] = ["samples", "components", "members", "curve", "tests", "pairs"];

fn step_of(step: &str, (source, target): (usize, usize)) -> String {
    format!("circuit-{step}-{source}-{target}")
}

/// Grows and tests the circuit of one source and target.
fn one_circuit(scorer: &Scorer, settings: &Settings, split: &Split) -> Result<()> {
    let context = scorer.context;
    let part = |step: &str| step_of(step, (scorer.source, scorer.target));
    let mut known = Known::new(scorer, &split.grow);
    let draws = resampler(context, &split.grow).first_draws(settings.samples);
    let samples = context.part(&part("samples"), &SAMPLES, || Samples::grow(&mut known, settings, &draws))?;
    let drawn = Samples::read(&samples, draws.len(), context.subject.model.spec())?;
    let components =
        context.part(&part("components"), &COMPONENTS, || grown(&mut known, settings, split, &drawn))?;
    let found = read_back(scorer, &components)?;
    let tested = Tested {
        scorer,
        settings,
        members: found.members.clone(),
        order: found.order.clone(),
        prompts: &split.test,
        resampler: resampler(context, &split.test),
        seed: context.seed,
    };
    let curve = context.part(&part("curve"), &CURVE, || tested.curve())?;
    context.part(&part("tests"), &TESTS, || {
        let mut tests = tested.tests(&curve)?;
        push_tests(&mut known, &components, &found, &drawn, &mut tests)?;
        Ok(tests)
    })?;
    context.part(&part("members"), &MEMBERS, || tested.minimality())?;
    context.part(&part("pairs"), &PAIRS, || tested.pairs())?;
    Ok(())
}

/// A circuit from its parts, which are added to the tables.
fn read_circuit(scorer: &Scorer, all: &mut [Table]) -> Result<Found> {
    let context = scorer.context;
    let table = |step: &str, spec| context.table(&step_of(step, (scorer.source, scorer.target)), spec);
    let components = table("components", &COMPONENTS)?;
    let found = read_back(scorer, &components)?;
    let specs = [("members", &MEMBERS), ("curve", &CURVE), ("tests", &TESTS), ("pairs", &PAIRS)];
    all[0].append(components)?;
    for (all, (step, spec)) in all[1..].iter_mut().zip(specs) {
        all.append(table(step, spec)?)?;
    }
    all[8].append(table("samples", &SAMPLES)?)?;
    Ok(found)
}

/// The circuit on all prompts for growing, and on each half of them.
fn grown(known: &mut Known, settings: &Settings, split: &Split, samples: &Samples) -> Result<Table> {
    let [half_a, half_b] = halves(split.grow.len());
    let draws = [known.everything(), half_a, half_b];
    let circuits = grow(known, settings, &draws, "circuit")?;
    let scorer = known.scorer;
    let whole = &circuits[0];
    let mut table = Table::new(&COMPONENTS);
    let alone: BTreeMap<Unit, Option<f64>> = whole.ranked.iter().copied().collect();
    let model = &scorer.context.subject.model;
    for (rank, unit) in whole.order().into_iter().enumerate() {
        let step = whole.members.iter().position(|(u, _)| *u == unit);
        let cells: [Cell; 14] = [
            model.name(scorer.source).into(),
            model.name(scorer.target).into(),
            unit.to_string().into(),
            unit.layer.into(),
            unit.head().into(),
            rank.into(),
            step.into(),
            step.is_some().into(),
            whole.pruned.contains(&unit).into(),
            circuits[1].has(unit).into(),
            circuits[2].has(unit).into(),
            samples.frequency(unit).into(),
            alone[&unit].into(),
            step.map(|s| whole.members[s].1).into(),
        ];
        table.push(&cells)?;
    }
    Ok(table)
}

/// A component by its name in tables.
fn unit_of(name: &str, spec: &ModelSpec) -> Result<Unit> {
    Unit::parse(name, spec).map_err(|why| Error::Settings { analysis: NAME, why })
}

fn read_back(scorer: &Scorer, components: &Table) -> Result<Found> {
    let spec = scorer.context.subject.model.spec();
    let names = components.texts("component")?;
    let (rank, member) = (components.ints("rank")?, components.bools("member")?);
    let mut rows: Vec<usize> = (0..components.n_rows()).collect();
    rows.sort_by_key(|&i| rank[i]);
    let order = rows.iter().map(|&i| unit_of(names[i], spec)).collect::<Result<Vec<Unit>>>()?;
    let values = |column: &str| -> Result<BTreeMap<Unit, f64>> {
        let values = components.floats_or_null(column)?;
        Ok(rows.iter().zip(&order).filter_map(|(&i, u)| values[i].map(|v| (*u, v))).collect())
    };
    Ok(Found {
        source: scorer.source,
        target: scorer.target,
        members: rows.iter().zip(&order).filter(|(i, _)| member[**i]).map(|(_, u)| *u).collect(),
        alone: values("alone")?,
        frequency: values("frequency")?,
        order,
        measured: figures::nothing(),
    })
}

/// Patches the components and edges of all circuits that share a target.
fn measure_edges(
    context: &Context,
    sweep: &Sweep,
    split: &Split,
    found: &mut [Found],
    table: &mut Table,
) -> Result<()> {
    let model = &context.subject.model;
    let ids: Vec<&str> = split.test.iter().map(|&i| context.subject.prompts[i].id()).collect();
    let resampler = resampler(context, &split.test);
    let names: Vec<[String; 1]> = found.iter().map(|f| [step_of("edges", (f.source, f.target))]).collect();
    let nodes_of = |target: usize| {
        let same_target = found.iter().filter(|f| f.target == target);
        let circuits: Vec<(&[Unit], &BTreeMap<Unit, f64>)> =
            same_target.map(|f| (&f.members[..], &f.alone)).collect();
        nodes(&circuits)
    };
    let patched = context.parts_apart(&names, [&EDGES], |i| {
        let (source, target) = (found[i].source, found[i].target);
        Ok([edges::patch(context, sweep, (source, target), &nodes_of(target), &split.test)?])
    })?;
    for (found, [part]) in found.iter_mut().zip(patched) {
        let names = (model.name(found.source), model.name(found.target));
        found.measured = measured(&part, names, &ids, &resampler)?;
        table.append(part)?;
    }
    Ok(())
}

fn overlaps(context: &Context, found: &[Found], table: &mut Table) -> Result<()> {
    let model = &context.subject.model;
    for (i, one) in found.iter().enumerate() {
        for (j, other) in found.iter().enumerate().skip(i + 1) {
            let stream = 10 + (i * found.len() + j) as u64;
            let random = &mut Random::new(&one.order, context.seed, stream);
            let overlap = random.overlap(&[&one.members, &other.members]);
            let shared = one.members.iter().filter(|u| other.members.contains(u)).count();
            let cells: [Cell; 10] = [
                model.name(one.source).into(),
                model.name(one.target).into(),
                model.name(other.source).into(),
                model.name(other.target).into(),
                one.members.len().into(),
                other.members.len().into(),
                shared.into(),
                overlap.map(|o| o.found).into(),
                overlap.map(|o| o.expected).into(),
                overlap.map(|o| o.p).into(),
            ];
            table.push(&cells)?;
        }
    }
    Ok(())
}

fn compare(context: &Context, split: &Split, found: &[Found], table: &mut Table) -> Result<()> {
    let model = &context.subject.model;
    let resampler = resampler(context, &split.test);
    for (i, one) in found.iter().enumerate() {
        for other in found[i + 1..].iter().filter(|o| o.target == one.target) {
            let members = (figures::member_names(&one.members), figures::member_names(&other.members));
            let two = Two {
                sources: (model.name(one.source), model.name(other.source)),
                target: model.name(one.target),
                measured: (&one.measured, &other.measured),
                members: (&members.0, &members.1),
            };
            differences(&two, &resampler, table)?;
        }
    }
    Ok(())
}
