//! Ridge regression: the minimum of `‖y − Z·w − b‖² + penalty·‖w‖²` with an intercept b that is not penalised (scikit-learn's
//! `Ridge` with `alpha = penalty`).

use super::cholesky::{Cholesky, dot};
use lorascope_engine::Mat;
use lorascope_kernels::{Packed, Write, matmul};

/// Normal equations of rows, factored once for each penalty; they serve any number of targets.
#[derive(Debug)]
pub struct Ridges {
    mean: Vec<f64>,
    /// Centred rows, transposed: `[coordinates, rows]`.
    columns: Mat<f64>,
    factors: Vec<Cholesky>,
}

impl Ridges {
    /// For rows `z`; `None` where the equations have no solution in finite numbers. Penalties are positive.
    pub fn new(z: &Mat<f64>, penalties: &[f64]) -> Option<Self> {
        let (n, r) = (z.rows, z.cols);
        let mut mean = vec![0.0; r];
        for i in 0..n {
            mean.iter_mut().zip(z.row(i)).for_each(|(m, x)| *m += x / n as f64);
        }
        let mut columns = Mat::zeros(r, n);
        columns.for_rows(|k, out| out.iter_mut().enumerate().for_each(|(i, o)| *o = z.row(i)[k] - mean[k]));
        let mut gram = Mat::zeros(r, r);
        matmul(gram.view_mut(), columns.view(), &Packed::from_output_rows(columns.view()), Write::Set);
        let factors =
            penalties.iter().map(|&penalty| Cholesky::new(&gram, penalty)).collect::<Option<_>>()?;
        Some(Self { mean, columns, factors })
    }

    /// Predictions for rows, fitted to the targets `y` with the penalty of index `which`.
    pub fn predict(&self, which: usize, y: &[f64], rows: &Mat<f64>) -> Vec<f64> {
        let middle = y.iter().sum::<f64>() / y.len() as f64;
        let centred: Vec<f64> = y.iter().map(|v| v - middle).collect();
        let mut weights: Vec<f64> =
            (0..self.columns.rows).map(|k| dot(self.columns.row(k), &centred)).collect();
        self.factors[which].solve(&mut weights);
        let offset = middle - dot(&self.mean, &weights);
        (0..rows.rows).map(|i| dot(rows.row(i), &weights) + offset).collect()
    }
}
