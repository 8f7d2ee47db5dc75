//! Numbers after the engine: statistics over prompts, linear models of activations, decompositions of low-rank updates.
//!
//! Nothing here knows of prompts, analyses or tables. These are the loops of analyses that take long; in a crate by themselves they are
//! optimised in every build, and the analyses, which are many and mostly put tables together, need not be.

pub mod bootstrap;
pub mod intruders;
pub mod linear;
pub mod low_rank;
pub mod statistics;
