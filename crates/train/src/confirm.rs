//! Does training what surgery found suffice? A prediction, written down first, and the trainings that test it.
//!
//! Surgery takes a finished adapter apart and names the smallest set of its blocks that carries what it does. That a set *carries*
//! the behaviour does not mean that it can *learn* it alone. So the set is trained by itself with the recipe of the whole, beside the
//! whole, the whole with another seed (how far two trainings of the same thing agree), and random sets with as many parameters in as
//! many layers. All are held against the full training on prompts on which neither the set was chosen nor anything was trained:
//! with `d = delta_full − delta_base`, a training recovers `Σ (delta − delta_base)·sign(d) / Σ |d|`, as in surgery.
//!
//! The way data takes: [`SurgeryRun`] reads a finished run; [`Prediction`] is what follows from it; [`Plan`] adds the recipe and the
//! random sets, and is part of the run's identity before anything is trained, so that a run that is resumed can't have another;
//! [`measure`] scores the trained adapters; [`findings`] compares them and says whether the prediction came true.

mod compare;
mod curves;
mod figures;
mod measure;
mod plan;
mod prediction;
mod sets;
mod tables;
mod text;
mod verdict;
mod words;

pub use compare::findings;
pub use curves::Curve;
pub use measure::{HeldOut, Measured, measure};
pub use plan::{Arm, Plan};
pub use prediction::{Prediction, SurgeryRun};
pub use tables::TABLES as CONFIRM_TABLES;
pub use verdict::Verdict;
