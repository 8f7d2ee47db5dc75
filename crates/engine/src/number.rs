//! The engine's parts that take most of its code, compiled once for each type of numbers.
//!
//! A crate that calls a generic function compiles it for itself. What stands here is compiled in this crate instead, and callers
//! are linked to it: that saves each of the programs and tests that run a model most of the time that it takes to build.
#![allow(private_interfaces, reason = "nobody outside can call or implement what takes them")]

use crate::batch::Batch;
use crate::error::Result;
use crate::forward::{self, Memory, Progress, Run};
use crate::mat::Mat;
use crate::mixture::Mixture;
use crate::model::Model;
use crate::request::Hooks;
use crate::reverse::{self, Gradients, Recorded, TakeBlock, Wanted};
use crate::spec::ModelSpec;
use crate::unembed::{self, NextToken, States};
use crate::visit::Visit;
use crate::weights::{self, LayerWeights, WeightStore};
use lorascope_checkpoint::StoredTensor;
use lorascope_kernels::{Packed, Real};
use std::ops::Range;

/// Numbers that a [`Model`] computes in: f32 for work, f64 for checks.
pub trait Number: Real + Compiled {}

/// A trait with a method for each function, which calls it, and its implementations.
macro_rules! compiled {
    (for $numbers:tt; $($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),* $(,)?) -> $ret:ty = $function:path;)*) => {
        /// Each method is the function of its name.
        pub trait Compiled: Real {
            $($(#[$meta])* fn $name($($arg: $ty),*) -> $ret;)*
        }
        compiled! { impl $numbers $($(#[$meta])* fn $name($($arg: $ty),*) -> $ret = $function;)* }
    };
    (impl ($number:ty $(, $more:ty)*) $($rest:tt)*) => {
        compiled! { one $number; $($rest)* }
        compiled! { impl ($($more),*) $($rest)* }
    };
    (impl () $($rest:tt)*) => {};
    (one $number:ty; $($(#[$meta:meta])* fn $name:ident($($arg:ident: $ty:ty),*) -> $ret:ty = $function:path;)*) => {
        impl Number for $number {}
        impl Compiled for $number {
            $($(#[$meta])* fn $name($($arg: $ty),*) -> $ret {
                $function($($arg),*)
            })*
        }
    };
}

compiled! {
    for (f32, f64);
    fn run_mixtures(
        model: &Model<Self>,
        batch: &Batch,
        hooks: &Hooks<Self>,
        readout: &[usize],
        progress: Progress,
        memory: Memory<Self>,
        mixtures: &[Mixture],
    ) -> Result<Run<Self>> = forward::run_mixtures;
    fn run_visited(
        model: &Model<Self>,
        batch: &Batch,
        hooks: &Hooks<Self>,
        visits: &[Visit<Self>],
        readout: &[usize],
        progress: Progress,
    ) -> Result<Run<Self>> = forward::run_visited;
    fn go_back(
        model: &Model<Self>,
        batch: &Batch,
        hooks: &Hooks<Self>,
        readout: &[usize],
        wanted: &Wanted,
        recorded: Recorded<Self>,
        gradient: &Mat<Self>,
    ) -> Result<Gradients<Self>> = reverse::go_back;
    fn next_tokens(model: &Model<Self>, states: &States<Self>) -> Result<Vec<NextToken>> = unembed::next_tokens;
    fn logit_gradients(
        model: &Model<Self>,
        states: &States<Self>,
        normalizers: &[f64],
        weights: &[Vec<f64>],
        take: TakeBlock<Self>,
    ) -> Result<()> = reverse::logit_gradients;
    fn make_layer(
        store: &WeightStore<Self>,
        spec: &ModelSpec,
        layer: usize,
        spent: Option<LayerWeights<Self>>,
    ) -> Result<LayerWeights<Self>> = WeightStore::make_layer;
    fn pack(
        stored: &StoredTensor,
        transposed: bool,
        outputs: Range<usize>,
        n_in: usize,
        spent: Option<Packed<Self>>,
    ) -> Result<Packed<Self>> = weights::pack;
}
