//! One affine map `r → r + τ ⊙ (Θ·[r/σ, 1])`, its closed-form fit, and its plain form `A·r + b`.
//!
//! σ and τ are the root mean squares of each coordinate of the layer's and the final states, so that Θ has no unit and one
//! penalty suits all coordinates; Θ = 0 is the plain lens.

use crate::linear::Cholesky;
use lorascope_engine::Mat;
use lorascope_kernels::{MatRef, Packed, Write, matmul};

/// A map for one layer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Affine {
    /// Θ: `[d_model, d_model + 1]`; the last column is the offset.
    pub theta: Mat<f32>,
    /// σ.
    pub in_scale: Vec<f32>,
    /// τ.
    pub out_scale: Vec<f32>,
}

impl Affine {
    /// The plain lens, in the units of these states.
    pub fn identity(from: &Mat<f32>, to: &Mat<f32>, weights: &[f64]) -> Self {
        let d = from.cols;
        Self {
            theta: Mat::zeros(d, d + 1),
            in_scale: root_mean_squares(from, weights),
            out_scale: root_mean_squares(to, weights),
        }
    }

    /// `[r/σ, 1]` of each row.
    pub fn features(&self, resid: &Mat<f32>) -> Mat<f32> {
        let mut features = Mat::zeros(resid.rows, resid.cols + 1);
        features.for_rows(|i, out| {
            for ((o, &r), &s) in out.iter_mut().zip(resid.row(i)).zip(&self.in_scale) {
                *o = r / s;
            }
            out[resid.cols] = 1.0;
        });
        features
    }

    /// The mapped states.
    pub fn apply(&self, resid: &Mat<f32>) -> Mat<f32> {
        let mut out = Mat::zeros(resid.rows, resid.cols);
        let theta = Packed::from_output_rows(self.theta.view());
        matmul(out.view_mut(), self.features(resid).view(), &theta, Write::Set);
        out.for_rows(|i, row| {
            for ((o, &r), &t) in row.iter_mut().zip(resid.row(i)).zip(&self.out_scale) {
                *o = r + *o * t;
            }
        });
        out
    }

    /// The same map as `A·r + b`: `A` row by row, and b.
    pub fn plain_form(&self) -> (Vec<f32>, Vec<f32>) {
        let d = self.in_scale.len();
        let mut a = Vec::with_capacity(d * d);
        for (o, t) in self.out_scale.iter().enumerate() {
            let row = &self.theta.row(o)[..d];
            let identity = |i: usize| if i == o { 1.0 } else { 0.0 };
            a.extend(row.iter().zip(&self.in_scale).enumerate().map(|(i, (v, s))| identity(i) + t * v / s));
        }
        let b = self.out_scale.iter().enumerate().map(|(o, t)| t * self.theta.row(o)[d]).collect();
        (a, b)
    }

    /// As little-endian bytes: Θ, σ, τ.
    pub fn to_bytes(&self) -> Vec<u8> {
        [&self.theta.data, &self.in_scale, &self.out_scale]
            .into_iter()
            .flatten()
            .flat_map(|v| v.to_le_bytes())
            .collect()
    }

    /// From [`Affine::to_bytes`] of a map of width `d`; `None` where the length is another's.
    pub fn from_bytes(bytes: &[u8], d: usize) -> Option<Self> {
        let numbers: Vec<f32> = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
        if bytes.len() != 4 * (d * (d + 1) + 2 * d) {
            return None;
        }
        let (theta, scales) = numbers.split_at(d * (d + 1));
        Some(Self {
            theta: Mat { data: theta.to_vec(), rows: d, cols: d + 1 },
            in_scale: scales[..d].to_vec(),
            out_scale: scales[d..].to_vec(),
        })
    }
}

/// Weighted root mean square of each column; 1 for a column of zeros, so that one may divide by it.
fn root_mean_squares(states: &Mat<f32>, weights: &[f64]) -> Vec<f32> {
    let mut squares = vec![0.0; states.cols];
    for (i, w) in weights.iter().enumerate() {
        squares.iter_mut().zip(states.row(i)).for_each(|(s, &v)| *s += w * f64::from(v).powi(2));
    }
    let total: f64 = weights.iter().sum();
    squares.into_iter().map(|s| (s / total).sqrt() as f32).map(|r| if r > 0.0 { r } else { 1.0 }).collect()
}

