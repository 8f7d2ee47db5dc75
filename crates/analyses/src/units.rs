//! Units of work: what an analysis is divided into, and who carries them out.
//!
//! A unit leaves parts in the run folder ([`lorascope_record::RunFolder::save_part`]) and needs nothing but the models, the prompts and
//! parts that are there already. So it does not matter where it is carried out, or how often: the bytes are the same. Tables are made of
//! parts by whoever runs the analysis. How work gets to other machines is not known here.

use crate::context::Context;
use crate::error::{Error, Result};

/// A unit of work: names of the parts that it leaves.
pub type WorkUnit = Vec<String>;

/// Carries out the unit of this number. It keeps its parts in the context that it is given.
pub type Work<'w> = dyn FnMut(&Context, usize) -> Result<()> + 'w;

/// Who carries units out.
pub trait Hands: Sync {
    /// Sees to it that the parts of all units are in the run folder, in any order.
    ///
    /// # Errors
    /// What keeps a unit from being carried out; [`Error::Stopped`].
    fn carry_out(&self, context: &Context, units: &[WorkUnit], work: &mut Work) -> Result<()>;

    /// A part that is not in this run folder, from where else it may be.
    ///
    /// # Errors
    /// What keeps it from being fetched.
    fn fetch(&self, _name: &str) -> Result<Option<Vec<u8>>> {
        Ok(None)
    }

    /// Whether units go to several machines, so that what every unit needs is better made once for all.
    fn are_many(&self) -> bool {
        false
    }
}

/// This process does everything itself, unit after unit.
pub struct OwnHands;

impl Hands for OwnHands {
    fn carry_out(&self, context: &Context, units: &[WorkUnit], work: &mut Work) -> Result<()> {
        for i in missing(context, units)? {
            if context.progress.should_stop() {
                return Err(Error::Stopped);
            }
            alone(context, i, work)?;
        }
        Ok(())
    }
}

/// Carries out one unit here, with everything that it is made of.
///
/// # Errors
/// Of `work`.
pub fn alone(context: &Context, i: usize, work: &mut Work) -> Result<()> {
    let inside = Inside(context.hands);
    work(&Context { hands: &inside, ..*context }, i)
}

/// Within a unit everything is done here; finished parts may still lie elsewhere.
struct Inside<'h>(&'h dyn Hands);

impl Hands for Inside<'_> {
    fn carry_out(&self, context: &Context, units: &[WorkUnit], work: &mut Work) -> Result<()> {
        OwnHands.carry_out(context, units, work)
    }
    fn fetch(&self, name: &str) -> Result<Option<Vec<u8>>> {
        self.0.fetch(name)
    }
}

/// The units of which a part is missing in the run folder.
///
/// # Errors
/// A part that can't be read.
pub fn missing(context: &Context, units: &[WorkUnit]) -> Result<Vec<usize>> {
    let mut found = Vec::new();
    for (i, unit) in units.iter().enumerate() {
        for name in unit {
            if context.run.part(name)?.is_none() {
                found.push(i);
                break;
            }
        }
    }
    Ok(found)
}
