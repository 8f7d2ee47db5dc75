//! Which blocks are on, and how the adapter decides then.
//!
//! A mask multiplies what the blocks add at every token, the answers' included: `m·(s·B·A·x)`. Weights are never touched: a masked
//! adapter is a [`Mixture`] of the base and its blocks. Many masks go through the model together, as one where they do not differ yet:
//! a block switched on alone costs the layers from its own on.

use super::blocks::Block;
use super::tables::RUNS;
use crate::context::Context;
use crate::error::Result;
use crate::mixtures::{Answer, Asked};
use lorascope_engine::{Mixture, ModelId, Part};
use lorascope_record::Table;
use std::cmp::Ordering;
use std::collections::BTreeMap;

/// Masks of a part that is kept when the run is cut off.
const PART: usize = 16;

/// Eighths of the budget of memory for what masks leave for later ones: sets that grow block by block begin alike.
const KEPT: usize = 2;

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

    /// The adapter's blocks under this mask, on the base.
    pub fn mixture(&self, model: ModelId, blocks: &[Block]) -> Mixture {
        let mut mixture = Mixture::default();
        for (block, &factor) in blocks.iter().zip(&self.0).filter(|(_, f)| **f != 0.0) {
            for &(module, _) in &block.modules {
                mixture.take(block.layer, module, Part { model, factor: f64::from(factor) });
            }
        }
        mixture
    }

    /// For sorting: masks that are alike in more of the first blocks stand nearer.
    fn order(&self, other: &Self) -> Ordering {
        let mut compared = self.0.iter().zip(&other.0).map(|(a, b)| a.total_cmp(b));
        compared.find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
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
    /// Made when the first mask is measured here.
    asked: Option<Asked<'a>>,
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
        Self { context, model, blocks, prompts, set, known, runs, n_parts: 0, asked: None }
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
        // Those that share their first blocks go together.
        order.sort_by(|a, b| a.1.order(b.1));
        let name = self.context.subject.model.name(self.model);
        let what = format!("{what} ({name})");
        let progress = self.context.progress;
        progress.begin(&what, order.len() as u64);
        let parts: Vec<&[(String, &Mask)]> = order.chunks(PART).collect();
        let set = self.set.replace(' ', "-");
        // Which masks are asked for depends on what earlier ones gave, which a run that goes on finds again.
        let number = |i: usize| format!("surgery-{}-{set}-{:05}", self.model, self.n_parts + i);
        let names: Vec<String> = (0..parts.len()).map(number).collect();
        let mut asked = self.asked.take();
        let table = self.context.parts(&names, &RUNS, |i| {
            let mixtures: Vec<Mixture> = parts[i].iter().map(|(_, mask)| self.mixture(mask)).collect();
            let at = |share: f64| progress.at(((i * PART) as f64 + share * parts[i].len() as f64) as u64);
            let asked = match &mut asked {
                Some(asked) => asked,
                none => none.insert(Asked::new(self.context, &self.prompts, KEPT)?),
            };
            self.table(parts[i], asked.answers(self.context, &mixtures, &at)?)
        })?;
        self.asked = asked;
        self.n_parts += parts.len();
        let values = table.floats("delta")?.into_iter().zip(table.floats("p_b")?);
        let values: Vec<Answer> = values.map(|(delta, p_b)| Answer { delta, p_b }).collect();
        for ((text, _), answers) in order.iter().zip(values.chunks(self.prompts.len())) {
            self.known.insert(text.clone(), answers.to_vec());
        }
        self.runs.append(table)?;
        progress.end();
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

    /// The model that a mask makes of the adapter.
    pub fn mixture(&self, mask: &Mask) -> Mixture {
        mask.mixture(self.model, self.blocks)
    }
}
