//! Which parts of an adapter carry what it changed? Blocks of its update are switched on and off by masks.
//!
//! A *block* is what an adapter adds at one module of a layer (or at all modules of an attention, an MLP, a layer). A mask says which
//! blocks are on; weights are not touched, and many masks go through the model together. With `d = delta_adapter − delta_base`, a set
//! recovers `Σ (delta_set − delta_base)·sign(d) / Σ |d|` of the adapter's behaviour. Each block is left out and switched on alone;
//! sets grow by a greedy order, by what blocks recover alone, by the norm of the update, by a gradient, and at random; the shortest
//! beginning of these orders that recovers the wanted share is pruned, tested on prompts on which it was not chosen, and written as a PEFT adapter.
//! Shapley values (Shapley 1953; by random orders, Castro, Gómez & Tejada 2009) on request.

mod apart;
mod blocks;
mod figures;
mod gradient;
mod masks;
mod search;
mod settings;
mod tables;
#[cfg(test)]
mod tests;
mod words;

use crate::Analysis;
use crate::circuit::prompts::split;
use crate::context::{Context, Findings};
use crate::error::Result;
use crate::mixtures::check_blocks;
use crate::subject::Subject;
use lorascope_record::{Table, TableSpec};
use serde_json::Value;
use settings::Settings;
use tables::{BLOCKS, CURVES, DOSES, RUNS, SETS};

pub(crate) struct Surgery;

const NAME: &str = "surgery";

static TABLES: &[&TableSpec] = &[&BLOCKS, &CURVES, &SETS, &DOSES, &RUNS];

/// The tables as they are filled, adapter by adapter.
struct Tables {
    blocks: Table,
    curves: Table,
    sets: Table,
    doses: Table,
    runs: Table,
}

impl Analysis for Surgery {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Surgery"
    }
    fn question(&self) -> &'static str {
        "Which parts of an adapter carry what it changed, and how few of them are enough?"
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
    fn settings(&self, given: &Value) -> Result<Value> {
        Ok(serde_json::to_value(Settings::read(given)?).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        let settings = Settings::read(settings)?;
        let adapters = settings.adapters(subject)?;
        adapters.iter().try_for_each(|&model| check_blocks(NAME, "`adapter`", subject, model))
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings = Settings::read(settings)?;
        let subject = context.subject;
        let adapters = settings.adapters(subject)?;
        let size = blocks::resolve(settings.blocks, subject, &adapters);
        let split = split(subject, context.seed, settings.prompts, settings.prompts);
        let mut tables = Tables {
            blocks: Table::new(&BLOCKS),
            curves: Table::new(&CURVES),
            sets: Table::new(&SETS),
            doses: Table::new(&DOSES),
            runs: Table::new(&RUNS),
        };
        let mut patients = Vec::new();
        for &model in &adapters {
            let adapter = &subject.model.adapters()[model - 1];
            let blocks = blocks::blocks(size, adapter)?;
            let work = apart::Apart { context, settings: &settings, model, blocks: &blocks };
            patients.push(work.take_apart(&split, &mut tables)?);
        }
        let section = figures::section(self, context, &settings, &split, &tables, &patients)?;
        let Tables { blocks, curves, sets, doses, mut runs } = tables;
        runs.sort_by_keys();
        Ok(Findings { tables: vec![blocks, curves, sets, doses, runs], section })
    }
}
