//! Where a number first stopped being finite.
//!
//! A run looks at the residual stream after each layer, and at the scales of norms: that costs next to nothing. Only where something is
//! amiss there is the run made once more, up to that layer, with the row's values at every place written down, so that the error names
//! the place and not only the layer.

use super::{Memory, Pass, through_layers};
use crate::batch::Batch;
use crate::error::Error;
use crate::hook::{HookPoint, Site};
use crate::mixture::Mixture;
use crate::model::Model;
use crate::number::Number;
use crate::request::{Capture, Hooks};
use crate::tap::Tap;

/// A run that failed, to be looked at again.
pub(super) struct Failed<'a, R> {
    pub model: &'a Model<R>,
    pub batch: &'a Batch,
    pub hooks: &'a Hooks<R>,
    pub mixtures: &'a [Mixture],
    /// What it began from; nothing is kept of the second look.
    pub memory: Memory<'a, R>,
}

impl<R: Number> Failed<'_, R> {
    /// The error with the first place where the row's values are not finite; as it is where it is another error, or where no such place
    /// is found.
    pub fn explained(self, error: Error) -> Error {
        let Error::NonFiniteActivation { point, row, model, position } = error else { return error };
        let first = point.parse().ok().and_then(|seen| self.first(seen, row)).map(|first| first.to_string());
        Error::NonFiniteActivation { point: first.unwrap_or(point), row, model, position }
    }

    fn first(mut self, seen: HookPoint, row: usize) -> Option<HookPoint> {
        let spec = self.model.spec();
        let n_layers = match seen {
            HookPoint::Layer(layer, _) => layer + 1,
            _ => spec.n_layers,
        };
        let mut points: Vec<HookPoint> = HookPoint::all(spec)
            .into_iter()
            .filter(|point| matches!(point, HookPoint::Embed | HookPoint::PosEmbed | HookPoint::Layer(..)))
            .filter(|point| !matches!(point, HookPoint::Layer(layer, _) if layer + 1 != n_layers))
            .collect();
        // Within a layer a module's low-rank places come at the module.
        points.sort_by_key(|point| if let HookPoint::Layer(_, site) = point { site.rank() + 1 } else { 0 });
        // A branch begins at some place, and not every model has an adapter everywhere.
        points.retain(|&point| {
            self.tap(&Hooks { captures: vec![capture(point, row)], edits: Vec::new() }).is_some()
        });
        let captures = points.iter().map(|&point| capture(point, row)).collect();
        let hooks = Hooks { captures, edits: self.hooks.edits.clone() };
        let mut pass = Pass::new(self.model, self.batch, self.tap(&hooks)?);
        pass.mixtures = self.mixtures;
        // It ends as the first did.
        let _ = through_layers(&mut pass, n_layers, &|_, _| {}, &mut self.memory);
        let values = pass.tap.finish_captures().ok()?;
        let bad = |point: HookPoint, v: &R| match point {
            // What a row may not see has the score minus infinity.
            HookPoint::Layer(_, Site::AttnScores) => !v.is_finite() && *v != R::NEG_INFINITY,
            _ => !v.is_finite(),
        };
        let found = points.iter().zip(&values).find(|(point, rows)| rows[0].iter().any(|v| bad(**point, v)));
        found.map(|(point, _)| *point)
    }

    fn tap<'h>(&self, hooks: &'h Hooks<R>) -> Option<Tap<'h, R>> {
        let rank = |row: usize, point| self.model.rank_at(self.batch.row(row).model, point);
        Tap::new(hooks, &[], self.model.standing(), self.batch, self.model.spec(), rank).ok()
    }
}

fn capture(point: HookPoint, row: usize) -> Capture {
    Capture { point, rows: vec![row] }
}
