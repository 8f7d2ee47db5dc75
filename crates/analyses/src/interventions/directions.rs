//! The directions in which an adapter writes: left singular vectors of its updates ([`LowRankSvd`]).
//!
//! Component i of an update is what it adds along the i-th of them; DoRA's gain and the bias of B are not part of it.

use super::places::{PlaceKind, Unit};
use crate::error::{Error, Result};
use crate::low_rank::LowRankSvd;
use crate::subject::Subject;
use lorascope_engine::{Mat, Module, Update};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;

/// Directions of one update: `[rank, outputs]`, the largest singular value first.
type Directions = Vec<Arc<Mat<f32>>>;

/// Directions of all updates that were asked for, by model, layer and module.
#[derive(Debug, Default)]
pub(crate) struct DirectionBook {
    known: BTreeMap<(usize, usize, Module), Directions>,
}

impl DirectionBook {
    /// The direction of a unit that is a component of an update, taken from the first of these models whose adapter has an
    /// update there: `[1, outputs]`. `None` for other units.
    ///
    /// # Errors
    /// No such update, or fewer components.
    pub fn direction(
        &mut self,
        subject: &Subject,
        unit: &Unit,
        models: &[usize],
    ) -> Result<Option<Arc<Mat<f32>>>> {
        let PlaceKind::AdapterRank(module) = unit.kind else { return Ok(None) };
        let none = || missing(unit);
        for &model in models {
            let adapter = model.checked_sub(1).map(|i| &subject.model.adapters()[i]);
            let Some(update) = adapter.and_then(|a| a.update(unit.layer, module)) else { continue };
            let directions = match self.known.entry((model, unit.layer, module)) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(place) => place.insert(left_singular_vectors(&update)?),
            };
            return directions.get(unit.index).cloned().map(Some).ok_or_else(none);
        }
        Err(none())
    }
}

/// Refuses a component that the update of none of these models has, before anything is decomposed.
pub(crate) fn check_component(subject: &Subject, unit: &Unit, models: &[usize]) -> Result<()> {
    let PlaceKind::AdapterRank(module) = unit.kind else { return Ok(()) };
    let mut adapters = models.iter().filter_map(|m| m.checked_sub(1)).map(|i| &subject.model.adapters()[i]);
    match adapters.find_map(|a| a.rank(unit.layer, module)) {
        Some(rank) if unit.index < rank => Ok(()),
        _ => Err(missing(unit)),
    }
}

fn missing(unit: &Unit) -> Error {
    let why = format!("`{unit}`: neither model has an update there with so many components");
    Error::Settings { analysis: "patch", why }
}

fn left_singular_vectors(update: &Update) -> Result<Directions> {
    let svd = LowRankSvd::of(update)?;
    let direction = |i: usize| {
        let data: Vec<f32> = svd.output(i).iter().map(|v| *v as f32).collect();
        Arc::new(Mat { rows: 1, cols: data.len(), data })
    };
    Ok((0..svd.values.len()).map(direction).collect())
}
