//! What is analysed: a base model with its adapters, and prompts as the model reads them.

use crate::answers::Answers;
use crate::error::{Error, Result};
use crate::score::{Decision, score};
use lorascope_engine::{BASE, Model};
use lorascope_prompts::{Content, Item, PromptSet};
use lorascope_text::{Message, PromptInput, PromptTokens, Tokenizer, Wrapping};
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// What the two answers stand for, for titles and captions: `cooperate` and `defect`, or simply `A` and `B`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meanings {
    /// Of answer A.
    pub a: String,
    /// Of answer B.
    pub b: String,
}

impl Default for Meanings {
    fn default() -> Self {
        Self { a: "answer A".to_owned(), b: "answer B".to_owned() }
    }
}

/// A prompt ready for the model.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// As it was given.
    pub item: Item,
    /// The rendered text and its tokens.
    pub tokens: PromptTokens,
    /// Its two answers.
    pub answers: Answers,
    /// Named spans as ranges of token positions.
    pub spans: BTreeMap<String, Vec<Range<usize>>>,
}

/// Models and prompts.
#[derive(Debug)]
pub struct Subject {
    /// Base and adapters.
    pub model: Arc<Model<f32>>,
    /// Tokenizer and chat template.
    pub tokenizer: Arc<Tokenizer>,
    /// All prompts, in the order of their file.
    pub prompts: Vec<Prompt>,
    /// What the answers stand for.
    pub meanings: Meanings,
    base: OnceLock<Vec<Decision>>,
    /// Primary pairs where they are not those of the models as they stand.
    pinned: Option<Vec<usize>>,
}

impl Subject {
    /// Tokenises prompts and answers and checks that the model can take them.
    ///
    /// `answers` serves prompts that name none of their own. Subjects may share their models.
    pub fn new(
        model: impl Into<Arc<Model<f32>>>,
        tokenizer: impl Into<Arc<Tokenizer>>,
        set: &PromptSet,
        answers: Option<(&str, &str)>,
        wrapping: Wrapping,
        meanings: Meanings,
    ) -> Result<Self> {
        let (model, tokenizer) = (model.into(), tokenizer.into());
        let base = OnceLock::new();
        let mut subject = Self { model, tokenizer, prompts: Vec::new(), meanings, base, pinned: None };
        subject.ask(set, answers, wrapping)?;
        Ok(subject)
    }

    /// Puts other prompts to the same models; arguments as for [`Subject::new`]. Where it fails, the subject stays as it was. Edits
    /// of the models stay; those that took values from prompts need to be made anew.
    ///
    /// # Errors
    /// As [`Subject::new`].
    pub fn ask(&mut self, set: &PromptSet, answers: Option<(&str, &str)>, wrapping: Wrapping) -> Result<()> {
        let context = self.model.spec().n_ctx;
        let prompt = |item: &Item| {
            let prompt = Prompt::new(&self.tokenizer, item, answers, wrapping)?;
            let tokens = prompt.tokens.ids.len() + prompt.answers.longest();
            if tokens > context {
                return Err(Error::TooLong { id: item.id.clone(), tokens, context });
            }
            Ok(prompt)
        };
        self.prompts = set.items.iter().map(prompt).collect::<Result<Vec<_>>>()?;
        self.forget_decisions();
        self.pinned = None;
        Ok(())
    }

    /// The base has changed: what it decides is no longer known.
    pub(crate) fn forget_decisions(&mut self) {
        self.base = OnceLock::new();
    }

    /// Primary pairs that stay, whatever the models are made to answer.
    pub(crate) fn pin_primary_pairs(&mut self, primary: Vec<usize>) {
        self.pinned = Some(primary);
    }

    /// The base model's decision on every prompt, made once however many analyses need it.
    pub fn base_decisions(&self) -> Result<&[Decision]> {
        if let Some(known) = self.base.get() {
            return Ok(known);
        }
        let mut found = BTreeMap::new();
        for block in self.blocks() {
            let asked: Vec<&Prompt> = block.iter().map(|&i| &self.prompts[i]).collect();
            let decisions = score(&self.model, &[0], &asked, &|_, _| {})?;
            found.extend(block.into_iter().zip(decisions));
        }
        Ok(self.base.get_or_init(|| found.into_values().collect()))
    }

    pub(crate) fn knows_base_decisions(&self) -> bool {
        self.base.get().is_some()
    }

    /// The base's decision on every prompt, as it was made elsewhere.
    pub(crate) fn learn_base_decisions(&self, decisions: Vec<Decision>) {
        self.base.get_or_init(|| decisions);
    }

    /// For each prompt, the index of its *primary pair*: the pair with the most probability on the base model, at whose
    /// decision point per-component analyses work.
    pub fn primary_pairs(&self) -> Result<Vec<usize>> {
        if let Some(pinned) = &self.pinned {
            return Ok(pinned.clone());
        }
        let decisions = self.base_decisions()?.iter();
        Ok(decisions.zip(&self.prompts).map(|(d, p)| d.primary_pair(&p.answers)).collect())
    }

