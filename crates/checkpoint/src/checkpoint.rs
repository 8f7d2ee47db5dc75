//! A model's files, opened: config and named tensors, whatever the format. Not here: the formats themselves.

use crate::bnb::{self, Assembled, FourBit, Nf4Rounding};
use crate::digest;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::folder::{self, Folder, Weights};
use crate::gguf;
use crate::tensor::{Store, StoredTensor};
use crate::view::View;
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

    fn from_folder(path: &Path, mut folder: Folder) -> Result<Self> {
        let gpt2 = is_gpt2(&folder.config);
        let mut tensors = BTreeMap::new();
        for Assembled { name, shape, weight } in bnb::assemble(path, &mut folder.entries)? {
            insert(&mut tensors, linear(weight, name, shape, gpt2), path)?;
        }
        for (file, entry) in folder.entries {
            if BUFFERS.iter().any(|ending| entry.name.ends_with(ending)) {
                continue;
            }
            let tensor = entry.into_tensor(&file)?;
            let tensor = if gpt2 { with_prefix(tensor) } else { tensor };
            insert(&mut tensors, tensor, path)?;
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

    /// Puts a tensor in the place of the one that has its name, for this checkpoint in memory only; files stay as they are.
    pub fn replace(&mut self, tensor: StoredTensor) {
        self.tensors.insert(tensor.name().to_owned(), tensor);
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

    /// Replaces every linear weight of the layers by what it becomes under bitsandbytes' NF4 (blocks of 64), so that the
    /// model equals its `load_in_4bit` version, and an adapter that was trained on that version finds its base. Embeddings,
    /// norms, biases and `lm_head` stay, and so do weights that are 4-bit already. The codes are kept in memory
    /// (about 0.53 bytes a number, 0.52 with double quantisation).
    ///
    /// # Errors
    /// [`Error::Bitsandbytes`] if a weight holds a NaN or an infinity; the checkpoint is unchanged then.
    pub fn round_through_nf4(&mut self, rounding: Nf4Rounding) -> Result<()> {
        let gpt2 = is_gpt2(&self.config);
        let four_bit = |tensor: &StoredTensor| matches!(tensor.dtype(), DType::Nf4 | DType::Fp4);
        let mut rounded = Vec::new();
        for tensor in self.tensors.values().filter(|tensor| is_linear_weight(tensor) && !four_bit(tensor)) {
            rounded.push(self.rounded(tensor, rounding, gpt2)?);
        }
        for tensor in rounded {
            self.tensors.insert(tensor.name().to_owned(), tensor);
        }
        Ok(())
    }

    fn rounded(&self, tensor: &StoredTensor, rounding: Nf4Rounding, gpt2: bool) -> Result<StoredTensor> {
        let plan = rounding.plan(tensor.dtype());
        let mut values = tensor.to_f32()?;
        tensor.release_pages();
        if let Some(at) = values.iter().position(|x| !plan.output.round(*x).is_finite()) {
            let problem = format!("its number {at} is {} and cannot be rounded to NF4", values[at]);
            return Err(Error::Bitsandbytes {
                path: self.path.clone(),
                tensor: tensor.name().to_owned(),
                problem,
            });
        }
        let mut shape = tensor.shape().to_vec();
        if gpt2 {
            let n_out = shape[1];
            values =
                (0..n_out).flat_map(|column| values.iter().skip(column).step_by(n_out)).copied().collect();
            shape.reverse();
        }
        Ok(linear(bnb::quantise(&values, plan), tensor.name().to_owned(), shape, gpt2))
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

fn is_gpt2(config: &Value) -> bool {
    config.get("model_type").and_then(Value::as_str) == Some("gpt2")
}

/// GPT-2 was published without the prefix that the model with a head writes; both mean the same tensors.
fn with_prefix(tensor: StoredTensor) -> StoredTensor {
    let name = tensor.name();
    if name.starts_with("transformer.") || name.starts_with("lm_head.") {
        return tensor;
    }
    let name = format!("transformer.{name}");
    tensor.renamed(name)
}

/// A 4-bit weight as a tensor. bitsandbytes keeps `[out, in]`, also where GPT-2's own layers have `[in, out]`.
fn linear(weight: FourBit, name: String, mut shape: Vec<usize>, gpt2: bool) -> StoredTensor {
    let store = Store::FourBit(weight);
    if gpt2 && shape.len() == 2 {
        shape.reverse();
        return with_prefix(StoredTensor::new(name, shape, store, View::Transposed));
    }
    StoredTensor::new(name, shape, store, View::AsStored)
}

/// Whether `load_in_4bit` quantises this tensor: matrices of linear layers, not embeddings, norms or `lm_head`.
fn is_linear_weight(tensor: &StoredTensor) -> bool {
    let name = tensor.name();
    let in_layer = name.starts_with("model.layers.") || name.starts_with("transformer.h.");
    in_layer && name.ends_with(".weight") && tensor.shape().len() == 2
}
