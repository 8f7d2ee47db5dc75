//! From normalised states to statements about the next token.
//!
//! Logits over a whole vocabulary are never stored: the output matrix passes by in blocks of tokens, and each block's
//! logits are folded into what was asked for. The soft cap of the family is part of every logit here.

use crate::batch::ModelId;
use crate::error::{Error, Result};
use crate::mat::Mat;
use crate::model::Model;
use crate::number::Number;
use crate::passing::Passing;
use lorascope_kernels::{LogSumExp, MatMut, Packed, Weights, Write, all_finite, matmul, softcap};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

/// Tokens per block of the output matrix.
pub(crate) const BLOCK: usize = 4096;

/// States of one model whose next-token distribution is asked for.
#[derive(Clone, Debug)]
pub struct States<R> {
    /// The model whose output matrix reads them.
    pub model: ModelId,
    /// Outputs of the final norm, `[rows, d_model]`.
    pub normalized: Mat<R>,
    /// For each row, the tokens whose logits (and ranks) are wanted.
    pub tokens: Vec<Vec<u32>>,
    /// For each row, the row whose distribution the Kullback-Leibler divergence starts from; empty where none is wanted.
    pub reference: Vec<usize>,
    /// How many of the most probable tokens are wanted.
    pub top: usize,
}

/// What a state says about the next token.
#[derive(Clone, Debug, PartialEq)]
pub struct NextToken {
    /// Logit of each token asked for, after the soft cap.
    pub logits: Vec<f64>,
    /// Rank of each token asked for: the number of tokens with a larger logit.
    pub ranks: Vec<usize>,
    /// `ln Σ exp(logit)` over the vocabulary, so that log-probability = logit − this.
    pub log_sum_exp: f64,
    /// KL(reference ‖ this) in nats; 0 where no reference was given.
    pub kl: f64,
    /// The most probable tokens with their logits, largest first; ties by token id.
    pub top: Vec<(u32, f64)>,
}

impl NextToken {
    /// Log-probability of the i-th token asked for, in nats.
    pub fn log_prob(&self, i: usize) -> f64 {
        self.logits[i] - self.log_sum_exp
    }
}

/// The output matrices of all models, packed block by block; kept where memory allows.
#[derive(Debug, Default)]
pub(crate) struct OutputBlocks<R> {
    blocks: Vec<OnceLock<Arc<Packed<R>>>>,
    /// Of those that are not kept.
    passing: Passing<(ModelId, usize), Packed<R>>,
}

impl<R> OutputBlocks<R> {
    /// Room for `n` blocks; 0 where blocks are not to be kept.
    pub fn new(n: usize) -> Self {
        Self { blocks: (0..n).map(|_| OnceLock::new()).collect(), passing: Passing::default() }
    }

    /// The matrix has changed.
    pub fn forget(&mut self) {
        self.blocks.iter_mut().for_each(|cell| *cell = OnceLock::new());
        self.passing.forget();
    }
}

impl<R: Number> Model<R> {
    /// Reads states of one model against its whole output matrix.
    pub fn next_tokens(&self, states: &States<R>) -> Result<Vec<NextToken>> {
        R::next_tokens(self, states)
    }

    /// Logits after the soft cap of chosen tokens only: `[rows, tokens]`, the same tokens for every row.
    pub fn logits_of(&self, model: ModelId, normalized: &Mat<R>, tokens: &[u32]) -> Result<Mat<R>> {
        let table = self.output_table(model);
        let mut rows = Mat::zeros(tokens.len(), normalized.cols);
        for (i, &token) in tokens.iter().enumerate() {
            crate::weights::widen(table, token as usize..token as usize + 1, rows.row_mut(i))?;
        }
        let packed = Packed::from_output_rows(rows.view());
        let mut logits = Mat::zeros(normalized.rows, tokens.len());
        matmul(logits.view_mut(), normalized.view(), &packed, Write::Set);
        self.cap(model, &mut logits)?;
        Ok(logits)
    }

    /// All logits after the soft cap, `[rows, V]`; for checks and small vocabularies.
    pub fn all_logits(&self, model: ModelId, normalized: &Mat<R>) -> Result<Mat<R>> {
        let mut logits = self.through_output(model, normalized)?;
        self.cap(model, &mut logits)?;
        Ok(logits)
    }

