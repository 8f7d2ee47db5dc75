//! Intruder dimensions: large singular vectors of W + ΔW that are no singular vectors of W (Shuttleworth et al. 2024,
//! arXiv 2410.21228).
//!
//! For each of the largest left singular vectors of W + ΔW, the largest |cosine| with any left singular vector of W. One
//! eigendecomposition of W's Gram matrix on its smaller side, `G = Q·Λ·Qᵀ`, serves all adapters and controls: in the basis Q the
//! Gram matrix of W + ΔW is `Λ + ỸŨᵀ + ŨỸᵀ + Ũ·S²·Ũᵀ`, a diagonal and a low-rank matrix, whose largest eigenvectors Davidson's method
//! finds in a few steps (Davidson 1975, preconditioned with the diagonal). A cosine is then an entry of such a vector. Where W has
//! more outputs than inputs, the smaller side is that of the right singular vectors, and left ones follow from them.
//!
//! The eigendecomposition takes about 9·d³ operations for a smaller side of d: 0.2 s at 576, 13 s at 2304 on one core.

use crate::low_rank::LowRankSvd;
use lorascope_kernels::{MatMut, MatRef, Packed, Write, matmul};
use nalgebra::{DMatrix, DVector};

/// Residuals of eigenvectors, relative to the largest eigenvalue, at which they are found.
const RESIDUAL: f64 = 1e-10;
/// Singular values of W below this share of the largest have no direction that f32 weights would fix.
const NOTHING: f64 = 1e-6;

/// A singular vector of W + ΔW.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// The singular value.
    pub value: f64,
    /// The largest |cosine| of its left vector with one of W.
    pub cosine: f64,
    /// Which of W's, the largest first.
    pub nearest: usize,
}

/// W on its smaller side, in the basis of its singular vectors there.
#[derive(Debug)]
pub struct Eigenbasis {
    /// Columns are singular vectors, the largest first.
    vectors: DMatrix<f64>,
    /// Squared singular values.
    squares: Vec<f64>,
    /// W, the smaller side first: `[d, larger]`.
    weight: DMatrix<f64>,
    /// The smaller side is that of the outputs.
    by_outputs: bool,
}

impl Eigenbasis {
    /// Of a matrix `[n_out, n_in]`, row by row.
    pub fn new(weight: &[f64], n_out: usize, n_in: usize) -> Self {
        let by_outputs = n_out <= n_in;
        // Column-major `[n_in, n_out]` is the row-major matrix as it stands.
        let transposed = DMatrix::from_column_slice(n_in, n_out, weight);
        let weight = if by_outputs { transposed.transpose() } else { transposed };
        let d = weight.nrows();
        // The transpose's columns are contiguous rows for the kernel.
        let rows = weight.transpose();
        let packed = Packed::from_output_rows(MatRef::new(rows.as_slice(), d, rows.nrows()));
        let mut gram = vec![0.0; d * d];
        matmul(
            MatMut::new(&mut gram, d, d),
            MatRef::new(rows.as_slice(), d, rows.nrows()),
            &packed,
            Write::Set,
        );
        let eigen = DMatrix::from_vec(d, d, gram).symmetric_eigen();
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
        Self {
            vectors: eigen.eigenvectors.select_columns(&order),
            squares: order.iter().map(|&i| eigen.eigenvalues[i].max(0.0)).collect(),
            weight,
            by_outputs,
        }
    }

