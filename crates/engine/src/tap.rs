//! Reading and replacing activations during a run, with an account of every request.
//!
//! A [`Capture`] asks for the values of a hook point at some rows; an [`Edit`] replaces, shifts or scales some of them.
//! Edits happen before captures, so a capture shows what the rest of the model sees. Whatever was asked for
//! must happen exactly once, or [`Tap::finish`] returns an error.

use crate::batch::Batch;
use crate::error::{Error, Result};
use crate::hook::{HookPoint, Site, Width};
use crate::mat::Mat;
use crate::spec::ModelSpec;
use lorascope_kernels::Real;
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;

/// Asks for the values of a hook point at rows of the batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Capture {
    /// The place.
    pub point: HookPoint,
    /// Rows; prefixes are shared, so positions of several sequences can be the same row, which may be named often.
    pub rows: Vec<usize>,
}

/// Changes values of a hook point at one row, before anything downstream reads them.
#[derive(Clone, Debug, PartialEq)]
pub struct Edit<R> {
    /// The place.
    pub point: HookPoint,
    /// The row.
    pub row: usize,
    /// Which of the row's values: a head's slice, a neuron, or all (see [`HookPoint::width`]).
    pub units: Range<usize>,
    /// What happens to them.
    pub op: EditOp<R>,
}

/// What an edit does to the values that it names.
#[derive(Clone, Debug, PartialEq)]
pub enum EditOp<R> {
    /// Replaces them.
    Set(Vec<R>),
    /// Replaces them by the same values of an earlier row of the batch (of another model, another prompt), which must
    /// have as many: at points with one value per key, rows of the same position only.
    CopyFrom(usize),
    /// Adds to them.
    Add(Vec<R>),
    /// Multiplies them; 0 ablates.
    Scale(R),
}

/// Everything that a run is asked to read and to change.
#[derive(Clone, Debug, Default)]
pub struct Hooks<R> {
    /// What to read.
    pub captures: Vec<Capture>,
    /// What to change, in the order of application where several concern the same values.
    pub edits: Vec<Edit<R>>,
}

/// What happens at one row of one hook point, in the order: edits, then stash, then capture.
#[derive(Clone, Debug, Default)]
struct AtRow {
    edits: Vec<usize>,
    /// A later edit copies from here.
    is_source: bool,
    /// Capture and the row's place in it.
    captures: Vec<(usize, usize)>,
}

/// The requests of one run, ordered by where they happen.
pub(crate) struct Tap<'h, R> {
    hooks: &'h Hooks<R>,
    plan: HashMap<HookPoint, BTreeMap<usize, AtRow>>,
    stash: HashMap<(HookPoint, usize), Vec<R>>,
    values: Vec<Vec<Vec<R>>>,
    captured: Vec<Vec<usize>>,
    edited: Vec<usize>,
}

