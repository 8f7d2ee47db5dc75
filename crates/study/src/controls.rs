//! Control adapters: which are asked for, what they are called, and their way into PEFT folders.

use crate::listener::Listener;
use crate::names::check_model_name;
use anyhow::{Context, Result, bail};
use lorascope_checkpoint::StoredTensor;
use lorascope_engine::{Adapter, Control, ControlKind};
use lorascope_train::{CONFIG, Factor, Factors, Part, write_folder};
use serde_json::{Map, Value, json};
use std::path::{Path, PathBuf};

/// Controls that are asked for: `random`, `shuffled:moral`, `random:moral@3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlOf {
    /// What a control keeps of its original.
    pub kind: ControlKind,
    /// Of which adapters.
    pub of: Originals,
    /// Seed; `None` for the run's.
    pub seed: Option<u64>,
}

/// The adapters that a control is made of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Originals {
    /// Every one.
    Every,
    /// The one of that name.
    Named(String),
    /// The first that can have a control; none where none can.
    FirstPossible,
}

impl std::fmt::Display for ControlOf {
    /// As [`parse_control`] reads it; of a study's own, which is settled before it is written, its kind.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.kind)?;
        if let Originals::Named(of) = &self.of {
            write!(f, ":{of}")?;
        }
        self.seed.iter().try_for_each(|seed| write!(f, "@{seed}"))
    }
}

impl ControlOf {
    /// What every study carries that does not say otherwise: a change of the same size that learned nothing.
    pub const OF_A_STUDY: Self = Self { kind: ControlKind::Random, of: Originals::FirstPossible, seed: None };

    /// The same by name, among these adapters (name and folder): what is made of the first possible one is made of that one; `None` where
    /// there is none.
    pub(crate) fn settled(&self, adapters: &[(String, PathBuf)]) -> Option<Self> {
        if self.of != Originals::FirstPossible {
            return Some(self.clone());
        }
        let (name, _) = adapters.iter().find(|(_, folder)| is_low_rank(folder))?;
        Some(Self { of: Originals::Named(name.clone()), ..self.clone() })
    }

    /// The controls by name, of these adapters (name and folder); `seed` is the run's. A control is called as its original and its
    /// kind, and its seed where that is given: `moral.random`, `moral.random.3`.
    pub fn resolve(
        &self,
        adapters: &[(String, PathBuf)],
        seed: u64,
    ) -> Result<Vec<(String, Control)>, String> {
        let known: Vec<&str> = adapters.iter().map(|(name, _)| name.as_str()).collect();
        if known.is_empty() && self.of != Originals::FirstPossible {
            return Err(format!("control `{}`: there is no adapter to make one of", self.kind));
        }
        // `random:moral@20` is the control of the checkpoint `moral@20` where no adapter is called `moral`.
        let whole = match (&self.of, self.seed) {
            (Originals::Named(of), Some(step)) => Some(format!("{of}@{step}")),
            _ => None,
        };
        let (originals, own_seed) = match (&self.of, whole) {
            (Originals::Every, _) => (known, self.seed),
            (Originals::FirstPossible, _) => {
                let possible = adapters.iter().find(|(_, folder)| is_low_rank(folder));
                (possible.map(|(name, _)| name.as_str()).into_iter().collect(), self.seed)
            }
            (Originals::Named(of), _) if known.contains(&of.as_str()) => (vec![of.as_str()], self.seed),
            (Originals::Named(_), Some(whole)) if known.contains(&whole.as_str()) => {
                (known.into_iter().filter(|name| **name == whole).collect(), None)
            }
            (Originals::Named(of), _) => {
                let (kind, known) = (self.kind, known.join(", "));
                return Err(format!("control `{kind}:{of}`: no adapter is called `{of}`; there are {known}"));
            }
        };
        let control = |of: &str| {
            let given = own_seed.map_or_else(String::new, |seed| format!(".{seed}"));
            let name = format!("{of}.{}{given}", self.kind);
            // The step of a checkpoint stands within the name of its control.
            check_model_name(&name.replacen('@', ".", 1))?;
            let control = Control { of: of.to_owned(), kind: self.kind, seed: own_seed.unwrap_or(seed) };
            Ok((name, control))
        };
        originals.into_iter().map(control).collect()
    }
}

/// Whether an adapter changes nothing but by low-rank updates, as far as its configuration says; what can't be read is for whoever
/// loads it to complain about.
fn is_low_rank(folder: &Path) -> bool {
    let text = std::fs::read_to_string(folder.join("adapter_config.json")).unwrap_or_default();
    let config: Value = serde_json::from_str(&text).unwrap_or_default();
    let saves = config["modules_to_save"].as_array().is_some_and(|modules| !modules.is_empty());
    let biases = config["bias"].as_str().is_some_and(|which| which != "none");
    config.is_object() && config["use_dora"] != json!(true) && !saves && !biases
}

