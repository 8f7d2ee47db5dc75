//! Which files of a repository lorascope needs, and whether a folder has them.

use crate::error::{Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What a repository is wanted for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RepoKind {
    /// A model: configuration, weights (safetensors, or one GGUF file), tokenizer, chat template.
    Model,
    /// A PEFT adapter: configuration and weights.
    Adapter,
}

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";
const ADAPTER: [&str; 2] = ["adapter_config.json", "adapter_model.safetensors"];

/// Small files beside a model's weights; each is taken where it exists.
const BESIDE: [&str; 11] = [
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "vocab.txt",
    "chat_template.jinja",
    "chat_template.json",
];

/// What to download. Small files come first, so that a snapshot that has its weights has everything.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Needed {
    /// Files in the order of downloading.
    pub files: Vec<String>,
    /// Whether the shards are yet to be read from [`INDEX`], which is among `files`.
    pub has_index: bool,
}

/// Chooses among the files that a repository lists. `gguf` names a GGUF file to take in place of everything else.
pub(crate) fn choose(kind: RepoKind, listed: &[String], gguf: Option<&str>, repo: &str) -> Result<Needed> {
    let has = |name: &str| listed.iter().any(|file| file == name);
    let unusable = |why: String| Err(Error::Unusable { repo: repo.to_owned(), why });
    if kind == RepoKind::Adapter {
        return match ADAPTER.iter().find(|name| !has(name)) {
            None => Ok(Needed { files: ADAPTER.map(str::to_owned).to_vec(), has_index: false }),
            Some(missing) if has("adapter_model.bin") && *missing == ADAPTER[1] => unusable(
                "its weights are only in `adapter_model.bin`, a pickle, which can run code when read; save it again \
                 with `safe_serialization=True`"
                    .into(),
            ),
            Some(missing) => unusable(format!("it has no `{missing}`, so it is not a PEFT adapter")),
        };
    }
    if let Some(name) = gguf {
        return match has(name) {
            true => Ok(Needed { files: vec![name.to_owned()], has_index: false }),
            false => unusable(format!(
                "it has no file `{name}`; its GGUF files are: {}",
                list(&gguf_files(listed))
            )),
        };
    }
    let beside = |last: &str| {
        let small = std::iter::once(CONFIG).chain(BESIDE).filter(|name| has(name));
        small.chain(std::iter::once(last)).map(str::to_owned).collect()
    };
    if has(CONFIG) && has(WEIGHTS) {
        return Ok(Needed { files: beside(WEIGHTS), has_index: false });
    }
    if has(CONFIG) && has(INDEX) {
        return Ok(Needed { files: beside(INDEX), has_index: true });
    }
    match gguf_files(listed)[..] {
        [] if has(ADAPTER[0]) => unusable("it is a PEFT adapter, not a model; give it with `--adapter`".into()),
        [] if listed.iter().any(|f| f.ends_with(".bin") || f.ends_with(".pth")) => unusable(
            "its weights are only in pickles, which can run code when read; lorascope reads safetensors and GGUF".into(),
        ),
        [] => unusable(format!("it has neither `{CONFIG}` with `{WEIGHTS}` or `{INDEX}`, nor a GGUF file")),
        [one] => Ok(Needed { files: vec![one.to_owned()], has_index: false }),
        ref several => unusable(format!("it has several GGUF files, name one: {}", list(several))),
    }
}

fn gguf_files(listed: &[String]) -> Vec<&str> {
    listed.iter().map(String::as_str).filter(|file| file.ends_with(".gguf")).collect()
}

fn list(names: &[&str]) -> String {
    if names.is_empty() {
        "none".into()
    } else {
        names.iter().map(|n| format!("`{n}`")).collect::<Vec<_>>().join(", ")
    }
}

/// The shards that the weights index in `snapshot` names, each once. Names with folders in them are refused.
pub(crate) fn shards(snapshot: &Path) -> Result<Vec<String>> {
    #[derive(Deserialize)]
    struct Index {
        weight_map: BTreeMap<String, String>,
    }
    let path = snapshot.join(INDEX);
    let unusable = |why: String| Error::Unusable { repo: path.display().to_string(), why };
    let text = std::fs::read_to_string(&path).map_err(crate::error::io(&path))?;
    let index: Index = serde_json::from_str(&text).map_err(|e| unusable(e.to_string()))?;
    let mut names: Vec<String> = index.weight_map.into_values().collect();
    names.sort();
    names.dedup();
    match names.iter().find(|name| !is_safe(name) || name.contains(['/', ':'])) {
        Some(name) => Err(unusable(format!("it names the shard `{name}`, which is not a plain file name"))),
        None => Ok(names),
    }
}

