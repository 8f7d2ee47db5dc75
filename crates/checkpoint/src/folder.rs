//! A Hugging Face model folder: `config.json` and one or many safetensors files. Not here: what the config means.

use crate::error::{Error, Result};
use crate::safetensors::{self, Entry};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What a folder holds, unsorted by meaning.
#[derive(Debug)]
pub(crate) struct Folder {
    pub(crate) config: Value,
    /// Checked entries of all weight files, with the file that each came from.
    pub(crate) entries: Vec<(PathBuf, Entry)>,
    /// Files that make up the checkpoint: the config and the weights.
    pub(crate) files: Vec<PathBuf>,
}

/// The file that says where a folder's weights are.
pub(crate) enum Weights {
    Single(PathBuf),
    Index(PathBuf),
    Gguf(PathBuf),
}

/// Looks for weights as `transformers` does (one file before an index), then for a GGUF file, then for pickles, which
/// are refused.
pub(crate) fn find_weights(folder: &Path) -> Result<Weights> {
    let single = folder.join("model.safetensors");
    if single.is_file() {
        return Ok(Weights::Single(single));
    }
    let index = folder.join("model.safetensors.index.json");
    if index.is_file() {
        return Ok(Weights::Index(index));
    }
    let files = list(folder)?;
    let mut gguf: Vec<_> = files.iter().filter(|file| has_ending(file, &["gguf"])).collect();
    match (gguf.pop(), gguf.len()) {
        (Some(file), 0) => Ok(Weights::Gguf(file.clone())),
        (Some(_), others) => Err(Error::SeveralGguf { path: folder.to_owned(), n_files: others + 1 }),
        (None, _) => match files.into_iter().find(|file| is_pickle(file)) {
            Some(path) => Err(Error::Pickle { path }),
            None => Err(Error::NoWeights { path: folder.to_owned() }),
        },
    }
}

/// Whether the name says that the file is a pickle of PyTorch.
pub(crate) fn is_pickle(path: &Path) -> bool {
    has_ending(path, &["bin", "pt", "pth", "ckpt", "pkl"])
}

fn has_ending(path: &Path, endings: &[&str]) -> bool {
    path.extension()
        .and_then(|e| e.to_str())
        .is_some_and(|e| endings.iter().any(|want| e.eq_ignore_ascii_case(want)))
}

fn list(folder: &Path) -> Result<Vec<PathBuf>> {
    let io = |source| Error::Io { path: folder.to_owned(), source };
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(io)? {
        files.push(entry.map_err(io)?.path());
    }
    files.sort();
    Ok(files)
}

/// Reads config and headers of the folder whose weights are `weights`.
pub(crate) fn read(folder: &Path, weights: Weights) -> Result<Folder> {
    let config_path = folder.join("config.json");
    if !config_path.is_file() {
        return Err(Error::ConfigMissing { path: folder.to_owned() });
    }
    let config = read_json(&config_path)?;
    if !config.is_object() {
        return Err(Error::Json { path: config_path, problem: "expected an object".into() });
    }
    let mut files = vec![config_path];
    let entries = match weights {
        Weights::Single(path) | Weights::Gguf(path) => {
            files.push(path.clone());
            safetensors::entries(&path)?.into_iter().map(|entry| (path.clone(), entry)).collect()
        }
        Weights::Index(index) => {
            files.push(index.clone());
            let shards = read_shards(folder, &index)?;
            files.extend(shards.keys().map(|shard| folder.join(shard)));
            let mut entries = Vec::new();
            for (shard, in_shard) in shards {
                let path = folder.join(shard);
                entries.extend(in_shard.into_iter().map(|entry| (path.clone(), entry)));
            }
            entries
        }
    };
    Ok(Folder { config, entries, files })
}

fn read_json(path: &Path) -> Result<Value> {
    let bytes = lorascope_bounded::read(path, lorascope_bounded::SETTINGS)
        .map_err(|source| Error::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|e| Error::Json { path: path.to_owned(), problem: e.to_string() })
}

/// The entries of every shard that the index names; every tensor that it lists must be where it says.
fn read_shards(folder: &Path, index: &Path) -> Result<BTreeMap<String, Vec<Entry>>> {
    let placed = weight_map(index)?;
    let names: BTreeSet<&String> = placed.values().collect();
    let mut shards = BTreeMap::new();
    for shard in names {
        let path = folder.join(shard);
        if !path.is_file() {
            return Err(Error::ShardMissing { path: index.to_owned(), shard: shard.clone() });
        }
        shards.insert(shard.clone(), safetensors::entries(&path)?);
    }
    let held: BTreeSet<(&str, &str)> =
        shards.iter().flat_map(|(shard, e)| e.iter().map(|e| (e.name.as_str(), shard.as_str()))).collect();
    for (tensor, shard) in &placed {
        if !held.contains(&(tensor.as_str(), shard.as_str())) {
            return Err(Error::NotInShard {
                path: index.to_owned(),
                tensor: tensor.clone(),
                shard: shard.clone(),
            });
        }
    }
    Ok(shards)
}

/// The index's map from tensor to shard. A shard must be a plain file name: an index must not reach out of its folder.
fn weight_map(index: &Path) -> Result<BTreeMap<String, String>> {
    let problem = |problem: String| Error::Json { path: index.to_owned(), problem };
    let json = read_json(index)?;
    let Some(map) = json.get("weight_map").and_then(Value::as_object) else {
        return Err(problem("expected an object `weight_map`".into()));
    };
    let mut placed = BTreeMap::new();
    for (tensor, shard) in map {
        let plain = shard.as_str().filter(|name| {
            let mut parts = Path::new(name).components();
            matches!((parts.next(), parts.next()), (Some(std::path::Component::Normal(_)), None))
        });
        let Some(shard) = plain else {
            return Err(problem(format!("tensor `{tensor}`: shard `{shard}` is not a plain file name")));
        };
        placed.insert(tensor.clone(), shard.to_owned());
    }
    Ok(placed)
}
