//! The model that the program brings along, as a folder that models are loaded from.

use anyhow::{Context, Result, bail};
use lorascope_organism::{ADAPTERS, NAME, part_of, unpack};
use std::path::PathBuf;

/// The folder of `organism`, or of one of its adapters; `None` where something else is named.
pub fn locate(name: &str) -> Result<Option<PathBuf>> {
    if name.split(':').next() != Some(NAME) {
        return Ok(None);
    }
    let Some(part) = part_of(name) else {
        let adapters: Vec<String> = ADAPTERS.iter().map(|a| format!("{NAME}:{a}")).collect();
        bail!("`{name}` does not exist; the model {NAME} has the adapters {}", adapters.join(", "));
    };
    let folder = cache()?.join(format!("{NAME}-{}", env!("CARGO_PKG_VERSION")));
    let told = || {
        let folder = folder.display();
        format!("unpacking the embedded model into {folder}; LORASCOPE_CACHE names another folder")
    };
    Ok(Some(unpack(part, &folder).with_context(told)?))
}

/// `$LORASCOPE_CACHE`, else `lorascope` in the user's cache folder.
fn cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    set("LORASCOPE_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|c| c.join("lorascope")))
        .or_else(|| set("HOME").or_else(|| set("USERPROFILE")).map(|h| h.join(".cache").join("lorascope")))
        .context(
            "there is no home folder to unpack the embedded model into; name a folder in LORASCOPE_CACHE",
        )
}