/// Whether a listed name stays inside the snapshot on every system.
pub(crate) fn is_safe(name: &str) -> bool {
    let plain = |part: &str| !part.is_empty() && part != "." && part != "..";
    name.split('/').all(plain) && !name.contains(['\\', '\0'])
}

/// What `snapshot` lacks to be used; `None` if it is complete.
pub(crate) fn missing(kind: RepoKind, snapshot: &Path, gguf: Option<&str>) -> Option<String> {
    let lacks = |name: &str| !snapshot.join(name).exists();
    let no = |name: &str| Some(format!("no `{name}`"));
    if !snapshot.is_dir() {
        return Some("no snapshot of that revision".into());
    }
    if kind == RepoKind::Adapter {
        return ADAPTER.iter().find(|name| lacks(name)).and_then(|name| no(name));
    }
    if let Some(name) = gguf {
        return if lacks(name) { no(name) } else { None };
    }
    let has_config = !lacks(CONFIG);
    if has_config && !lacks(WEIGHTS) {
        return None;
    }
    if has_config && !lacks(INDEX) {
        return match shards(snapshot) {
            Ok(shards) => shards.iter().find(|name| lacks(name)).and_then(|name| no(name)),
            Err(e) => Some(e.to_string()),
        };
    }
    if has_gguf(snapshot) { None } else { no(if has_config { WEIGHTS } else { CONFIG }) }
}

fn has_gguf(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    entries
        .flatten()
        .filter(|e| e.path().extension().is_some_and(|ext| ext == "gguf") && e.path().exists())
        .count()
        == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(kind: RepoKind, listed: &[&str]) -> Result<Vec<String>, String> {
        let listed: Vec<String> = listed.iter().map(|s| (*s).to_owned()).collect();
        choose(kind, &listed, None, "a/b").map(|n| n.files).map_err(|e| e.to_string())
    }

    #[test]
    fn weights_come_last_and_nothing_else_is_taken() {
        let files = [
            "README.md",
            "model.safetensors",
            "tokenizer.json",
            "config.json",
            "pytorch_model.bin",
            "x.gguf",
        ];
        assert_eq!(
            chosen(RepoKind::Model, &files).unwrap(),
            ["config.json", "tokenizer.json", "model.safetensors"]
        );
        let files = ["adapter_model.safetensors", "adapter_config.json", "tokenizer.json", "optimizer.pt"];
        assert_eq!(
            chosen(RepoKind::Adapter, &files).unwrap(),
            ["adapter_config.json", "adapter_model.safetensors"]
        );
        assert_eq!(chosen(RepoKind::Model, &["a.gguf", "README.md"]).unwrap(), ["a.gguf"]);
    }

    #[test]
    fn repositories_that_cannot_be_used_say_why() {
        for (kind, files, why) in [
            (RepoKind::Model, &["config.json", "pytorch_model.bin"][..], "pickles"),
            (RepoKind::Model, &["adapter_config.json"], "PEFT adapter, not a model"),
            (RepoKind::Model, &["a.gguf", "b.gguf"], "several GGUF files, name one: `a.gguf`, `b.gguf`"),
            (RepoKind::Model, &["README.md"], "neither `config.json`"),
            (RepoKind::Adapter, &["adapter_config.json", "adapter_model.bin"], "a pickle"),
            (RepoKind::Adapter, &["config.json", "model.safetensors"], "no `adapter_config.json`"),
        ] {
            let message = chosen(kind, files).unwrap_err();
            assert!(message.contains(why), "{message}");
        }
    }

    #[test]
    fn names_that_leave_the_folder_are_unsafe() {
        for name in ["a.json", "dir/a.json", "..a", "a..b"] {
            assert!(is_safe(name), "{name}");
        }
        for name in ["", "..", "../a", "a/../b", "/a", "a//b", "a/", "./a", "a\\b", "a\0b"] {
            assert!(!is_safe(name), "{name}");
        }
    }
}