/// A row counts by the square of its final state's size, which the final norm takes away: `1 / mean(t²)`.
pub(super) fn row_weights(finals: &Mat<f32>) -> Vec<f64> {
    let mean_square =
        |i: usize| finals.row(i).iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / finals.cols as f64;
    (0..finals.rows).map(|i| 1.0 / mean_square(i).max(f64::MIN_POSITIVE)).collect()
}

/// Ridge regression of the final state's difference from the layer's state, shrunk towards Θ = 0.
#[derive(Debug)]
pub(super) struct Normal {
    identity: Affine,
    /// Mean of `φ φᵀ`, `[d + 1, d + 1]`.
    gram: Mat<f64>,
    /// Mean of `y φᵀ`, `[d, d + 1]`.
    cross: Mat<f64>,
}

impl Normal {
    /// Normal equations of rows `from` (a layer's) to `to` (final).
    pub fn new(from: &Mat<f32>, to: &Mat<f32>) -> Self {
        let (n, d) = (from.rows, from.cols);
        let weights = row_weights(to);
        let total: f64 = weights.iter().sum();
        let identity = Affine::identity(from, to, &weights);
        let features = identity.features(from);
        // Columns of rows: both products then sum over rows of the sample.
        let (mut x, mut y) = (Mat::<f64>::zeros(d + 1, n), Mat::<f64>::zeros(d, n));
        let share: Vec<f64> = weights.iter().map(|w| (w / total).sqrt()).collect();
        x.for_rows(|k, out| (0..n).for_each(|i| out[i] = share[i] * f64::from(features.row(i)[k])));
        y.for_rows(|k, out| {
            let scale = f64::from(identity.out_scale[k]);
            (0..n).for_each(|i| {
                out[i] = share[i] * (f64::from(to.row(i)[k]) - f64::from(from.row(i)[k])) / scale
            });
        });
        let by_feature = Packed::from_output_rows(x.view());
        let (mut gram, mut cross) = (Mat::zeros(d + 1, d + 1), Mat::zeros(d, d + 1));
        matmul(gram.view_mut(), x.view(), &by_feature, Write::Set);
        matmul(cross.view_mut(), y.view(), &by_feature, Write::Set);
        Self { identity, gram, cross }
    }

    /// The plain lens.
    pub fn identity(&self) -> &Affine {
        &self.identity
    }

    /// Minimises the mean squared error plus `ridge · ‖Θ‖²`. `ridge` is positive; infinite, or where the equations have no solution in
    /// finite numbers, it gives the plain lens.
    pub fn solve(&self, ridge: f64) -> Affine {
        let Some(factor) = Cholesky::new(&self.gram, ridge) else { return self.identity.clone() };
        let mut theta = self.cross.clone();
        theta.for_rows(|_, row| factor.solve(row));
        let data = theta.data.iter().map(|&v| v as f32).collect();
        Affine { theta: Mat { data, rows: theta.rows, cols: theta.cols }, ..self.identity.clone() }
    }
}

/// `gᵀ·φ / rows` with g scaled by τ: the gradient with respect to Θ, given each row's with respect to its mapped state.
pub(super) fn theta_gradient(map: &Affine, features: &Mat<f32>, gradient: &Mat<f32>) -> Mat<f32> {
    let (n, d) = (gradient.rows, gradient.cols);
    let mut columns = Mat::zeros(d, n);
    columns.for_rows(|k, out| (0..n).for_each(|i| out[i] = gradient.row(i)[k] * map.out_scale[k] / n as f32));
    let by_feature = Packed::from_input_rows(MatRef::new(&features.data, features.rows, features.cols));
    let mut out = Mat::zeros(d, d + 1);
    matmul(out.view_mut(), columns.view(), &by_feature, Write::Set);
    out
}