impl<'h, R: Real> Tap<'h, R> {
    /// Checks every request against the model and the batch. `rank(row, point)` is the adapter's rank at a
    /// low-rank point, `None` where the row's model has no adapter there.
    pub fn new(
        hooks: &'h Hooks<R>,
        batch: &Batch,
        spec: &ModelSpec,
        rank: impl Fn(usize, HookPoint) -> Option<usize>,
    ) -> Result<Self> {
        let width_at = |point: HookPoint, row: usize| -> Result<usize> {
            let no_adapter = || Error::NoSuchHookPoint {
                point: point.to_string(),
                why: format!("model {} has no adapter there", batch.row(row).model),
            };
            let is_lora = matches!(point, HookPoint::Layer(_, Site::LoraA(_) | Site::LoraOut(_)));
            let width = point.width(spec)?;
            let rank = if is_lora { rank(row, point).ok_or_else(no_adapter)? } else { 0 };
            Ok(match width {
                Width::Fixed(n) => n,
                Width::PerKey(n) => n * (batch.row(row).position + 1),
                Width::Rank => rank,
            })
        };
        let mut plan: HashMap<HookPoint, BTreeMap<usize, AtRow>> = HashMap::new();
        for (c, capture) in hooks.captures.iter().enumerate() {
            let point = capture.point;
            for (i, &row) in capture.rows.iter().enumerate() {
                let bad =
                    |why: String| Error::BadHook { kind: "capture", point: point.to_string(), row, why };
                if row >= batch.n_rows() {
                    return Err(bad(format!("the batch has {} rows", batch.n_rows())));
                }
                width_at(point, row)?;
                plan.entry(point).or_default().entry(row).or_default().captures.push((c, i));
            }
        }
        for (e, edit) in hooks.edits.iter().enumerate() {
            let (point, row) = (edit.point, edit.row);
            let bad = |why: String| Error::BadHook { kind: "edit", point: point.to_string(), row, why };
            if row >= batch.n_rows() {
                return Err(bad(format!("the batch has {} rows", batch.n_rows())));
            }
            let width = width_at(point, row)?;
            if edit.units.is_empty() || edit.units.end > width {
                return Err(bad(format!("units {:?} are not within the {width} values there", edit.units)));
            }
            match &edit.op {
                EditOp::Set(values) | EditOp::Add(values) if values.len() != edit.units.len() => {
                    return Err(bad(format!("{} values for {} units", values.len(), edit.units.len())));
                }
                EditOp::CopyFrom(source) if *source >= row => {
                    return Err(bad(format!("source row {source} does not come before it")));
                }
                EditOp::CopyFrom(source) => {
                    // Between rows with different numbers of keys (or ranks) the same unit would be another head's.
                    let found = width_at(point, *source)?;
                    if found != width {
                        return Err(bad(format!(
                            "source row {source} has {found} values there instead of {width}"
                        )));
                    }
                    plan.entry(point).or_default().entry(*source).or_default().is_source = true;
                }
                _ => {}
            }
            plan.entry(point).or_default().entry(row).or_default().edits.push(e);
        }
        Ok(Self {
            plan,
            stash: HashMap::new(),
            values: hooks.captures.iter().map(|c| vec![Vec::new(); c.rows.len()]).collect(),
            captured: hooks.captures.iter().map(|c| vec![0; c.rows.len()]).collect(),
            edited: vec![0; hooks.edits.len()],
            hooks,
        })
    }

    /// Whether anything was asked for at a point; where not, the forward pass need not compute it.
    pub fn wants(&self, point: HookPoint) -> bool {
        self.plan.contains_key(&point)
    }

    /// Rows of `range` where something was asked for, in order.
    pub fn rows_wanted(&self, point: HookPoint, range: Range<usize>) -> Vec<usize> {
        self.plan.get(&point).map_or_else(Vec::new, |rows| rows.range(range).map(|(&r, _)| r).collect())
    }

    /// Carries out the requests at a point for consecutive rows from `first_row` on.
    pub fn at(&mut self, point: HookPoint, first_row: usize, values: &mut Mat<R>) {
        for row in self.rows_wanted(point, first_row..first_row + values.rows) {
            self.at_row(point, row, values.row_mut(row - first_row));
        }
    }

    /// Carries out the requests at a point for one row.
    pub fn at_row(&mut self, point: HookPoint, row: usize, values: &mut [R]) {
        let Some(at) = self.plan.get(&point).and_then(|rows| rows.get(&row)) else { return };
        for &e in &at.edits {
            let edit = &self.hooks.edits[e];
            let target = &mut values[edit.units.clone()];
            match &edit.op {
                EditOp::Set(new) => target.copy_from_slice(new),
                EditOp::CopyFrom(source) => {
                    // An absent source leaves the edit uncounted, which `finish` reports.
                    let Some(from) = self.stash.get(&(point, *source)) else { continue };
                    target.copy_from_slice(&from[edit.units.clone()]);
                }
                EditOp::Add(shift) => target.iter_mut().zip(shift).for_each(|(t, &s)| *t += s),
                EditOp::Scale(factor) => target.iter_mut().for_each(|t| *t *= *factor),
            }
            self.edited[e] += 1;
        }
        if at.is_source {
            self.stash.insert((point, row), values.to_vec());
        }
        for &(c, i) in &at.captures {
            self.values[c][i] = values.to_vec();
            self.captured[c][i] += 1;
        }
    }

