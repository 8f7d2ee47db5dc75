//! Which blocks are on, and how the adapter decides then.
//!
//! A mask multiplies what A gives (`hook_lora_a`) at every token, the answers' included, which multiplies what the adapter adds:
//! `s·B·(m·A·x) = m·(s·B·A·x)`. Weights are never touched. Many masks go through the model together as copies of the prompts that
//! share no rows; prompts of one copy still share their beginnings.

use super::blocks::Block;
use super::tables::RUNS;
use crate::context::Context;
use crate::error::Result;
use crate::score::{Decision, Scoring};
use crate::subject::Prompt;
use lorascope_engine::{Edit, EditOp, HookPoint, Hooks, ModelId, Site};
use lorascope_record::Table;
use std::collections::BTreeMap;

/// Masks of a part that is kept when the run is cut off.
const PART: usize = 8;

/// A factor for each block: 1 is on, 0 is off.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mask(Vec<f32>);

impl Mask {
    /// Every block has this factor.
    pub fn uniform(n: usize, factor: f32) -> Self {
        Self(vec![factor; n])
    }

    /// Only these blocks are on.
    pub fn only(n: usize, on: &[usize]) -> Self {
        let mut mask = Self::uniform(n, 0.0);
        on.iter().for_each(|&b| mask.0[b] = 1.0);
        mask
    }

    /// All blocks but one are on.
    pub fn without(n: usize, off: usize) -> Self {
        let mut mask = Self::uniform(n, 1.0);
        mask.0[off] = 0.0;
        mask
    }

    /// Number of blocks that are not off.
    pub fn n_on(&self) -> usize {
        self.0.iter().filter(|f| **f != 0.0).count()
    }

    /// `all`, `none`, `all * 0.5`, or the numbers of the blocks that are on: `0-3 7`. No two masks have the same.
    pub fn text(&self) -> String {
        let first = self.0.first().copied().unwrap_or(0.0);
        if self.0.iter().all(|f| *f == first) {
            return match first {
                0.0 => "none".to_owned(),
                1.0 => "all".to_owned(),
                factor => format!("all * {factor}"),
            };
        }
        let on: Vec<usize> = (0..self.0.len()).filter(|&b| self.0[b] != 0.0).collect();
        let runs = on.chunk_by(|a, b| a + 1 == *b).map(|run| match run {
            [one] => one.to_string(),
            run => format!("{}-{}", run[0], run[run.len() - 1]),
        });
        runs.collect::<Vec<_>>().join(" ")
    }
}

/// One answer of a masked adapter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Answer {
    pub delta: f64,
    pub p_b: f64,
}

/// An adapter and some prompts, on which masks are measured, each once.
pub(super) struct Bench<'a> {
    context: &'a Context<'a>,
    model: ModelId,
    blocks: &'a [Block],
    pub prompts: Vec<usize>,
    /// `chosen` or `held out`.
    set: &'static str,
    known: BTreeMap<String, Vec<Answer>>,
    runs: Table,
    n_parts: usize,
}

impl<'a> Bench<'a> {
    /// For prompts in the order given.
    pub fn new(
        context: &'a Context<'a>,
        model: ModelId,
        blocks: &'a [Block],
        prompts: Vec<usize>,
        set: &'static str,
    ) -> Self {
        let (known, runs) = (BTreeMap::new(), Table::new(&RUNS));
        Self { context, model, blocks, prompts, set, known, runs, n_parts: 0 }
    }

    /// Measures masks that have not been measured yet.
    pub fn measure(&mut self, what: &str, masks: &[Mask]) -> Result<()> {
        let mut new: BTreeMap<String, &Mask> = BTreeMap::new();
        let mut order = Vec::new();
        for mask in masks {
            let text = mask.text();
            if !self.known.contains_key(&text) && new.insert(text.clone(), mask).is_none() {
                order.push((text, mask));
            }
        }
        let name = self.context.subject.model.name(self.model);
        let what = format!("{what} ({name})");
        self.context.progress.begin(&what, order.len() as u64);
        for (done, part) in order.chunks(PART).enumerate() {
            // Which masks are asked for depends on what earlier ones gave, which a run that goes on finds again.
            let number = self.n_parts;
            self.n_parts += 1;
            let set = self.set.replace(' ', "-");
            let table =
                self.context.part(&format!("surgery-{}-{set}-{number:05}", self.model), &RUNS, || {
                    let masks: Vec<&Mask> = part.iter().map(|(_, mask)| *mask).collect();
                    self.table(part, self.answers(&masks)?)
                })?;
            let answers: Vec<Answer> = table
                .floats("delta")?
                .into_iter()
                .zip(table.floats("p_b")?)
                .map(|(delta, p_b)| Answer { delta, p_b })
                .collect();
            for ((text, _), answers) in part.iter().zip(answers.chunks(self.prompts.len())) {
                self.known.insert(text.clone(), answers.to_vec());
            }
            self.runs.append(table)?;
            self.context.progress.at((PART * (done + 1)).min(order.len()) as u64);
        }
        self.context.progress.end();
        Ok(())
    }

