//! A language model with one adapter as a policy: the prompts of a step as one token tree.
//!
//! The states of a surface form share most of their tokens, and the spellings of both answers hang on their prompt, so a
//! step's rows are the shared beginning once, the rest of each prompt, and a token or two for each spelling. Only the rows
//! that predict a token of an answer meet the output matrix.

use crate::error::{Error, Result};
use crate::policy::{Policy, Spellings, Weigh};
use crate::pool::Pool;
use crate::targets::Targets;
use lorascope_analyses::Answers;
use lorascope_engine::{Batch, Hooks, Mat, Model, ModelId, NextToken, Parameter, States, Wanted};
use lorascope_kernels::Real;
use lorascope_prompts::{Content, Item};
use lorascope_text::{PromptInput, Tokenizer, Wrapping};
use std::collections::BTreeMap;

const BASE: ModelId = 0;
const TRAINED: ModelId = 1;

/// A prompt as the model reads it.
#[derive(Clone, Debug, PartialEq)]
pub struct Asked {
    /// Tokens of the prompt.
    pub ids: Vec<u32>,
    /// Token sequences of answer A, distinct.
    pub a: Vec<Vec<u32>>,
    /// Token sequences of answer B, distinct.
    pub b: Vec<Vec<u32>>,
}

/// A base (model 0) and the adapter that is trained (model 1) on prompts.
#[derive(Debug)]
pub struct ModelPolicy<R> {
    model: Model<R>,
    prompts: Vec<Asked>,
    parameters: Vec<(ModelId, Parameter)>,
    memory: usize,
}

/// The rows of some prompts and where their answers are predicted.
struct Tree {
    batch: Batch,
    /// Rows whose next token matters.
    rows: Vec<usize>,
    /// Which tokens, for each of these rows.
    tokens: Vec<Vec<u32>>,
    /// For each prompt and answer.
    steps: Vec<[Vec<Spelled>; 2]>,
}

/// Where the tokens of one spelling are predicted: which of [`Tree::rows`], and which of its tokens.
type Spelled = Vec<(usize, usize)>;

impl Asked {
    /// Tokenises a prompt and its answers.
    ///
    /// # Errors
    /// The tokenizer or the chat template refuses, or the answers can't be told apart.
    pub fn new(tokenizer: &Tokenizer, item: &Item, wrapping: Wrapping) -> Result<Self> {
        let id = item.id.clone();
        let Content::Text(text) = &item.content else {
            return Err(Error::Policy(format!("prompt `{id}`, which is a chat; games are plain texts")));
        };
        let tokens = tokenizer.tokens_prompt(PromptInput::Text(text), wrapping);
        let tokens = tokens.map_err(|source| lorascope_analyses::Error::Prompt { id: id.clone(), source })?;
        let (a, b) = item.answers_for(None).map_err(lorascope_analyses::Error::from)?;
        let answers = Answers::new(tokenizer, &id, a, b)?;
        Ok(Self { ids: tokens.ids, a: answers.a, b: answers.b })
    }

    fn longest(&self) -> usize {
        self.ids.len() + self.a.iter().chain(&self.b).map(Vec::len).max().unwrap_or(0)
    }
}

impl<R: Real> ModelPolicy<R> {
    /// A policy on the pool's prompts. `model` has the adapter to be trained, with an update at each target, as its first;
    /// `memory` bounds the bytes that a step may take for going back through the layers without computing them twice.
    ///
    /// # Errors
    /// A prompt that can't be tokenised or is too long; an adapter without one of the targets, or one that can't be trained.
    pub fn new(
        model: Model<R>,
        tokenizer: &Tokenizer,
        pool: &Pool,
        targets: &Targets,
        wrapping: Wrapping,
        memory: usize,
    ) -> Result<Self> {
        let asked = |item: &Item| Asked::new(tokenizer, item, wrapping);
        let prompts = pool.states.iter().map(|s| asked(&s.item)).collect::<Result<Vec<_>>>()?;
        let context = model.spec().n_ctx;
        if let Some((state, prompt)) = pool.states.iter().zip(&prompts).find(|(_, p)| p.longest() > context) {
            let (id, tokens) = (state.item.id.clone(), prompt.longest());
            return Err(lorascope_analyses::Error::TooLong { id, tokens, context }.into());
        }
        Self::with_tokens(model, prompts, targets, memory)
    }

