//! Rows of activations as features: standardised by the rows that are fitted, and expressed in few coordinates.

use super::cholesky::Span;
use lorascope_engine::Mat;
use lorascope_kernels::{Packed, Write, matmul};

/// A coordinate whose deviation is below this share of its root mean square does not vary: f32 has 24 bits, and rounding
/// in a forward pass leaves two or three decimal digits fewer.
const CONSTANT: f64 = 1e-6;

/// Features of rows to fit and of rows to predict.
#[derive(Debug)]
pub struct Features {
    /// `[rows to fit, coordinates]`.
    pub fit: Mat<f64>,
    /// `[rows to predict, coordinates]`.
    pub predict: Mat<f64>,
}

impl Features {
    /// Every coordinate gets mean 0 and variance 1 over the rows that are fitted (a coordinate that does not vary there becomes 0),
    /// and where there are fewer such rows than coordinates, all rows are expressed in their span. Inner products between
    /// rows to fit, and of these with rows to predict, are those of the standardised rows.
    pub fn new(rows: &Mat<f32>, fit: &[usize], predict: &[usize]) -> Self {
        let scaling = Scaling::of(rows, fit);
        let (fit, predict) = (scaling.apply(rows, fit), scaling.apply(rows, predict));
        if fit.rows > fit.cols {
            return Self { fit, predict };
        }
        let packed = Packed::from_output_rows(fit.view());
        let (mut own, mut cross) = (Mat::zeros(fit.rows, fit.rows), Mat::zeros(predict.rows, fit.rows));
        matmul(own.view_mut(), fit.view(), &packed, Write::Set);
        matmul(cross.view_mut(), predict.view(), &packed, Write::Set);
        let span = Span::of(&own);
        let projected: Vec<f64> = (0..cross.rows).flat_map(|i| span.project(cross.row(i))).collect();
        let predict = Mat { data: projected, rows: cross.rows, cols: span.pivots.len() };
        Self { fit: span.coordinates, predict }
    }
}

/// Mean and deviation (n in the denominator) of each coordinate.
struct Scaling {
    mean: Vec<f64>,
    /// 1/deviation; 0 for a coordinate that does not vary.
    factor: Vec<f64>,
}

impl Scaling {
    fn of(rows: &Mat<f32>, which: &[usize]) -> Self {
        let n = which.len() as f64;
        let mut mean = vec![0.0; rows.cols];
        for &i in which {
            mean.iter_mut().zip(rows.row(i)).for_each(|(m, &x)| *m += f64::from(x) / n);
        }
        let (mut variance, mut square) = (vec![0.0; rows.cols], vec![0.0; rows.cols]);
        for &i in which {
            let sums = variance.iter_mut().zip(&mut square);
            for ((v, s), (&x, m)) in sums.zip(rows.row(i).iter().zip(&mean)) {
                *v += (f64::from(x) - m).powi(2) / n;
                *s += f64::from(x).powi(2) / n;
            }
        }
        let varies = |v: f64, s: f64| v > CONSTANT * CONSTANT * s;
        let factor =
            variance.iter().zip(&square).map(|(&v, &s)| if varies(v, s) { 1.0 / v.sqrt() } else { 0.0 });
        Self { factor: factor.collect(), mean }
    }

    fn apply(&self, rows: &Mat<f32>, which: &[usize]) -> Mat<f64> {
        let mut out = Mat::zeros(which.len(), rows.cols);
        out.for_rows(|k, out| {
            let scaling = self.mean.iter().zip(&self.factor);
            for ((o, &x), (m, f)) in out.iter_mut().zip(rows.row(which[k])).zip(scaling) {
                *o = (f64::from(x) - m) * f;
            }
        });
        out
    }
}