    /// The largest singular vectors of W + ΔW.
    pub fn largest(&self, change: &LowRankSvd, most: usize) -> Vec<Found> {
        // Seen from the smaller side, ΔW = u·S·vᵀ.
        let (u, v) = if self.by_outputs { (&change.u, &change.v) } else { (&change.v, &change.u) };
        let scaled = v * DMatrix::from_diagonal(&DVector::from_column_slice(&change.values));
        let u = self.vectors.tr_mul(u);
        let y = self.vectors.tr_mul(&(&self.weight * scaled));
        let core = DMatrix::from_diagonal(&DVector::from_iterator(
            change.values.len(),
            change.values.iter().map(|s| s * s),
        ));
        let gram = Updated { diagonal: &self.squares, u: &u, y: &y, core };
        let largest = self.squares.first().copied().unwrap_or(0.0);
        let mut found = Vec::new();
        for (square, x) in gram.largest(most) {
            let value = square.max(0.0).sqrt();
            // Cosines with the singular vectors of W: entries of x on the outputs' side; from the inputs' side
            // uᵢ·u' = (σᵢ² xᵢ + yᵢ·(Ũᵀx)) / (σᵢ σ').
            let through = u.tr_mul(&x);
            let cosine = |i: usize| {
                let own = self.squares[i].sqrt();
                if self.by_outputs {
                    return x[i].abs();
                }
                if own <= NOTHING * largest.sqrt() || value == 0.0 {
                    return 0.0;
                }
                ((self.squares[i] * x[i] + y.row(i).transpose().dot(&through)) / (own * value)).abs()
            };
            let (mut nearest, mut best) = (0, 0.0);
            for i in 0..x.len() {
                let own = cosine(i);
                if own > best {
                    (nearest, best) = (i, own);
                }
            }
            // Rounding can make the cosine of equal directions a hair larger than 1.
            found.push(Found { value, cosine: best.min(1.0), nearest });
        }
        found
    }
}

/// `Λ + y·uᵀ + u·yᵀ + u·C·uᵀ`.
struct Updated<'a> {
    diagonal: &'a [f64],
    u: &'a DMatrix<f64>,
    y: &'a DMatrix<f64>,
    core: DMatrix<f64>,
}

impl Updated<'_> {
    fn times(&self, x: &DMatrix<f64>) -> DMatrix<f64> {
        let (ux, yx) = (self.u.tr_mul(x), self.y.tr_mul(x));
        let mut out = DMatrix::from_fn(x.nrows(), x.ncols(), |i, j| self.diagonal[i] * x[(i, j)]);
        out += self.y * &ux;
        out += self.u * (yx + &self.core * ux);
        out
    }

    /// The largest eigenvalues with their eigenvectors.
    fn largest(&self, most: usize) -> Vec<(f64, DVector<f64>)> {
        let d = self.diagonal.len();
        let most = most.min(d);
        // W's own largest vectors, some more, and all that the update writes.
        let start = (most + 8).min(d);
        let mut columns: Vec<DVector<f64>> = Vec::new();
        for i in 0..start {
            extend(&mut columns, DVector::from_fn(d, |k, _| f64::from(u8::from(k == i))));
        }
        for column in self.u.column_iter() {
            extend(&mut columns, column.into_owned());
        }
        let mut basis = DMatrix::from_columns(&columns);
        let mut image = self.times(&basis);
        loop {
            let eigen = symmetric(&basis.tr_mul(&image)).symmetric_eigen();
            let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
            order.sort_by(|&i, &j| eigen.eigenvalues[j].total_cmp(&eigen.eigenvalues[i]));
            order.truncate(most);
            let coefficients = eigen.eigenvectors.select_columns(&order);
            let (vectors, images) = (&basis * &coefficients, &image * &coefficients);
            let size = eigen.eigenvalues.iter().fold(f64::MIN_POSITIVE, |m, v| m.max(v.abs()));
            let mut added: Vec<DVector<f64>> = Vec::new();
            for (j, &i) in order.iter().enumerate() {
                let value = eigen.eigenvalues[i];
                let residual = images.column(j) - vectors.column(j) * value;
                if residual.norm() <= RESIDUAL * size {
                    continue;
                }
                let step = |k: usize| {
                    let gap = value - self.diagonal[k];
                    residual[k] / if gap.abs() < 1e-6 * size { 1e-6 * size } else { gap }
                };
                added.push(DVector::from_fn(d, |k, _| step(k)));
            }
            let known = basis.ncols();
            let mut columns: Vec<DVector<f64>> = basis.column_iter().map(|c| c.into_owned()).collect();
            added.into_iter().for_each(|vector| extend(&mut columns, vector));
            // Nothing to add: they are found, or the whole space is searched.
            if columns.len() == known {
                let one = |(j, &i): (usize, &usize)| (eigen.eigenvalues[i], vectors.column(j).into_owned());
                return order.iter().enumerate().map(one).collect();
            }
            let new = DMatrix::from_columns(&columns[known..]);
            let new_image = self.times(&new);
            basis = DMatrix::from_columns(&columns);
            image = DMatrix::from_columns(
                &image
                    .column_iter()
                    .chain(new_image.column_iter())
                    .map(|c| c.into_owned())
                    .collect::<Vec<_>>(),
            );
        }
    }
}

