//! Models that are loaded, and the answers that the analyses give about one prompt at a time.

use crate::error::{Error, Result};
use crate::queue::Stop;
use crate::source::{Export, Source};
use crate::state::{Asked, State, Wanted};
use lorascope_analyses::{Context, Findings, Meanings, OwnHands, Progress, Subject, analysis};
use lorascope_prompts::{Content, Item, PromptSet};
use lorascope_record::{Cell, RunFolder, RunKey, Table};
use lorascope_report::Theme;
use lorascope_text::Wrapping;
use serde_json::{Value, json};
use std::path::Path;

/// Analyses that a page may ask for.
pub(crate) const ANALYSES: [&str; 4] = ["decide", "lens", "dla", "attention"];

/// The first of them answer where a page names none, and stand in exported studies: they need no text but the prompt.
pub(crate) const USUAL: usize = 3;

/// Prompts of the run that a page lists.
const LISTED: usize = 1000;

/// A live engine.
#[derive(Debug)]
pub struct Explorer {
    subject: Subject,
    /// What the answers of the run's prompts stand for.
    meanings: Meanings,
    prompts: PromptSet,
    source: Source,
    /// Edits with which the run was made; the first state has them.
    edits: Vec<lorascope_analyses::ModelEdit>,
    memory: usize,
    /// The prompt and edits that the subject has, where they are a state's.
    asked: Option<(PromptSet, Vec<lorascope_analyses::ModelEdit>)>,
}

impl Explorer {
    /// The models of `subject`, which nobody else may hold; `prompts` are those that states can name by id. `memory` bounds the rows
    /// of patched runs.
    pub fn new(
        subject: Subject,
        prompts: PromptSet,
        source: Source,
        edits: Vec<lorascope_analyses::ModelEdit>,
        memory: usize,
    ) -> Self {
        let meanings = subject.meanings.clone();
        Self { subject, meanings, prompts, source, edits, memory, asked: None }
    }

    /// Whatever the subject has been made to be, the next state begins anew.
    pub(crate) fn forget(&mut self) {
        self.asked = None;
    }

    /// What a page needs to know before it asks.
    pub(crate) fn about(&self) -> Value {
        let (model, spec) = (&self.subject.model, self.subject.model.spec());
        let blocks = |a: &lorascope_engine::Adapter| {
            a.adapted().map(|(layer, module)| json!([layer, module.to_string()])).collect::<Vec<_>>()
        };
        let mut models = vec![json!({"name": model.name(0), "blocks": []})];
        models.extend(model.adapters().iter().map(|a| json!({"name": a.name, "blocks": blocks(a)})));
        let prompt = |item: &Item| {
            let answers = item.answers_for(self.source.default_answers()).ok();
            let turns = |(role, content): (&str, &str)| json!({"role": role, "content": content});
            json!({
                "id": item.id,
                "scenario": item.scenario,
                "is_chat": matches!(item.content, Content::Messages(_)),
                "messages": item.content.turns().into_iter().map(turns).collect::<Vec<_>>(),
                "answers": answers,
            })
        };
        json!({
            "version": env!("CARGO_PKG_VERSION"),
            "family": spec.family,
            "layers": spec.n_layers,
            "heads": spec.n_heads,
            "models": models,
            "prompts": self.prompts.items.iter().take(LISTED).map(prompt).collect::<Vec<_>>(),
            "n_prompts": self.prompts.items.len(),
            "answers": self.source.answers,
            "meanings": [self.meanings.a, self.meanings.b],
            "edits": self.edits,
            "analyses": ANALYSES,
            "theme": Theme::default(),
        })
    }

    /// Makes the subject that of a state: its prompt, its edits, and the prompt run once. Gives the number of the prompt's tokens, of all
    /// models, that had to be run for it.
    fn become_state(&mut self, state: &State, stop: &Stop) -> Result<usize> {
        state.check_models(&self.subject.model.names())?;
        let set = state.prompt_set(&self.prompts)?;
        let asked = (set, state.edits.clone());
        if self.asked.as_ref() == Some(&asked) {
            return Ok(0);
        }
        let mut n_run = 0;
        let same_prompt = self.asked.as_ref().is_some_and(|(set, _)| *set == asked.0);
        self.asked = None;
        if !same_prompt {
            self.subject.edit(&[])?;
            let wrapping = if self.source.raw { Wrapping::Raw } else { Wrapping::Auto };
            self.subject.ask(&asked.0, self.source.default_answers(), wrapping)?;
            self.subject.meanings = match (&state.prompt, self.subject.prompts.first()) {
                (Asked::Text(_) | Asked::Messages(_), Some(prompt)) => {
                    Meanings { a: prompt.answers.text_a.clone(), b: prompt.answers.text_b.clone() }
                }
                _ => self.meanings.clone(),
            };
            self.check_vocabulary()?;
            // Without edits first: what edits take is taken from there, and what they leave alone is not run again.
            n_run += self.subject.remember_prompts(&|_, _| {})?;
        }
        if stop.should_stop() {
            return Err(Error::Replaced);
        }
        self.subject.edit(&asked.1)?;
        n_run += self.subject.remember_prompts(&|_, _| {})?;
        self.asked = Some(asked);
        Ok(n_run)
    }

