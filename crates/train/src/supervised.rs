//! Training of a whole base model on texts: for every token, which ones should follow, and how much that counts.
//!
//! It is for small models that learn one thing from nothing, such as the one that lorascope brings along. All lessons of a
//! step are one token tree, so what texts have in common at their beginnings is computed once.

use crate::error::{Error, Result};
use crate::optimizer::{AdamW, OptimizerSettings};
use half::bf16;
use lorascope_engine::{Batch, Hooks, Mat, Model, Parameter, Run, States, Wanted};
use safetensors::tensor::{Dtype, TensorView, serialize};
use std::collections::{BTreeMap, HashMap};

const BASE: usize = 0;

/// A text to learn from.
#[derive(Clone, Debug, PartialEq)]
pub struct Lesson {
    /// Its tokens.
    pub ids: Vec<u32>,
    /// After the token at a position, how much weight which next token has.
    pub wanted: Vec<(usize, u32, f64)>,
}

/// How a step went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Learned {
    /// Weighted mean of −log p of the wanted tokens before the step, in nats.
    pub loss: f64,
    /// Euclidean norm of its gradient before clipping.
    pub gradient_norm: f64,
    /// Rows of the step's token tree.
    pub rows: usize,
}

/// A base model in training: all its arrays, with the moments of AdamW.
#[derive(Debug)]
pub struct Pupil {
    model: Model<f32>,
    parameters: Vec<Parameter>,
    values: Vec<Mat<f32>>,
    optimizer: AdamW,
    memory: usize,
}

impl Pupil {
    /// Takes a model as it stands; its embedding must be its output matrix too. `memory` bounds the bytes that a step may take for
    /// going back through the layers without computing them twice.
    ///
    /// # Errors
    /// A model whose arrays can't all be trained.
    pub fn new(model: Model<f32>, memory: usize) -> Result<Self> {
        let spec = model.spec();
        if !spec.tied_embeddings || spec.qk_norm {
            let why =
                "only models with tied embeddings and without norms of queries and keys can be trained whole";
            return Err(Error::Targets(why.to_owned()));
        }
        let parameters = model.base_parameters()?;
        let values = parameters.iter().map(|&p| model.parameter(BASE, p)).collect::<Result<Vec<_>, _>>()?;
        let lengths: Vec<usize> = values.iter().map(|v: &Mat<f32>| v.data.len()).collect();
        let optimizer = AdamW::new(lengths.into_iter());
        Ok(Self { model, parameters, values, optimizer, memory })
    }

    /// The model as it stands.
    pub fn model(&self) -> &Model<f32> {
        &self.model
    }

    /// One update towards the lessons, at this learning rate.
    ///
    /// # Errors
    /// A lesson that the model can't read, and numbers that stop to be finite.
    pub fn step(&mut self, lessons: &[Lesson], settings: &OptimizerSettings, rate: f64) -> Result<Learned> {
        let step = self.optimizer.updates as usize;
        let diverged = |what| Error::Diverged { step, what };
        let sequences: Vec<(usize, &[u32])> = lessons.iter().map(|l| (BASE, l.ids.as_slice())).collect();
        let batch = Batch::new(self.model.spec(), &sequences)?;
        let marks = Marks::new(&batch, lessons)?;
        let wanted =
            Wanted { parameters: self.parameters.iter().map(|&p| (BASE, p)).collect(), ..Wanted::default() };
        let (mut loss, mut of_output) = (0.0, Mat::default());
        let derivative = |run: &Run<f32>| -> Result<Mat<f32>> {
            let (normalized, tokens) = (run.readout.clone(), marks.tokens.clone());
            let states = States { model: BASE, normalized, tokens, reference: Vec::new(), top: 0 };
            let next = self.model.next_tokens(&states)?;
            let log_prob = |(row, weights): (usize, &Vec<f64>)| -> f64 {
                weights.iter().enumerate().map(|(i, w)| w * next[row].log_prob(i)).sum()
            };
            loss = -marks.weights.iter().enumerate().map(log_prob).sum::<f64>();
            let normalizers: Vec<f64> = next.iter().map(|n| n.log_sum_exp).collect();
            let (to_states, to_output) =
                self.model.log_probs_backward_to_output(&states, &normalizers, &marks.weights)?;
            of_output = to_output;
            Ok(to_states)
        };
        let (_, gradients) =
            self.model.gradients(&batch, &Hooks::default(), &marks.rows, &wanted, self.memory, derivative)?;
        let mut gradients: Vec<Vec<f32>> = gradients.parameters.into_iter().map(|g| g.data).collect();
        let embedding = self.parameters.iter().position(|p| *p == Parameter::Embedding);
        if let Some(embedding) = embedding {
            lorascope_kernels::add_assign(&mut gradients[embedding], &of_output.data);
        }
        if !loss.is_finite() {
            return Err(diverged("the loss"));
        }
        let mut values: Vec<&mut [f32]> = self.values.iter_mut().map(|v| v.data.as_mut_slice()).collect();
        let gradient_norm = self.optimizer.step(settings, rate, &mut values, &gradients);
        if !gradient_norm.is_finite() {
            return Err(diverged("the gradient"));
        }
        self.put()?;
        Ok(Learned { loss, gradient_norm, rows: batch.n_rows() })
    }

