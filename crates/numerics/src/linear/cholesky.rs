//! Cholesky factors of symmetric matrices: of positive definite ones for solving, of semidefinite ones (with pivots) for
//! coordinates in the span of rows.

use lorascope_engine::Mat;

/// `A + penalty·I = L·Lᵀ`.
#[derive(Debug)]
pub struct Cholesky {
    lower: Mat<f64>,
    /// Lᵀ, so that both substitutions run along rows.
    upper: Mat<f64>,
}

impl Cholesky {
    /// Factors a symmetric matrix with `penalty` added to its diagonal; `None` where that is not positive definite.
    pub fn new(matrix: &Mat<f64>, penalty: f64) -> Option<Self> {
        let n = matrix.rows;
        let mut lower = matrix.clone();
        for i in 0..n {
            for j in 0..=i {
                let known = dot(&lower.row(i)[..j], &lower.row(j)[..j]);
                let rest = lower.row(i)[j] - known;
                let entry = if i == j { (rest + penalty).sqrt() } else { rest / lower.row(j)[j] };
                if i == j && !(entry.is_finite() && entry > 0.0) {
                    return None;
                }
                lower.row_mut(i)[j] = entry;
            }
        }
        Some(Self { upper: transposed(&lower), lower })
    }

    /// Replaces b by the solution of `(A + penalty·I)·x = b`.
    pub fn solve(&self, b: &mut [f64]) {
        let n = self.lower.rows;
        for i in 0..n {
            b[i] = (b[i] - dot(&b[..i], &self.lower.row(i)[..i])) / self.lower.row(i)[i];
        }
        for i in (0..n).rev() {
            b[i] = (b[i] - dot(&b[i + 1..], &self.upper.row(i)[i + 1..])) / self.upper.row(i)[i];
        }
    }
}

/// Coordinates of rows in their span, from their inner products: `K = Z·Zᵀ`, Z with as many columns as K has rank.
#[derive(Debug)]
pub(super) struct Span {
    /// `[rows, rank]`.
    pub coordinates: Mat<f64>,
    /// The rows that span, one for each column; restricted to them, Z is lower triangular.
    pub pivots: Vec<usize>,
}

impl Span {
    /// Pivoted Cholesky: the row that is farthest from the span of those taken comes next, until the squared distance of
    /// all is rounding (n·ε of the largest squared length).
    pub fn of(inner: &Mat<f64>) -> Self {
        let n = inner.rows;
        let mut rest: Vec<f64> = (0..n).map(|i| inner.row(i)[i]).collect();
        let floor = rest.iter().copied().fold(0.0, f64::max) * n as f64 * f64::EPSILON;
        let mut z = Mat::zeros(n, n);
        let mut pivots: Vec<usize> = Vec::new();
        let mut taken = vec![false; n];
        while pivots.len() < n {
            let k = pivots.len();
            let free = (0..n).filter(|&i| !taken[i]);
            let Some(pivot) = free.max_by(|&i, &j| rest[i].total_cmp(&rest[j]).then(j.cmp(&i))) else {
                break;
            };
            if rest[pivot].is_nan() || rest[pivot] <= floor {
                break;
            }
            let length = rest[pivot].sqrt();
            taken[pivot] = true;
            pivots.push(pivot);
            let known = z.row(pivot)[..k].to_vec();
            for i in 0..n {
                if i == pivot {
                    z.row_mut(i)[k] = length;
                } else if !taken[i] {
                    let entry = (inner.row(i)[pivot] - dot(&z.row(i)[..k], &known)) / length;
                    z.row_mut(i)[k] = entry;
                    rest[i] -= entry * entry;
                }
            }
        }
        let rank = pivots.len();
        let data = (0..n).flat_map(|i| z.row(i)[..rank].to_vec()).collect();
        Self { coordinates: Mat { data, rows: n, cols: rank }, pivots }
    }

    /// Coordinates of another row, projected onto the span, from its inner products with the rows.
    pub fn project(&self, inner: &[f64]) -> Vec<f64> {
        let mut z = Vec::with_capacity(self.pivots.len());
        for (k, &pivot) in self.pivots.iter().enumerate() {
            let row = self.coordinates.row(pivot);
            z.push((inner[pivot] - dot(&z, &row[..k])) / row[k]);
        }
        z
    }
}

/// Dot product in eight interleaved sums, which the compiler turns into vector instructions.
pub fn dot(x: &[f64], y: &[f64]) -> f64 {
    const LANES: usize = 8;
    let (xs, x_rest) = x.as_chunks::<LANES>();
    let (ys, y_rest) = y.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (x, y) in xs.iter().zip(ys) {
        for k in 0..LANES {
            sums[k] += x[k] * y[k];
        }
    }
    let rest: f64 = x_rest.iter().zip(y_rest).map(|(x, y)| x * y).sum();
    sums.into_iter().sum::<f64>() + rest
}

fn transposed(m: &Mat<f64>) -> Mat<f64> {
    let mut out = Mat::zeros(m.cols, m.rows);
    out.for_rows(|k, row| row.iter_mut().enumerate().for_each(|(i, v)| *v = m.row(i)[k]));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(rows: usize, cols: usize) -> Mat<f64> {
        let data = (0..rows * cols).map(|i| ((i * i + 3 * i) as f64 * 0.37).sin()).collect();
        Mat { data, rows, cols }
    }

    fn inner(a: &Mat<f64>, b: &Mat<f64>) -> Mat<f64> {
        let mut out = Mat::zeros(a.rows, b.rows);
        for i in 0..a.rows {
            for j in 0..b.rows {
                out.row_mut(i)[j] = a.row(i).iter().zip(b.row(j)).map(|(x, y)| x * y).sum();
            }
        }
        out
    }

    #[test]
    fn solutions_solve() {
        let x = wave(12, 30);
        let matrix = inner(&x, &x);
        let factor = Cholesky::new(&matrix, 0.5).expect("positive definite");
        let right: Vec<f64> = (0..12).map(|i| f64::from(i) - 3.0).collect();
        let mut solution = right.clone();
        factor.solve(&mut solution);
        for i in 0..12 {
            let found = dot(matrix.row(i), &solution) + 0.5 * solution[i];
            assert!((found - right[i]).abs() < 1e-10, "{found} {}", right[i]);
        }
        let indefinite = Mat { data: vec![1.0, 2.0, 2.0, 1.0], rows: 2, cols: 2 };
        assert!(Cholesky::new(&indefinite, 0.0).is_none());
    }

    #[test]
    fn coordinates_have_the_inner_products_and_the_rank() {
        // Seven rows of which two repeat others and one is their sum: rank four.
        let mut x = wave(7, 20);
        let (a, b) = (x.row(0).to_vec(), x.row(1).to_vec());
        x.row_mut(4).copy_from_slice(&a);
        x.row_mut(5).copy_from_slice(&b);
        x.row_mut(6).iter_mut().zip(a.iter().zip(&b)).for_each(|(o, (a, b))| *o = a + b);
        let products = inner(&x, &x);
        let span = Span::of(&products);
        assert_eq!(span.pivots.len(), 4);
        let found = inner(&span.coordinates, &span.coordinates);
        for (f, p) in found.data.iter().zip(&products.data) {
            assert!((f - p).abs() < 1e-12, "{f} {p}");
        }
        let one = span.project(products.row(6));
        for (o, z) in one.iter().zip(span.coordinates.row(6)) {
            assert!((o - z).abs() < 1e-12);
        }
        assert!(Span::of(&Mat::zeros(3, 3)).pivots.is_empty(), "rows of zeros span nothing");
    }
}
