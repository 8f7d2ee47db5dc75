//! A model's files, opened: config and named tensors, whatever the format. Not here: the formats themselves.

use crate::digest;
use crate::error::{Error, Result};
use crate::folder::{self, Folder, Weights};
use crate::gguf;
use crate::tensor::StoredTensor;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Buffers that old checkpoints carry beside their weights (causal masks, position counters, rotary frequencies). Every
/// model computes them; as they may be of integer types, they are left out rather than refused.
const BUFFERS: [&str; 4] = [".attn.bias", ".attn.masked_bias", ".position_ids", ".rotary_emb.inv_freq"];

/// A model on disk: its Hugging Face config and its tensors under Hugging Face names.
#[derive(Debug)]
pub struct Checkpoint {
    path: PathBuf,
    config: Value,
    tensors: BTreeMap<String, StoredTensor>,
    files: Vec<PathBuf>,
    gguf: Option<gguf::Metadata>,
}

impl Checkpoint {
    /// Opens a folder (`config.json` with `model.safetensors` or `model.safetensors.index.json`, or exactly one
    /// `.gguf` file) or a `.gguf` file. Headers are read and checked; data stay on disk, mapped.
    ///
    /// # Errors
    /// Every variant of [`Error`] but [`Error::TensorMissing`] and [`Error::Rows`].
    pub fn open(path: &Path) -> Result<Checkpoint> {
        let kind = std::fs::metadata(path).map_err(|source| Error::Io { path: path.to_owned(), source })?;
        if kind.is_dir() {
            return match folder::find_weights(path)? {
                Weights::Gguf(file) => Self::open_gguf(&file),
                weights => Self::from_folder(path, folder::read(path, weights)?),
            };
        }
        if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")) {
            return Self::open_gguf(path);
        }
        if folder::is_pickle(path) {
            return Err(Error::Pickle { path: path.to_owned() });
        }
        Err(Error::NotACheckpoint { path: path.to_owned() })
    }

    fn from_folder(path: &Path, folder: Folder) -> Result<Self> {
        let gpt2 = folder.config.get("model_type").and_then(Value::as_str) == Some("gpt2");
        let mut tensors = BTreeMap::new();
        for (file, entry) in folder.entries {
            if BUFFERS.iter().any(|ending| entry.name.ends_with(ending)) {
                continue;
            }
            let tensor = entry.into_tensor(&file)?;
            let name = if gpt2 { gpt2_name(tensor.name()) } else { tensor.name().to_owned() };
            insert(&mut tensors, tensor.renamed(name), path)?;
        }
        Ok(Self { path: path.to_owned(), config: folder.config, tensors, files: folder.files, gguf: None })
    }

    fn open_gguf(path: &Path) -> Result<Self> {
        let model = gguf::open(path)?;
        let mut tensors = BTreeMap::new();
        for tensor in model.tensors {
            insert(&mut tensors, tensor, path)?;
        }
        let files = vec![path.to_owned()];
        Ok(Self { path: path.to_owned(), config: model.config, tensors, files, gguf: Some(model.metadata) })
    }

    /// The model's config in the spelling of Hugging Face's `config.json`; for GGUF translated from the metadata.
    pub fn config(&self) -> &Value {
        &self.config
    }

    /// The tensor of this Hugging Face name.
    ///
    /// # Errors
    /// [`Error::TensorMissing`].
    pub fn tensor(&self, name: &str) -> Result<&StoredTensor> {
        self.find(name)
            .ok_or_else(|| Error::TensorMissing { name: name.into(), path: self.path.display().to_string() })
    }

    /// The tensor of this Hugging Face name, if there is one.
    pub fn find(&self, name: &str) -> Option<&StoredTensor> {
        self.tensors.get(name)
    }

    /// Names of all tensors, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// The folder or file that was opened (for a folder with a GGUF file: that file).
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The files that make up the checkpoint.
    pub fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// SHA-256 of the checkpoint's contents, in hexadecimal: of a single file its own (as `sha256sum` and the hub give
    /// it); of a folder that of the text `sha256sum config.json model...safetensors` prints, files by name, paths
    /// relative to the folder. Reads everything: seconds per few GB.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sha256(&self) -> Result<String> {
        self.sha256_with_progress(|_, _| {})
    }

    /// As [`Checkpoint::sha256`]; `progress` hears bytes done and bytes in all.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn sha256_with_progress(&self, mut progress: impl FnMut(u64, u64)) -> Result<String> {
        let mut total = 0;
        for file in &self.files {
            let size = std::fs::metadata(file).map_err(|source| Error::Io { path: file.clone(), source })?;
            total += size.len();
        }
        let mut done = 0;
        let mut lines = String::new();
        let mut files: Vec<_> = self.files.iter().collect();
        files.sort();
        for file in &files {
            let digest = digest::of_file(file, |n| {
                done += n as u64;
                progress(done, total);
            })?;
            if files.len() == 1 {
                return Ok(digest);
            }
            let name = file.file_name().unwrap_or_default().to_string_lossy();
            lines.push_str(&format!("{digest}  {name}\n"));
        }
        Ok(digest::of_text(&lines))
    }

    /// The metadata of a GGUF file; `None` for a safetensors folder.
    pub fn gguf(&self) -> Option<&gguf::Metadata> {
        self.gguf.as_ref()
    }
}

fn insert(tensors: &mut BTreeMap<String, StoredTensor>, tensor: StoredTensor, path: &Path) -> Result<()> {
    match tensors.insert(tensor.name().to_owned(), tensor) {
        None => Ok(()),
        Some(twice) => Err(Error::DuplicateTensor { path: path.to_owned(), tensor: twice.name().to_owned() }),
    }
}

/// GPT-2 was published without the prefix that the model with a head writes; both mean the same tensors.
fn gpt2_name(name: &str) -> String {
    if name.starts_with("transformer.") || name.starts_with("lm_head.") {
        name.to_owned()
    } else {
        format!("transformer.{name}")
    }
}
