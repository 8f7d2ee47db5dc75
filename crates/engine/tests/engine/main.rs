//! Tests of the engine through its public face. One program: the engine is generic over its number type, and every program that uses
//! it compiles it anew.

#![allow(clippy::unwrap_used)] // helpers of tests are tests too

mod batches;
mod branches;
mod captures;
mod determinism;
mod edits;
mod gradients;
mod hooks_page;
mod joined;
mod loading;
mod memory;
mod mixtures;
mod next_token;
mod non_finite;
mod parity;
mod patching;
mod pullback;
mod refused_hooks;
mod refused_runs;
mod standing;
mod support;
mod visits;