fn symmetric(m: &DMatrix<f64>) -> DMatrix<f64> {
    (m + m.transpose()) * 0.5
}

/// Adds what is new in a vector to orthonormal ones (Gram-Schmidt, twice).
fn extend(columns: &mut Vec<DVector<f64>>, mut vector: DVector<f64>) {
    let length = vector.norm();
    for _ in 0..2 {
        for column in columns.iter() {
            let along = column.dot(&vector);
            vector.axpy(-along, column, 1.0);
        }
    }
    let rest = vector.norm();
    if rest > 1e-8 * length && columns.len() < vector.len() {
        columns.push(vector / rest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::low_rank::jacobi;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn matrix(rows: usize, cols: usize, rng: &mut ChaCha8Rng) -> DMatrix<f64> {
        DMatrix::from_fn(rows, cols, |_, _| rng.random_range(-1.0..1.0))
    }

    fn svd_of(m: &DMatrix<f64>) -> LowRankSvd {
        let (u, values, v) = jacobi(m);
        LowRankSvd { u, values, v }
    }

    /// Both singular value decompositions in full.
    fn by_definition(weight: &DMatrix<f64>, change: &DMatrix<f64>, most: usize) -> Vec<(f64, f64)> {
        let (base, tuned) = (svd_of(weight), svd_of(&(weight + change)));
        let one = |j: usize| {
            let cosines = base.u.tr_mul(&tuned.u.column(j).into_owned());
            (tuned.values[j], cosines.iter().fold(0.0f64, |m, c| m.max(c.abs())))
        };
        (0..most).map(one).collect()
    }

    fn found(weight: &DMatrix<f64>, change: &DMatrix<f64>, most: usize) -> Vec<Found> {
        let (n_out, n_in) = weight.shape();
        let rows: Vec<f64> = weight.transpose().as_slice().to_vec();
        let mut low_rank = svd_of(change);
        let k = low_rank.rank();
        low_rank.u = low_rank.u.columns(0, k).into_owned();
        low_rank.v = low_rank.v.columns(0, k).into_owned();
        low_rank.values.truncate(k);
        Eigenbasis::new(&rows, n_out, n_in).largest(&low_rank, most)
    }

    #[test]
    fn cosines_are_those_of_full_decompositions() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for (n_out, n_in) in [(40, 60), (60, 40), (50, 50), (12, 30)] {
            for size in [1e-3, 0.1, 1.0, 20.0] {
                let weight = matrix(n_out, n_in, &mut rng);
                let change = matrix(n_out, 3, &mut rng) * matrix(3, n_in, &mut rng) * size;
                let (expected, got) = (by_definition(&weight, &change, 10), found(&weight, &change, 10));
                for (e, g) in expected.iter().zip(&got) {
                    assert!((e.0 - g.value).abs() < 1e-7 * e.0, "{n_out}×{n_in}, {size}: {e:?} {g:?}");
                    assert!((e.1 - g.cosine).abs() < 1e-5, "{n_out}×{n_in}, {size}: {e:?} {g:?}");
                }
                assert_eq!(got.len(), 10);
            }
        }
    }

    #[test]
    fn no_change_has_no_intruder_and_a_planted_one_is_found() {
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        for (n_out, n_in) in [(40, 60), (60, 40)] {
            let weight = matrix(n_out, n_in, &mut rng);
            let nothing = matrix(n_out, 1, &mut rng) * matrix(1, n_in, &mut rng) * 1e-12;
            assert!(found(&weight, &nothing, 10).iter().all(|f| f.cosine > 0.999_999));
            let nearest: Vec<usize> = found(&weight, &nothing, 10).iter().map(|f| f.nearest).collect();
            assert_eq!(nearest, (0..10).collect::<Vec<_>>());
            // A direction spread over all singular vectors of W, ten times as large as the largest of them.
            let own = svd_of(&weight);
            let spread = own.u.column_sum().normalize();
            let planted = &spread * own.v.column_sum().normalize().transpose() * (10.0 * own.values[0]);
            let tuned = found(&weight, &planted, 3);
            assert!(tuned[0].cosine < 0.3, "{tuned:?}");
            assert!(tuned[1].cosine > 0.5, "{tuned:?}");
        }
    }
}
