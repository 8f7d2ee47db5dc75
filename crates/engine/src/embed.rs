//! Token and position embeddings, read row by row from their stored type.

use crate::adapter::Adapter;
use crate::batch::{Batch, ModelId};
use crate::error::Result;
use crate::families::Names;
use crate::mat::Mat;
use crate::number::Number;
use crate::spec::ModelSpec;
use crate::weights::{vector, widen};
use lorascope_checkpoint::{Checkpoint, StoredTensor};

/// Embedding tables of a base and of the adapters that change them.
#[derive(Debug)]
pub(crate) struct Embeddings<R> {
    tokens: Vec<StoredTensor>,
    /// Tables of learned positions, by model; empty where positions are rotary.
    positions: Vec<StoredTensor>,
    updates: Vec<Option<Update<R>>>,
    scale: R,
}

/// A low-rank update of the token embedding.
#[derive(Debug)]
struct Update<R> {
    /// `[rank, V]`, one column per token.
    a: StoredTensor,
    /// `[d_model, rank]`.
    b: Vec<R>,
    rank: usize,
    scale: R,
}

impl<R: Number> Embeddings<R> {
    /// Finds the tables; index 0 is the base's, then one per adapter.
    pub fn new(spec: &ModelSpec, names: &Names, base: &Checkpoint, adapters: &[Adapter]) -> Result<Self> {
        let table = base.tensor(&format!("{}.weight", names.embed))?;
        let own = |a: &Adapter| a.replaced_weight(names.embed).unwrap_or(table).clone();
        let update = |a: &Adapter| -> Result<Option<Update<R>>> {
            let Some(u) = a.embedding(names.embed) else { return Ok(None) };
            let scale = R::from_f64(u.scale);
            Ok(Some(Update { a: u.a.clone(), b: vector(&u.b)?, rank: u.rank, scale }))
        };
        let mut positions = Vec::new();
        if let Some(path) = names.positions {
            let table = base.tensor(&format!("{path}.weight"))?;
            positions.push(table.clone());
            positions.extend(adapters.iter().map(|a| a.replaced_weight(path).unwrap_or(table).clone()));
        }
        Ok(Self {
            tokens: std::iter::once(table.clone()).chain(adapters.iter().map(own)).collect(),
            positions,
            updates: std::iter::once(Ok(None)).chain(adapters.iter().map(update)).collect::<Result<_>>()?,
            scale: R::from_f64(spec.embed_scale),
        })
    }

    /// The token table of a model, before scaling.
    pub fn table(&self, model: ModelId) -> &StoredTensor {
        &self.tokens[model]
    }

    /// Mixtures, which come after the loaded models, have the base's embedding.
    fn own(&self, model: ModelId) -> ModelId {
        if model < self.tokens.len() { model } else { 0 }
    }

    /// `hook_embed` of every row that is computed; zeros for kept ones.
    pub fn lookup(&self, batch: &Batch) -> Result<Mat<R>> {
        let mut out = Mat::zeros(batch.n_rows(), self.tokens[0].n_cols());
        for i in 0..batch.n_rows() {
            let row = batch.row(i);
            self.token(row.model, row.token, out.row_mut(i))?;
        }
        Ok(out)
    }

    /// `hook_embed` of one token.
    pub fn token(&self, model: ModelId, token: u32, values: &mut [R]) -> Result<()> {
        let token = token as usize;
        let model = self.own(model);
        widen(&self.tokens[model], token..token + 1, values)?;
        if let Some(update) = &self.updates[model] {
            update.add(token, values)?;
        }
        values.iter_mut().for_each(|v| *v *= self.scale);
        Ok(())
    }

    /// `hook_pos_embed` of every row.
    pub fn lookup_positions(&self, batch: &Batch) -> Result<Mat<R>> {
        let mut out = Mat::zeros(batch.n_rows(), self.tokens[0].n_cols());
        for i in 0..batch.n_rows() {
            let row = batch.row(i);
            self.position(row.model, row.position, out.row_mut(i))?;
        }
        Ok(out)
    }

    /// `hook_pos_embed` of one position; leaves the values alone where positions are rotary.
    pub fn position(&self, model: ModelId, position: usize, values: &mut [R]) -> Result<()> {
        match self.positions.get(self.own(model)) {
            Some(table) => widen(table, position..position + 1, values),
            None => Ok(()),
        }
    }
}

impl<R: Number> Update<R> {
    /// Adds `scale · B · A[:, token]`.
    fn add(&self, token: usize, values: &mut [R]) -> Result<()> {
        let mut row = vec![R::ZERO; self.a.n_cols()];
        for k in 0..self.rank {
            widen(&self.a, k..k + 1, &mut row)?;
            let feature = self.scale * row[token];
            for (v, b) in values.iter_mut().zip(self.b[k..].iter().step_by(self.rank)) {
                *v += feature * *b;
            }
        }
        Ok(())
    }
}
