//! Control adapters: noise floors made from an adapter's own factors, factors in and factors out.
//!
//! "These two are 90% alike" and "this head matters" mean little without what an adapter gives that is as large but knows
//! nothing. A control has the size of its original, module by module, and lacks one thing that could explain a finding:
//!
//! * [`ControlKind::Random`] keeps every singular value and turns the singular vectors at random. With thin QR factors
//!   `B = Q·R` and `Aᵀ = P·T`, `B' = Q'·R` and `A' = Tᵀ·P'ᵀ` for uniformly random orthonormal `Q'`, `P'`: `B'·A'` has the
//!   singular values of `R·Tᵀ`, which are those of `B·A`, and every column of a factor keeps its length.
//! * [`ControlKind::SignFlipped`] is `−ΔW`: the same subspaces, the opposite change.
//! * [`ControlKind::Shuffled`] moves every update to another layer, within its kind of module: what was learned, in the wrong
//!   place. Where there are two layers or more, none stays where it was (a random cycle, Sattolo 1986).
//!
//! Random numbers depend on the seed and the module's path alone. What is not low-rank has no such controls and is refused.

use crate::adapter::{EmbeddingLowRank, LowRank, PeftAdapter};
use lorascope_checkpoint::StoredTensor;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;
use std::str::FromStr;

/// What a control keeps of its original.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ControlKind {
    /// The singular values of every module, with random singular vectors.
    Random,
    /// Everything but the sign.
    SignFlipped,
    /// Every update, in another layer.
    Shuffled,
}

impl ControlKind {
    /// All kinds.
    pub const ALL: [ControlKind; 3] = [ControlKind::Random, ControlKind::SignFlipped, ControlKind::Shuffled];

    /// Name in files, flags and tables.
    pub fn name(self) -> &'static str {
        match self {
            ControlKind::Random => "random",
            ControlKind::SignFlipped => "sign_flipped",
            ControlKind::Shuffled => "shuffled",
        }
    }

    /// What it is, for a report.
    pub fn description(self) -> &'static str {
        match self {
            ControlKind::Random => "random directions with the same singular values in every module",
            ControlKind::SignFlipped => "the same change with the opposite sign",
            ControlKind::Shuffled => "the same updates, each in another layer",
        }
    }
}

impl fmt::Display for ControlKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for ControlKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = ControlKind::ALL.map(ControlKind::name).join(", ");
        let found = ControlKind::ALL.into_iter().find(|kind| kind.name() == text);
        found.ok_or_else(|| format!("`{text}` is no kind of control; there are {names}"))
    }
}

/// Why an adapter has no control of a kind.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The change is not low-rank.
    #[error("{what} `{path}` is not a low-rank change, so it has no control; use an adapter without it")]
    NotLowRank {
        /// What stands there.
        what: &'static str,
        /// Module path.
        path: String,
    },
    /// No update can move.
    #[error("its updates can't change layers: every kind of module is adapted in one layer only")]
    NothingMoves,
    /// Factors that can't be read.
    #[error(transparent)]
    Checkpoint(#[from] lorascope_checkpoint::Error),
}

impl PeftAdapter {
    /// A control of this adapter. `parts` gives the ranges of outputs of a module that are matrices of their own (the query,
    /// key and value of a fused one): a random control keeps the singular values of each.
    ///
    /// # Errors
    /// A change that is not low-rank (DoRA, weights or biases of the adapter's own), or nothing to shuffle.
    pub fn control(
        &self,
        kind: ControlKind,
        seed: u64,
        parts: &dyn Fn(&str) -> Vec<Range<usize>>,
    ) -> Result<PeftAdapter, ControlError> {
        self.check_low_rank()?;
        let mut made = self.clone();
        match kind {
            ControlKind::Random => {
                for (path, update) in &mut made.low_rank {
                    let draws = Draws { seed, path };
                    randomise(update, &draws, &parts(path))?;
                }
                for (path, update) in &mut made.embeddings {
                    let draws = Draws { seed, path };
                    let whole = 0..update.b.n_rows();
                    update.b = draws.columns_turned(&update.b, "B", std::slice::from_ref(&whole))?;
                    update.a = draws.rows_turned(&update.a)?;
                }
            }
            ControlKind::SignFlipped => {
                for LowRank { b, bias, .. } in made.low_rank.values_mut() {
                    *b = negated(b)?;
                    *bias = bias.as_ref().map(negated).transpose()?;
                }
                for EmbeddingLowRank { b, .. } in made.embeddings.values_mut() {
                    *b = negated(b)?;
                }
            }
            ControlKind::Shuffled => made.shuffle(seed)?,
        }
        made.sha256 = hex(&Sha256::digest(format!("{kind} {seed} {}", self.sha256)));
        made.report.notes.push(format!("a control made by lorascope: {} (seed {seed})", kind.description()));
        Ok(made)
    }

