//! The analyses that a study may name: those of the library, and `play`, which alone knows games.

use lorascope_analyses::{ANALYSES, Analysis};
use lorascope_play::Play;

/// Matrix games, played.
pub const PLAY: &dyn Analysis = &Play;

/// All of them, in the order of a report.
pub fn analyses() -> impl Iterator<Item = &'static dyn Analysis> {
    ANALYSES.iter().copied().chain([PLAY])
}
