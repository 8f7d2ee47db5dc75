//! The model that lorascope brings along: a small Gemma-2 with four adapters, compiled in, so that there is something to study
//! without any download. `examples/organism` makes it from nothing; its model card is `files/README.md`.
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
    "README.md",
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

/// Where a name of the model (`organism`) or of one of its adapters (`organism:strategic`) lies below `folder`; `None` for
/// all other names.
pub fn path_of(name: &str, folder: &Path) -> Option<PathBuf> {
    let rest = name.strip_prefix(NAME)?;
    let part = match rest.strip_prefix(':') {
        None if rest.is_empty() => "base",
        Some(adapter) => ADAPTERS.into_iter().find(|a| *a == adapter)?,
        None => return None,
    };
    Some(folder.join(part))
}

/// Puts all files into a folder; those that are there already, byte for byte, stay as they are.
///
/// # Errors
/// A folder that can't be written to.
pub fn unpack(folder: &Path) -> io::Result<()> {
    for (path, bytes) in FILES {
        let path = folder.join(path);
        let same = std::fs::read(&path).is_ok_and(|there| there == *bytes);
        if !same {
            path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
            write_atomic(&path, bytes).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unpacking_repairs_what_is_broken() {
        let folder = tempfile::tempdir().unwrap();
        unpack(folder.path()).unwrap();
        let config = folder.path().join("base/config.json");
        std::fs::write(&config, b"{").unwrap();
        unpack(folder.path()).unwrap();
        for (path, bytes) in FILES {
            assert_eq!(std::fs::read(folder.path().join(path)).unwrap(), *bytes, "{path}");
        }
    }

    #[test]
    fn names_are_the_models_and_its_adapters() {
        let of = |name| path_of(name, Path::new("x"));
        assert_eq!(of("organism"), Some(PathBuf::from("x/base")));
        assert_eq!(of("organism:hybrid"), Some(PathBuf::from("x/hybrid")));
        for other in ["organisms", "organism:", "organism:base", "./organism", "org/organism"] {
            assert_eq!(of(other), None, "{other}");
        }
    }

    #[test]
    fn it_is_small() {
        let bytes: usize = FILES.iter().map(|(_, b)| b.len()).sum();
        assert!(bytes <= 6_000_000, "{bytes}");
    }
}
