//! A language model with one adapter as a policy: the prompts of a step as one token tree.
//!
//! The states of a surface form share most of their tokens, and the spellings of both answers hang on their prompt, so a
//! step's rows are the shared beginning once, the rest of each prompt, and a token or two for each spelling. Only the rows
//! that predict a token of an answer meet the output matrix.

use crate::error::{Error, Result};
use crate::policy::{Policy, Spellings, Weigh};
use crate::pool::Pool;
use crate::targets::Targets;
use lorascope_analyses::{AnswerTree, Answers, Spelling};
use lorascope_engine::{Hooks, Mat, Model, ModelId, Number, Parameter, Wanted};
use lorascope_prompts::{Content, Item};
use lorascope_text::{PromptInput, Tokenizer, Wrapping};

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

impl<R: Number> ModelPolicy<R> {
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
        let run = self.model.run(tree.batch(), &Hooks::default(), tree.rows())?;
        let next = tree.next_tokens(&self.model, &run.readout)?;
        Ok(self.by_prompt(prompts, tree.log_probs(&next)))
    }

    /// [`Policy::gradient`] in the model's own numbers.
    ///
    /// # Errors
    /// As there.
    pub fn gradient_in_full(&self, prompts: &[usize], weigh: &mut Weigh) -> Result<Vec<Mat<R>>> {
        let tree = self.tree(TRAINED, prompts)?;
        let wanted = Wanted { parameters: self.parameters.clone(), ..Wanted::default() };
        let loss = |run: &lorascope_engine::Run<R>| -> Result<Mat<R>> {
            let [states] = &tree.states(&run.readout)[..] else {
                return Err(Error::Policy("no prompts to go back from".to_owned()));
            };
            let next = self.model.next_tokens(states)?;
            let log_probs = self.by_prompt(prompts, tree.log_probs(&next));
            let weights = tree.token_weights(&flat(&weigh(&log_probs)?, &log_probs)?);
            let normalizers: Vec<f64> = next.iter().map(|n| n.log_sum_exp).collect();
            Ok(self.model.log_probs_backward_with(states, &normalizers, &weights)?)
        };
        let (_, gradients) =
            self.model.gradients(tree.batch(), &Hooks::default(), tree.rows(), &wanted, self.memory, loss)?;
        Ok(gradients.parameters)
    }

    fn tree(&self, model: ModelId, prompts: &[usize]) -> Result<AnswerTree> {
        let of = |p: &usize| {
            let asked = &self.prompts[*p];
            let answers = asked.a.iter().chain(&asked.b);
            answers.map(move |answer| Spelling { model, prompt: &asked.ids, answer })
        };
        let spellings: Vec<Spelling> = prompts.iter().flat_map(of).collect();
        Ok(AnswerTree::new(self.model.spec(), &spellings)?)
    }

    /// Numbers of all spellings, prompt by prompt.
    fn by_prompt(&self, prompts: &[usize], numbers: Vec<f64>) -> Vec<Spellings> {
        let mut numbers = numbers.into_iter();
        let mut next = |n: usize| numbers.by_ref().take(n).collect();
        let of = |&p: &usize| (self.prompts[p].a.len(), self.prompts[p].b.len());
        prompts.iter().map(of).map(|(a, b)| Spellings { a: next(a), b: next(b) }).collect()
    }
}

/// All numbers in a row; they must have the shape of what they are weights of.
fn flat(weights: &[Spellings], like: &[Spellings]) -> Result<Vec<f64>> {
    let fits = weights.len() == like.len()
        && weights.iter().zip(like).all(|(w, l)| (w.a.len(), w.b.len()) == (l.a.len(), l.b.len()));
    if !fits {
        return Err(Error::Policy(format!("weights of {} prompts for {}", weights.len(), like.len())));
    }
    Ok(weights.iter().flat_map(|w| w.a.iter().chain(&w.b)).copied().collect())
}

impl<R: Number> Policy for ModelPolicy<R> {
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
