//! A study as a text that is sent to other machines: everything named and resolved, so that a study file, its prompts and its defaults
//! need not be there. Weights are not in it, only where they lie.

use crate::controls::{ControlOf, parse_control};
use crate::embedded;
use crate::listener::Listener;
use crate::models::{Models, Nf4};
use crate::open::{Asked, locate};
use crate::pipeline::Plan;
use crate::registry;
use crate::study_file::Ready;
use anyhow::{Context, Result, anyhow};
use lorascope_analyses::ModelEdit;
use lorascope_hub::RepoKind;
use lorascope_prompts::PromptSet;
use lorascope_text::Wrapping;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::path::Path;

/// The form of the text. Both ends have the same version of lorascope, or the run's identity differs.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Sent {
    base: String,
    adapters: Vec<(String, String)>,
    controls: Vec<String>,
    nf4: Option<String>,
    prompts: String,
    answers: Option<(String, String)>,
    wrapping: Wrapping,
    now: Option<i64>,
    command: String,
    title: String,
    analyses: Vec<(String, Value)>,
    edits: Vec<ModelEdit>,
    seed: u64,
    memory: usize,
}

impl Ready {
    /// The same with every model at an absolute path: hub ids are found or fetched. The embedded model stays a name.
    ///
    /// # Errors
    /// A model that can't be found.
    pub fn located(mut self, listener: &dyn Listener) -> Result<Self> {
        let place = |spec: &str, kind| -> Result<String> {
            if embedded::locate(spec)?.is_some() {
                return Ok(spec.to_owned());
            }
            let path = std::path::absolute(locate(spec, kind, listener)?)?;
            path.to_str().map(str::to_owned).with_context(|| format!("{} is no UTF-8", path.display()))
        };
        let base = &self.models.base;
        self.models.base = place(base, RepoKind::Model).with_context(|| format!("base model `{base}`"))?;
        let mut folders = Vec::new();
        for (name, adapter) in &mut self.models.adapters {
            *adapter = place(adapter, RepoKind::Adapter).with_context(|| format!("adapter `{name}`"))?;
            folders
                .push((name.clone(), embedded::locate(adapter)?.unwrap_or_else(|| adapter.as_str().into())));
        }
        self.models.controls =
            self.models.controls.iter().filter_map(|control| control.settled(&folders)).collect();
        Ok(self)
    }

    /// The text.
    ///
    /// # Errors
    /// None that is known of.
    pub fn to_text(&self) -> Result<String> {
        let (models, asked, plan) = (&self.models, &self.asked, &self.plan);
        let sent = Sent {
            base: models.base.clone(),
            adapters: models.adapters.clone(),
            controls: models.controls.iter().map(ControlOf::to_string).collect(),
            nf4: models.nf4.map(|from| from.name().to_owned()),
            prompts: asked.set.to_json(),
            answers: asked.answers.clone(),
            wrapping: asked.wrapping,
            now: asked.now,
            command: plan.command.clone(),
            title: plan.title.clone(),
            analyses: plan.analyses.iter().map(|(a, set)| (a.name().to_owned(), set.clone())).collect(),
            edits: plan.edits.clone(),
            seed: plan.seed,
            memory: plan.memory,
        };
        Ok(serde_json::to_string(&sent)?)
    }

    /// The study of a text.
    ///
    /// # Errors
    /// A text of another version.
    pub fn from_text(text: &str, threads: usize) -> Result<Self> {
        let sent: Sent = serde_json::from_str(text).context("the study that was sent")?;
        let nf4 = sent.nf4.map(|from| from.parse::<Nf4>()).transpose().map_err(|why| anyhow!(why))?;
        let controls: Result<_, String> = sent.controls.iter().map(|text| parse_control(text)).collect();
        let analysis = |(name, settings): (String, Value)| {
            let found = registry::analyses().find(|a| a.name() == name);
            let found = found.with_context(|| format!("no analysis is called `{name}`"))?;
            Ok((found, found.settings(&settings)?))
        };
        Ok(Self {
            models: Models {
                base: sent.base,
                adapters: sent.adapters,
                checkpoints: Vec::new(),
                controls: controls.map_err(|why| anyhow!(why))?,
                save_controls: None,
                nf4,
                memory: sent.memory,
            },
            asked: Asked {
                set: PromptSet::parse(&sent.prompts)?,
                answers: sent.answers,
                wrapping: sent.wrapping,
                now: sent.now,
            },
            plan: Plan {
                command: sent.command,
                title: sent.title,
                analyses: sent.analyses.into_iter().map(analysis).collect::<Result<_>>()?,
                edits: sent.edits,
                seed: sent.seed,
                nf4,
                threads,
                memory: sent.memory,
            },
        })
    }
}

/// Whether a path that was sent is on this machine too.
pub fn is_here(path: &str) -> bool {
    embedded::locate(path).is_ok_and(|found| found.is_some()) || Path::new(path).exists()
}
