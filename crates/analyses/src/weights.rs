//! What did fine-tuning do to the weights? From the adapters' factors alone; no model is run on a prompt.
//!
//! `ΔW = s·B·A` is never formed. Its singular value decomposition comes from thin QR factors of B and Aᵀ and their r×r core, in
//! O(d·r²), and everything else from that: norms and ranks, heads' slices, cosines and principal angles between two adapters
//! (Björck & Golub 1973), the share of what is written along the decision's direction, and components with the words that they
//! write. Only intruder dimensions (Shuttleworth et al. 2024) need W itself.
//!
//! Every adapter is compared with controls that are made from it ([`lorascope_engine::ControlKind`]): what a similarity is worth
//! shows beside that of random directions of the same size and of the right blocks in wrong layers.
//!
//! The whole change of DoRA, and of an update on top of a weight of the adapter's own, is not low-rank. Its norm is summed weight
//! by weight; everything else is about the low-rank part, and intruder dimensions are left out.

mod alignment;
mod components;
mod figures;
mod intruders;
mod settings;
mod similarity;
mod similarity_figures;
mod sizes;
mod small_tables;
mod tables;
#[cfg(test)]
mod tests;
mod variants;
mod words;

use crate::Analysis;
use crate::context::{Context, Findings};
use crate::error::{Error, Result};
use crate::subject::Subject;
use alignment::{Aligned, Null, TokenPair, readouts, token_pairs};
use components::Component;
use lorascope_engine::{Mat, Module};
use lorascope_record::{Table, TableSpec};
use rayon::prelude::*;
use serde_json::Value;
use settings::Settings;
use similarity::Likeness;
use sizes::Size;
use variants::variants;

pub(crate) use variants::{Block, Held, Variant};

pub(crate) struct Weights;

const NAME: &str = "weights";

static TABLES: &[&TableSpec] = &[
    &tables::WEIGHTS,
    &tables::SPECTRUM,
    &tables::HEADS,
    &tables::SIMILARITY,
    &tables::SIMILARITY_SUMMARY,
    &tables::ALIGNMENT,
    &tables::ALIGNMENT_SUMMARY,
    &tables::COMPONENTS,
    &tables::INTRUDERS,
];

impl Analysis for Weights {
    fn name(&self) -> &'static str {
        NAME
    }
    fn title(&self) -> &'static str {
        "Weights"
    }
    fn question(&self) -> &'static str {
        "Where are the weights changed, how alike are the changes, and what do they write?"
    }
    fn tables(&self) -> &'static [&'static TableSpec] {
        TABLES
    }
    fn compares_models(&self) -> bool {
        true
    }
    fn settings(&self, given: &Value) -> Result<Value> {
        Ok(serde_json::to_value(Settings::read(given)?).unwrap_or_default())
    }
    fn check(&self, subject: &Subject, _settings: &Value) -> Result<()> {
        if subject.model.adapters().is_empty() {
            let why =
                "there is no adapter whose weights could be looked at; give --adapter NAME=PATH".to_owned();
            return Err(Error::Settings { analysis: NAME, why });
        }
        Ok(())
    }

    fn run(&self, context: &Context, settings: &Value) -> Result<Findings> {
        let settings = Settings::read(settings)?;
        let subject = context.subject;
        let (variants, mut notes) = variants(subject, context.seed)?;
        let pairs = token_pairs(subject, settings.directions)?;
        let seen = look(context, &settings, &variants, &pairs)?;
        let components = components(context, &settings, &seen)?;
        let intruders = intruders(context, &settings, &variants)?;
        let similarity = similarity::table(subject, &seen.alike)?;
        let summary = similarity::summary(subject, &seen.alike, context.seed)?;
        let (alignment, aligned) = alignment::tables(subject, &seen.aligned, context.seed)?;
        let weights = sizes::table(subject, &seen.sizes)?;
        notes.extend(figures::notes(subject, &settings, &weights, &intruders, &pairs)?);
        let found = figures::Found {
            weights: &weights,
            spectra: &seen.spectra,
            heads: &seen.heads,
            summary: &summary,
            alignment: &alignment,
            aligned: &aligned,
            components: &components,
            intruders: &intruders,
        };
        let section = figures::section(context, &settings, &found, &pairs, notes)?;
        let tables = vec![
            weights,
            seen.spectra,
            seen.heads,
            similarity,
            summary,
            alignment,
            aligned,
            components,
            intruders,
        ];
        Ok(Findings { tables, section })
    }
}

/// What the factors say.
struct Seen {
    sizes: Vec<Size>,
    spectra: Table,
    heads: Table,
    alike: Vec<Likeness>,
    aligned: Vec<Aligned>,
    components: Vec<Component>,
}

impl Seen {
    fn new() -> Self {
        Self {
            sizes: Vec::new(),
            spectra: Table::new(&tables::SPECTRUM),
            heads: Table::new(&tables::HEADS),
            alike: Vec::new(),
            aligned: Vec::new(),
            components: Vec::new(),
        }
    }

