//! Carries patched runs out, together, and measures delta at each of them.

use super::given::Given;
use super::measure::{Asked, Question, deltas, masses};
use super::plan::{chunks, in_order, is_at_decision, needed};
use super::shared::Branches;
use crate::context::Progress;
use crate::error::{Error, Result};
use crate::subject::Subject;
use lorascope_engine::{Batch, HookPoint, Hooks, Kept, Mat, ModelId};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// A run of one model on one prompt with something changed in it.
#[derive(Clone, Debug)]
pub(crate) struct PatchedRun {
    pub model: ModelId,
    /// Index of the prompt.
    pub prompt: usize,
    /// At least one.
    pub changes: Vec<Change>,
}

/// One change, at one position.
#[derive(Clone, Debug)]
pub(crate) struct Change {
    /// A place in a layer.
    pub point: HookPoint,
    /// Which of its values.
    pub units: Range<usize>,
    pub position: usize,
    pub replacement: Replacement,
}

/// What takes the place of the values.
#[derive(Clone, Debug)]
pub(crate) enum Replacement {
    /// The same values of another run.
    From(Source),
    /// The part of another run's values that lies along some directions (orthonormal rows).
    Along { source: Source, basis: Arc<Mat<f32>> },
    /// The run's own values, plus what `point` of another run has more there than that of this run.
    Shift { source: Source, point: HookPoint, units: Range<usize> },
    /// These numbers.
    Values(Arc<Vec<f32>>),
    /// The run's own values times a factor; 0 ablates.
    Scale(f32),
    /// The run's own values plus a factor times these numbers.
    Add { vector: Arc<Vec<f32>>, factor: f32 },
}

impl Replacement {
    /// The place in another run that it takes values from.
    pub fn source(&self) -> Option<Source> {
        match self {
            Self::From(source) | Self::Along { source, .. } | Self::Shift { source, .. } => Some(*source),
            Self::Values(_) | Self::Scale(_) | Self::Add { .. } => None,
        }
    }
}

/// A place in an unpatched run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Source {
    pub model: ModelId,
    pub prompt: usize,
    pub position: usize,
}

/// What a sweep found.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// delta of each patched run, in the order given.
    pub patched: Vec<f64>,
    /// delta of each unpatched run that was needed, by model and prompt.
    pub plain: BTreeMap<(ModelId, usize), f64>,
    /// Legal mass of each patched run, where it was asked for: the probability of the primary pair's answers, given the tokens that
    /// both begin with.
    pub masses: Vec<f64>,
    /// The same of the unpatched runs.
    pub plain_masses: BTreeMap<(ModelId, usize), f64>,
}

/// Carries out patched runs.
pub(crate) struct Sweep<'a> {
    pub(super) subject: &'a Subject,
    /// The decision of every prompt.
    pub(super) questions: Vec<Question>,
    /// Bytes that the rows of one chunk may take.
    pub(super) budget: usize,
    /// Prompts up to their decision points, where they are kept between calls.
    pub(super) kept: Mutex<Option<KeptPrompts>>,
    /// What estimates read of other runs, where it is kept.
    pub(super) given: Option<Mutex<Given>>,
    keeps: bool,
}

/// Runs by model and prompt.
pub(super) type RunKey = (ModelId, usize);

/// Keys and values of prompts before their decision points.
pub(super) struct KeptPrompts {
    /// Index of the kept sequence.
    pub index: BTreeMap<RunKey, usize>,
    pub kept: Kept<f32>,
}

impl<'a> Sweep<'a> {
    /// Decisions are those of each prompt's primary pair.
    pub fn new(subject: &'a Subject, memory: usize) -> Result<Self> {
        let primary = subject.primary_pairs()?;
        let questions = subject.prompts.iter().zip(primary).map(|(p, pair)| Question::new(p, pair)).collect();
        // Where the models remember the prompts already, keeping them costs nothing.
        let keeps = subject.model.remembers();
        Ok(Self { subject, questions, budget: memory, kept: Mutex::new(None), given: None, keeps })
    }

    /// For who patches the decision points of the same prompts again and again: what comes before them is computed once and
    /// kept, if it fits the budget. Results are the same.
    pub fn keeping_prompts(mut self) -> Self {
        self.keeps = true;
        self
    }

