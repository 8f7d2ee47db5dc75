//! The two files of an adapter folder, as PEFT's `save_pretrained` lays them out.

use crate::config::{LoraConfig, Patterns, Selector};
use safetensors::SafeTensorError;
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::HashMap;

/// One array of an adapter's file.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    /// Name of its tensor.
    pub name: &'a str,
    /// Rows: the rank for A, outputs for B.
    pub rows: usize,
    /// Columns: inputs for A, the rank for B.
    pub cols: usize,
    /// Row by row.
    pub values: &'a [f32],
}

/// The low-rank update of one module, to be written.
#[derive(Clone, Debug, PartialEq)]
pub struct NewUpdate {
    /// Path of the module in the base model.
    pub path: String,
    /// Rank.
    pub rank: usize,
    /// A, `[rank, in]`.
    pub a: Vec<f32>,
    /// B, `[out, rank]`.
    pub b: Vec<f32>,
    /// What multiplies B·A.
    pub scale: f64,
}

/// The files of an adapter folder.
#[derive(Clone, Debug, PartialEq)]
pub struct NewFolder {
    /// `adapter_config.json`.
    pub config: String,
    /// `adapter_model.safetensors`.
    pub weights: Vec<u8>,
}

/// Name of a factor's tensor in a PEFT file: `which` is `A` or `B`.
pub fn factor_name(path: &str, which: &str) -> String {
    format!("base_model.model.{path}.lora_{which}.weight")
}

/// `adapter_model.safetensors`, with the metadata that PEFT writes.
///
/// # Errors
/// Numbers that do not fill their shape, or a name twice.
pub fn weights_file(matrices: &[Matrix]) -> Result<Vec<u8>, SafeTensorError> {
    let bytes = |m: &Matrix| m.values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
    let bytes: Vec<Vec<u8>> = matrices.iter().map(bytes).collect();
    let views = matrices
        .iter()
        .zip(&bytes)
        .map(|(m, bytes)| Ok((m.name, TensorView::new(Dtype::F32, vec![m.rows, m.cols], bytes)?)))
        .collect::<Result<Vec<_>, SafeTensorError>>()?;
    serialize(views, Some(HashMap::from([("format".to_owned(), "pt".to_owned())])))
}

/// An adapter that has these updates and nothing else; what their ranks and scales have not in common goes to `rank_pattern` and
/// `alpha_pattern`. `like` lends the name of the base and the note on the weights' layout.
///
/// # Errors
/// As [`weights_file`].
pub fn folder(updates: &[NewUpdate], like: &LoraConfig) -> Result<NewFolder, SafeTensorError> {
    let alpha = |u: &NewUpdate| u.scale * u.rank as f64;
    let (r, lora_alpha) = updates.first().map_or((1, 1.0), |u| (u.rank, alpha(u)));
    let of = |path: &str| path.to_owned();
    let ranks = updates.iter().filter(|u| u.rank != r).map(|u| (of(&u.path), u.rank)).collect();
    let alphas = updates.iter().filter(|u| alpha(u) != lora_alpha).map(|u| (of(&u.path), alpha(u))).collect();
    let config = LoraConfig {
        task_type: Some("CAUSAL_LM".to_owned()),
        base_model_name_or_path: like.base_model_name_or_path.clone(),
        r,
        lora_alpha,
        target_modules: Some(Selector::Names(updates.iter().map(|u| of(&u.path)).collect())),
        rank_pattern: Patterns(ranks),
        alpha_pattern: Patterns(alphas),
        fan_in_fan_out: like.fan_in_fan_out,
        ..LoraConfig::default()
    };
    let mut names = Vec::new();
    for update in updates {
        names.push([factor_name(&update.path, "A"), factor_name(&update.path, "B")]);
    }
    let mut matrices = Vec::new();
    for (update, [a, b]) in updates.iter().zip(&names) {
        let (n_in, n_out) = (update.a.len() / update.rank, update.b.len() / update.rank);
        matrices.push(Matrix { name: a, rows: update.rank, cols: n_in, values: &update.a });
        matrices.push(Matrix { name: b, rows: n_out, cols: update.rank, values: &update.b });
    }
    let json = serde_json::to_value(&config).unwrap_or_default();
    Ok(NewFolder { config: format!("{json:#}\n"), weights: weights_file(&matrices)? })
}
