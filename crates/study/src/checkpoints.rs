//! Checkpoints of a training: a folder of adapter folders, each of which becomes an adapter `NAME@STEP`.

use crate::names::{check_model_name, parse_pair};
use anyhow::{Context, Result, bail};
use lorascope_analyses::CheckpointName;
use lorascope_train::{CHECKPOINTS, CONFIG};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// What the folder of a checkpoint is called before its step: by lorascope, and by the Hugging Face Trainer.
const PREFIXES: [&str; 2] = ["step-", "checkpoint-"];

/// A folder of checkpoints.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checkpoints {
    /// What its adapters are called, before the `@`.
    pub name: String,
    /// The folder.
    pub path: PathBuf,
    /// Only steps that are multiples of this one, the first, and the last.
    pub every: Option<u64>,
}

/// `NAME=DIR`.
pub fn parse_checkpoints(text: &str) -> Result<Checkpoints, String> {
    let (name, path) = parse_pair(text).map_err(|_| format!("`{text}` is not of the form NAME=DIR"))?;
    check_trajectory_name(&name)?;
    if path.is_empty() {
        return Err(format!("`{text}` names no folder"));
    }
    Ok(Checkpoints { name, path: path.into(), every: None })
}

/// A model's name that is no checkpoint's already.
pub fn check_trajectory_name(name: &str) -> Result<(), String> {
    match CheckpointName::parse(name) {
        Some(_) => Err(format!("`{name}` names a step already; the folder's names tell the steps")),
        None => check_model_name(name),
    }
}

/// The adapters given one by one, then those of the folders, by step.
///
/// # Errors
/// A folder that can't be listed, holds no checkpoints, an adapter whose step its name does not tell, or two of one step.
pub fn with_checkpoints(
    adapters: &[(String, String)],
    folders: &[Checkpoints],
) -> Result<Vec<(String, String)>> {
    let mut all = adapters.to_vec();
    for folder in folders {
        let found = folder.adapters().with_context(|| format!("checkpoints `{}`", folder.name))?;
        all.extend(found);
    }
    Ok(all)
}

impl Checkpoints {
    fn adapters(&self) -> Result<Vec<(String, String)>> {
        let mut steps: BTreeMap<u64, PathBuf> = BTreeMap::new();
        let mut stranger = None;
        let listed = std::fs::read_dir(&self.path).with_context(|| self.path.display().to_string())?;
        for entry in listed {
            let path = entry.with_context(|| self.path.display().to_string())?.path();
            let is_adapter = path.join(CONFIG).is_file();
            match (step_of(&path), is_adapter) {
                (Some(step), true) => {
                    if let Some(other) = steps.insert(step, path.clone()) {
                        bail!("{} and {} are both of step {step}", other.display(), path.display());
                    }
                }
                (Some(_), false) if path.is_dir() => bail!(
                    "{} has no {CONFIG}; it is no PEFT adapter (or a checkpoint of a whole model)",
                    path.display()
                ),
                (None, true) => stranger = Some(path),
                _ => {}
            }
        }
        let Some((&first, &last)) = steps.keys().next().zip(steps.keys().next_back()) else {
            bail!("{}", self.nothing());
        };
        if let Some(path) = stranger {
            bail!(
                "{} is an adapter, but its name tells no step as step-000020 or checkpoint-20 do; rename it or move it away",
                path.display()
            );
        }
        let kept = |step: u64| {
            step == first || step == last || self.every.is_none_or(|every| step.is_multiple_of(every))
        };
        let adapter = |(step, path): (u64, PathBuf)| -> Result<(String, String)> {
            let name = CheckpointName { of: self.name.clone(), step }.to_string();
            check_model_name(&name).map_err(anyhow::Error::msg)?;
            Ok((name, path.to_string_lossy().into_owned()))
        };
        steps.into_iter().filter(|(step, _)| kept(*step)).map(adapter).collect()
    }

    fn nothing(&self) -> String {
        let inside = self.path.join(CHECKPOINTS);
        let hint = match inside.is_dir() {
            true => format!("; is it {}?", inside.display()),
            false => String::new(),
        };
        format!(
            "{} holds no checkpoints, that is, adapter folders called step-000020 or checkpoint-20{hint}",
            self.path.display()
        )
    }
}

/// The step that a folder's name tells.
fn step_of(path: &Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?;
    let digits = PREFIXES.iter().find_map(|prefix| name.strip_prefix(prefix))?;
    let whole = !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit());
    whole.then(|| digits.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(names: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir(dir.path().join(name)).unwrap();
            std::fs::write(dir.path().join(name).join(CONFIG), "{}").unwrap();
        }
        dir
    }

    fn expanded(dir: &Path, every: Option<u64>) -> Result<Vec<String>, String> {
        let one = Checkpoints { name: "s".to_owned(), path: dir.to_owned(), every };
        let found = with_checkpoints(&[("other".to_owned(), "x".to_owned())], &[one]);
        found
            .map(|all| all.into_iter().map(|(name, _)| name).collect())
            .map_err(|e| e.chain().map(ToString::to_string).collect::<Vec<_>>().join(": "))
    }

    #[test]
    fn folders_become_adapters_by_step() {
        let dir = folder(&["step-000100", "step-000020", "checkpoint-3", "step-000000"]);
        std::fs::create_dir(dir.path().join("runs")).unwrap();
        std::fs::write(dir.path().join("trainer_state.json"), "{}").unwrap();
        assert_eq!(expanded(dir.path(), None).unwrap(), ["other", "s@0", "s@3", "s@20", "s@100"]);
        assert_eq!(expanded(dir.path(), Some(20)).unwrap(), ["other", "s@0", "s@20", "s@100"]);
        assert_eq!(expanded(dir.path(), Some(60)).unwrap(), ["other", "s@0", "s@100"]);
    }

    #[test]
    fn what_is_unclear_is_refused() {
        let says = |names: &[&str], says: &str| {
            let dir = folder(names);
            let message = expanded(dir.path(), None).unwrap_err();
            assert!(message.starts_with("checkpoints `s`: ") && message.contains(says), "{message}");
        };
        says(&[], "holds no checkpoints");
        says(&["step-1", "best"], "best is an adapter, but its name tells no step");
        says(&["step-1", "step-x"], "step-x is an adapter, but its name tells no step");
        says(&["step-000003", "checkpoint-3"], "are both of step 3");
        let dir = folder(&["step-1"]);
        std::fs::create_dir(dir.path().join("checkpoint-9")).unwrap();
        assert!(expanded(dir.path(), None).unwrap_err().contains("checkpoint-9 has no adapter_config.json"));
        let run = tempfile::tempdir().unwrap();
        std::fs::create_dir(run.path().join(CHECKPOINTS)).unwrap();
        assert!(expanded(run.path(), None).unwrap_err().contains("; is it "), "the run folder itself");
        assert!(expanded(&run.path().join("nowhere"), None).is_err());
        assert!(parse_checkpoints("s@3=x").unwrap_err().contains("names a step already"));
        assert!(parse_checkpoints("base=x").is_err() && parse_checkpoints("s=").is_err());
    }
}
