//! What the trained adapters do: their decisions on prompts, and how far they are from the base on text that has nothing to do with them.

use super::prediction::Prediction;
use crate::error::{Error, Result};
use crate::pool::Pool;
use lorascope_analyses::{Decision, Progress, Prompt, Subject, score, unrelated_text};
use lorascope_engine::{Batch, Hooks, ModelId, States};
use lorascope_prompts::{Content, Item, PromptSet};
use lorascope_text::Wrapping;
use std::collections::BTreeSet;

/// Prompts that go through all models together; results do not depend on it.
const TOGETHER: usize = 16;
/// Documents of the unrelated text that are read, evenly chosen.
pub(super) const DOCUMENTS: usize = 24;
/// Tokens of each that are read at most.
pub(super) const TOKENS: usize = 96;

/// What was measured of the base (model 0) and of all adapters.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Decisions: `[model][prompt]`.
    pub decisions: Vec<Vec<Decision>>,
    /// Documents of the unrelated text.
    pub(super) text: Vec<Document>,
}

/// One document of the unrelated text.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Document {
    /// Its number, from 0.
    pub number: usize,
    /// Tokens that were read.
    pub tokens: usize,
    /// Sum over its tokens of KL(base ‖ model), in nats: one value a model, the base's first.
    pub kl: Vec<f64>,
}

/// Scores every prompt and reads the unrelated text on every model.
///
/// # Errors
/// The models can't be run; the tokenizer refuses a document.
pub fn measure(subject: &Subject, progress: &dyn Progress) -> Result<Measured> {
    let models: Vec<ModelId> = (0..subject.model.n_models()).collect();
    let mut decisions = vec![Vec::with_capacity(subject.prompts.len()); models.len()];
    progress.begin("decisions on held out prompts", subject.prompts.len() as u64);
    for (done, prompts) in subject.prompts.chunks(TOGETHER).enumerate() {
        let prompts: Vec<&Prompt> = prompts.iter().collect();
        let found = score(&subject.model, &models, &prompts, &|_, _| {})?;
        for (all, of_model) in decisions.iter_mut().zip(found.chunks(prompts.len())) {
            all.extend_from_slice(of_model);
        }
        progress.at(((done + 1) * TOGETHER).min(subject.prompts.len()) as u64);
    }
    progress.end();
    Ok(Measured { decisions, text: read_text(subject, &models, progress)? })
}

/// Prompts on which trainings are compared, and how many were left out.
#[derive(Clone, Debug)]
pub struct HeldOut {
    /// The prompts.
    pub set: PromptSet,
    /// Prompts that training shows.
    pub trained: usize,
    /// Other prompts on whose templates the set was chosen.
    pub chosen: usize,
}

impl HeldOut {
    /// Of `prompts`, those that neither training shows nor share a template with a prompt of surgery's on which the set was chosen.
    ///
    /// # Errors
    /// None is left.
    pub fn new(
        prompts: PromptSet,
        surgery: &PromptSet,
        prediction: &Prediction,
        pool: &Pool,
    ) -> Result<Self> {
        let trained: Vec<&Content> = pool.states.iter().map(|s| &s.item.content).collect();
        let chosen: BTreeSet<&str> = surgery
            .items
            .iter()
            .filter(|i| prediction.chosen_on.contains(&i.id))
            .map(Item::cluster)
            .collect();
        let n = prompts.items.len();
        let mut items = prompts.items;
        items.retain(|i| !trained.contains(&&i.content));
        let n_trained = n - items.len();
        items.retain(|i| !chosen.contains(i.cluster()));
        let n_chosen = n - n_trained - items.len();
        if items.is_empty() {
            return Err(Error::Confirm(format!(
                "of {n} prompts, {n_trained} are shown in training and {n_chosen} more share a template with those on which the set was \
                 chosen: none is left to compare on; name others with --prompts, or train on others"
            )));
        }
        Ok(Self { set: PromptSet::new(items), trained: n_trained, chosen: n_chosen })
    }
}

fn read_text(subject: &Subject, models: &[ModelId], progress: &dyn Progress) -> Result<Vec<Document>> {
    let documents = unrelated_text();
    let most = TOKENS.min(subject.model.spec().n_ctx);
    let step = (documents.len() / DOCUMENTS).max(1);
    let mut found = Vec::with_capacity(DOCUMENTS);
    progress.begin("reading unrelated text", DOCUMENTS as u64);
    for (number, document) in documents.iter().step_by(step).take(DOCUMENTS).enumerate() {
        let mut ids = match subject.tokenizer.tokens_prompt(document.as_str(), Wrapping::Raw) {
            Ok(tokens) => tokens.ids,
            Err(source) => {
                let id = format!("document {number} of the unrelated text");
                return Err(lorascope_analyses::Error::Prompt { id, source }.into());
            }
        };
        ids.truncate(most);
        found.push(Document { number, tokens: ids.len(), kl: divergences(subject, models, &ids)? });
        progress.at(number as u64 + 1);
    }
    progress.end();
    Ok(found)
}

/// Sums over positions of KL(base ‖ model) of the next token.
fn divergences(subject: &Subject, models: &[ModelId], ids: &[u32]) -> Result<Vec<f64>> {
    let model = &subject.model;
    let sequences: Vec<(ModelId, &[u32])> = models.iter().map(|&m| (m, ids)).collect();
    let batch = Batch::new(model.spec(), &sequences)?;
    let rows: Vec<usize> = (0..models.len())
        .flat_map(|s| (0..ids.len()).filter_map(|p| batch.row_of(s, p)).collect::<Vec<_>>())
        .collect();
    let normalized = model.run(&batch, &Hooks::default(), &rows)?.readout;
    let n = rows.len();
    // Trained adapters leave the output matrix as it is, so the base's reads the states of all.
    let states = States {
        model: 0,
        normalized,
        tokens: vec![Vec::new(); n],
        reference: (0..n).map(|row| row % ids.len()).collect(),
        top: 0,
    };
    let next = model.next_tokens(&states)?;
    Ok(next.chunks(ids.len()).map(|of_model| of_model.iter().map(|t| t.kl).sum()).collect())
}
