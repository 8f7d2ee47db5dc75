//! Branches: patched runs that compute only what their patch can change.
//!
//! A patch at position p of layer l changes nothing before p and nothing below l. So a patched run is not a sequence of its
//! own but a *branch* of one: rows that copy the sequence's rows from p on, that see the sequence's own keys and
//! values of all positions before p, and that do not exist below the place of the patch, where they would be equal to the rows
//! that they copy. All branches that exist at a layer, of all prompts and models, are rows of its matrix
//! products. This is exact: a branch's rows have the very bits that the whole sequence would have under the same
//! edits.

use crate::batch::{Batch, ModelId, Row};
use crate::error::{Error, Result};
use crate::hook::{HookPoint, Site};
use crate::module::Module;
use crate::spec::ModelSpec;
use std::collections::HashMap;
use std::ops::Range;

/// Where within a layer a branch begins: what comes before is its origin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Stage {
    /// At the residual stream before the layer.
    Layer,
    /// At the heads' mixed values (`hook_z`), before the output projection.
    Heads,
    /// At the attention output, before it is added.
    Mlp,
    /// At the MLP's hidden values (`mlp.hook_post`), before the down projection.
    Neurons,
    /// At the MLP output, before it is added.
    End,
}

/// The first place of the forward pass at which a branch exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Birth {
    /// The layer.
    pub layer: usize,
    /// Where in it.
    pub stage: Stage,
}

impl Birth {
    /// The latest birth from which an edit at a point of a layer can still happen; `None` for points outside layers.
    pub fn before(point: HookPoint) -> Option<Self> {
        let HookPoint::Layer(layer, site) = point else { return None };
        let stage = match site {
            Site::ResidPre
            | Site::Ln1Scale
            | Site::QInput
            | Site::KInput
            | Site::VInput
            | Site::Q
            | Site::K
            | Site::V
            | Site::RotQ
            | Site::RotK
            | Site::AttnScores
            | Site::Pattern
            | Site::LoraA(Module::Q | Module::K | Module::V)
            | Site::LoraOut(Module::Q | Module::K | Module::V) => Stage::Layer,
            Site::Z
            | Site::Ln1PostScale
            | Site::Result
            | Site::LoraA(Module::O)
            | Site::LoraOut(Module::O)
            | Site::LoraResult => Stage::Heads,
            Site::AttnOut
            | Site::ResidMid
            | Site::MlpIn
            | Site::Ln2Scale
            | Site::MlpPre
            | Site::LoraA(Module::Gate | Module::Up)
            | Site::LoraOut(Module::Gate | Module::Up) => Stage::Mlp,
            Site::MlpPost | Site::Ln2PostScale | Site::LoraA(Module::Down) | Site::LoraOut(Module::Down) => {
                Stage::Neurons
            }
            Site::MlpOut | Site::ResidPost => Stage::End,
        };
        Some(Self { layer, stage })
    }
}

/// A run that leaves some sequences of a batch at one position.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Branch {
    /// The sequences that it copies; at `from` they must still be one row.
    pub sequences: Vec<usize>,
    /// The first position that it copies.
    pub from: usize,
    /// Where it begins.
    pub birth: Birth,
}

/// What a fork begins with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// The embedding, at layer 0.
    Embedding,
    /// What an earlier fork, of this layer or one before, has there.
    Fork(usize),
    /// What the run is given for it.
    Kept,
}

/// A copy of all rows of a batch that some model runs from a layer on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Fork {
    /// What it begins with.
    pub start: Start,
    /// The model that runs it.
    pub model: ModelId,
    /// The layer at which it comes into being.
    pub layer: usize,
}

impl Batch {
    /// The row of a branch that copies a sequence's token at `position`; `None` before the branch's first position and
    /// for other sequences.
    pub fn branch_row(&self, branch: usize, sequence: usize, position: usize) -> Option<usize> {
        self.copy_of(branch, self.row_of(sequence, position)?)
    }

    /// The row of a branch that copies a row; `None` where it copies it not.
    pub fn copy_of(&self, branch: usize, origin: usize) -> Option<usize> {
        let rows = self.branches.get(branch)?;
        let of_branch = &self.origins[rows.start - self.n_trunk..rows.end - self.n_trunk];
        of_branch.binary_search(&origin).ok().map(|i| rows.start + i)
    }

    /// Rows that exist at some point of a layer.
    pub fn n_rows_alive(&self, layer: usize) -> usize {
        let born = self.births.partition_point(|(birth, _)| birth.layer <= layer);
        self.births[..born].last().map_or(self.n_trunk, |(_, rows)| rows.end)
    }

    /// The rows that go through a layer, in the parts that enter it at different places.
    pub(crate) fn parts(&self, layer: usize) -> Vec<(Stage, Range<usize>)> {
        let older = self.births.partition_point(|(birth, _)| birth.layer < layer);
        let n_older = self.births[..older].last().map_or(self.n_trunk, |(_, rows)| rows.end);
        let born = self.births[older..].iter().take_while(|(birth, _)| birth.layer == layer);
        let born = born.map(|(birth, rows)| (birth.stage, rows.clone()));
        std::iter::once((Stage::Layer, self.n_kept..n_older)).chain(born).collect()
    }