    /// Indices of all prompts in the blocks in which they go through the models: prompts that begin alike stand
    /// together, so that what they share is computed once. Results do not depend on it.
    pub(crate) fn blocks(&self) -> Vec<Vec<usize>> {
        let mut order: Vec<usize> = (0..self.prompts.len()).collect();
        order.sort_by(|&a, &b| self.prompts[a].tokens.ids.cmp(&self.prompts[b].tokens.ids));
        order.chunks(PROMPT_BLOCK).map(<[usize]>::to_vec).collect()
    }

    /// The prompts as the models read them, one JSON object per line: rendered text, token ids, token positions of the named
    /// spans, and the token ids of every variant of both answers.
    pub fn rendered(&self) -> String {
        let line = |p: &Prompt| {
            let positions =
                |ranges: &Vec<Range<usize>>| ranges.iter().map(|r| [r.start, r.end]).collect::<Vec<_>>();
            let spans: BTreeMap<&String, _> =
                p.spans.iter().map(|(name, ranges)| (name, positions(ranges))).collect();
            let object = serde_json::json!({
                "prompt_id": p.id(),
                "chat_template": p.tokens.used_chat_template,
                "text": p.tokens.text,
                "ids": p.tokens.ids,
                "spans": spans,
                "answer_a": p.answers.a,
                "answer_b": p.answers.b,
            });
            format!("{object}\n")
        };
        self.prompts.iter().map(line).collect()
    }

    /// The adapters that are no controls.
    pub(crate) fn fine_tunes(&self) -> Vec<usize> {
        let adapters = self.model.adapters().iter().enumerate();
        adapters.filter(|(_, a)| a.control.is_none()).map(|(i, _)| i + 1).collect()
    }

    /// A colour per model for figures: grey for the base.
    pub fn color(&self, model: usize) -> lorascope_report::ColorKey {
        if self.model.name(model) == BASE {
            lorascope_report::ColorKey::Base
        } else {
            lorascope_report::ColorKey::Model(model - 1)
        }
    }
}

/// Prompts that go through the models together. A constant, so that work units are the same in every run of the same
/// inputs; results do not depend on it.
pub(crate) const PROMPT_BLOCK: usize = 32;

impl Prompt {
    /// What a model reads before a pair of answers parts: the prompt's tokens, and those that both answers begin with.
    pub fn stem(&self, pair: usize) -> Vec<u32> {
        [&self.tokens.ids[..], &self.answers.pairs[pair].shared].concat()
    }

    /// Where a pair of answers is decided: the position of the last token of its [`Prompt::stem`].
    pub fn decision_position(&self, pair: usize) -> usize {
        self.tokens.ids.len() + self.answers.pairs[pair].shared.len() - 1
    }

    /// Tokenises a prompt and its answers; `answers` serves one that names none of its own.
    ///
    /// # Errors
    /// What the tokenizer or the chat template refuses, answers that can't be told apart, a span that the template lost.
    pub fn new(
        tokenizer: &Tokenizer,
        item: &Item,
        answers: Option<(&str, &str)>,
        wrapping: Wrapping,
    ) -> Result<Self> {
        let id = &item.id;
        let in_prompt = |source| Error::Prompt { id: id.clone(), source };
        let messages: Vec<Message>;
        let input = match &item.content {
            Content::Text(text) => PromptInput::Text(text),
            Content::Messages(given) => {
                let message = |m: &lorascope_prompts::Message| Message {
                    role: m.role.to_string(),
                    content: m.content.clone(),
                };
                messages = given.iter().map(message).collect();
                PromptInput::Messages(&messages)
            }
        };
        let tokens = tokenizer.tokens_prompt(input, wrapping).map_err(in_prompt)?;
        let (a, b) = item.answers_for(answers)?;
        let answers = Answers::new(tokenizer, id, a, b)?;
        let mut spans: BTreeMap<String, Vec<Range<usize>>> = BTreeMap::new();
        for span in &item.spans {
            let bytes = tokens.map_span(span.message.unwrap_or(0), &(span.start..span.end));
            let lost = || Error::LostSpan { id: id.clone(), span: span.name.clone() };
            let range = tokens.tokens_of(&bytes.ok_or_else(lost)?);
            spans.entry(span.name.clone()).or_default().push(range);
        }
        Ok(Self { item: item.clone(), tokens, answers, spans })
    }

    /// The prompt's id, as in every table.
    pub fn id(&self) -> &str {
        &self.item.id
    }

    /// The prompt's scenario; prompts without one share an empty name.
    pub fn scenario(&self) -> &str {
        self.item.scenario.as_deref().unwrap_or("")
    }
}