    /// A policy on prompts that are tokens already.
    ///
    /// # Errors
    /// An adapter without one of the targets, or one that can't be trained.
    pub fn with_tokens(
        model: Model<R>,
        prompts: Vec<Asked>,
        targets: &Targets,
        memory: usize,
    ) -> Result<Self> {
        let mut parameters = Vec::with_capacity(2 * targets.targets.len());
        for target in &targets.targets {
            // Modules that share a matrix share its update; the first stands for all.
            let Some((module, _)) = target.modules.first() else { continue };
            parameters.push((TRAINED, Parameter::LoraA(target.layer, *module)));
            parameters.push((TRAINED, Parameter::LoraB(target.layer, *module)));
        }
        for &(id, parameter) in &parameters {
            model.parameter_shape(id, parameter)?;
        }
        Ok(Self { model, prompts, parameters, memory })
    }

    /// The model.
    pub fn model(&self) -> &Model<R> {
        &self.model
    }

    /// The prompts as the model reads them.
    pub fn prompts(&self) -> &[Asked] {
        &self.prompts
    }

    /// Log-probabilities of all spellings under the base (0) or the adapter (1).
    ///
    /// # Errors
    /// The model can't be run.
    pub fn log_probs(&self, model: ModelId, prompts: &[usize]) -> Result<Vec<Spellings>> {
        let tree = self.tree(model, prompts)?;
        let run = self.model.run(&tree.batch, &Hooks::default(), &tree.rows)?;
        Ok(tree.scores(&self.model.next_tokens(&tree.states(model, run.readout))?))
    }

    /// [`Policy::gradient`] in the model's own numbers.
    ///
    /// # Errors
    /// As there.
    pub fn gradient_in_full(&self, prompts: &[usize], weigh: &mut Weigh) -> Result<Vec<Mat<R>>> {
        let tree = self.tree(TRAINED, prompts)?;
        let wanted = Wanted { parameters: self.parameters.clone(), ..Wanted::default() };
        let loss = |run: &lorascope_engine::Run<R>| -> Result<Mat<R>> {
            let states = tree.states(TRAINED, run.readout.clone());
            let next = self.model.next_tokens(&states)?;
            let weights = tree.token_weights(&weigh(&tree.scores(&next))?)?;
            let normalizers: Vec<f64> = next.iter().map(|n| n.log_sum_exp).collect();
            Ok(self.model.log_probs_backward_with(&states, &normalizers, &weights)?)
        };
        let (_, gradients) =
            self.model.gradients(&tree.batch, &Hooks::default(), &tree.rows, &wanted, self.memory, loss)?;
        Ok(gradients.parameters)
    }

