//! Who is told what goes on.

use lorascope_analyses::Progress;

/// Told how far a run is, and what a user should know of it; by default on the terminal.
pub trait Listener: Progress {
    /// Something about the way: which files are used, how long a step took.
    fn note(&self, text: &str) {
        eprintln!("{text}");
    }
    /// Something about the result: where it lies.
    fn say(&self, text: &str) {
        println!("{text}");
    }
}
