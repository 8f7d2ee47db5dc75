//! What an explorer shows: named models and prompts, or those of a run folder.

use crate::checkpoints::with_checkpoints;
use crate::controls::written_control;
use crate::listener::Listener;
use crate::models::{Models, Nf4};
use crate::open::{Asked, open, today};
use crate::prepared::ROWS_SHARE;
use crate::reopen;
use crate::study_file::date_of_seconds;
use anyhow::Result;
use lorascope_analyses::ModelEdit;
use lorascope_explore::{Explorer, Source};
use lorascope_games::Design;
use lorascope_prompts::PromptSet;
use lorascope_record::InputFile;
use lorascope_text::Wrapping;
use std::path::Path;

/// Models and prompts that an explorer is to show; nothing is opened yet.
pub struct Explored {
    pub(crate) models: Models,
    /// The prompts to choose from.
    pub(crate) asked: Asked,
    pub(crate) seed: u64,
    pub(crate) edits: Vec<ModelEdit>,
    /// What a run was made with, which must still be so.
    pub(crate) inputs: Vec<InputFile>,
}

impl Explored {
    /// Models that somebody names, on the prompts of a file or fifteen about games, with the answers of those that name none.
    ///
    /// # Errors
    /// Checkpoints that are not there.
    pub fn named(
        mut models: Models,
        set: Option<PromptSet>,
        answers: Option<(String, String)>,
        wrapping: Wrapping,
    ) -> Result<Self> {
        // By name each, so that an exported study names them too.
        models.adapters = with_checkpoints(&models.adapters, &models.checkpoints)?;
        models.checkpoints.clear();
        let set = set.map_or_else(|| Design::fifteen().build(), Ok)?;
        let asked = Asked { set, answers, wrapping, now: Some(today()) };
        Ok(Self { models, asked, seed: 0, edits: Vec::new(), inputs: Vec::new() })
    }

    /// Models and prompts of a run, as its folder names them; `memory` is for packed weights.
    ///
    /// # Errors
    /// A folder without a manifest, or of a run that has no models and prompts.
    pub fn of_run(folder: &Path, memory: usize) -> Result<Self> {
        reopen::explored(folder, memory)
    }

    /// Loads the models.
    ///
    /// # Errors
    /// What can't be opened; files that are not those of the run.
    pub fn open(self, listener: &dyn Listener) -> Result<Explorer> {
        let Self { models, asked, seed, edits, inputs } = self;
        let opened = open(&models, seed, listener)?;
        reopen::check_inputs(&inputs, &opened.inputs)?;
        let (subject, _) = opened.into_subject(&asked)?;
        let made = subject.model.adapters().iter().filter_map(|a| {
            let made = a.control.as_ref()?;
            Some(written_control(&a.name, &made.of, made.kind.name(), made.seed))
        });
        let dated = subject.tokenizer.chat_depends_on_date() && asked.wrapping != Wrapping::Raw;
        let source = Source {
            base: absolute(&models.base),
            adapters: models.adapters.iter().map(|(name, path)| (name.clone(), absolute(path))).collect(),
            controls: made.collect(),
            nf4: models.nf4.map(|from| Nf4::name(from).to_owned()),
            raw: asked.wrapping == Wrapping::Raw,
            date: asked.now.filter(|_| dated).and_then(date_of_seconds),
            answers: asked.answers.clone(),
            seed,
        };
        Ok(Explorer::new(subject, asked.set, source, edits, models.memory / ROWS_SHARE))
    }
}

/// A local path as it is from everywhere; a hub id or an embedded name as it is.
fn absolute(spec: &str) -> String {
    let path = Path::new(spec);
    let full = path.exists().then(|| std::path::absolute(path).ok()).flatten();
    full.map_or_else(|| spec.to_owned(), |p| p.to_string_lossy().into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::checkpoints::Checkpoints;

    #[test]
    fn checkpoints_are_adapters_by_name_so_that_an_export_has_them() {
        let dir = tempfile::tempdir().unwrap();
        for step in ["step-000000", "step-000020"] {
            std::fs::create_dir(dir.path().join(step)).unwrap();
            std::fs::write(dir.path().join(step).join("adapter_config.json"), "{}").unwrap();
        }
        let models = Models {
            base: "b".to_owned(),
            adapters: vec![("a".to_owned(), "x".to_owned())],
            checkpoints: vec![Checkpoints { name: "s".to_owned(), path: dir.path().to_owned(), every: None }],
            controls: Vec::new(),
            save_controls: None,
            nf4: None,
            memory: 1 << 30,
        };
        let explored = Explored::named(models, None, None, Wrapping::Auto).unwrap();
        let names: Vec<&str> = explored.models.adapters.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["a", "s@0", "s@20"]);
        assert!(explored.models.checkpoints.is_empty());
    }
}