    fn tree(&self, model: ModelId, prompts: &[usize]) -> Result<Tree> {
        let asked: Vec<&Asked> = prompts.iter().map(|&p| &self.prompts[p]).collect();
        let mut inputs: Vec<Vec<u32>> = Vec::new();
        for prompt in &asked {
            // The last token of a spelling is predicted, never read.
            let ahead = prompt.a.iter().chain(&prompt.b).map(|v| &v[..v.len() - 1]);
            inputs.extend(ahead.map(|v| [&prompt.ids[..], v].concat()));
        }
        let sequences: Vec<(ModelId, &[u32])> = inputs.iter().map(|t| (model, t.as_slice())).collect();
        let batch = Batch::new(self.model.spec(), &sequences)?;
        let mut wanted: BTreeMap<usize, Vec<u32>> = BTreeMap::new();
        let (mut steps, mut sequence) = (Vec::new(), 0);
        for prompt in &asked {
            let mut answer = |spellings: &[Vec<u32>]| -> Vec<Spelled> {
                let mut of_answer = Vec::with_capacity(spellings.len());
                for spelling in spellings {
                    let first = prompt.ids.len() - 1;
                    let place = |(i, &token): (usize, &u32)| {
                        let row = batch.row_of(sequence, first + i);
                        let row = row.unwrap_or_else(|| unreachable!("every token of a sequence has a row"));
                        (row, interned(wanted.entry(row).or_default(), token))
                    };
                    of_answer.push(spelling.iter().enumerate().map(place).collect());
                    sequence += 1;
                }
                of_answer
            };
            steps.push([answer(&prompt.a), answer(&prompt.b)]);
        }
        let rows: Vec<usize> = wanted.keys().copied().collect();
        let place_of: BTreeMap<usize, usize> = rows.iter().enumerate().map(|(i, &r)| (r, i)).collect();
        steps.iter_mut().flatten().flatten().flatten().for_each(|step| step.0 = place_of[&step.0]);
        Ok(Tree { batch, rows, tokens: wanted.into_values().collect(), steps })
    }
}

/// Index of a token in a list of distinct ones, to which it is added where it is new.
fn interned(tokens: &mut Vec<u32>, token: u32) -> usize {
    tokens.iter().position(|&t| t == token).unwrap_or_else(|| {
        tokens.push(token);
        tokens.len() - 1
    })
}

impl Tree {
    fn states<R: Real>(&self, model: ModelId, normalized: Mat<R>) -> States<R> {
        States { model, normalized, tokens: self.tokens.clone(), reference: Vec::new(), top: 0 }
    }

    /// Log-probabilities of spellings from those of tokens.
    fn scores(&self, next: &[NextToken]) -> Vec<Spellings> {
        let sum = |steps: &Spelled| steps.iter().map(|&(row, token)| next[row].log_prob(token)).sum();
        let of = |answer: &[Spelled]| answer.iter().map(sum).collect();
        self.steps.iter().map(|[a, b]| Spellings { a: of(a), b: of(b) }).collect()
    }

    /// Weights of tokens from those of spellings: a spelling's log-probability is the sum of its tokens'.
    fn token_weights(&self, weights: &[Spellings]) -> Result<Vec<Vec<f64>>> {
        let mut of_tokens: Vec<Vec<f64>> = self.tokens.iter().map(|t| vec![0.0; t.len()]).collect();
        if weights.len() != self.steps.len() {
            return Err(Error::Policy(format!(
                "weights of {} prompts for {}",
                weights.len(),
                self.steps.len()
            )));
        }
        for (steps, weights) in self.steps.iter().zip(weights) {
            for (answer, weights) in steps.iter().zip([&weights.a, &weights.b]) {
                for (spelling, weight) in answer.iter().zip(weights) {
                    spelling.iter().for_each(|&(row, token)| of_tokens[row][token] += weight);
                }
            }
        }
        Ok(of_tokens)
    }
}

impl<R: Real> Policy for ModelPolicy<R> {
    fn reference(&self, prompts: &[usize]) -> Result<Vec<Spellings>> {
        self.log_probs(BASE, prompts)
    }

    fn gradient(&self, prompts: &[usize], weigh: &mut Weigh) -> Result<Vec<Vec<f32>>> {
        let gradients = self.gradient_in_full(prompts, weigh)?;
        Ok(gradients.into_iter().map(|g| g.data.into_iter().map(R::to_f32).collect()).collect())
    }

    fn set(&mut self, values: &[&[f32]]) -> Result<()> {
        if values.len() != self.parameters.len() {
            return Err(Error::Policy(format!("{} arrays for {}", values.len(), self.parameters.len())));
        }
        for (&(id, parameter), values) in self.parameters.iter().zip(values) {
            let (rows, cols) = self.model.parameter_shape(id, parameter)?;
            let value = Mat { data: values.iter().map(|&v| R::from_f32(v)).collect(), rows, cols };
            self.model.set_parameter(id, parameter, &value)?;
        }
        Ok(())
    }
}