    /// Refuses tokens that the model does not have.
    fn check_vocabulary(&self) -> Result<()> {
        let n = self.subject.model.spec().d_vocab;
        let of_prompt = |p: &lorascope_analyses::Prompt| {
            let answers = p.answers.a.iter().chain(&p.answers.b).flatten();
            p.tokens.ids.iter().chain(answers).copied().find(|&id| id as usize >= n)
        };
        match self.subject.prompts.iter().find_map(of_prompt) {
            None => Ok(()),
            Some(id) => {
                let token = self.subject.tokenizer.token_text(id);
                Err(Error::NotHere(format!("token `{token}` has the id {id}, but the model has {n} tokens")))
            }
        }
    }

    /// What some analyses say about a state, as JSON; `place` is an empty folder for what they leave on the way.
    pub(crate) fn answer(
        &mut self,
        state: &State,
        wanted: &Wanted,
        place: &Path,
        stop: &Stop,
    ) -> Result<Value> {
        let begun = std::time::Instant::now();
        for name in &wanted.analyses {
            if !ANALYSES.contains(&name.as_str()) {
                return Err(Error::BadState(format!(
                    "`{name}` can't be asked for here; {} can",
                    ANALYSES.join(", ")
                )));
            }
        }
        // What is not wanted any more ends between two layers, so that whoever types does not wait for what was typed before.
        self.subject.stop_when(Some(stop.of_runs()))?;
        let mut asked: Vec<(&str, Value)> =
            wanted.analyses.iter().map(|name| (name.as_str(), Value::Null)).collect();
        if let Some(sweep) = &wanted.sweep {
            asked.push(("patch", sweep.settings(&self.subject.model.names())?));
        }
        let tokens_run = self.become_state(state, stop)?;
        let key = RunKey {
            command: "explore".to_owned(),
            settings: Value::Null,
            seed: self.source.seed,
            inputs: Vec::new(),
            command_line: Vec::new(),
            threads: 0,
        };
        let run = RunFolder::open(place, &key)?;
        let of = |analysis| Context {
            analysis,
            subject: &self.subject,
            run: &run,
            seed: self.source.seed,
            memory: self.memory,
            progress: stop,
            hands: &OwnHands,
        };
        let mut found = serde_json::Map::new();
        for (name, settings) in asked {
            let Some(analysis) = analysis(name) else { continue };
            if stop.should_stop() {
                return Err(Error::Replaced);
            }
            let settings = analysis.settings(&settings)?;
            analysis.check(&self.subject, &settings)?;
            let findings = analysis.run(&of(name), &settings)?;
            found.insert(name.to_owned(), findings_json(&findings)?);
        }
        Ok(json!({
            "prompt": self.prompt_json()?,
            "models": self.subject.model.names(),
            "meanings": [self.subject.meanings.a, self.subject.meanings.b],
            "found": found,
            "tokens_run": tokens_run,
            "seconds": begun.elapsed().as_secs_f64(),
        }))
    }

    /// The prompt as the models read it.
    fn prompt_json(&self) -> Result<Value> {
        let Some(prompt) = self.subject.prompts.first() else { return Err(Error::Failed) };
        let pair = self.subject.primary_pairs()?[0];
        let token = |id: &u32| self.subject.tokenizer.token_text(*id);
        Ok(json!({
            "tokens": prompt.stem(pair).iter().map(token).collect::<Vec<_>>(),
            "decision_position": prompt.decision_position(pair),
            "answers": [prompt.answers.text_a, prompt.answers.text_b],
            "chat_template": prompt.tokens.used_chat_template,
        }))
    }

    /// The state as a study file.
    ///
    /// # Errors
    /// A state that is about other models, or that a study file can't hold.
    pub(crate) fn export(&self, state: &State) -> Result<Export> {
        state.check_models(&self.subject.model.names())?;
        let set = state.prompt_set(&self.prompts)?;
        self.source.export(state, &set, &ANALYSES[..USUAL])
    }
}

fn findings_json(findings: &Findings) -> Result<Value> {
    let mut tables = serde_json::Map::new();
    for table in &findings.tables {
        tables.insert(table.spec().name.to_owned(), table_json(table)?);
    }
    Ok(json!({"section": findings.section, "tables": tables}))
}

/// A table by columns.
fn table_json(table: &Table) -> Result<Value> {
    let mut columns = serde_json::Map::new();
    for column in table.spec().columns {
        let cells = table.cells(column.name)?;
        columns.insert(column.name.to_owned(), cells.iter().map(cell_json).collect());
    }
    Ok(Value::Object(columns))
}

fn cell_json(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Text(text) => json!(text),
        Cell::Int(v) => json!(v),
        Cell::UInt(v) => json!(v),
        Cell::Float(v) => json!(v),
        Cell::Bool(v) => json!(v),
    }
}
