//! What a pass leaves behind so that it can be gone through backwards: its steps in order, each with what its derivative needs.
//!
//! The pass itself writes the tape as it goes, so there is one definition of the model; [`crate::reverse`] knows the derivative of
//! each kind of step, and nothing of the order in which a model takes them. Nothing is kept unless a tape was asked for.

use super::Pass;
use super::attention::Keys;
use crate::hook::{HookPoint, Site};
use crate::mat::Mat;
use crate::module::Module;
use crate::number::Number;
use crate::spec::{Mlp, ModelSpec};
use std::ops::Range;

/// The values that a block of rows has at a time while it goes through a layer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The residual stream.
    Stream,
    /// What a norm made of it for the maps that read it.
    Read,
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Mixed values of all heads.
    Z,
    /// What will be added to the residual stream.
    Out,
    /// Gate pre-activations.
    Gate,
    /// Up projection, or the pre-activations of a plain MLP.
    Up,
    /// What enters the down projection.
    Post,
}

impl Slot {
    /// Number of slots.
    pub const N: usize = 10;

    /// Where the values of a hook point are; `None` for points beside the flow (scales, per-head results, low-rank terms).
    pub fn of(site: Site, spec: &ModelSpec) -> Option<Slot> {
        Some(match site {
            Site::ResidPre | Site::ResidMid | Site::ResidPost => Slot::Stream,
            Site::Q | Site::RotQ => Slot::Q,
            Site::K | Site::RotK => Slot::K,
            Site::V => Slot::V,
            Site::Z => Slot::Z,
            Site::AttnOut | Site::MlpOut => Slot::Out,
            Site::MlpPre if matches!(spec.mlp, Mlp::Gated(_)) => Slot::Gate,
            Site::MlpPre => Slot::Up,
            Site::MlpPost => Slot::Post,
            _ => return None,
        })
    }

    /// What a module reads and what it makes.
    pub fn around(module: Module) -> (Slot, Slot) {
        match module {
            Module::Q => (Slot::Read, Slot::Q),
            Module::K => (Slot::Read, Slot::K),
            Module::V => (Slot::Read, Slot::V),
            Module::O => (Slot::Z, Slot::Out),
            Module::Gate => (Slot::Read, Slot::Gate),
            Module::Up => (Slot::Read, Slot::Up),
            Module::Down => (Slot::Post, Slot::Out),
        }
    }

    /// What a norm, named by its scale, reads and what it makes.
    pub fn around_norm(scale: Site) -> (Slot, Slot) {
        match scale {
            Site::Ln1PostScale | Site::Ln2PostScale => (Slot::Out, Slot::Out),
            _ => (Slot::Stream, Slot::Read),
        }
    }
}

/// One operation on a block of rows.
#[derive(Debug)]
pub(crate) enum Step<R> {
    /// The tap was called.
    Tap(Site),
    /// A norm over the residual width, named by its scale: its input and the scales that it found there.
    Norm { scale: Site, input: Mat<R>, scales: Vec<R> },
    /// A linear map. Where derivatives of its parameters are wanted: its input, and for each run of rows with an update
    /// its scaled low-rank features.
    Linear { module: Module, input: Option<Mat<R>>, features: Vec<Mat<R>> },
    /// RMSNorm of each head: its input.
    HeadNorm { slot: Slot, input: Mat<R> },
    /// Rotary embedding.
    Rotate(Slot),
    /// Attention: the queries; keys and values are the layer's.
    Attend { queries: Mat<R> },
    /// The MLP's nonlinearity: gate (if it is gated) and up projection.
    Activate { gate: Option<Mat<R>>, up: Mat<R> },
    /// Per-head results were split off the output here: as added, or what the adapter adds.
    Results(Site),
    /// The output was added to the residual stream.
    Add,
}

/// The steps of consecutive rows within a layer.
#[derive(Debug)]
pub(crate) struct Block<R> {
    pub rows: Range<usize>,
    pub steps: Vec<Step<R>>,
}

/// A layer's steps.
#[derive(Debug)]
pub(crate) struct LayerTape<R> {
    /// In the order of the pass.
    pub blocks: Vec<Block<R>>,
    /// Keys after rotary, and values, of all rows.
    pub keys: Keys<R>,
}

/// A tape that is being written.
#[derive(Debug)]
pub(crate) struct Recorder<R> {
    blocks: Vec<Block<R>>,
    /// Modules whose parameters' derivatives are wanted, by [`Module::index`].
    trained: [bool; 7],
}

impl<R> Recorder<R> {
    /// An empty tape for a layer.
    pub fn new(trained: [bool; 7]) -> Self {
        Self { blocks: Vec::new(), trained }
    }

    /// The layer's steps.
    pub fn finish(self, keys: Keys<R>) -> LayerTape<R> {
        LayerTape { blocks: self.blocks, keys }
    }
}

impl<R: Number> Pass<'_, '_, R> {
    /// A block of rows begins.
    pub(super) fn record_block(&mut self, rows: &Range<usize>) {
        if let Some(tape) = &mut self.tape {
            tape.blocks.push(Block { rows: rows.clone(), steps: Vec::new() });
        }
    }

    /// Writes a step down; `step` is called only where a tape was asked for.
    pub(super) fn record(&mut self, step: impl FnOnce() -> Step<R>) {
        if let Some(block) = self.tape.as_mut().and_then(|tape| tape.blocks.last_mut()) {
            block.steps.push(step());
        }
    }

    /// Whether a module's input is to be kept.
    pub(super) fn keeps_input(&self, module: Module) -> bool {
        self.tape.as_ref().is_some_and(|tape| tape.trained[module.index()])
    }

    /// Calls the tap at a place of the flow.
    pub(super) fn tap(&mut self, layer: usize, site: Site, first_row: usize, values: &mut Mat<R>) {
        self.tap.at(HookPoint::Layer(layer, site), first_row, values);
        self.record(|| Step::Tap(site));
    }
}