/// `KIND[:ADAPTER][@SEED]`.
pub fn parse_control(text: &str) -> Result<ControlOf, String> {
    let (rest, seed) = match text.rsplit_once('@') {
        None => (text, None),
        Some((rest, seed)) => {
            let wrong = |_| format!("`{text}`: the seed `{seed}` is no whole number from 0");
            (rest, Some(seed.parse().map_err(wrong)?))
        }
    };
    let (kind, of) = match rest.split_once(':') {
        None => (rest, Originals::Every),
        Some((_, "")) => return Err(format!("`{text}` names no adapter after the colon")),
        Some((kind, of)) => (kind, Originals::Named(of.to_owned())),
    };
    Ok(ControlOf { kind: kind.parse()?, of, seed })
}

/// How [`parse_control`] reads a control that was made: with its seed only where that is part of its name.
pub fn written_control(name: &str, of: &str, kind: &str, seed: u64) -> String {
    if name == format!("{of}.{kind}") { format!("{kind}:{of}") } else { format!("{kind}:{of}@{seed}") }
}

/// Writes the controls among some adapters as PEFT folders below `folder`. `originals` are the folders of the adapters.
///
/// # Errors
/// A configuration that can't be read again, or a folder that can't be written.
pub(crate) fn save(
    folder: &Path,
    adapters: &[Adapter],
    originals: &[(String, PathBuf)],
    listener: &dyn Listener,
) -> Result<()> {
    let with_bias = |a: &&Adapter| a.control.is_some() && a.peft.low_rank.values().any(|u| u.bias.is_some());
    if let Some(adapter) = adapters.iter().find(with_bias) {
        bail!("control `{}` has biases of B (`lora_bias`), which are not written to folders", adapter.name);
    }
    for adapter in adapters {
        let Some(control) = &adapter.control else { continue };
        let Some((_, original)) = originals.iter().find(|(name, _)| *name == control.of) else { continue };
        let path = original.join(CONFIG);
        let text = std::fs::read_to_string(&path).with_context(|| path.display().to_string())?;
        let mut config: Value = serde_json::from_str(&text).with_context(|| path.display().to_string())?;
        if control.kind == ControlKind::Shuffled {
            patterns(&mut config, adapter);
        }
        let to = folder.join(&adapter.name);
        std::fs::create_dir_all(&to).with_context(|| format!("creating {}", to.display()))?;
        write_folder(&to, &config, &factors(adapter)?)
            .with_context(|| format!("writing {}", to.display()))?;
        listener.say(&to.display().to_string());
    }
    Ok(())
}

/// Ranks and alphas have moved with the updates: each module is named by itself.
fn patterns(config: &mut Value, adapter: &Adapter) {
    let (mut ranks, mut alphas) = (Map::new(), Map::new());
    for (path, update) in &adapter.peft.low_rank {
        let rank = update.rank as f64;
        let alpha = update.scale * if adapter.peft.config.use_rslora { rank.sqrt() } else { rank };
        // Patterns are regular expressions over paths.
        let pattern = path.replace('.', r"\.");
        if update.rank != adapter.peft.config.r {
            ranks.insert(pattern.clone(), json!(update.rank));
        }
        if (alpha - adapter.peft.config.lora_alpha).abs() > 1e-9 * alpha.abs() {
            alphas.insert(pattern, json!(alpha));
        }
    }
    config["rank_pattern"] = Value::Object(ranks);
    config["alpha_pattern"] = Value::Object(alphas);
}

fn factors(adapter: &Adapter) -> Result<Factors> {
    let mut found = Vec::new();
    let mut add = |path: &str, role: &str, stored: &StoredTensor| -> Result<()> {
        found.push(Factor {
            name: format!("base_model.model.{path}.{role}"),
            rows: stored.n_rows(),
            cols: stored.n_cols(),
            values: stored.to_f32()?,
            part: Part::Whole,
        });
        Ok(())
    };
    for (path, update) in &adapter.peft.low_rank {
        add(path, "lora_A.weight", &update.a)?;
        add(path, "lora_B.weight", &update.b)?;
    }
    for (path, update) in &adapter.peft.embeddings {
        add(path, "lora_embedding_A", &update.a)?;
        add(path, "lora_embedding_B", &update.b)?;
    }
    Ok(Factors(found))
}
