//! What do blocks of one adapter do in another, in place of its own?
//!
//! `X → Y` at a group of modules is the model that has X's updates there and Y's everywhere else: an adapter put together of two, each
//! module with the rank and the scale of its own. With `d = delta_X − delta_Y`, it recovers
//! `Σ (delta_patched − delta_Y)·sign(d) / Σ |d|` of what X does otherwise than Y. A group may be any module, the attention or the MLP of
//! a layer, a layer, or a span of layers; all pairs of adapters are tried. The one that recovers the most is written as a PEFT adapter.

mod matrix;
mod section;
mod settings;
mod tables;
#[cfg(test)]
mod tests;

use crate::Analysis;
use crate::context::{Context, Findings};
use crate::error::Result;
use crate::flags::Flag;
use crate::scenarios::sample;
use crate::subject::Subject;
use lorascope_record::{Table, TableSpec};
use matrix::Matrix;
use serde_json::Value;
use settings::Settings;
use tables::{TRANSPLANT_RUNS, TRANSPLANTS};

pub(crate) struct Transplants;

const NAME: &str = "transplants";

static TABLES: &[&TableSpec] = &[&TRANSPLANTS, &TRANSPLANT_RUNS];

static FLAGS: &[Flag] = &[
    Flag {
        name: "source",
        value: "MODEL",
        help: "Adapter whose blocks are put into others (default: all); may be repeated",
    },
    Flag {
        name: "target",
        value: "MODEL",
        help: "Adapter into which they are put (default: all); may be repeated",
    },
    Flag { name: "layer", value: "LAYER", help: "Put in blocks of this layer only; may be repeated" },
];

impl Analysis for Transplants {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Transplants"
    }
    fn question(&self) -> &'static str {
        "What do parts of one adapter do in another?"
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
        FLAGS
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        Ok(serde_json::to_value(Settings::read(given)?).unwrap_or_default())
    }

    fn check(&self, subject: &Subject, settings: &Value) -> Result<()> {
        matrix::check(subject, &Settings::read(settings)?)
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings = Settings::read(settings)?;
        let matrix =
            Matrix::new(context.subject, &settings, sample(&context.subject.prompts, settings.prompts))?;
        let mut runs = Table::new(&TRANSPLANT_RUNS);
        let found = matrix.run(context, &mut runs)?;
        let mut table = Table::new(&TRANSPLANTS);
        let compared = matrix.compare(context, &settings, &found, &mut table)?;
        let section = section::section(self, context, &settings, &table, &matrix, &compared)?;
        runs.sort_by_keys();
        Ok(Findings { tables: vec![table, runs], section })
    }
}
