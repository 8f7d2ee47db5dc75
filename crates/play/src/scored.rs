//! Real models as players: questions are scored in blocks, all models of a block in one pass, and every finished block is kept
//! in the run folder.

use crate::answer::{Answer, Players, Question};
use crate::tables::POLICIES;
use lorascope_analyses::{Context, Prompt, Result, score};
use lorascope_record::{Table, sha256_hex};
use std::collections::{BTreeMap, HashMap};

/// Prompts that go through the models together. A constant, so that work units are the same in every run of the same
/// inputs; results do not depend on it.
const PROMPT_BLOCK: usize = 32;

/// The models of a run.
pub(crate) struct Scored<'a> {
    context: &'a Context<'a>,
    /// All that was scored, a row for each question.
    pub table: Table,
}

/// Models that are asked the same prompts.
struct Block {
    models: Vec<usize>,
    prompts: Vec<usize>,
}

impl<'a> Scored<'a> {
    pub fn new(context: &'a Context<'a>) -> Self {
        Self { context, table: Table::new(&POLICIES) }
    }

    /// Questions in blocks: prompts that the same models are asked, those that begin alike together.
    fn blocks(&self, asked: &[Question]) -> Vec<Block> {
        let mut models: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        asked.iter().for_each(|question| models.entry(question.prompt).or_default().push(question.model));
        let mut groups: BTreeMap<Vec<usize>, Vec<usize>> = BTreeMap::new();
        models.into_iter().for_each(|(prompt, models)| groups.entry(models).or_default().push(prompt));
        let ids = |prompt: usize| &self.context.subject.prompts[prompt].tokens.ids;
        let mut blocks = Vec::new();
        for (models, mut prompts) in groups {
            prompts.sort_by(|&a, &b| ids(a).cmp(ids(b)));
            let block = |prompts: &[usize]| Block { models: models.clone(), prompts: prompts.to_vec() };
            blocks.extend(prompts.chunks(PROMPT_BLOCK).map(block));
        }
        blocks
    }

    /// What a block's part is called.
    fn name(&self, block: &Block) -> String {
        let subject = self.context.subject;
        let names: Vec<&str> = block.models.iter().map(|&m| subject.model.name(m)).collect();
        let ids: Vec<&str> = block.prompts.iter().map(|&p| subject.prompts[p].id()).collect();
        format!("play-{}", sha256_hex(format!("{names:?} {ids:?}").as_bytes()))
    }

    /// Scores a block.
    fn block(&self, block: &Block, progress: lorascope_engine::Progress) -> Result<Table> {
        let subject = self.context.subject;
        let names: Vec<&str> = block.models.iter().map(|&m| subject.model.name(m)).collect();
        let prompts: Vec<&Prompt> = block.prompts.iter().map(|&p| &subject.prompts[p]).collect();
        let mut table = Table::new(&POLICIES);
        let decisions = score(&subject.model, &block.models, &prompts, progress)?;
        for (name, decisions) in names.iter().zip(decisions.chunks(prompts.len())) {
            for (prompt, decision) in prompts.iter().zip(decisions) {
                let (p_defect, legal) = (decision.p_b(), decision.legal_mass());
                table.push(&crate::tables::policy_row(name, &prompt.item, p_defect, legal))?;
            }
        }
        Ok(table)
    }
}

impl Players for Scored<'_> {
    fn answers(&mut self, asked: &[Question]) -> Result<Vec<Answer>> {
        let (subject, progress) = (self.context.subject, self.context.progress);
        let (blocks, layers) = (self.blocks(asked), subject.model.spec().n_layers as u64);
        progress.begin("asking the models", layers * blocks.len() as u64);
        let names: Vec<String> = blocks.iter().map(|block| self.name(block)).collect();
        let table = self.context.parts(&names, &POLICIES, |b| {
            self.block(&blocks[b], &|done, _| progress.at(b as u64 * layers + done as u64))
        })?;
        progress.end();
        let answers = table.floats("p_defect")?.into_iter().zip(table.floats("legal_mass")?);
        let questions = blocks.iter().flat_map(|block| {
            let of_model =
                |&model: &usize| block.prompts.iter().map(move |&prompt| Question { model, prompt });
            block.models.iter().flat_map(of_model)
        });
        let found: HashMap<Question, Answer> =
            questions.zip(answers.map(|(p_defect, legal)| Answer { p_defect, legal })).collect();
        self.table.append(table)?;
        Ok(asked.iter().map(|question| found[question]).collect())
    }
}