    fn check_low_rank(&self) -> Result<(), ControlError> {
        let refuse = |what, path: &String| Err(ControlError::NotLowRank { what, path: path.clone() });
        if let Some((path, _)) = self.low_rank.iter().find(|(_, u)| u.magnitude.is_some()) {
            return refuse("the DoRA update of", path);
        }
        if let Some(path) = self.replaced_weights.keys().next() {
            return refuse("the weight of the adapter's own at", path);
        }
        match self.replaced_biases.keys().next() {
            Some(path) => refuse("the bias of the adapter's own at", path),
            None => Ok(()),
        }
    }

    fn shuffle(&mut self, seed: u64) -> Result<(), ControlError> {
        let mut places: BTreeMap<(String, usize, usize), Vec<String>> = BTreeMap::new();
        for (path, update) in &self.low_rank {
            let key = (without_layer(path), update.b.n_rows(), update.a.n_cols());
            places.entry(key).or_default().push(path.clone());
        }
        let mut moved: BTreeMap<String, String> = BTreeMap::new();
        for ((kind, ..), paths) in &places {
            let mut rng = Draws { seed, path: kind }.rng("layers");
            let to = cycle(paths.len(), &mut rng);
            moved.extend(paths.iter().zip(to).map(|(path, to)| (path.clone(), paths[to].clone())));
        }
        if moved.iter().all(|(from, to)| from == to) {
            return Err(ControlError::NothingMoves);
        }
        let moved_to = |path: String| moved.get(&path).cloned().unwrap_or(path);
        let updates = std::mem::take(&mut self.low_rank);
        self.low_rank = updates.into_iter().map(|(path, update)| (moved_to(path), update)).collect();
        self.report.inert = std::mem::take(&mut self.report.inert).into_iter().map(moved_to).collect();
        self.report.inert.sort();
        let stay = moved.iter().filter(|(from, to)| from == to).count() + self.embeddings.len();
        if stay > 0 {
            let note = format!("{stay} update(s) have no other layer to go to and stay where they were");
            self.report.notes.push(note);
        }
        Ok(())
    }
}

/// `model.layers.3.mlp.up_proj` without its layer: the first part of a path that is a number.
fn without_layer(path: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    let mut found = false;
    let part = |part: &str| {
        let layer = !found && is_number(part);
        found |= layer;
        if layer { "{l}".to_owned() } else { part.to_owned() }
    };
    path.split('.').map(part).collect::<Vec<_>>().join(".")
}

/// A random permutation that is one cycle (Sattolo 1986): nothing stays in place where there are two things or more.
fn cycle(n: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
    let mut order: Vec<usize> = (0..n).collect();
    for i in (1..n).rev() {
        order.swap(i, rng.random_range(0..i));
    }
    order
}

fn randomise(update: &mut LowRank, draws: &Draws, parts: &[Range<usize>]) -> Result<(), ControlError> {
    update.b = draws.columns_turned(&update.b, "B", parts)?;
    update.a = draws.rows_turned(&update.a)?;
    if let Some(bias) = &update.bias {
        // A bias is a matrix of one column.
        let column = StoredTensor::from_f32(bias.name(), &[bias.n_cols(), 1], bias.to_f32()?);
        let turned = draws.columns_turned(&column, "bias", parts)?.to_f32()?;
        update.bias = Some(StoredTensor::from_f32(bias.name(), bias.shape(), turned));
    }
    Ok(())
}

fn negated(stored: &StoredTensor) -> Result<StoredTensor, ControlError> {
    let values = stored.to_f32()?.into_iter().map(|v| -v).collect();
    Ok(StoredTensor::from_f32(stored.name(), stored.shape(), values))
}

/// Random numbers of one module.
struct Draws<'a> {
    seed: u64,
    path: &'a str,
}

impl Draws<'_> {
    fn rng(&self, what: &str) -> ChaCha8Rng {
        let digest = Sha256::digest(format!("{what} {}", self.path));
        let mut stream = [0; 8];
        stream.copy_from_slice(&digest[..8]);
        let mut rng = ChaCha8Rng::seed_from_u64(self.seed);
        rng.set_stream(u64::from_le_bytes(stream));
        rng
    }

    /// The columns of `[rows, cols]` turned together by a random rotation: `Q·R` becomes `Q'·R`, for each range of rows by
    /// itself. Rows outside all ranges stay.
    fn columns_turned(
        &self,
        stored: &StoredTensor,
        what: &str,
        parts: &[Range<usize>],
    ) -> Result<StoredTensor, ControlError> {
        let cols = stored.n_cols();
        let mut values = stored.to_f32()?;
        let mut rng = self.rng(what);
        for part in parts {
            let column = |c: usize| part.clone().map(|r| f64::from(values[r * cols + c])).collect();
            let (_, coefficients) = orthonormal((0..cols).map(column).collect());
            let frame = random_frame(part.len(), coefficients.len(), &mut rng);
            for (i, r) in part.clone().enumerate() {
                for c in 0..cols {
                    let sum = frame.iter().zip(&coefficients).map(|(q, row)| q[i] * row[c]).sum::<f64>();
                    values[r * cols + c] = sum as f32;
                }
            }
        }
        Ok(StoredTensor::from_f32(stored.name(), stored.shape(), values))
    }

    /// The same for the rows of A.
    fn rows_turned(&self, stored: &StoredTensor) -> Result<StoredTensor, ControlError> {
        let (rows, cols) = (stored.n_rows(), stored.n_cols());
        let values = stored.to_f32()?;
        let row = |r: usize| values[r * cols..(r + 1) * cols].iter().map(|&v| f64::from(v)).collect();
        let (_, coefficients) = orthonormal((0..rows).map(row).collect());
        let frame = random_frame(cols, coefficients.len(), &mut self.rng("A"));
        let value = |r: usize, i: usize| {
            frame.iter().zip(&coefficients).map(|(q, row)| q[i] * row[r]).sum::<f64>() as f32
        };
        let values =
            (0..rows).flat_map(|r| (0..cols).map(move |i| (r, i))).map(|(r, i)| value(r, i)).collect();
        Ok(StoredTensor::from_f32(stored.name(), stored.shape(), values))
    }
}