    /// The captured values, one list of rows per capture; an error if any request did not happen exactly once.
    pub fn finish(self) -> Result<Vec<Vec<Vec<R>>>> {
        let wrong = |kind, point: HookPoint, row, times| {
            Err(Error::FiredWrongly { kind, point: point.to_string(), row, times })
        };
        for (capture, counts) in self.hooks.captures.iter().zip(&self.captured) {
            for (&row, &times) in capture.rows.iter().zip(counts) {
                if times != 1 {
                    return wrong("capture", capture.point, row, times);
                }
            }
        }
        for (edit, &times) in self.hooks.edits.iter().zip(&self.edited) {
            if times != 1 {
                return wrong("edit", edit.point, edit.row, times);
            }
        }
        Ok(self.values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::families::read_spec;

    const POINT: HookPoint = HookPoint::Layer(0, Site::MlpOut);

    /// A model of width 4, and three rows of it.
    fn three_rows() -> (ModelSpec, Batch) {
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 4, "intermediate_size": 6, "num_hidden_layers": 1,
            "num_attention_heads": 2, "vocab_size": 8, "max_position_embeddings": 10, "hidden_act": "silu"
        });
        let spec = read_spec(&config).unwrap().1;
        let batch = Batch::new(&spec, &[(0, &[1, 2, 3])]).unwrap();
        (spec, batch)
    }

    /// What the account says after the point was reached at these rows, one after the other.
    fn account(hooks: &Hooks<f64>, reached: &[usize]) -> std::result::Result<Vec<Vec<Vec<f64>>>, String> {
        let (spec, batch) = three_rows();
        let mut tap = Tap::new(hooks, &batch, &spec, |_, _| None).unwrap();
        for &row in reached {
            tap.at_row(POINT, row, &mut [row as f64; 4]);
        }
        tap.finish().map_err(|e| e.to_string())
    }

    fn wrongly(kind: &str, row: usize, times: usize) -> String {
        format!(
            "{kind} at `blocks.0.hook_mlp_out`, row {row} fired {times} times instead of once; please report this"
        )
    }

    #[test]
    fn a_capture_that_does_not_happen_once_is_an_error() {
        let hooks = Hooks { captures: vec![Capture { point: POINT, rows: vec![2, 0] }], edits: Vec::new() };
        assert_eq!(account(&hooks, &[0, 1, 2]).unwrap(), [[[2.0; 4], [0.0; 4]]]);
        assert_eq!(account(&hooks, &[0, 1]).unwrap_err(), wrongly("capture", 2, 0));
        assert_eq!(account(&hooks, &[0, 1, 2, 0]).unwrap_err(), wrongly("capture", 0, 2));
    }

    #[test]
    fn an_edit_that_does_not_happen_once_is_an_error() {
        let edit = |row, op| Hooks {
            captures: Vec::new(),
            edits: vec![Edit { point: POINT, row, units: 1..3, op }],
        };
        let scale = edit(1, EditOp::Scale(2.0));
        assert!(account(&scale, &[1]).is_ok());
        assert_eq!(account(&scale, &[0, 2]).unwrap_err(), wrongly("edit", 1, 0));
        assert_eq!(account(&scale, &[1, 1]).unwrap_err(), wrongly("edit", 1, 2));
        let copy = edit(2, EditOp::CopyFrom(1));
        assert!(account(&copy, &[1, 2]).is_ok());
        assert_eq!(account(&copy, &[2]).unwrap_err(), wrongly("edit", 2, 0), "its source was never seen");
        assert_eq!(account(&copy, &[2, 1]).unwrap_err(), wrongly("edit", 2, 0), "or only afterwards");
    }

    #[test]
    fn only_what_was_asked_for_is_wanted() {
        let edits = vec![Edit { point: POINT, row: 2, units: 0..4, op: EditOp::CopyFrom(0) }];
        let hooks = Hooks::<f64> { captures: vec![Capture { point: POINT, rows: vec![1, 1] }], edits };
        let (spec, batch) = three_rows();
        let tap = Tap::new(&hooks, &batch, &spec, |_, _| None).unwrap();
        assert_eq!(tap.rows_wanted(POINT, 0..3), [0, 1, 2], "the source of a copy is wanted too");
        assert_eq!(tap.rows_wanted(POINT, 1..2), [1]);
        let elsewhere = HookPoint::Layer(0, Site::MlpPre);
        assert!(tap.wants(POINT) && !tap.wants(elsewhere) && tap.rows_wanted(elsewhere, 0..3).is_empty());
    }
}