    fn append(&mut self, other: Self) -> Result<()> {
        self.sizes.extend(other.sizes);
        self.spectra.append(other.spectra)?;
        self.heads.append(other.heads)?;
        self.alike.extend(other.alike);
        self.aligned.extend(other.aligned);
        self.components.extend(other.components);
        Ok(())
    }
}

/// Goes through all blocks, a layer's at a time; factors are decomposed where they are needed and not kept.
fn look(context: &Context, settings: &Settings, variants: &[Variant], pairs: &[TokenPair]) -> Result<Seen> {
    let subject = context.subject;
    let spec = subject.model.spec();
    let readouts = readouts(subject, pairs)?;
    let ranks = variants.iter().flat_map(|v| v.adapter.adapted().filter_map(|(l, m)| v.adapter.rank(l, m)));
    let null = Null::new(spec.d_model, ranks.max().unwrap_or(0), context.seed);
    let mut seen = Seen::new();
    context.progress.begin("reading factors", spec.n_layers as u64);
    let modules: Vec<Module> = spec.modules().collect();
    for layer in 0..spec.n_layers {
        if context.progress.should_stop() {
            return Err(Error::Stopped);
        }
        let one = |&module: &Module| -> Result<Seen> {
            let mut own = Seen::new();
            if let Some(block) = Block::new(&subject.model, variants, layer, module)? {
                look_at(subject, settings, variants, &block, pairs, &readouts, &null, &mut own)?;
            }
            Ok(own)
        };
        for own in modules.par_iter().map(one).collect::<Result<Vec<Seen>>>()? {
            seen.append(own)?;
        }
        context.progress.at(layer as u64 + 1);
    }
    seen.sizes.extend(sizes::elsewhere(subject)?);
    seen.spectra.sort_by_keys();
    seen.heads.sort_by_keys();
    context.progress.end();
    Ok(seen)
}

#[allow(clippy::too_many_arguments, reason = "one block, and what is compared with all blocks")]
fn look_at(
    subject: &Subject,
    settings: &Settings,
    variants: &[Variant],
    block: &Block,
    pairs: &[TokenPair],
    readouts: &[Mat<f64>],
    null: &Null,
    seen: &mut Seen,
) -> Result<()> {
    seen.sizes = sizes::of_block(&subject.model, variants, block, &mut seen.spectra, &mut seen.heads)?;
    seen.alike = similarity::of_block(variants, block);
    seen.aligned = alignment::of_block(subject, variants, block, pairs, readouts, null)?;
    seen.components = components::of_block(subject, variants, block, readouts, settings.components)?;
    Ok(())
}

/// Names the components of one adapter after the other.
fn components(context: &Context, settings: &Settings, seen: &Seen) -> Result<Table> {
    let subject = context.subject;
    let n = subject.model.n_models();
    context.progress.begin("words that components write", n as u64 - 1);
    let names: Vec<String> = (1..n).map(|model| format!("{NAME}-components-{model:05}")).collect();
    let mut table = context.parts(&names, &tables::COMPONENTS, |i| {
        let model = i + 1;
        let own: Vec<&Component> = seen.components.iter().filter(|c| c.model == model).collect();
        let squares = seen.sizes.iter().filter(|s| s.model == model && s.spectral.is_some());
        let total: f64 = squares.filter_map(|s| s.weight.factor_norm).map(|norm| norm * norm).sum();
        let found = components::table(subject, model, &own, total, settings.tokens)?;
        context.progress.at(model as u64);
        Ok(found)
    })?;
    context.progress.end();
    table.sort_by_keys();
    Ok(table)
}

/// Compares singular vectors of W + ΔW with those of W, layer by layer.
fn intruders(context: &Context, settings: &Settings, variants: &[Variant]) -> Result<Table> {
    if settings.intruders == 0 {
        return Ok(Table::new(&tables::INTRUDERS));
    }
    let model = &context.subject.model;
    let spec = model.spec();
    let modules: Vec<Module> = spec.modules().collect();
    context.progress.begin("singular vectors of weights", spec.n_layers as u64);
    let names: Vec<String> = (0..spec.n_layers).map(|layer| format!("{NAME}-intruders-{layer:05}")).collect();
    let mut table = context.parts(&names, &tables::INTRUDERS, |layer| {
        let one = |&module: &Module| match Block::new(model, variants, layer, module)? {
            Some(block) => intruders::of_block(model, variants, &block, settings),
            None => Ok(Table::new(&tables::INTRUDERS)),
        };
        let mut of_layer = Table::new(&tables::INTRUDERS);
        for own in modules.par_iter().map(one).collect::<Result<Vec<Table>>>()? {
            of_layer.append(own)?;
        }
        context.progress.at(layer as u64 + 1);
        Ok(of_layer)
    })?;
    context.progress.end();
    table.sort_by_keys();
    Ok(table)
}