    /// The row that a row of a branch copies.
    pub(crate) fn origin(&self, row: usize) -> Option<usize> {
        row.checked_sub(self.n_trunk).map(|i| self.origins[i])
    }

    /// Where a row comes into being; `None` for rows of sequences, which exist from the embedding on.
    pub(crate) fn birth(&self, row: usize) -> Option<Birth> {
        let at = self.births.partition_point(|(_, rows)| rows.end <= row);
        self.births.get(at).filter(|_| row >= self.n_trunk).map(|(birth, _)| *birth)
    }

    /// Lays out the rows of branches: by birth, so that those alive at a layer are a beginning of all rows; then by model
    /// and parent, so that rows which share weights and keys stand together.
    pub(crate) fn add_branches(&mut self, spec: &ModelSpec, branches: &[Branch]) -> Result<()> {
        let mut copies = Vec::with_capacity(branches.len());
        for (i, branch) in branches.iter().enumerate() {
            copies.push(self.rows_to_copy(spec, i, branch)?);
        }
        let mut order: Vec<usize> = (0..branches.len()).collect();
        let model = |i: usize| -> ModelId { self.row(copies[i][0]).model };
        order.sort_by_key(|&i| (branches[i].birth, model(i), copies[i][0]));
        self.branches = vec![0..0; branches.len()];
        for i in order {
            let birth = branches[i].birth;
            let rows = self.copy_rows(&copies[i], None);
            match self.births.last_mut() {
                Some((last, all)) if *last == birth => all.end = rows.end,
                _ => self.births.push((birth, rows.clone())),
            }
            self.branches[i] = rows;
        }
        Ok(())
    }

    /// Forks of all rows, and the first row of each of them; the batch's own rows are not computed any more.
    pub(crate) fn forked(&self, forks: &[Fork]) -> (Self, Vec<usize>) {
        let mut batch = self.clone();
        let n = batch.n_trunk;
        batch.n_kept = n;
        let mut starts = vec![0; forks.len()];
        let mut order: Vec<usize> = (0..forks.len()).collect();
        // What is copied stands before, also among forks of one layer.
        order.sort_by_key(|&i| forks[i].layer);
        batch.branches = vec![0..0; forks.len()];
        for i in order {
            let fork = forks[i];
            let first = if let Start::Fork(of) = fork.start { starts[of] } else { 0 };
            let copied: Vec<usize> = (first..first + n).collect();
            let rows = batch.copy_rows(&copied, Some(fork.model));
            if fork.start == Start::Kept {
                // They take over nobody's residual stream.
                batch.origins.truncate(batch.origins.len() - n);
                batch.origins.extend(rows.clone());
            }
            let birth = Birth { layer: fork.layer, stage: Stage::Layer };
            match batch.births.last_mut() {
                Some((last, all)) if *last == birth => all.end = rows.end,
                _ => batch.births.push((birth, rows.clone())),
            }
            starts[i] = rows.start;
            batch.branches[i] = rows;
        }
        (batch, starts)
    }

    /// The rows of sequences that a branch copies, in order.
    fn rows_to_copy(&self, spec: &ModelSpec, i: usize, branch: &Branch) -> Result<Vec<usize>> {
        let bad = |why: String| Err(Error::BadBranch { branch: i, why });
        if branch.birth.layer >= spec.n_layers {
            return bad(format!(
                "it begins in layer {}, but the model has {}",
                branch.birth.layer, spec.n_layers
            ));
        }
        let mut rows = Vec::new();
        let mut first = None;
        for &sequence in &branch.sequences {
            let Some(at) = self.row_of(sequence, branch.from) else {
                return bad(format!("sequence {sequence} has no position {}", branch.from));
            };
            if *first.get_or_insert(at) != at {
                return bad(format!("its sequences are apart at position {} already", branch.from));
            }
            if at < self.n_kept {
                return bad(format!(
                    "position {} of sequence {sequence} was kept and is not computed",
                    branch.from
                ));
            }
            rows.extend((branch.from..).map_while(|position| self.row_of(sequence, position)));
        }
        if rows.is_empty() {
            return bad("it copies no sequence".to_owned());
        }
        rows.sort_unstable();
        rows.dedup();
        Ok(rows)
    }

    /// Copies rows, for another model where one is named.
    fn copy_rows(&mut self, copied: &[usize], model: Option<ModelId>) -> Range<usize> {
        let first = self.n_rows();
        let place: HashMap<usize, usize> = copied.iter().enumerate().map(|(i, &r)| (r, first + i)).collect();
        for (i, &row) in copied.iter().enumerate() {
            let before = self.before(row);
            let parent = before.map(|b| place.get(&b).copied().unwrap_or(b));
            let joins =
                i > 0 && before == Some(copied[i - 1]) && self.segment_of(copied[i - 1]).rows.contains(&row);
            let copy = self.row(row);
            self.push_row(Row { model: model.unwrap_or(copy.model), ..copy }, parent, joins);
            self.origins.push(row);
        }
        first..self.n_rows()
    }
}
