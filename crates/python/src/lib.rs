//! The Python package's own part in Rust: `lorascope._native`. What users see is in `python/lorascope`; here is what needs the engine.
//!
//! Nothing is computed here. Names become models, studies become results by `lorascope-study`, as on the command line; runs with hooks
//! are runs of the engine; tables and figures are handed over as they are. Python is let go of while the engine works.

mod analyses;
mod arrays;
mod callback;
mod edits;
mod error;
mod explore;
mod figures;
mod gradients;
mod interrupt;
mod listener;
mod model;
mod results;
mod run;
mod scale;
mod shape;
mod sink;
mod tables;
mod training;

use pyo3::prelude::*;

#[pymodule]
mod _native {
    #[pymodule_export]
    use crate::analyses::{analyse, analyses, game_prompts, set_device, set_threads, study};
    #[pymodule_export]
    use crate::arrays::Buffer;
    #[pymodule_export]
    use crate::error::Error;
    #[pymodule_export]
    use crate::explore::{Explorer, explore};
    #[pymodule_export]
    use crate::figures::Figure;
    #[pymodule_export]
    use crate::model::Model;
    #[pymodule_export]
    use crate::results::Result;
    #[pymodule_export]
    use crate::scale::{Node, is_here, part_of};
    #[pymodule_export]
    use crate::tables::Table;
    #[pymodule_export]
    use crate::training::{train, training_settings};

    #[pymodule_export]
    #[allow(non_upper_case_globals, reason = "Python's own name for it")]
    const __version__: &str = env!("CARGO_PKG_VERSION");
}
