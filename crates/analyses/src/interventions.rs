//! Patched runs of models on prompts, and what they do to the decision: what patching, path patching and circuits share.
//!
//! A *patched run* ([`PatchedRun`]) is a model, a prompt and the changes made in it. [`Sweep`] carries any number of them out
//! together, as branches of the unpatched runs, in chunks that fit a budget of memory, and measures delta at each. Which
//! changes there are and what they mean is the business of the analyses.

mod average;
mod blocks;
mod directions;
mod edges;
mod estimate;
mod given;
mod ground;
mod integrated;
mod joint;
mod measure;
mod pairs;
mod patterns;
mod places;
mod plan;
mod room;
mod shared;
mod sweep;

pub(crate) use average::{Effect, average, effects_of, shown, with_averages};
pub(crate) use blocks::by_blocks;
pub(crate) use directions::{DirectionBook, check_component};
pub(crate) use edges::{Receiver, edge, is_sender};
pub(crate) use estimate::Estimator;
pub(crate) use joint::{change_at_decision, components, joint_run};
pub(crate) use pairs::{at_least_one, distinct, model_of, model_pairs, models_of, pairs_by_name};
pub(crate) use places::{PlaceKind, Unit, parse_site, units_of};
pub(crate) use sweep::{Change, PatchedRun, Replacement, Source, Sweep};
