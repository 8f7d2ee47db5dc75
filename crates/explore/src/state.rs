//! What a page asks, as one small document: it is what links carry and what is exported.

use crate::error::{Error, Result};
use lorascope_analyses::ModelEdit;
use lorascope_prompts::{Content, Item, Message, PromptSet};
use serde::{Deserialize, Serialize};

/// A question's prompt, answers and edits.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct State {
    /// Names of the models for which it was made, the base first; a link to other models is refused. Empty: whatever is here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// What is asked.
    pub prompt: Asked,
    /// Answers A and B; those of the prompt, or of the run, where none are named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<(String, String)>,
    /// Edits of the models.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub edits: Vec<ModelEdit>,
}

/// What is asked about a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Wanted {
    /// Analyses, with their default settings.
    pub analyses: Vec<String>,
    /// A patch sweep.
    pub sweep: Option<Sweep>,
}

/// Every head, attention output and MLP output of one model, one at a time, put into another at the decision point: what `lorascope
/// patch --source … --target …` does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sweep {
    /// The model whose activations are taken.
    pub source: String,
    /// The model that they are put into.
    pub target: String,
}

impl Sweep {
    /// As settings of the analysis; `names` are the models.
    pub fn settings(&self, names: &[&str]) -> Result<serde_json::Value> {
        for name in [&self.source, &self.target] {
            if !names.contains(&name.as_str()) {
                let all = names.join(", ");
                return Err(Error::NotHere(format!("there is no model `{name}`; there are {all}")));
            }
        }
        if self.source == self.target {
            return Err(Error::NotHere("a patch sweep needs two models that differ".to_owned()));
        }
        Ok(serde_json::json!({"source": [self.source], "target": [self.target]}))
    }
}

/// Where the prompt comes from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Asked {
    /// A prompt of the run, by its id.
    Id(String),
    /// A text; with a chat template it is the only message, the user's.
    Text(String),
    /// A chat.
    Messages(Vec<Turn>),
}

/// A turn of a chat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Turn {
    /// `user`, `assistant`, `system` …
    pub role: String,
    /// What is said.
    pub content: String,
}

/// Most edits of a state.
const MAX_EDITS: usize = 200;

impl State {
    /// Reads a state.
    ///
    /// # Errors
    /// Text that is no state.
    pub fn parse(json: &[u8]) -> Result<Self> {
        Self::from_value(serde_json::from_slice(json).map_err(|e| Error::BadState(e.to_string()))?)
    }

    /// Reads a state from JSON.
    ///
    /// # Errors
    /// JSON that is no state.
    pub fn from_value(json: serde_json::Value) -> Result<Self> {
        let state: Self = serde_json::from_value(json).map_err(|e| Error::BadState(e.to_string()))?;
        if state.edits.len() > MAX_EDITS {
            return Err(Error::BadState(format!(
                "it has {} edits; {MAX_EDITS} are the most",
                state.edits.len()
            )));
        }
        Ok(state)
    }

    /// The prompt set of this one prompt; `known` are the run's prompts.
    pub(crate) fn prompt_set(&self, known: &PromptSet) -> Result<PromptSet> {
        let mut item = match &self.prompt {
            Asked::Id(id) => {
                let found = known.items.iter().find(|item| item.id == *id);
                let missing = || Error::NotHere(format!("there is no prompt `{id}` here"));
                found.cloned().ok_or_else(missing)?
            }
            Asked::Text(text) => Item::new(TYPED, Content::Text(text.clone())),
            Asked::Messages(turns) => {
                let message = |t: &Turn| Message { role: t.role.clone(), content: t.content.clone() };
                Item::new(TYPED, Content::Messages(turns.iter().map(message).collect()))
            }
        };
        if let Some((a, b)) = &self.answers {
            (item.answer_a, item.answer_b) = (Some(a.clone()), Some(b.clone()));
        }
        let set = PromptSet::new(vec![item]);
        set.validate().map_err(lorascope_analyses::Error::from)?;
        Ok(set)
    }

    /// Refuses a state of other models.
    pub(crate) fn check_models(&self, names: &[&str]) -> Result<()> {
        if self.models.is_empty() || self.models == names {
            return Ok(());
        }
        Err(Error::NotHere(format!(
            "this state is about the models {}; here are {}",
            self.models.join(", "),
            names.join(", ")
        )))
    }
}

/// Id of a prompt that was typed.
const TYPED: &str = "typed";
