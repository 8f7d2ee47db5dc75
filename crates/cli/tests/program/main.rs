//! Tests that run the program. They are one program themselves: the engine is generic over its number type, and each that uses it
//! compiles it anew.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod attention;
mod attribution;
mod bad_input;
mod circuits;
mod conclusions;
mod confirm;
mod devices;
mod dla;
mod explore;
mod faults;
mod interactions;
mod organism;
mod patching;
mod patching_identities;
mod paths;
mod play;
mod probes;
mod report;
mod resume;
mod runs;
mod smollm2;
mod steering;
mod support;
mod suppression;
mod surgery;
mod token_by_token;
mod train;
mod trajectory;
mod transplants;
mod tuned_lens;
mod validate;
mod weights;
