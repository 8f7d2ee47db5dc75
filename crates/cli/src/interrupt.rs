//! ctrl-C. Whoever has nothing to lose ends at once: what is finished is on disk already. A training has the steps since its last
//! checkpoint to lose, so while it takes steps it is asked to end, which it does within one.

use anyhow::{Context, Result};
use lorascope_engine::Stop;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

/// What a shell reports of a program that was interrupted.
pub const INTERRUPTED: u8 = 130;

const IDLE: u8 = 0;
const AT_WORK: u8 = 1;
const ASKED: u8 = 2;

/// Hears ctrl-C for the rest of the process. One number, so that no press falls between two.
#[derive(Clone)]
pub struct Interrupt(Arc<AtomicU8>);

impl Interrupt {
    /// From now on ctrl-C ends the process at once, but for what [`Interrupt::begin`] says.
    pub fn listen() -> Result<Self> {
        let interrupt = Self(Arc::new(AtomicU8::new(IDLE)));
        let heard = interrupt.clone();
        ctrlc::set_handler(move || {
            if !heard.press() {
                std::process::exit(INTERRUPTED.into());
            }
            eprintln!("\nstopping, with a checkpoint of the last whole step; once more to stop at once");
        })
        .context("listening for an interruption")?;
        Ok(interrupt)
    }

    /// Asks, where something is to be lost and nobody has asked before; whether it did.
    fn press(&self) -> bool {
        self.0.compare_exchange(AT_WORK, ASKED, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// There is something to lose: the first press asks, the second ends at once.
    pub fn begin(&self) {
        // Somebody who has asked already is not forgotten.
        let _ = self.0.compare_exchange(IDLE, AT_WORK, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Nothing is to be lost any more.
    pub fn end(&self) {
        let _ = self.0.compare_exchange(AT_WORK, IDLE, Ordering::SeqCst, Ordering::SeqCst);
    }

    /// Whether somebody has asked.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::SeqCst) == ASKED
    }

    /// The same asked by a model during its runs.
    pub fn of_runs(&self) -> Stop {
        let interrupt = self.clone();
        Stop(Arc::new(move || interrupt.is_asked()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_first_press_at_work_asks() {
        let interrupt = Interrupt(Arc::new(AtomicU8::new(IDLE)));
        assert!(!interrupt.press(), "nothing is to be lost yet");
        interrupt.begin();
        assert!(!interrupt.is_asked());
        interrupt.end();
        assert!(!interrupt.press(), "nothing is to be lost any more");
        interrupt.begin();
        assert!(interrupt.press() && interrupt.is_asked());
        // The end of the work, and that of the next, do not forget it.
        interrupt.end();
        interrupt.begin();
        assert!(interrupt.is_asked());
        assert!(!interrupt.press(), "the second press ends at once");
    }
}