/// `n` orthonormal vectors of length `width`, uniformly random: independent normal ones made orthonormal.
fn random_frame(width: usize, n: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let vectors = (0..n).map(|_| (0..width).map(|_| normal(rng)).collect()).collect();
    orthonormal(vectors).0
}

/// A standard normal number (Box and Muller 1958).
fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (u, v): (f64, f64) = (rng.random_range(0.0..1.0), rng.random_range(0.0..1.0));
    (-2.0 * (1.0 - u).ln()).sqrt() * (std::f64::consts::TAU * v).cos()
}

/// Vectors as combinations of orthonormal ones: `vectors[c] = Σ_k q[k]·coefficients[k][c]`, by Gram-Schmidt, twice so that
/// rounding leaves them orthogonal. Vectors that depend on earlier ones bring no direction of their own.
fn orthonormal(vectors: Vec<Vec<f64>>) -> (Vec<Vec<f64>>, Vec<Vec<f64>>) {
    let n = vectors.len();
    let (mut directions, mut coefficients): (Vec<Vec<f64>>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    for (c, mut vector) in vectors.into_iter().enumerate() {
        let length = dot(&vector, &vector).sqrt();
        for _ in 0..2 {
            for (q, row) in directions.iter().zip(&mut coefficients) {
                let along = dot(q, &vector);
                row[c] += along;
                vector.iter_mut().zip(q).for_each(|(v, q)| *v -= along * q);
            }
        }
        let rest = dot(&vector, &vector).sqrt();
        // Factors are f32: less than this of a column is rounding.
        if rest > 1e-9 * length {
            vector.iter_mut().for_each(|v| *v /= rest);
            directions.push(vector);
            let mut row = vec![0.0; n];
            row[c] = rest;
            coefficients.push(row);
        }
    }
    (directions, coefficients)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layers_are_found_in_paths() {
        assert_eq!(without_layer("model.layers.12.self_attn.q_proj"), "model.layers.{l}.self_attn.q_proj");
        assert_eq!(without_layer("transformer.h.0.mlp.c_fc"), "transformer.h.{l}.mlp.c_fc");
        assert_eq!(without_layer("a.1.b.2"), "a.{l}.b.2");
        assert_eq!(without_layer("lm_head"), "lm_head");
    }

    #[test]
    fn a_cycle_leaves_nothing_in_place() {
        for seed in 0..50 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            for n in [2, 3, 7, 30] {
                let to = cycle(n, &mut rng);
                assert!(to.iter().enumerate().all(|(from, to)| from != *to), "{to:?}");
                let mut sorted = to;
                sorted.sort_unstable();
                assert_eq!(sorted, (0..n).collect::<Vec<_>>());
            }
        }
        assert_eq!(cycle(1, &mut ChaCha8Rng::seed_from_u64(0)), [0]);
    }

    #[test]
    fn vectors_come_back_from_their_directions() {
        let vectors = vec![vec![1.0, 2.0, 0.5], vec![2.0, 4.0, 1.0], vec![0.0; 3], vec![0.0, -1.0, 3.0]];
        let (q, coefficients) = orthonormal(vectors.clone());
        assert_eq!(q.len(), 2, "two of the four are independent");
        for (c, vector) in vectors.iter().enumerate() {
            for (i, v) in vector.iter().enumerate() {
                let sum: f64 = q.iter().zip(&coefficients).map(|(q, row)| q[i] * row[c]).sum();
                assert!((sum - v).abs() < 1e-12, "vector {c}");
            }
        }
    }

    #[test]
    fn normal_numbers_have_mean_zero_and_variance_one() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let values: Vec<f64> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = values.iter().sum::<f64>() / 20_000.0;
        let variance = values.iter().map(|v| v * v).sum::<f64>() / 20_000.0;
        // Four standard errors: 1/√n and √(2/n).
        assert!(mean.abs() < 0.029 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
