//! The singular value decomposition of a low-rank update, from its factors alone, in O(d·r²).
//!
//! `s·B·A = U·S·Vᵀ`: with thin QR factors `B = Q·R` and `Aᵀ = P·T`, `R·Tᵀ = Ũ·S̃·Ṽᵀ` is a matrix of the adapter's rank, and
//! `U = Q·Ũ`, `V = P·Ṽ`, `S = |s|·S̃`. DoRA's gain and the bias of B are not part of it.
//!
//! The small matrix is decomposed by rotations of its columns (Hestenes 1958), which are right for matrices of any rank. nalgebra
//! 0.35's own decomposition is not: of 8×8 matrices of rank 1, one in twenty comes back wrong.

use lorascope_engine::Result;
use lorascope_engine::{Model, Update};
use nalgebra::{DMatrix, DVector, DVectorView};

/// A component counts as there if its singular value is more than this share of the largest: f32 factors are not exact enough
/// to say more.
const NOTHING: f64 = 1e-6;

/// `U·S·Vᵀ`, the largest singular value first.
#[derive(Clone, Debug)]
pub struct LowRankSvd {
    /// Left singular vectors, `[outputs, components]`.
    pub u: DMatrix<f64>,
    /// Singular values.
    pub values: Vec<f64>,
    /// Right singular vectors, `[inputs, components]`.
    pub v: DMatrix<f64>,
}

/// The module's rows of B, `[outputs, rank]`, and `Aᵀ`, `[inputs, rank]`, without the scale.
pub fn factors(update: &Update) -> Result<(DMatrix<f64>, DMatrix<f64>)> {
    let factors = update.factors;
    let b: Vec<f32> = Model::<f32>::widened(&factors.b)?;
    let a: Vec<f32> = Model::<f32>::widened(&factors.a)?;
    let (rank, n_in) = (factors.rank, factors.a.n_cols());
    let rows = update.outputs.clone();
    let b = DMatrix::from_fn(rows.len(), rank, |o, r| f64::from(b[(rows.start + o) * rank + r]));
    let at = DMatrix::from_fn(n_in, rank, |i, r| f64::from(a[r * n_in + i]));
    Ok((b, at))
}

impl LowRankSvd {
    /// Of one module's update.
    pub fn of(update: &Update) -> Result<Self> {
        let (b, at) = factors(update)?;
        let scale = update.factors.scale;
        let (b, at) = (b.qr(), at.qr());
        let (u, values, v) = jacobi(&(b.r() * at.r().transpose()));
        let sign = if scale < 0.0 { -1.0 } else { 1.0 };
        Ok(Self {
            u: b.q() * u * sign,
            values: values.iter().map(|value| value * scale.abs()).collect(),
            v: at.q() * v,
        })
    }

    /// Products of the left singular vectors with another's, and of the right ones: `[components, other's components]`.
    pub fn overlaps(&self, other: &Self) -> (DMatrix<f64>, DMatrix<f64>) {
        (self.u.tr_mul(&other.u), self.v.tr_mul(&other.v))
    }

    /// Components that are there.
    pub fn rank(&self) -> usize {
        let largest = self.values.first().copied().unwrap_or(0.0);
        self.values.iter().filter(|&&s| s > NOTHING * largest).count()
    }

    /// `‖ΔW‖_F²`.
    pub fn square(&self) -> f64 {
        self.values.iter().map(|s| s * s).sum()
    }

    /// Share of `‖ΔW‖²` of each component; empty for an update that is zero.
    pub fn shares(&self) -> Vec<f64> {
        let all = self.square();
        if all > 0.0 { self.values.iter().map(|s| s * s / all).collect() } else { Vec::new() }
    }

    /// Left singular vector of a component.
    pub fn output(&self, component: usize) -> DVectorView<'_, f64> {
        self.u.column(component)
    }

    /// Stable rank `‖ΔW‖_F² / ‖ΔW‖₂²` (Rudelson & Vershynin 2007).
    pub fn stable_rank(&self) -> Option<f64> {
        let largest = self.values.first().copied().filter(|&s| s > 0.0)?;
        Some(self.square() / (largest * largest))
    }

    /// Effective rank `exp(−Σ p ln p)` with `p = σ / Σσ` (Roy & Vetterli 2007).
    pub fn effective_rank(&self) -> Option<f64> {
        let all: f64 = self.values.iter().sum();
        let p = self.values.iter().map(|s| s / all).filter(|p| *p > 0.0);
        (all > 0.0).then(|| p.map(|p| -p * p.ln()).sum::<f64>().exp())
    }
}

/// Rotations of all pairs of columns, at most so often; a handful suffices.
const SWEEPS: usize = 60;