    /// Position of a prompt's decision point.
    pub fn decision_position(&self, prompt: usize) -> usize {
        self.questions[prompt].position()
    }

    /// What a reader has to know where answers differ in several tokens; `None` where one token decides everywhere.
    pub fn caveat(&self) -> Option<String> {
        let n = self.questions.iter().filter(|q| q.has_further_tokens()).count();
        (n > 0).then(|| {
            format!(
                "In {n} of {} prompts the two answers differ in several tokens: delta is the difference of logits at the first of \
                 them, plus the log-probabilities of the further tokens of the one answer, minus those of the other. Nothing is \
                 patched at these tokens; they feel a patch through keys and values only, so even everything together need \
                 not bring the whole difference.",
                self.questions.len()
            )
        })
    }

    /// Tokens of a prompt up to its decision point.
    pub fn decision_tokens(&self, prompt: usize) -> Vec<u32> {
        self.questions[prompt].stem().to_vec()
    }

    /// delta of every patched run and of the unpatched runs that they need. Runs that share a prompt should follow one
    /// another. Draws progress under the name `what`.
    pub fn run(&self, what: &str, runs: &[PatchedRun], progress: &dyn Progress) -> Result<Outcome> {
        self.carry_out(what, runs, progress, false)
    }

    /// The same with legal masses, for which final states meet the whole output matrix.
    pub fn run_with_masses(
        &self,
        what: &str,
        runs: &[PatchedRun],
        progress: &dyn Progress,
    ) -> Result<Outcome> {
        self.carry_out(what, runs, progress, true)
    }

    fn carry_out(
        &self,
        what: &str,
        runs: &[PatchedRun],
        progress: &dyn Progress,
        with_masses: bool,
    ) -> Result<Outcome> {
        let spec = self.subject.model.spec();
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        self.prepare_kept(runs, &mut kept)?;
        let kept = kept.as_ref().filter(|k| self.serves(k, runs));
        let longest =
            |prompt: usize| self.questions[prompt].sequences().iter().map(Vec::len).max().unwrap_or(0);
        let trunk_rows = |prompt: usize| match kept {
            Some(_) => longest(prompt) - self.questions[prompt].position(),
            None => longest(prompt),
        };
        let order = in_order(spec, runs, &self.questions, self.budget, trunk_rows);
        let ordered: Vec<&PatchedRun> = order.iter().map(|&i| &runs[i]).collect();
        let chunks = chunks(spec, &ordered, &self.questions, self.budget, trunk_rows);
        progress.begin(what, chunks.iter().map(|c| c.work).sum());
        let mut outcome = Outcome::default();
        let mut done = 0;
        for chunk in chunks {
            if progress.should_stop() {
                return Err(Error::Stopped);
            }
            let at = |share: f64| progress.at(done + (share * chunk.work as f64) as u64);
            self.run_chunk(&ordered[chunk.runs.clone()], kept, &at, with_masses, &mut outcome)?;
            done += chunk.work;
        }
        progress.end();
        outcome.patched = put_back(&order, &outcome.patched);
        outcome.masses = put_back(&order, &outcome.masses);
        Ok(outcome)
    }

    /// Whether all prompts of these runs are among the kept ones, and nothing happens before their decision points.
    pub(super) fn serves(&self, kept: &KeptPrompts, runs: &[PatchedRun]) -> bool {
        runs.iter().all(|run| is_at_decision(run, &self.questions))
            && runs.iter().flat_map(needed).all(|key| kept.index.contains_key(&key))
    }

    /// Keeps the prompts of these runs, if that is wanted, possible, and within the budget.
    pub(super) fn prepare_kept(&self, runs: &[PatchedRun], kept: &mut Option<KeptPrompts>) -> Result<()> {
        if !self.keeps || kept.as_ref().is_some_and(|k| self.serves(k, runs)) {
            return Ok(());
        }
        let model = &self.subject.model;
        let spec = model.spec();
        let keys: BTreeSet<RunKey> = runs.iter().flat_map(needed).collect();
        // A prompt whose decision point is its first token has nothing before it.
        let possible = runs.iter().all(|run| is_at_decision(run, &self.questions))
            && keys.iter().all(|(_, prompt)| self.questions[*prompt].position() > 0);
        if !possible || keys.is_empty() {
            return Ok(());
        }
        let before = |prompt: usize| &self.questions[prompt].stem()[..self.questions[prompt].position()];
        let sequences: Vec<(ModelId, &[u32])> = keys.iter().map(|&(m, prompt)| (m, before(prompt))).collect();
        let n_rows = Batch::new(spec, &sequences)?.n_rows();
        if n_rows * 2 * spec.n_layers * spec.n_kv_heads * spec.d_head * size_of::<f32>() > self.budget {
            return Ok(());
        }
        // Before the new ones are made the old ones are let go.
        *kept = None;
        let index = keys.into_iter().enumerate().map(|(i, key)| (key, i)).collect();
        *kept = Some(KeptPrompts { index, kept: model.keep(&sequences, &|_, _| {})? });
        Ok(())
    }