    /// All logits before the soft cap.
    pub(crate) fn through_output(&self, model: ModelId, normalized: &Mat<R>) -> Result<Mat<R>> {
        let (rows, d_vocab) = (normalized.rows, self.spec().d_vocab);
        let mut logits = Mat::zeros(rows, d_vocab);
        for block in 0..n_blocks(d_vocab) {
            let packed = self.output_block(model, block)?;
            let start = (block * BLOCK).min(logits.data.len());
            let out = MatMut::strided(&mut logits.data[start..], rows, packed.n_out(), d_vocab);
            matmul(out, normalized.view(), &packed, Write::Set);
        }
        Ok(logits)
    }

    /// The soft cap, of logits that are finite: it would make a plausible number of one that is not.
    pub(crate) fn cap(&self, model: ModelId, logits: &mut Mat<R>) -> Result<()> {
        if let Some(state) = (0..logits.rows).find(|&row| !all_finite(logits.row(row))) {
            return Err(Error::NonFiniteLogits { model: self.name(model).to_owned(), state });
        }
        if let Some(cap) = self.spec().final_softcap {
            logits.for_rows(|_, row| softcap(row, R::from_f64(cap)));
        }
        Ok(())
    }

    /// The rows of a model's output matrix for one block of the vocabulary.
    pub(crate) fn output_block(&self, model: ModelId, block: usize) -> Result<Arc<Packed<R>>> {
        self.check_stop()?;
        let (table, d_vocab) = (self.output_table(model), self.spec().d_vocab);
        let tokens = |block: usize| (block * BLOCK).min(d_vocab)..((block + 1) * BLOCK).min(d_vocab);
        let make = |spent| R::pack(table, false, tokens(block), self.spec().d_model, spent);
        // Only the base's matrix is kept; adapters with an output matrix of their own are rare.
        let blocks = self.output_blocks();
        let kept = blocks.blocks.get(block).filter(|_| !self.has_own_output(model));
        match kept {
            None => blocks.passing.get_or_make((model, block), |spent| {
                table.expect_rows(tokens(block + 1));
                make(spent)
            }),
            Some(cell) => match cell.get() {
                Some(ready) => Ok(ready.clone()),
                None => make(None).map(|made| cell.get_or_init(|| Arc::new(made)).clone()),
            },
        }
    }

    pub(crate) fn check_states(&self, states: &States<R>) -> Result<()> {
        let (rows, d_vocab) = (states.normalized.rows, self.spec().d_vocab);
        let bad = |why: String| Err(Error::BadStates { why });
        if states.model >= self.n_models() {
            return Err(Error::NoSuchModel { model: states.model, n_models: self.n_models() });
        }
        if states.tokens.len() != rows {
            return bad(format!("{} lists of tokens for {rows} rows", states.tokens.len()));
        }
        if !states.reference.is_empty() && states.reference.len() != rows {
            return bad(format!("{} references for {rows} rows", states.reference.len()));
        }
        if let Some(r) = states.reference.iter().find(|&&r| r >= rows) {
            return bad(format!("reference row {r} of {rows} rows"));
        }
        if let Some(t) = states.tokens.iter().flatten().find(|&&t| t as usize >= d_vocab) {
            return bad(format!("token {t} is outside the vocabulary of {d_vocab} tokens"));
        }
        Ok(())
    }

    /// Ranks need the wanted tokens' own logits before the vocabulary passes by.
    fn start_folds(&self, states: &States<R>) -> Result<Vec<Fold>> {
        let mut tokens: Vec<u32> = states.tokens.iter().flatten().copied().collect();
        tokens.sort_unstable();
        tokens.dedup();
        let logits = self.logits_of(states.model, &states.normalized, &tokens)?;
        let place = |t: &u32| tokens.binary_search(t).unwrap_or_else(|_| unreachable!("it was put in above"));
        let start = |(i, wanted): (usize, &Vec<u32>)| {
            let own: Vec<f64> = wanted.iter().map(|t| logits.row(i)[place(t)].to_f64()).collect();
            Fold { ranks: vec![0; own.len()], logits: own, ..Fold::default() }
        };
        Ok(states.tokens.iter().enumerate().map(start).collect())
    }
}