    /// Answers under a mask, in the order of the prompts; measures it where that has not happened.
    pub fn of(&mut self, mask: &Mask) -> Result<Vec<Answer>> {
        self.measure("measuring a set of blocks", std::slice::from_ref(mask))?;
        Ok(self.known.get(&mask.text()).cloned().unwrap_or_default())
    }

    /// All measured runs.
    pub fn into_runs(self) -> Table {
        self.runs
    }

    fn table(&self, part: &[(String, &Mask)], answers: Vec<Vec<Answer>>) -> Result<Table> {
        let mut table = Table::new(&RUNS);
        let subject = self.context.subject;
        for ((text, mask), answers) in part.iter().zip(answers) {
            for (&prompt, answer) in self.prompts.iter().zip(answers) {
                table.push(&[
                    subject.model.name(self.model).into(),
                    self.set.into(),
                    text.as_str().into(),
                    subject.prompts[prompt].id().into(),
                    mask.n_on().into(),
                    answer.delta.into(),
                    answer.p_b.into(),
                ])?;
            }
        }
        Ok(table)
    }

    /// How many masks go through the model together: as many as fit the budget. Results do not depend on it.
    fn together(&self, n_rows: usize) -> usize {
        let spec = self.context.subject.model.spec();
        let row = 4 * (4 * spec.d_model + 2 * spec.n_kv_heads * spec.d_head + 2 * spec.d_mlp);
        let modules: usize = self.blocks.iter().map(|b| b.modules.len()).sum();
        let edits = modules * size_of::<Edit<f32>>();
        (self.context.memory / (n_rows * (row + edits)).max(1)).clamp(1, PART)
    }

    fn answers(&self, masks: &[&Mask]) -> Result<Vec<Vec<Answer>>> {
        let model = &self.context.subject.model;
        let prompts: Vec<&Prompt> = self.prompts.iter().map(|&p| &self.context.subject.prompts[p]).collect();
        let one = Scoring::copies(model, self.model, 1, &prompts)?;
        let n_rows = one.tree.batch().n_rows();
        let mut found = Vec::with_capacity(masks.len());
        for masks in masks.chunks(self.together(n_rows)) {
            let scoring = Scoring::copies(model, self.model, masks.len(), &prompts)?;
            let mut edits = Vec::new();
            for (copy, mask) in masks.iter().enumerate() {
                // Rows are grouped by copy, and all copies have as many.
                self.edits(mask, copy * n_rows..(copy + 1) * n_rows, &mut edits);
            }
            let hooks = Hooks { captures: Vec::new(), edits };
            let tree = &scoring.tree;
            let run = model.run_with_progress(tree.batch(), &hooks, tree.rows(), &|_, _| {})?;
            let decisions = scoring.decisions(model, &run.readout)?;
            let answer = |d: &Decision| Answer { delta: d.delta(), p_b: d.p_b() };
            found.extend(decisions.chunks(prompts.len()).map(|d| d.iter().map(answer).collect()));
        }
        Ok(found)
    }

    fn edits(&self, mask: &Mask, rows: std::ops::Range<usize>, edits: &mut Vec<Edit<f32>>) {
        for (block, &factor) in self.blocks.iter().zip(&mask.0).filter(|(_, f)| **f != 1.0) {
            for &(module, rank) in &block.modules {
                let point = HookPoint::Layer(block.layer, Site::LoraA(module));
                let edit = |row| Edit { point, row, units: 0..rank, op: EditOp::Scale(factor) };
                edits.extend(rows.clone().map(edit));
            }
        }
    }
}