    fn run_chunk(
        &self,
        runs: &[&PatchedRun],
        kept: Option<&KeptPrompts>,
        at: &(dyn Fn(f64) + Sync),
        with_masses: bool,
        outcome: &mut Outcome,
    ) -> Result<()> {
        let model = &self.subject.model;
        let keys: BTreeSet<RunKey> = runs.iter().copied().flat_map(needed).collect();
        let mut sequences: BTreeMap<RunKey, Range<usize>> = BTreeMap::new();
        let mut tokens: Vec<(RunKey, Vec<u32>)> = Vec::new();
        for &key in &keys {
            let first = tokens.len();
            tokens.extend(self.questions[key.1].sequences().into_iter().map(|s| (key, s)));
            sequences.insert(key, first..tokens.len());
        }
        let trunk = match kept {
            None => {
                let whole: Vec<(ModelId, &[u32])> =
                    tokens.iter().map(|((m, _), s)| (*m, s.as_slice())).collect();
                Batch::new(model.spec(), &whole)?
            }
            Some(kept) => {
                let mut ends: Vec<(usize, &[u32])> = Vec::with_capacity(tokens.len());
                for (key, tokens) in &tokens {
                    ends.push((kept.index[key], &tokens[self.questions[key.1].position()..]));
                }
                kept.kept.batch(model, &ends, &[])?
            }
        };
        let branches = Branches::of(&trunk, runs, &sequences);
        let batch = trunk.branched(model.spec(), &branches.branches)?;
        let of_run = branches.of_run.clone();
        let edits = branches.edits(&batch);
        let asked: Vec<Asked> = keys
            .iter()
            .map(|&(which, prompt)| (which, prompt, None))
            .chain(runs.iter().zip(&of_run).map(|(run, &b)| (run.model, run.prompt, Some(b))))
            .map(|(which, prompt, branch)| Asked {
                model: which,
                question: &self.questions[prompt],
                first_sequence: sequences[&(which, prompt)].start,
                branch,
            })
            .collect();
        let rows: BTreeSet<usize> = asked.iter().flat_map(|a| a.rows(&batch)).collect();
        let place: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(i, &row)| (row, i)).collect();
        let rows: Vec<usize> = rows.into_iter().collect();
        let alive: Vec<usize> = (0..model.spec().n_layers).map(|l| batch.n_rows_alive(l)).collect();
        let all: usize = alive.iter().sum();
        let progress = |layer: usize, _: usize| at(alive[..layer].iter().sum::<usize>() as f64 / all as f64);
        let hooks = Hooks { captures: Vec::new(), edits };
        let states = match kept {
            None => model.run_with_progress(&batch, &hooks, &rows, &progress)?.readout,
            Some(kept) => model.run_after(&kept.kept, &batch, &hooks, &rows, &progress)?.readout,
        };
        let found = deltas(model, &batch, &asked, &states, &place)?;
        outcome.plain.extend(keys.iter().copied().zip(found.iter().copied()));
        outcome.patched.extend(&found[keys.len()..]);
        if with_masses {
            let found = masses(model, &batch, &asked, &states, &place)?;
            outcome.plain_masses.extend(keys.iter().copied().zip(found.iter().copied()));
            outcome.masses.extend(&found[keys.len()..]);
        }
        Ok(())
    }
}

/// Values of ordered runs, in the order that the runs had before.
fn put_back(order: &[usize], ordered: &[f64]) -> Vec<f64> {
    let mut values = vec![0.0; ordered.len()];
    order.iter().zip(ordered).for_each(|(&i, &value)| values[i] = value);
    values
}
