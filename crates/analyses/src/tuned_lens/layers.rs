//! All layers, one after the other: each is fitted, judged on what it has not seen, and kept as a part of the run.

use super::affine::Affine;
use super::fit::{self, Fitted, LayerRows};
use super::judge::{Judge, mean};
use super::plan::{Plan, Split};
use super::readout::Readout;
use super::settings::Settings;
use super::states::TextStates;
use super::{NAME, SITE, TUNED_LENS_FIT};
use crate::bootstrap::mean_interval;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::units::WorkUnit;
use lorascope_engine::Mat;
use lorascope_record::Table;

/// Where lenses are judged: the name in the table, the judge, and the cluster of each of its rows.
struct Place<'a> {
    name: &'static str,
    judge: Judge<'a>,
    clusters: Vec<String>,
}

/// What all layers are fitted and judged with.
struct Bench<'a> {
    context: &'a Context<'a>,
    plan: &'a Plan,
    text: &'a TextStates<'a>,
    /// `resid_post` by layer at the decision points of all models.
    decisions: &'a [Mat<f32>],
    settings: &'a Settings,
    readout: Readout<f32>,
    train_finals: Mat<f32>,
    validation: Judge<'a>,
    /// Training rows (as many as are held out), held-out rows, decision points.
    places: [Place<'a>; 3],
}

impl<'a> Bench<'a> {
    fn new(
        context: &'a Context<'a>,
        plan: &'a Plan,
        text: &'a TextStates<'a>,
        decisions: &'a [Mat<f32>],
        settings: &'a Settings,
    ) -> Result<Self> {
        let model = &context.subject.model;
        let last = model.spec().n_layers - 1;
        let finals = text.layer(context, last)?;
        let judge = |which: &[usize]| Judge::new(model, finals.gather(which));
        let documents =
            |which: &[usize]| which.iter().map(|&i| plan.places[i].document.to_string()).collect();
        let (train, heldout) = (seen(plan), plan.part(Split::Heldout));
        let templates = context.subject.prompts.iter().map(|p| p.item.cluster().to_owned()).collect();
        let decision_judge = Judge::new(model, of_base(context, &decisions[last]));
        let places = [
            Place { name: "train", judge: judge(train), clusters: documents(train) },
            Place { name: "heldout", judge: judge(heldout), clusters: documents(heldout) },
            Place { name: "decision", judge: decision_judge, clusters: templates },
        ];
        let validation = judge(plan.part(Split::Validation));
        let train_finals = finals.gather(plan.part(Split::Train));
        let readout = Readout::of(model)?;
        Ok(Self { context, plan, text, decisions, settings, readout, train_finals, validation, places })
    }

    /// A layer's map (`None` for the identity of the last layer) and its rows of the table.
    fn layer(&self, layer: usize) -> Result<(Option<Affine>, Table)> {
        let states = self.text.layer(self.context, layer)?;
        let part = |split| states.gather(self.plan.part(split));
        let is_last = layer + 1 == self.decisions.len();
        let fitted = if is_last {
            None
        } else {
            let (train, validation) = (part(Split::Train), part(Split::Validation));
            let rows = LayerRows {
                train: &train,
                finals: &self.train_finals,
                validation: &validation,
                judge: &self.validation,
            };
            Some(fit::fit(&self.readout, &rows, self.settings)?)
        };
        let judged = [
            states.gather(seen(self.plan)),
            part(Split::Heldout),
            of_base(self.context, &self.decisions[layer]),
        ];
        let mut table = Table::new(&TUNED_LENS_FIT);
        for (place, plain) in self.places.iter().zip(&judged) {
            self.judge(&mut table, layer, place, plain, fitted.as_ref())?;
        }
        Ok((fitted.map(|f| f.map), table))
    }

    fn judge(
        &self,
        table: &mut Table,
        layer: usize,
        place: &Place,
        plain: &Mat<f32>,
        fitted: Option<&Fitted>,
    ) -> Result<()> {
        let mapped = fitted.map(|f| [&f.closed, &f.map].map(|map| map.apply(plain)));
        let [closed, tuned] = mapped.as_ref().map_or([plain; 2], |m| [&m[0], &m[1]]);
        let found = place.judge.kl(&[plain, closed, tuned])?;
        let (plain, closed, tuned) = (&found[0], &found[1], &found[2]);
        let gains: Vec<f64> = plain.iter().zip(tuned).map(|(p, t)| p - t).collect();
        let clusters: Vec<&str> = place.clusters.iter().map(String::as_str).collect();
        let gain = mean_interval(&gains, &clusters, self.context.seed);
        let mut names = clusters.clone();
        names.sort_unstable();
        names.dedup();
        table.push(&[
            SITE.into(),
            layer.into(),
            place.name.into(),
            plain.len().into(),
            names.len().into(),
            fitted.map(|f| f.ridge).filter(|r| r.is_finite()).into(),
            fitted.map_or(0, |f| f.steps).into(),
            mean(plain).into(),
            mean(closed).into(),
            mean(tuned).into(),
            gain.mean.into(),
            gain.lo.into(),
            gain.hi.into(),
        ])?;
        Ok(())
    }
}

/// The base comes first among the models.
fn of_base(context: &Context, decisions: &Mat<f32>) -> Mat<f32> {
    decisions.gather(&(0..context.subject.prompts.len()).collect::<Vec<_>>())
}

/// Training rows that the lens is judged on beside the others: as many as are held out.
fn seen(plan: &Plan) -> &[usize] {
    let train = plan.part(Split::Train);
    &train[..train.len().min(plan.part(Split::Heldout).len())]
}

/// The maps of all layers, `None` for the identity of the last one, and how good they are. Each layer is a part of the run.
pub(super) fn fit_layers(
    context: &Context,
    plan: &Plan,
    text: &TextStates,
    decisions: &[Mat<f32>],
    settings: &Settings,
) -> Result<(Vec<Option<Affine>>, Table)> {
    let (n, d) = (decisions.len(), context.subject.model.spec().d_model);
    let (mut maps, mut fits) = (Vec::with_capacity(n), Table::new(&TUNED_LENS_FIT));
    let mut bench = None;
    context.progress.begin("training lenses", n as u64);
    let map_name = |layer: usize| (layer + 1 < n).then(|| format!("{NAME}-map-{layer:05}"));
    let fit_name = |layer: usize| format!("{NAME}-fit-{layer:05}");
    let units: Vec<WorkUnit> =
        (0..n).map(|layer| map_name(layer).into_iter().chain([fit_name(layer)]).collect()).collect();
    context.units(&units, &mut |own, layer| {
        let bench = match &bench {
            Some(ready) => ready,
            None => bench.insert(Bench::new(context, plan, text, decisions, settings)?),
        };
        let (map, rows) = bench.layer(layer)?;
        if let (Some(map), Some(name)) = (&map, map_name(layer)) {
            own.run.save_part(&name, &map.to_bytes())?;
        }
        own.run.save_part(&fit_name(layer), &rows.to_parquet()?)?;
        own.progress.at(layer as u64 + 1);
        Ok(())
    })?;
    for layer in 0..n {
        let map = map_name(layer).map(|name| {
            let gone = || Error::PartGone { name: name.clone() };
            Affine::from_bytes(&context.bytes(&name)?, d).ok_or_else(gone)
        });
        maps.push(map.transpose()?);
        fits.append(context.table(&fit_name(layer), &TUNED_LENS_FIT)?)?;
    }
    context.progress.end();
    Ok((maps, fits))
}