/// `M = U·S·Vᵀ` by one-sided Jacobi rotations, the largest singular value first: `min(rows, columns)` components, U and V with
/// orthonormal columns even where singular values are zero.
pub fn jacobi(m: &DMatrix<f64>) -> (DMatrix<f64>, Vec<f64>, DMatrix<f64>) {
    if m.nrows() < m.ncols() {
        let (v, values, u) = jacobi(&m.transpose());
        return (u, values, v);
    }
    let n = m.ncols();
    let (mut a, mut v) = (m.clone(), DMatrix::identity(n, n));
    // Columns below this are rounding and have no direction.
    let floor = (f64::EPSILON * m.norm()).powi(2);
    for _ in 0..SWEEPS {
        let mut turned = false;
        for i in 0..n {
            for j in i + 1..n {
                let (x, y) = (a.column(i).norm_squared(), a.column(j).norm_squared());
                let along = a.column(i).dot(&a.column(j));
                if x <= floor || y <= floor || along.abs() <= f64::EPSILON * (x * y).sqrt() {
                    continue;
                }
                turned = true;
                let zeta = (y - x) / (2.0 * along);
                let t = zeta.signum() / (zeta.abs() + zeta.hypot(1.0));
                let c = 1.0 / t.hypot(1.0);
                rotate(&mut a, i, j, c, c * t);
                rotate(&mut v, i, j, c, c * t);
            }
        }
        if !turned {
            break;
        }
    }
    let sizes: Vec<f64> = a.column_iter().map(|column| column.norm()).collect();
    let mut order: Vec<usize> = (0..n).collect();
    order.sort_by(|&i, &j| sizes[j].total_cmp(&sizes[i]));
    let mut u: Vec<DVector<f64>> = Vec::with_capacity(n);
    for &i in &order {
        let own = a.column(i) / sizes[i];
        let there = sizes[i] * sizes[i] > floor;
        let next = if there { own } else { another(&u, m.nrows()) };
        u.push(next);
    }
    let values = order.iter().map(|&i| if sizes[i] * sizes[i] > floor { sizes[i] } else { 0.0 }).collect();
    (DMatrix::from_columns(&u), values, v.select_columns(&order))
}

fn rotate(m: &mut DMatrix<f64>, i: usize, j: usize, c: f64, s: f64) {
    for row in 0..m.nrows() {
        let (x, y) = (m[(row, i)], m[(row, j)]);
        m[(row, i)] = c * x - s * y;
        m[(row, j)] = s * x + c * y;
    }
}

/// A direction orthogonal to these, of which there are fewer than dimensions.
fn another(known: &[DVector<f64>], d: usize) -> DVector<f64> {
    let rest = |k: usize| {
        let mut vector = DVector::from_fn(d, |i, _| f64::from(u8::from(i == k)));
        for _ in 0..2 {
            for column in known {
                let along = column.dot(&vector);
                vector.axpy(-along, column, 1.0);
            }
        }
        vector
    };
    // Some axis has at least its share of the space that is left.
    let left = (d - known.len()) as f64 / d as f64;
    let found = (0..d).map(rest).find(|vector| vector.norm_squared() > 0.5 * left);
    let vector = found.unwrap_or_else(|| unreachable!("fewer directions than dimensions"));
    let length = vector.norm();
    vector / length
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    /// Checks the definition: orthonormal columns, sorted values, and the matrix itself as their product.
    fn check(m: &DMatrix<f64>) {
        let (u, values, v) = jacobi(m);
        let k = m.nrows().min(m.ncols());
        assert_eq!((u.shape(), values.len(), v.shape()), ((m.nrows(), k), k, (m.ncols(), k)));
        for side in [&u, &v] {
            assert!((side.tr_mul(side) - DMatrix::identity(k, k)).norm() < 1e-12, "{m}");
        }
        assert!(values.is_sorted_by(|a, b| a >= b) && values.iter().all(|s| *s >= 0.0), "{values:?}");
        let again = u * DMatrix::from_diagonal(&values.into()) * v.transpose();
        assert!((again - m).norm() <= 1e-13 * m.norm(), "{m}");
    }

    #[test]
    fn decompositions_are_right_whatever_the_rank() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut matrix = |rows, cols| DMatrix::from_fn(rows, cols, |_, _| rng.random_range(-1.0..1.0));
        for _ in 0..50 {
            for rank in [1, 2, 4, 8] {
                check(&(matrix(8, rank) * matrix(rank, 8)));
                check(&(matrix(30, rank) * matrix(rank, 20)));
                check(&(matrix(5, rank) * matrix(rank, 20)));
            }
            let mut empty = matrix(8, 8);
            empty.column_mut(0).fill(0.0);
            empty.row_mut(3).fill(0.0);
            check(&empty);
        }
        check(&DMatrix::zeros(4, 4));
        check(&DMatrix::identity(6, 6));
        check(&DMatrix::from_fn(8, 8, |i, j| 10f64.powi(-((i + j) as i32)) * (1.0 + (i * j) as f64).sin()));
    }
}
