//! Vectors as safetensors in the run folder, named by hook point, so that others can load them.

use super::settings::Settings;
use super::vectors::{Made, Recipe};
use crate::error::Result;
use lorascope_engine::HookPoint;
use lorascope_record::RunFolder;
use serde_json::json;

/// Name of a vector's tensor: the hook point at which it is made and added.
pub(super) fn tensor(made: &Made) -> String {
    HookPoint::Layer(made.place.layer, made.place.site).to_string()
}

/// The file of a recipe, by its number among all; names that are not plain stay out of file names.
pub(super) fn place(name: &str, recipe: &Recipe, number: usize) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let part = |text: &str| -> Option<String> {
        (!text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
    };
    let name = part(name).zip(part(&recipe.contrast)).map(|(name, contrast)| format!("{name}.{contrast}"));
    format!("vectors/{}.safetensors", name.unwrap_or_else(|| format!("vector{number}")))
}

/// Writes the vectors of a recipe, made from all prompts: one tensor `[d_model]` for each place.
pub(super) fn write(
    run: &RunFolder,
    file: &str,
    name: &str,
    settings: &Settings,
    (recipe, made): (&Recipe, &[&Made]),
) -> Result<()> {
    let metadata = json!({
        "format": "pt",
        "source": name,
        "contrast": recipe.contrast,
        "minus": recipe.minus,
        "plus": recipe.plus,
        "made_at": "decision point",
        "added_at": settings.position.name(),
        "n_prompts": recipe.prompts.len().to_string(),
    });
    let array = |made: &&Made| (tensor(made), vec![made.whole.len()], made.whole.clone());
    Ok(run.write_bytes(file, &crate::tensors::safetensors(&metadata, made.iter().map(array).collect()))?)
}
