//! Adapter folder -> [`PeftAdapter`]: the files, their hashes, and the order of the checks.

use crate::adapter::PeftAdapter;
use crate::assemble::Placed;
use crate::base::{BaseIdentity, BaseModule};
use crate::config::LoraConfig;
use crate::error::{Error, Problem, Result};
use crate::plan::Plan;
use lorascope_checkpoint::read_safetensors;
use sha2::{Digest, Sha256};
use std::fs::File;
use std::io::Read;
use std::path::Path;

const CONFIG: &str = "adapter_config.json";
const WEIGHTS: &str = "adapter_model.safetensors";

/// Pickles that PEFT and its users have written in place of [`WEIGHTS`].
const PICKLES: [&str; 4] =
    ["adapter_model.bin", "adapter_model.pt", "adapter_model.pth", "adapter_model.ckpt"];

/// Reads the PEFT LoRA adapter in `dir` and checks it in full against the modules of the base model: every module
/// that the configuration selects has its tensors, in the right shape and finite, and the file holds nothing else.
///
/// Weights stay memory-mapped in their stored type. `identity` is needed to know whether embedding and head are tied,
/// and makes messages about a wrong base clearer.
///
/// # Errors
/// [`Error`], with the folder and a [`Problem`] that names the tensor or key.
pub fn load(dir: &Path, base: &[BaseModule], identity: Option<&BaseIdentity>) -> Result<PeftAdapter> {
    read(dir, base, identity).map_err(|problem| Error { folder: dir.to_owned(), problem: Box::new(problem) })
}

fn read(dir: &Path, base: &[BaseModule], identity: Option<&BaseIdentity>) -> Result<PeftAdapter, Problem> {
    if !dir.is_dir() {
        return Err(Problem::NotAFolder);
    }
    let text = read_config(dir)?;
    let config = LoraConfig::from_json(&text)?;
    let weights = find_weights(dir)?;
    let hint = hint(&config, identity);
    let plan = Plan::new(&config, base, identity, &hint)?;
    let tensors = read_safetensors(&weights)?;
    let placed = Placed::new(tensors, &plan, &config, &hint)?;
    let name_note = name_note(&config, identity);
    let mut adapter = placed.into_adapter(&plan, config)?;
    adapter.report.notes.extend(name_note);
    adapter.config_sha256 = hex(&Sha256::digest(text.as_bytes()));
    adapter.sha256 = hash_file(&weights)?;
    Ok(adapter)
}

fn read_config(dir: &Path) -> Result<String, Problem> {
    match lorascope_bounded::read_to_string(&dir.join(CONFIG), lorascope_bounded::SETTINGS) {
        Ok(text) => Ok(text),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(Problem::MissingFile {
            file: CONFIG,
            hint: "a PEFT adapter has it beside `adapter_model.safetensors`; a whole model is given as the base",
        }),
        Err(source) => Err(Problem::Io { file: CONFIG, source }),
    }
}

fn find_weights(dir: &Path) -> Result<std::path::PathBuf, Problem> {
    let path = dir.join(WEIGHTS);
    if path.is_file() {
        return Ok(path);
    }
    match PICKLES.iter().find(|name| dir.join(name).exists()) {
        Some(file) => Err(Problem::PickleOnly { file: (*file).to_owned() }),
        None => Err(Problem::MissingFile { file: WEIGHTS, hint: "PEFT's `save_pretrained` writes it" }),
    }
}

/// The end of a message about a base that may be the wrong one.
fn hint(config: &LoraConfig, identity: Option<&BaseIdentity>) -> String {
    let Some(trained_on) = &config.base_model_name_or_path else { return String::new() };
    match identity.and_then(|i| i.name_or_path.as_deref()) {
        Some(base) => format!("; the adapter was trained on `{trained_on}`, the base is `{base}`"),
        None => format!("; the adapter was trained on `{trained_on}`"),
    }
}

/// Names of models differ for good reasons (a local folder), so a different one is only noted.
fn name_note(config: &LoraConfig, identity: Option<&BaseIdentity>) -> Option<String> {
    let last = |name: &str| name.trim_end_matches('/').rsplit('/').next().unwrap_or("").to_lowercase();
    let trained_on = config.base_model_name_or_path.as_deref()?;
    let base = identity?.name_or_path.as_deref()?;
    (last(trained_on) != last(base))
        .then(|| format!("the adapter says it was trained on `{trained_on}`; the base is `{base}`"))
}

fn hash_file(path: &Path) -> Result<String, Problem> {
    let io = |source| Problem::Io { file: WEIGHTS, source };
    let mut file = File::open(path).map_err(io)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 20];
    loop {
        match file.read(&mut piece).map_err(io)? {
            0 => return Ok(hex(&hash.finalize())),
            n => hash.update(&piece[..n]),
        }
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
