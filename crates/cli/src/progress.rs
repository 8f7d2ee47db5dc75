//! Progress bars with time left; nothing where output is not a terminal.

use indicatif::{ProgressBar, ProgressStyle};
use lorascope_analyses::Progress;
use lorascope_study::Listener;
use std::sync::Mutex;
use std::time::Duration;

/// Draws one bar at a time on standard error.
#[derive(Default)]
pub struct Bars {
    current: Mutex<Option<ProgressBar>>,
}

impl Bars {
    fn with(&self, f: impl FnOnce(&mut Option<ProgressBar>)) {
        // A poisoned lock only means that another thread panicked while drawing.
        f(&mut self.current.lock().unwrap_or_else(std::sync::PoisonError::into_inner));
    }
}

impl Bars {
    /// Says how the present step goes, at the end of its bar.
    pub fn tell(&self, text: String) {
        self.with(|current| {
            if let Some(bar) = current {
                bar.set_prefix(text);
            }
        });
    }
}

impl Progress for Bars {
    fn begin(&self, what: &str, total: u64) {
        let style = ProgressStyle::with_template(
            "{msg:28} {bar:40} {percent:>3}%  {elapsed} elapsed, {eta} left  {prefix}",
        );
        let bar = ProgressBar::new(total).with_message(what.to_owned());
        if let Ok(style) = style {
            bar.set_style(style);
        }
        bar.enable_steady_tick(Duration::from_millis(200));
        self.with(|current| *current = Some(bar));
    }
    fn at(&self, done: u64) {
        self.with(|current| {
            if let Some(bar) = current {
                bar.set_position(done);
            }
        });
    }
    fn end(&self) {
        self.with(|current| {
            if let Some(bar) = current.take() {
                bar.finish_and_clear();
            }
        });
    }
}

impl Listener for Bars {}