/// [`Model::next_tokens`].
pub(crate) fn next_tokens<R: Number>(model: &Model<R>, states: &States<R>) -> Result<Vec<NextToken>> {
    model.check_states(states)?;
    let mut folds = model.start_folds(states)?;
    // Many rows are held against one: its share is computed once.
    let mut references: BTreeMap<usize, Reference> =
        states.reference.iter().map(|&r| (r, Reference::default())).collect();
    let d_vocab = model.spec().d_vocab;
    let mut logits = Mat::zeros(states.normalized.rows, BLOCK.min(d_vocab));
    for block in 0..n_blocks(d_vocab) {
        let packed = model.output_block(states.model, block)?;
        let first = block * BLOCK;
        if packed.n_out() != logits.cols {
            logits = Mat::zeros(logits.rows, packed.n_out());
        }
        matmul(logits.view_mut(), states.normalized.view(), &packed, Write::Set);
        model.cap(states.model, &mut logits)?;
        references.par_iter_mut().for_each(|(&r, reference)| reference.take(logits.row(r)));
        let reference = |i: usize| states.reference.get(i).map(|r| &references[r]);
        folds.par_iter_mut().enumerate().for_each(|(i, fold)| {
            fold.take(first, logits.row(i), reference(i), states.top);
        });
    }
    let reference = |i: usize| states.reference.get(i).map(|r| &references[r].all);
    Ok(folds.into_iter().enumerate().map(|(i, fold)| fold.finish(reference(i))).collect())
}

/// A row that others are held against, while the vocabulary passes by.
#[derive(Debug, Default)]
struct Reference {
    all: LogSumExp,
    /// Logits of the block that is passing, and what they weigh.
    logits: Vec<f64>,
    weights: Weights,
}

impl Reference {
    fn take<R: Number>(&mut self, logits: &[R]) {
        self.logits.clear();
        self.logits.extend(logits.iter().map(|v| v.to_f64()));
        self.all.add_weighing(&self.logits, &mut self.weights);
    }
}

/// What is known about one row while the vocabulary passes by.
#[derive(Debug, Default)]
struct Fold {
    logits: Vec<f64>,
    ranks: Vec<usize>,
    own: LogSumExp,
    /// Sum of differences from the reference's logits under the reference's weights.
    differences: f64,
    top: Vec<(u32, f64)>,
}

impl Fold {
    fn take<R: Number>(&mut self, first: usize, logits: &[R], reference: Option<&Reference>, top: usize) {
        let values: Vec<f64> = logits.iter().map(|v| v.to_f64()).collect();
        self.own.add(&values);
        for (rank, &own) in self.ranks.iter_mut().zip(&self.logits) {
            *rank += values.iter().filter(|&&v| v > own).count();
        }
        if let Some(reference) = reference {
            // KL(p ‖ q) = Σ p (u_p − u_q) − lse_p + lse_q
            self.differences *= reference.weights.shrink;
            for ((e, from), own) in reference.weights.exps.iter().zip(&reference.logits).zip(&values) {
                self.differences += e * (from - own);
            }
        }
        if top > 0 {
            self.take_top(first, &values, top);
        }
    }

    fn take_top(&mut self, first: usize, values: &[f64], top: usize) {
        let worst = |kept: &Vec<(u32, f64)>| {
            if kept.len() < top { f64::NEG_INFINITY } else { kept.last().map_or(f64::NEG_INFINITY, |k| k.1) }
        };
        for (i, &v) in values.iter().enumerate() {
            if v > worst(&self.top) {
                let at = self.top.partition_point(|k| k.1 >= v);
                self.top.insert(at, ((first + i) as u32, v));
                self.top.truncate(top);
            }
        }
    }

    fn finish(self, reference: Option<&LogSumExp>) -> NextToken {
        let log_sum_exp = self.own.value();
        // Rounding can make the divergence of equal distributions a hair negative.
        let kl =
            reference.map_or(0.0, |from| (from.mean(self.differences) - from.value() + log_sum_exp).max(0.0));
        NextToken { logits: self.logits, ranks: self.ranks, log_sum_exp, kl, top: self.top }
    }
}

/// Number of blocks of a vocabulary.
pub(crate) fn n_blocks(d_vocab: usize) -> usize {
    d_vocab.div_ceil(BLOCK)
}
