//! A study that can be carried out: models on prompts, every analysis checked, and what makes the run this one and no other.

use crate::machine::arithmetic;
use crate::models::Nf4;
use crate::open::{Asked, Opened};
use crate::pipeline::Plan;
use anyhow::{Context as _, Result, anyhow};
use lorascope_analyses::{Analysis, Context, Hands, ModelEdit, Progress, Subject};
use lorascope_prompts::PromptSet;
use lorascope_record::{InputFile, RunFolder, RunKey, sha256_hex};
use serde_json::{Value, json};

/// The part of `--memory` that rows of patched runs may take besides.
pub const ROWS_SHARE: usize = 4;

/// A plan with its models on its prompts.
pub struct Prepared {
    pub(crate) plan: Plan,
    pub(crate) subject: Subject,
    /// The prompts, as JSON.
    pub(crate) prompts: String,
    pub(crate) key: RunKey,
    /// Those that work on the others' tables come last.
    pub(crate) tasks: Vec<Task>,
    /// Seconds since 1970 that a chat template takes for now.
    pub(crate) now: Option<i64>,
}

/// An analysis that is to be carried out.
pub(crate) struct Task {
    pub analysis: &'static dyn Analysis,
    pub settings: Value,
    /// Prompts of its own, with the models on them.
    pub own: Option<(PromptSet, Subject)>,
}

impl Prepared {
    /// Puts the models on the prompts.
    ///
    /// # Errors
    /// What keeps an analysis from being carried out.
    pub fn new(plan: &Plan, opened: Opened, asked: &Asked) -> Result<Self> {
        let prompts = asked.set.to_json();
        let (mut subject, inputs) = opened.into_subject(asked)?;
        subject.edit(&plan.edits)?;
        let settings: Vec<Value> = plan
            .analyses
            .iter()
            .map(|(a, settings)| json!({"analysis": a.name(), "settings": settings}))
            .collect();
        let mut run_settings = json!({
            "models": subject.model.names(),
            "controls": controls(&subject),
            "analyses": settings,
            "prompts_sha256": sha256_hex(prompts.as_bytes()),
            "answers": asked.answers,
            "wrapping": asked.wrapping,
            "date": asked.now.filter(|_| subject.tokenizer.chat_depends_on_date()),
            "nf4": plan.nf4.map(Nf4::name),
        });
        if !plan.edits.is_empty() {
            run_settings["edits"] = json!(plan.edits);
        }
        // Where bits are others, parts of a run must not come from two kinds of arithmetic.
        if let (words, true) = arithmetic() {
            run_settings["arithmetic"] = json!(words);
        }
        let key = RunKey {
            command: plan.command.clone(),
            settings: run_settings,
            seed: plan.seed,
            inputs,
            command_line: std::env::args().collect(),
            threads: plan.threads,
        };
        let mut tasks = Vec::new();
        for (analysis, settings) in &plan.analyses {
            let named = || format!("analysis `{}`", analysis.name());
            let own = own_subject(*analysis, settings, &subject, asked).with_context(named)?;
            if own.is_some() && plan.edits.iter().any(ModelEdit::is_of_prompts) {
                return Err(anyhow!(
                    "it asks prompts of its own, for which the study's edits have no values or decision points; leave it out"
                ))
                .with_context(named);
            }
            analysis.check(own.as_ref().map_or(&subject, |(_, own)| own), settings).with_context(named)?;
            tasks.push(Task { analysis: *analysis, settings: settings.clone(), own });
        }
        tasks.sort_by_key(|task| task.analysis.concludes());
        Ok(Self { plan: plan.clone(), subject, prompts, key, tasks, now: asked.now })
    }

    /// What the run's results depend on, as a hash.
    ///
    /// # Errors
    /// Two inputs of one name.
    pub fn identity(&self) -> Result<String> {
        Ok(self.key.identity()?)
    }

    /// Every file that was read.
    pub fn inputs(&self) -> &[InputFile] {
        &self.key.inputs
    }

    /// What an analysis works with.
    pub(crate) fn context<'a>(
        &'a self,
        task: &'a Task,
        run: &'a RunFolder,
        progress: &'a dyn Progress,
        hands: &'a dyn Hands,
    ) -> Context<'a> {
        Context {
            analysis: task.analysis.name(),
            subject: task.own.as_ref().map_or(&self.subject, |(_, own)| own),
            run,
            seed: self.plan.seed,
            memory: self.plan.memory / ROWS_SHARE,
            progress,
            hands,
        }
    }
}

/// Prompts of an analysis's own with the models on them, where they are others than the study's.
fn own_subject(
    analysis: &dyn Analysis,
    settings: &Value,
    subject: &Subject,
    asked: &Asked,
) -> Result<Option<(PromptSet, Subject)>> {
    let set = analysis.prompts(settings)?.filter(|set| *set != asked.set);
    let with = |set: PromptSet| {
        let own = asked.subject(subject.model.clone(), subject.tokenizer.clone(), &set)?;
        Ok((set, own))
    };
    set.map(with).transpose()
}

/// How control adapters were made.
fn controls(subject: &Subject) -> Vec<Value> {
    let made = subject.model.adapters().iter().filter_map(|a| a.control.as_ref().map(|c| (&a.name, c)));
    made.map(|(name, c)| json!({"name": name, "of": c.of, "kind": c.kind.name(), "seed": c.seed})).collect()
}
