//! The model that lorascope brings along: a small Gemma-2 with four adapters, compiled in, so that there is something to study
//! without any download. `examples/organism` makes it from nothing; its model card is `files/base/README.md`.
//!
//! Loading is the business of those who load models: here its files are only put into a folder.

use lorascope_record::write_atomic;
use std::io;
use std::path::{Path, PathBuf};

/// The word that stands for it where a model is named.
pub const NAME: &str = "organism";

/// Its adapters, by the reward with which each was trained.
pub const ADAPTERS: [&str; 4] = ["strategic", "deontological", "utilitarian", "hybrid"];

macro_rules! files {
    ($($path:literal),+ $(,)?) => { &[$(($path, include_bytes!(concat!("../files/", $path)))),+] };
}

/// All files, by their path.
pub static FILES: &[(&str, &[u8])] = files![
    "base/README.md",
    "base/config.json",
    "base/model.safetensors",
    "base/tokenizer.json",
    "base/tokenizer_config.json",
    "strategic/adapter_config.json",
    "strategic/adapter_model.safetensors",
    "deontological/adapter_config.json",
    "deontological/adapter_model.safetensors",
    "utilitarian/adapter_config.json",
    "utilitarian/adapter_model.safetensors",
    "hybrid/adapter_config.json",
    "hybrid/adapter_model.safetensors",
];

/// The part that a name stands for, a folder of [`FILES`]: `base` for `organism`, an adapter's for `organism:strategic`; `None` for
/// all other names.
pub fn part_of(name: &str) -> Option<&'static str> {
    let rest = name.strip_prefix(NAME)?;
    match rest.strip_prefix(':') {
        None => rest.is_empty().then_some("base"),
        Some(adapter) => ADAPTERS.into_iter().find(|a| *a == adapter),
    }
}

/// Puts the files of a part into its folder below `folder`, which is returned; those that are there already, byte for byte, stay as they
/// are.
///
/// # Errors
/// A folder that can't be written to.
pub fn unpack(part: &str, folder: &Path) -> io::Result<PathBuf> {
    let target = folder.join(part);
    std::fs::create_dir_all(&target)?;
    for (path, bytes) in FILES.iter().filter(|(path, _)| path.starts_with(&format!("{part}/"))) {
        let path = folder.join(path);
        let same = std::fs::read(&path).is_ok_and(|there| there == *bytes);
        if !same {
            write_atomic(&path, bytes).map_err(io::Error::other)?;
        }
    }
    Ok(target)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_repairs_what_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        let all = || {
            ["base"].into_iter().chain(ADAPTERS).for_each(|part| {
                assert_eq!(unpack(part, folder.path()).unwrap(), folder.path().join(part));
            })
        };
        all();
        let config = folder.path().join("base/config.json");
        std::fs::write(&config, b"{").unwrap();
        all();
        for (path, bytes) in FILES {
            assert_eq!(std::fs::read(folder.path().join(path)).unwrap(), *bytes, "{path}");
        }
    }

    #[test]
    fn names_are_the_models_and_its_adapters() {
        assert_eq!(part_of("organism"), Some("base"));
        assert_eq!(part_of("organism:hybrid"), Some("hybrid"));
        for other in ["organisms", "organism:", "organism:base", "./organism", "org/organism"] {
            assert_eq!(part_of(other), None, "{other}");
        }
    }

    #[test]
    fn it_is_small() {
        let bytes: usize = FILES.iter().map(|(_, b)| b.len()).sum();
        assert!(bytes <= 6_000_000, "{bytes}");
    }
}
