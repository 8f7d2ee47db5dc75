//! GGUF files (versions 2 and 3, little-endian): metadata, and tensors under Hugging Face names with llama.cpp's
//! conversions undone. Not here: tokenizers built from the metadata (crate `text`).

mod config;
mod cursor;
mod header;
mod metadata;
mod names;
mod problem;
mod rope;

pub use metadata::{Metadata, MetadataValue};
pub use problem::GgufProblem;

use crate::bytes::Bytes;
use crate::error::{Error, Result};
use crate::tensor::{Store, StoredTensor};
use header::TensorInfo;
use names::{Arch, Target};
use serde_json::Value;
use std::path::Path;

/// A GGUF file, translated.
#[derive(Debug)]
pub(crate) struct Model {
    pub(crate) metadata: Metadata,
    pub(crate) config: Value,
    pub(crate) tensors: Vec<StoredTensor>,
}

/// Maps, checks and translates the file at `path`.
pub(crate) fn open(path: &Path) -> Result<Model> {
    let bytes = Bytes::map(path)?;
    translate(&bytes).map_err(|problem| Error::Gguf { path: path.to_owned(), problem })
}

fn translate(file: &Bytes) -> Result<Model, GgufProblem> {
    let (metadata, infos) = header::parse(file.as_slice())?;
    if let Some(n_parts) = metadata.get_u64("split.count").filter(|n| *n > 1) {
        return Err(GgufProblem::Split { n_parts });
    }
    let arch = Arch::of(&metadata)?;
    let mut tensors = Vec::with_capacity(infos.len());
    let mut rope_factors = None;
    for info in infos {
        let wrong_shape = || GgufProblem::Conversion { tensor: info.name.clone(), shape: info.shape.clone() };
        let store = store(file, &info)?;
        match arch.target(&info.name) {
            Target::Tensor { name, conversion } => {
                let view = conversion.view(&metadata, arch, &info.shape)?.ok_or_else(wrong_shape)?;
                let shape = conversion.shape(&info.shape);
                tensors.push(StoredTensor::new(name, shape, store, view));
            }
            Target::RopeFactors => {
                let mut factors = vec![0.0; info.shape.iter().product()];
                store.widen_from(0, &mut factors);
                rope_factors = Some(factors);
            }
            Target::Unknown => {
                return Err(GgufProblem::UnknownTensor { tensor: info.name, arch: arch.key().into() });
            }
        }
    }
    drop_tied_copy(arch, &mut tensors);
    let config = config::translate(arch, &metadata, &tensors, rope_factors.as_deref())?;
    Ok(Model { metadata, config, tensors })
}

fn store(file: &Bytes, info: &TensorInfo) -> Result<Store, GgufProblem> {
    let bytes = file.slice(info.range.clone()).ok_or_else(|| GgufProblem::OutOfRange {
        tensor: info.name.clone(),
        begin: info.range.start as u64,
        end: info.range.end as u64,
        n_bytes: file.len(),
    })?;
    Ok(Store::Blocked(info.blocked, bytes))
}

/// llama.cpp's converter used to write GPT-2's tied output matrix twice; the second copy, if it is one to the bit, is no
/// tensor of its own.
fn drop_tied_copy(arch: Arch, tensors: &mut Vec<StoredTensor>) {
    let find = |name: &str| tensors.iter().position(|tensor| tensor.name() == name);
    if arch == Arch::Gpt2
        && let (Some(embedding), Some(output)) = (find("transformer.wte.weight"), find("lm_head.weight"))
        && tensors[embedding].same_bytes(&tensors[output])
    {
        tensors.remove(output);
    }
}
