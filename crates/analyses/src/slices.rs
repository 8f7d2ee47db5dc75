//! Values of single prompts for a figure, so that the page can show one prompt and list those of a cell.

use crate::subject::Prompt;
use lorascope_report::{ByPrompt, Cell, Figure};

/// The figure with the value of every prompt in every cell, by the prompt's index; `None` where a prompt has no part in a
/// cell.
pub(crate) fn with_prompts(
    figure: Figure,
    prompts: &[Prompt],
    value: impl FnMut(usize, Cell) -> Option<f64>,
) -> Figure {
    let ids = prompts.iter().map(|prompt| prompt.id().to_owned()).collect();
    let by_prompt = Some(ByPrompt::new(&figure.kind, ids, value));
    Figure { by_prompt, ..figure }
}
