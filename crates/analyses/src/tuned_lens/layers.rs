//! All layers, one after the other: each is fitted, judged on what it has not seen, and kept as a part of the run.

use super::affine::Affine;
use super::fit::{self, Fitted, LayerRows, Rows};
use super::plan::{Plan, Split};
use super::readout::{Readout, Targets};
use super::settings::Settings;
use super::states::States;
use super::{NAME, SITE, TUNED_LENS_FIT};
use crate::context::Context;
use crate::error::{Error, Result};
use crate::subject::Subject;
use lorascope_engine::Mat;
use lorascope_record::Table;

/// What all layers are fitted and judged with.
struct Bench<'a> {
    readout: Readout<f32>,
    finals: Mat<f32>,
    train: Targets<f32>,
    validation: Targets<f32>,
    heldout: Targets<f32>,
    decisions: Targets<f32>,
    /// Held-out prompts.
    heldout_prompts: Vec<usize>,
    plan: &'a Plan,
    states: &'a States,
    settings: &'a Settings,
}

impl<'a> Bench<'a> {
    fn new(subject: &Subject, plan: &'a Plan, states: &'a States, settings: &'a Settings) -> Result<Self> {
        let readout = Readout::of(&subject.model)?;
        let finals = &states.samples[states.samples.len() - 1];
        let targets = |part: Split, most: usize| {
            let which: Vec<usize> = plan.range(part).take(most).collect();
            readout.targets(&finals.gather(&which))
        };
        let heldout_prompts: Vec<usize> =
            (0..plan.splits.len()).filter(|&p| plan.splits[p] == Split::Heldout).collect();
        Ok(Self {
            finals: finals.gather(&plan.range(Split::Train).collect::<Vec<_>>()),
            train: targets(Split::Train, settings.step_rows),
            validation: targets(Split::Validation, usize::MAX),
            heldout: targets(Split::Heldout, usize::MAX),
            // The base's decision points are the first of all models'.
            decisions: readout
                .targets(&states.decisions[states.decisions.len() - 1].gather(&heldout_prompts)),
            readout,
            heldout_prompts,
            plan,
            states,
            settings,
        })
    }

    fn states(&self, layer: usize, part: Split) -> Mat<f32> {
        self.states.samples[layer].gather(&self.plan.range(part).collect::<Vec<_>>())
    }

    fn fit(&self, layer: usize, seed: u64) -> Result<Fitted> {
        let (train, validation) = (self.states(layer, Split::Train), self.states(layer, Split::Validation));
        let rows = LayerRows {
            train: Rows { from: &train, targets: &self.train },
            train_finals: &self.finals,
            validation: Rows { from: &validation, targets: &self.validation },
        };
        fit::fit(&self.readout, &rows, self.settings, seed)
    }

    /// A layer's row of the table; without a fit, of the identity.
    fn judge(&self, layer: usize, fitted: Option<&Fitted>) -> Result<Table> {
        let (train, heldout) = (self.states(layer, Split::Train), self.states(layer, Split::Heldout));
        let decisions = self.states.decisions[layer].gather(&self.heldout_prompts);
        let train = Rows { from: &train, targets: &self.train };
        let heldout = Rows { from: &heldout, targets: &self.heldout };
        let decisions = Rows { from: &decisions, targets: &self.decisions };
        let (map, start) = (fitted.map(|f| &f.map), fitted.map(|f| &f.start));
        let most = self.heldout.len();
        let kl = |rows: &Rows, map| rows.kl(&self.readout, map, most);
        let counts = self.plan.counts;
        let mut table = Table::new(&TUNED_LENS_FIT);
        table.push(&[
            SITE.into(),
            layer.into(),
            counts[0].into(),
            self.train.len().into(),
            counts[1].into(),
            counts[2].into(),
            self.heldout_prompts.len().into(),
            fitted.map_or(0, |f| f.steps).into(),
            fitted.map(|f| f.ridge).filter(|r| r.is_finite()).into(),
            kl(&train, None).into(),
            kl(&train, map).into(),
            kl(&heldout, None).into(),
            kl(&heldout, start).into(),
            kl(&heldout, map).into(),
            kl(&decisions, None).into(),
            kl(&decisions, map).into(),
        ])?;
        Ok(table)
    }
}

/// The maps of all layers, `None` for the identity of the last one, and how good they are. Each layer is a part of the run.
pub(super) fn fit_layers(
    context: &Context,
    plan: &Plan,
    states: &States,
    settings: &Settings,
) -> Result<(Vec<Option<Affine>>, Table)> {
    let (subject, n) = (context.subject, states.samples.len());
    let d = subject.model.spec().d_model;
    let (mut maps, mut fits) = (Vec::with_capacity(n), Table::new(&TUNED_LENS_FIT));
    let mut bench = None;
    context.progress.begin("training lenses", n as u64);
    for layer in 0..n {
        let (map_name, fit_name) = (format!("{NAME}-map-{layer:05}"), format!("{NAME}-fit-{layer:05}"));
        let kept = if layer + 1 == n { None } else { context.run.part(&map_name)? };
        let kept = kept.and_then(|bytes| Affine::from_bytes(&bytes, d));
        let is_kept = layer + 1 == n || kept.is_some();
        let row = if is_kept { context.run.part(&fit_name)? } else { None };
        if let Some(row) = row {
            maps.push(kept);
            fits.append(Table::from_parquet(&TUNED_LENS_FIT, &row)?)?;
            continue;
        }
        if context.progress.should_stop() {
            return Err(Error::Stopped);
        }
        let ready = bench.take();
        let ready = ready.map_or_else(|| Bench::new(subject, plan, states, settings), Ok)?;
        let fitted = if layer + 1 == n {
            None
        } else {
            Some(ready.fit(layer, context.seed.wrapping_add(layer as u64))?)
        };
        let row = ready.judge(layer, fitted.as_ref())?;
        if let Some(fitted) = &fitted {
            context.run.save_part(&map_name, &fitted.map.to_bytes())?;
        }
        context.run.save_part(&fit_name, &row.to_parquet()?)?;
        fits.append(row)?;
        maps.push(fitted.map(|f| f.map));
        bench = Some(ready);
        context.progress.at(layer as u64 + 1);
    }
    context.progress.end();
    Ok((maps, fits))
}