    /// Rounds all arrays to bfloat16, in which [`Pupil::to_safetensors`] writes them.
    ///
    /// # Errors
    /// Values that are not finite after rounding.
    pub fn round(&mut self) -> Result<()> {
        let all = self.values.iter_mut().flat_map(|v| &mut v.data);
        all.for_each(|v| *v = bf16::from_f32(*v).to_f32());
        self.put()
    }

    /// The arrays under their names, in bfloat16.
    ///
    /// # Errors
    /// The library refuses a shape.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut arrays = Vec::with_capacity(self.values.len());
        for (&parameter, value) in self.parameters.iter().zip(&self.values) {
            let name = self.model.parameter_name(BASE, parameter)?;
            let is_vector = matches!(parameter, Parameter::Norm(_));
            let shape = if is_vector { vec![value.cols] } else { vec![value.rows, value.cols] };
            let bytes: Vec<u8> = value.data.iter().flat_map(|&v| bf16::from_f32(v).to_le_bytes()).collect();
            arrays.push((name, shape, bytes));
        }
        let views = arrays
            .iter()
            .map(|(name, shape, bytes)| Ok((*name, TensorView::new(Dtype::BF16, shape.clone(), bytes)?)));
        let views = views.collect::<Result<Vec<_>>>()?;
        Ok(serialize(views, Some(HashMap::from([("format".to_owned(), "pt".to_owned())])))?)
    }

    fn put(&mut self) -> Result<()> {
        for (&parameter, value) in self.parameters.iter().zip(&self.values) {
            self.model.set_parameter(BASE, parameter, value)?;
        }
        Ok(())
    }
}

/// What is wanted, by row of the token tree.
struct Marks {
    rows: Vec<usize>,
    tokens: Vec<Vec<u32>>,
    /// They add up to 1.
    weights: Vec<Vec<f64>>,
}

impl Marks {
    fn new(batch: &Batch, lessons: &[Lesson]) -> Result<Self> {
        let mut by_row: BTreeMap<usize, BTreeMap<u32, f64>> = BTreeMap::new();
        let mut total = 0.0;
        for (i, lesson) in lessons.iter().enumerate() {
            for &(position, token, weight) in &lesson.wanted {
                let row = batch.row_of(i, position).ok_or_else(|| {
                    Error::Policy(format!(
                        "a lesson of {} tokens with one after token {position}",
                        lesson.ids.len()
                    ))
                })?;
                *by_row.entry(row).or_default().entry(token).or_default() += weight;
                total += weight;
            }
        }
        if !(total.is_finite() && total > 0.0) {
            return Err(Error::Policy(format!("lessons whose weights add up to {total}")));
        }
        Ok(Self {
            rows: by_row.keys().copied().collect(),
            tokens: by_row.values().map(|t| t.keys().copied().collect()).collect(),
            weights: by_row.values().map(|t| t.values().map(|w| w / total).collect()).collect(),
        })
    }
}
