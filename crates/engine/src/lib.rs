//! A language model with hooks: one forward pass for every family, any mixture of adapters, any intervention.
//!
//! The way data takes: a [`lorascope_checkpoint::Checkpoint`] and adapter folders become a [`Model`]. Token sequences of
//! any of its models become a [`Batch`] of rows that share what they have in common. [`Model::run`] carries all rows
//! through the layers, reading and replacing what [`Hooks`] ask for, and gives back a [`Run`]. Normalised final states
//! become statements about the next token with [`Model::next_tokens`].
//!
//! This crate knows no prompts, games, answers, tables or files other than weights.

mod adapter;
mod batch;
mod branch;
mod check;
mod dense;
mod embed;
mod error;
mod families;
mod forward;
mod hook;
mod joined;
mod mat;
mod memo;
mod mixture;
mod model;
mod module;
mod number;
mod passing;
mod pullback;
mod request;
mod reverse;
mod rotary;
mod spec;
mod standing;
mod tap;
mod unembed;
mod visit;
mod weights;

pub use adapter::{Adapter, Control, Update};
pub use batch::{Batch, ModelId, Row, Segment};
pub use branch::{Birth, Branch, Stage};
pub use check::{Check, check};
pub use error::{Error, Result};
pub use families::{FAMILIES, Family, read_spec};
pub use forward::{Kept, Progress, Run};
pub use hook::{HookPoint, Site, Width};
pub use lorascope_peft::ControlKind;
pub use mat::Mat;
pub use mixture::{Mixture, MixtureRuns, Part};
pub use model::{BASE, DEFAULT_MEMORY, Model, Stop};
pub use module::Module;
pub use number::Number;
pub use pullback::{EmbeddingShares, PulledBack, ThroughNorm};
pub use request::{Capture, Edit, EditOp, Hooks, Shift};
pub use reverse::{Gradients, Parameter, Rules, SoftmaxRule, Wanted};
pub use rotary::RotaryTable;
pub use spec::{Activation, Biases, LayerSpec, Mlp, ModelSpec, NormKind, Positions, Rotary, RotaryScaling};
pub use standing::{Standing, StandingEdit, StandingOp, StandingRows};
pub use unembed::{NextToken, States};
pub use visit::{Visit, Visitor};
