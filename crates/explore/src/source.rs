//! Where the models and prompts of an explorer come from, as a study file names them.

use crate::error::{Error, Result};
use crate::state::State;
use lorascope_analyses::ModelEdit;
use lorascope_prompts::PromptSet;
use serde::Serialize;

/// What a study file needs to name the same models.
#[derive(Clone, Debug, Default)]
pub struct Source {
    /// The base: a path, a hub id, or the embedded model's name.
    pub base: String,
    /// Adapters: name and the same.
    pub adapters: Vec<(String, String)>,
    /// Controls as the command line writes them.
    pub controls: Vec<String>,
    /// What the base was rounded from, where it was.
    pub nf4: Option<String>,
    /// Whether prompts go to the model as raw text.
    pub raw: bool,
    /// The day that chat templates take for today, written YYYY-MM-DD, where they ask for one.
    pub date: Option<String>,
    /// Answers of prompts that name none.
    pub answers: Option<(String, String)>,
    /// Seed of everything random.
    pub seed: u64,
}

/// A state as files that reproduce it.
#[derive(Clone, Debug, Serialize)]
pub struct Export {
    /// Name of the study file.
    pub study_name: String,
    /// Its text.
    pub study: String,
    /// Name of the prompt file, beside it.
    pub prompts_name: String,
    /// Its text.
    pub prompts: String,
}

/// A study file; plain values stand before tables, as TOML wants it.
#[derive(Serialize)]
struct Study<'a> {
    title: &'a str,
    base: &'a str,
    prompts: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    answers: Option<(&'a str, &'a str)>,
    analyses: &'a [&'a str],
    seed: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    nf4: Option<&'a str>,
    raw: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    date: Option<&'a str>,
    /// Written where there are none, too: a study that does not say so carries one.
    controls: &'a [String],
    #[serde(skip_serializing_if = "Vec::is_empty")]
    adapter: Vec<Adapter<'a>>,
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    edits: &'a [ModelEdit],
}

#[derive(Serialize)]
struct Adapter<'a> {
    name: &'a str,
    path: &'a str,
}

const HEAD: &str = "\
# A state of the explorer. `lorascope study explored.toml --out runs/explored` asks the same again; the prompt file must lie
# beside this one.

";

impl Source {
    /// Answers of prompts that name none.
    pub(crate) fn default_answers(&self) -> Option<(&str, &str)> {
        self.answers.as_ref().map(|(a, b)| (a.as_str(), b.as_str()))
    }

    /// The state as a study file and its prompts.
    pub(crate) fn export(&self, state: &State, set: &PromptSet, analyses: &[&str]) -> Result<Export> {
        let prompts_name = "explored.prompts.json";
        let study = Study {
            title: "A state of the explorer",
            base: &self.base,
            prompts: prompts_name,
            answers: self.default_answers(),
            analyses,
            seed: self.seed,
            nf4: self.nf4.as_deref(),
            raw: self.raw,
            date: self.date.as_deref(),
            controls: &self.controls,
            adapter: self.adapters.iter().map(|(name, path)| Adapter { name, path }).collect(),
            edits: &state.edits,
        };
        let text = toml::to_string(&study).map_err(|e| Error::Export(e.to_string()))?;
        Ok(Export {
            study_name: "explored.toml".to_owned(),
            study: format!("{HEAD}{text}"),
            prompts_name: prompts_name.to_owned(),
            prompts: set.to_json(),
        })
    }
}
