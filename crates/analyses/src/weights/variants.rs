//! The adapters that are looked at, each with controls of its own, and what is taken from one module in all of them.

use super::NAME;
use crate::activity::change::Rows;
use crate::error::{Error, Result};
use crate::low_rank::LowRankSvd;
use crate::subject::Subject;
use lorascope_engine::{Adapter, Control, ControlKind, Model, Module, Update};
use std::ops::{Deref, Range};

/// Numbers of a weight that are read together.
const BLOCK: usize = 1 << 16;

/// Controls that every similarity is shown beside.
const CONTROLS: [ControlKind; 2] = [ControlKind::Random, ControlKind::Shuffled];

/// An adapter, or a control made from it.
#[derive(Debug)]
pub(crate) struct Variant<'a> {
    /// The model, 0 being the base.
    pub model: usize,
    /// `None` for the adapter itself.
    pub control: Option<ControlKind>,
    pub adapter: Held<'a>,
}

/// An adapter of the model, or one that was made here.
#[derive(Debug)]
pub(crate) enum Held<'a> {
    Loaded(&'a Adapter),
    Made(Box<Adapter>),
}

impl Deref for Held<'_> {
    type Target = Adapter;

    fn deref(&self) -> &Adapter {
        match self {
            Held::Loaded(adapter) => adapter,
            Held::Made(adapter) => adapter,
        }
    }
}

impl Variant<'_> {
    /// Name of the control for tables.
    pub fn control_name(&self) -> Option<&'static str> {
        self.control.map(ControlKind::name)
    }
}

/// All adapters, and after each its controls; and, as sentences, which have none and why. Adapters that are controls
/// themselves get none.
pub(super) fn variants(subject: &Subject, seed: u64) -> Result<(Vec<Variant<'_>>, Vec<String>)> {
    let (mut found, mut notes) = (Vec::new(), Vec::new());
    for (i, adapter) in subject.model.adapters().iter().enumerate() {
        found.push(Variant { model: i + 1, control: None, adapter: Held::Loaded(adapter) });
        if adapter.control.is_some() {
            continue;
        }
        for kind in CONTROLS {
            let how = Control { of: adapter.name.clone(), kind, seed };
            match adapter.control(&format!("{}.{kind}", adapter.name), how) {
                Ok(made) => found.push(Variant {
                    model: i + 1,
                    control: Some(kind),
                    adapter: Held::Made(Box::new(made)),
                }),
                Err(lorascope_engine::Error::Control { source, .. }) => {
                    notes.push(format!(
                        "{} has no {kind} control: {}",
                        adapter.name,
                        plain(&source.to_string())
                    ));
                }
                Err(other) => return Err(other.into()),
            }
        }
    }
    if found.is_empty() {
        let why = "there is no adapter whose weights could be looked at; give --adapter NAME=PATH".to_owned();
        return Err(Error::Settings { analysis: NAME, why });
    }
    Ok((found, notes))
}

/// Without the backticks of error messages.
fn plain(text: &str) -> String {
    text.replace('`', "")
}

/// One module of one layer in all variants that adapt it.
pub(crate) struct Block<'a> {
    pub layer: usize,
    pub module: Module,
    pub n_out: usize,
    pub n_in: usize,
    /// By index of the variant.
    pub changes: Vec<Change<'a>>,
}

/// What one variant does there.
pub(crate) struct Change<'a> {
    pub variant: usize,
    pub update: Update<'a>,
    pub svd: LowRankSvd,
}

impl<'a> Block<'a> {
    /// `None` where nobody adapts the module.
    pub fn new(
        model: &Model<f32>,
        variants: &'a [Variant],
        layer: usize,
        module: Module,
    ) -> Result<Option<Self>> {
        let (n_out, n_in) = model.spec().module_shape(module);
        let mut changes = Vec::new();
        for (variant, v) in variants.iter().enumerate() {
            if let Some(update) = v.adapter.update(layer, module) {
                let svd = LowRankSvd::of(&update)?;
                changes.push(Change { variant, update, svd });
            }
        }
        Ok((!changes.is_empty()).then_some(Self { layer, module, n_out, n_in, changes }))
    }

    /// The base's weight, `[outputs, inputs]`, in pieces of some rows, from the first to the last.
    pub fn weight_rows(&self, model: &Model<f32>, mut see: impl FnMut(Range<usize>, &[f32])) -> Result<()> {
        let Some(change) = self.changes.first() else { return Ok(()) };
        let update = &change.update;
        let stored = model.base_weight(update.path)?;
        let rows = Rows::of(stored, update.outputs.clone(), update.transposed)?;
        let each = (BLOCK / self.n_in.max(1)).clamp(1, self.n_out);
        let mut piece = vec![0.0; each * self.n_in];
        for first in (0..self.n_out).step_by(each) {
            let span = first..self.n_out.min(first + each);
            let piece = &mut piece[..span.len() * self.n_in];
            rows.read(span.clone(), piece)?;
            see(span, piece);
        }
        stored.release_pages();
        Ok(())
    }

    /// Squared norms of the weight's rows and columns.
    pub fn weight_squares(&self, model: &Model<f32>) -> Result<(Vec<f64>, Vec<f64>)> {
        let (mut of_rows, mut of_cols) = (vec![0.0; self.n_out], vec![0.0; self.n_in]);
        self.weight_rows(model, |span, piece| {
            for (r, row) in span.zip(piece.chunks_exact(self.n_in)) {
                for (c, &w) in of_cols.iter_mut().zip(row) {
                    let square = f64::from(w) * f64::from(w);
                    *c += square;
                    of_rows[r] += square;
                }
            }
        })?;
        Ok((of_rows, of_cols))
    }
}
