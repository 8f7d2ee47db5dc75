//! Models put together from blocks of adapters: how they decide, how much of a difference they bring back, and how they are written.

mod answers;
mod export;
mod recovery;
#[cfg(test)]
pub(crate) mod tests;

pub(crate) use answers::{Answer, Asked, answers};
#[cfg(test)]
use export::adapter;
pub(crate) use export::{place, write};
pub(crate) use recovery::{RECOVERY_HI, RECOVERY_LO, Recovery, Whole, interval, shown, text};

use crate::error::{Error, Result};
use crate::subject::Subject;
use lorascope_engine::Module;

/// Whether a module belongs to the MLP.
pub(crate) fn is_mlp(module: Module) -> bool {
    matches!(module, Module::Gate | Module::Up | Module::Down)
}

/// Whether everything that an adapter does is the sum of its blocks; the error is `analysis`'s, and says to leave it out with `setting`.
pub(crate) fn check_blocks(
    analysis: &'static str,
    setting: &str,
    subject: &Subject,
    model: usize,
) -> Result<()> {
    let adapter = &subject.model.adapters()[model - 1];
    let peft = &adapter.peft;
    let plain = |path: &String| {
        let update = &peft.low_rank[path];
        update.magnitude.is_none() && update.bias.is_none()
    };
    let what = if !peft.replaced_weights.is_empty() || !peft.replaced_biases.is_empty() {
        "replaces weights or biases as a whole"
    } else if !peft.embeddings.is_empty() {
        "changes the embedding"
    } else if !peft.low_rank.keys().all(plain) {
        "rescales weights (DoRA) or has biases of its own"
    } else if adapter.adapted().next().is_none() {
        "changes nothing"
    } else {
        return Ok(());
    };
    let why = format!(
        "adapter `{}` {what}; only low-rank updates of linear maps can be switched on and off block by block: leave it out \
         with {setting}",
        adapter.name
    );
    Err(Error::Settings { analysis, why })
}
