//! Models and prompts of a run, from its folder.

use crate::controls::{ControlOf, parse_control, written_control};
use crate::explore::Explored;
use crate::models::{Models, Nf4};
use crate::open::{Asked, read_prompts, today};
use anyhow::{Context, Result, anyhow, bail};
use lorascope_record::{InputFile, Manifest};
use lorascope_text::Wrapping;
use serde::Deserialize;
use std::path::{Path, PathBuf};

/// What the manifest of an analysis or a study says about models and prompts.
#[derive(Deserialize)]
struct Settings {
    models: Vec<String>,
    #[serde(default)]
    controls: Vec<Made>,
    answers: Option<(String, String)>,
    wrapping: Wrapping,
    date: Option<i64>,
    nf4: Option<String>,
    #[serde(default)]
    edits: Vec<lorascope_analyses::ModelEdit>,
}

/// A control.
#[derive(Deserialize)]
struct Made {
    name: String,
    of: String,
    kind: String,
    seed: u64,
}

/// Reads a run's manifest and prompts.
pub(crate) fn explored(folder: &Path, memory: usize) -> Result<Explored> {
    let shown = folder.display();
    let manifest = Manifest::read(&folder.join("manifest.json"))?
        .with_context(|| format!("{shown} is no run folder: it has no manifest.json"))?;
    let settings: Settings = serde_json::from_value(manifest.settings).map_err(|e| {
        anyhow!(
            "{shown} holds a run of `{}`, which has no models and prompts to explore ({e})",
            manifest.command
        )
    })?;
    let base = base(&manifest.inputs).with_context(|| format!("{shown}: the manifest names no base"))?;
    let of_controls = |name: &&String| !settings.controls.iter().any(|c| c.name == **name);
    let adapters = settings.models.iter().skip(1).filter(of_controls);
    let adapters = adapters.map(|name| Ok((name.clone(), adapter(&manifest.inputs, name)?)));
    let controls = settings.controls.iter().map(|c| control(c).map_err(|why| anyhow!("{shown}: {why}")));
    let nf4 = settings.nf4.as_deref().map(str::parse::<Nf4>).transpose();
    let nf4 = nf4.map_err(|why| anyhow!("{shown}: {why}"))?;
    let models = Models {
        base: base.to_string_lossy().into_owned(),
        adapters: adapters.collect::<Result<_>>()?,
        checkpoints: Vec::new(),
        controls: controls.collect::<Result<_>>()?,
        save_controls: None,
        nf4,
        memory,
    };
    let set = read_prompts(&folder.join("prompts.json"))?;
    let now = Some(settings.date.unwrap_or_else(today));
    let asked = Asked { set, answers: settings.answers, wrapping: settings.wrapping, now };
    Ok(Explored { models, asked, seed: manifest.seed, edits: settings.edits, inputs: manifest.inputs })
}

/// The file, or the folder that the files lie in.
fn base(inputs: &[InputFile]) -> Option<PathBuf> {
    let mut of_base = inputs.iter().filter(|i| i.name.starts_with("base/")).map(|i| &i.path);
    let gguf = of_base.clone().find(|p| p.extension().is_some_and(|e| e.eq_ignore_ascii_case("gguf")));
    gguf.cloned().or_else(|| of_base.next()?.parent().map(Path::to_owned))
}

fn adapter(inputs: &[InputFile], name: &str) -> Result<String> {
    let file = format!("adapter/{name}/adapter_config.json");
    let found = inputs.iter().find(|i| i.name == file).and_then(|i| i.path.parent());
    let found = found.with_context(|| format!("the manifest does not say where adapter `{name}` was"))?;
    Ok(found.to_string_lossy().into_owned())
}

fn control(made: &Made) -> std::result::Result<ControlOf, String> {
    parse_control(&written_control(&made.name, &made.of, &made.kind, made.seed))
}

/// Whether the files are those that the run was made with.
pub(crate) fn check_inputs(then: &[InputFile], now: &[InputFile]) -> Result<()> {
    for file in then.iter().filter(|i| i.name.starts_with("base/") || i.name.starts_with("adapter/")) {
        match now.iter().find(|i| i.name == file.name) {
            Some(found) if found.sha256 == file.sha256 => {}
            _ => bail!(
                "{} is not what it was when the run was made; explore it by naming base and adapters instead",
                file.path.display()
            ),
        }
    }
    Ok(())
}
