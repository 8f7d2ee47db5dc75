//! Centred kernel alignment of two sets of activations of the same prompts (Kornblith et al. 2019), plain and debiased, with
//! intervals over clusters of prompts.
//!
//! With inner products `K_ij = x_i·x_j` and `L_ij = y_i·y_j`, `CKA = HSIC(K, L) / √(HSIC(K, K)·HSIC(L, L))`: 1 where y is a rotated,
//! scaled and shifted x, whatever the coordinates. The plain estimate of HSIC, `Σ K̄_ij·L̄_ij` of centred kernels, counts every
//! prompt against itself; with more coordinates than prompts that alone brings CKA of unrelated activations near 1. The debiased
//! one (Song et al. 2012, Nguyen et al. 2021) is the U-statistic over distinct prompts, and near 0 there; it may be negative.
//!
//! A resample draws whole clusters, and counts every prompt as often as it is drawn. In the U-statistic a prompt never meets its
//! own copies: all sums run over distinct prompts, weighted by products of counts. With counts of one they are the estimator as
//! published.

use crate::bootstrap::{Interval, ends, tail};
use lorascope_engine::Mat;
use lorascope_kernels::{Packed, Write, matmul};

/// How often each cluster counts: first all once, then the resamples.
#[derive(Debug)]
pub(super) struct Weights {
    cluster_of: Vec<usize>,
    /// `[1 + resamples, clusters]`.
    draws: Mat<f64>,
}

impl Weights {
    pub fn new(cluster_of: &[usize], draws: &[Vec<u32>]) -> Self {
        let clusters = cluster_of.iter().max().map_or(0, |c| c + 1);
        let ones = std::iter::repeat_n(1.0, clusters);
        let data: Vec<f64> = ones.chain(draws.iter().flatten().map(|&t| f64::from(t))).collect();
        Self { cluster_of: cluster_of.to_vec(), draws: Mat { data, rows: 1 + draws.len(), cols: clusters } }
    }

    fn n_clusters(&self) -> usize {
        self.draws.cols
    }
}

/// Inner products of the activations of one model at one place.
#[derive(Debug)]
pub(super) struct Kernel {
    inner: Mat<f64>,
    /// For each draw and prompt, the weighted sum of its inner products with all other prompts.
    others: Mat<f64>,
}

impl Kernel {
    /// Of rows, one a prompt; they are centred first, which changes nothing but rounding.
    pub fn new(rows: &Mat<f64>, weights: &Weights) -> Self {
        let (n, d) = (rows.rows, rows.cols);
        let mut mean = vec![0.0; d];
        for i in 0..n {
            mean.iter_mut().zip(rows.row(i)).for_each(|(m, x)| *m += x / n as f64);
        }
        let mut centred = rows.clone();
        centred.for_rows(|_, row| row.iter_mut().zip(&mean).for_each(|(x, m)| *x -= m));
        let mut inner = Mat::zeros(n, n);
        matmul(inner.view_mut(), centred.view(), &Packed::from_output_rows(centred.view()), Write::Set);
        // Sums over the other prompts of each cluster, then over clusters by weight.
        let mut by_cluster = Mat::<f64>::zeros(n, weights.n_clusters());
        for i in 0..n {
            for (j, &c) in weights.cluster_of.iter().enumerate().filter(|(j, _)| *j != i) {
                by_cluster.row_mut(i)[c] += inner.row(i)[j];
            }
        }
        let mut others = Mat::zeros(weights.draws.rows, n);
        matmul(
            others.view_mut(),
            weights.draws.view(),
            &Packed::from_output_rows(by_cluster.view()),
            Write::Set,
        );
        Self { inner, others }
    }

    /// HSIC of two kernels for every draw: the plain one, and the U-statistic (NaN with fewer than four distinct prompts).
    fn hsic(&self, other: &Self, weights: &Weights) -> Vec<[f64; 2]> {
        let n = self.inner.rows;
        let clusters = weights.n_clusters();
        let mut products = Mat::<f64>::zeros(clusters, clusters);
        for (i, &a) in weights.cluster_of.iter().enumerate() {
            let (k, l) = (self.inner.row(i), other.inner.row(i));
            for (j, &b) in weights.cluster_of.iter().enumerate().filter(|(j, _)| *j != i) {
                products.row_mut(a)[b] += k[j] * l[j];
            }
        }
        let one = |draw: usize| {
            let times = weights.draws.row(draw);
            let (k, l) = (self.others.row(draw), other.others.row(draw));
            let mut sums = Sums::default();
            for (a, &t) in times.iter().enumerate().filter(|(_, t)| **t > 0.0) {
                for (b, &u) in times.iter().enumerate() {
                    let product = products.row(a)[b];
                    sums.pairs += t * u * product;
                    sums.pairs_single_double += t * u * u * product;
                    sums.pairs_double_double += t * t * u * u * product;
                }
            }
            for i in 0..n {
                let t = times[weights.cluster_of[i]];
                sums.add(t, (k[i], l[i]), (self.inner.row(i)[i], other.inner.row(i)[i]));
            }
            [sums.plain(), sums.distinct()]
        };
        (0..weights.draws.rows).map(one).collect()
    }
}

/// Weighted sums over prompts and pairs of prompts for one draw.
#[derive(Default)]
struct Sums {
    /// Powers of the counts: Σt, Σt², Σt³, Σt⁴.
    powers: [f64; 4],
    /// Over i ≠ j: `Σ t_i·t_j·K_ij·L_ij`, and with squared counts of j, of both.
    pairs: f64,
    pairs_single_double: f64,
    pairs_double_double: f64,
    /// With `k_i = Σ_{j≠i} t_j·K_ij`: `Σ t_i·k_i·l_i` and `Σ t_i²·k_i·l_i`.
    stars: f64,
    stars_double: f64,
    /// `Σ t_i·k_i`, `Σ t_i·l_i`.
    all: (f64, f64),
    /// The same sums with the prompt itself (the copies of i are i): `Σ t_i·(k_i + t_i·K_ii)·(l_i + t_i·L_ii)` and so on.
    whole_stars: f64,
    whole: (f64, f64),
    own_double: f64,
}

impl Sums {
    fn add(&mut self, t: f64, (k, l): (f64, f64), (k_own, l_own): (f64, f64)) {
        (0..4).for_each(|p| self.powers[p] += t.powi(p as i32 + 1));
        self.stars += t * k * l;
        self.stars_double += t * t * k * l;
        self.all = (self.all.0 + t * k, self.all.1 + t * l);
        let (k, l) = (k + t * k_own, l + t * l_own);
        self.whole_stars += t * k * l;
        self.whole = (self.whole.0 + t * k, self.whole.1 + t * l);
        self.own_double += t * t * k_own * l_own;
    }

    /// Plain HSIC of the resample as if its prompts were all different: `Σ K̄·L̄ / N²`.
    fn plain(&self) -> f64 {
        let n = self.powers[0];
        let pairs = self.pairs + self.own_double;
        (pairs - 2.0 * self.whole_stars / n + self.whole.0 * self.whole.1 / (n * n)) / (n * n)
    }

    /// The mean of `K_ij·L_ij`, minus twice that of `K_ij·L_ik`, plus that of `K_ij·L_kl`, all over distinct prompts.
    fn distinct(&self) -> f64 {
        let [p1, p2, p3, p4] = self.powers;
        let pairs = p1 * p1 - p2;
        let triples = p1.powi(3) - 3.0 * p1 * p2 + 2.0 * p3;
        let quads = p1.powi(4) - 6.0 * p1 * p1 * p2 + 3.0 * p2 * p2 + 8.0 * p1 * p3 - 6.0 * p4;
        if quads <= 0.0 {
            return f64::NAN;
        }
        let stars = self.stars - self.pairs_single_double;
        // Of all pairs of pairs, those that share one prompt and those that share both are not distinct.
        let shared_one = self.stars_double - self.pairs_double_double;
        let apart = self.all.0 * self.all.1 - 4.0 * shared_one - 2.0 * self.pairs_double_double;
        self.pairs / pairs - 2.0 * stars / triples + apart / quads
    }
}

/// CKA with its 95% interval, plain and debiased; `None` where a set does not vary.
pub(super) fn alignment(one: &Kernel, other: &Kernel, weights: &Weights) -> [Option<Interval>; 2] {
    let (cross, own, their) = (one.hsic(other, weights), one.hsic(one, weights), other.hsic(other, weights));
    [0, 1].map(|which| {
        let at = |draw: usize| {
            let size = own[draw][which] * their[draw][which];
            if size > 0.0 && own[draw][which] > 0.0 { cross[draw][which] / size.sqrt() } else { f64::NAN }
        };
        let mean = at(0);
        if !mean.is_finite() {
            return None;
        }
        let mut found: Vec<f64> = (1..cross.len()).map(at).filter(|v| v.is_finite()).collect();
        let (lo, hi) = ends(&mut found, tail(weights.n_clusters())).unwrap_or((mean, mean));
        Some(Interval { mean, lo, hi })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bootstrap::Resampler;
    use rand::{RngExt, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    fn noise(rows: usize, cols: usize, seed: u64) -> Mat<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Mat { data: (0..rows * cols).map(|_| rng.random_range(-1.0..1.0)).collect(), rows, cols }
    }

    fn once(n: usize) -> Weights {
        Weights::new(&(0..n).collect::<Vec<_>>(), &[])
    }

    fn cka(x: &Mat<f64>, y: &Mat<f64>) -> [f64; 2] {
        let weights = once(x.rows);
        alignment(&Kernel::new(x, &weights), &Kernel::new(y, &weights), &weights)
            .map(|v| v.expect("defined").mean)
    }

    fn inner(x: &Mat<f64>, i: usize, j: usize) -> f64 {
        x.row(i).iter().zip(x.row(j)).map(|(a, b)| a * b).sum()
    }

    /// `‖XᵀY‖² / (‖XᵀX‖·‖YᵀY‖)` of centred columns, as Kornblith et al. write it.
    fn dense(x: &Mat<f64>, y: &Mat<f64>) -> f64 {
        let centred = |m: &Mat<f64>| {
            let mut out = m.clone();
            for k in 0..m.cols {
                let mean = (0..m.rows).map(|i| m.row(i)[k]).sum::<f64>() / m.rows as f64;
                (0..m.rows).for_each(|i| out.row_mut(i)[k] -= mean);
            }
            out
        };
        let (x, y) = (centred(x), centred(y));
        let square = |a: &Mat<f64>, b: &Mat<f64>| {
            let one = |p: usize, q: usize| (0..a.rows).map(|i| a.row(i)[p] * b.row(i)[q]).sum::<f64>();
            (0..a.cols)
                .flat_map(|p| (0..b.cols).map(move |q| (p, q)))
                .map(|(p, q)| one(p, q).powi(2))
                .sum::<f64>()
        };
        square(&x, &y) / (square(&x, &x) * square(&y, &y)).sqrt()
    }

    /// Song et al.'s formula with zero diagonals.
    fn unbiased_hsic(x: &Mat<f64>, y: &Mat<f64>) -> f64 {
        let n = x.rows;
        let kernel = |m: &Mat<f64>, i: usize, j: usize| if i == j { 0.0 } else { inner(m, i, j) };
        let row = |m: &Mat<f64>, i: usize| (0..n).map(|j| kernel(m, i, j)).sum::<f64>();
        let size = n as f64;
        let trace: f64 = (0..n)
            .flat_map(|i| (0..n).map(move |j| (i, j)))
            .map(|(i, j)| kernel(x, i, j) * kernel(y, i, j))
            .sum();
        let all = |m: &Mat<f64>| (0..n).map(|i| row(m, i)).sum::<f64>();
        let stars: f64 = (0..n).map(|i| row(x, i) * row(y, i)).sum();
        let middle = all(x) * all(y) / ((size - 1.0) * (size - 2.0));
        (trace + middle - 2.0 / (size - 2.0) * stars) / (size * (size - 3.0))
    }

    #[test]
    fn it_equals_the_published_formulas() {
        let (x, y) = (noise(12, 5, 1), noise(12, 7, 2));
        let [plain, debiased] = cka(&x, &y);
        assert!((plain - dense(&x, &y)).abs() < 1e-12, "{plain} {}", dense(&x, &y));
        let expected = unbiased_hsic(&x, &y) / (unbiased_hsic(&x, &x) * unbiased_hsic(&y, &y)).sqrt();
        assert!((debiased - expected).abs() < 1e-12, "{debiased} {expected}");
    }

    #[test]
    fn a_set_is_aligned_with_itself_exactly_and_with_its_rotation_scaled_and_shifted() {
        let x = noise(20, 3, 3);
        assert_eq!(cka(&x, &x), [1.0, 1.0]);
        let (s, c) = 0.7f64.sin_cos();
        let mut y = x.clone();
        for i in 0..20 {
            let [a, b, z] = [x.row(i)[0], x.row(i)[1], x.row(i)[2]];
            y.row_mut(i).copy_from_slice(&[
                5.0 * (c * a - s * b) + 40.0,
                5.0 * (s * a + c * b),
                5.0 * z - 7.0,
            ]);
        }
        assert!(cka(&x, &y).iter().all(|v| (v - 1.0).abs() < 1e-12), "{:?}", cka(&x, &y));
    }

    #[test]
    fn unrelated_wide_activations_are_near_one_plain_and_near_zero_debiased() {
        let [plain, debiased] = cka(&noise(30, 600, 4), &noise(30, 600, 5));
        assert!(plain > 0.9 && debiased.abs() < 0.1, "{plain} {debiased}");
    }

    /// Weighted sums over distinct prompts against loops over all pairs, triples and quadruples.
    #[test]
    fn resamples_are_sums_over_distinct_prompts() {
        let (x, y) = (noise(7, 3, 6), noise(7, 4, 7));
        let cluster_of = [0, 1, 0, 2, 1, 2, 2];
        let weights = Weights::new(&cluster_of, &[vec![2, 1, 0], vec![0, 0, 3], vec![1, 1, 1]]);
        let centred = |m: &Mat<f64>| Kernel::new(m, &weights);
        let (k, l) = (centred(&x), centred(&y));
        let found = k.hsic(&l, &weights);
        for (draw, found) in found.iter().enumerate() {
            let t = |i: usize| weights.draws.row(draw)[cluster_of[i]];
            let (kk, ll) = (|i: usize, j: usize| k.inner.row(i)[j], |i: usize, j: usize| l.inner.row(i)[j]);
            let (mut pairs, mut triples, mut quads) = ((0.0, 0.0), (0.0, 0.0), (0.0, 0.0));
            for i in 0..7 {
                for j in (0..7).filter(|j| *j != i) {
                    let w = t(i) * t(j);
                    pairs = (pairs.0 + w, pairs.1 + w * kk(i, j) * ll(i, j));
                    for m in (0..7).filter(|m| *m != i && *m != j) {
                        let w = w * t(m);
                        triples = (triples.0 + w, triples.1 + w * kk(i, j) * ll(i, m));
                        for q in (0..7).filter(|q| ![i, j, m].contains(q)) {
                            let w = w * t(q);
                            quads = (quads.0 + w, quads.1 + w * kk(i, j) * ll(m, q));
                        }
                    }
                }
            }
            let expected = pairs.1 / pairs.0 - 2.0 * triples.1 / triples.0 + quads.1 / quads.0;
            assert_eq!(expected.is_nan(), found[1].is_nan(), "{draw}: {expected} {found:?}");
            assert!(
                expected.is_nan() || (expected - found[1]).abs() < 1e-12,
                "{draw}: {expected} {}",
                found[1]
            );
            // Plain: the prompts written out as often as they are drawn.
            let all: Vec<usize> = (0..7).flat_map(|i| std::iter::repeat_n(i, t(i) as usize)).collect();
            let rows = |m: &Mat<f64>| m.gather(&all);
            let drawn = once(all.len());
            let plain = Kernel::new(&rows(&x), &drawn).hsic(&Kernel::new(&rows(&y), &drawn), &drawn)[0][0];
            assert!((plain - found[0]).abs() < 1e-12, "{draw}: {plain} {}", found[0]);
        }
    }

    #[test]
    fn the_interval_covers_and_one_prompt_of_a_cluster_never_meets_its_copy() {
        let names: Vec<String> = (0..40).map(|i| format!("t{}", i / 2)).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let resampler = Resampler::new(&names, 1);
        let weights = Weights::new(resampler.cluster_of(), resampler.draws());
        let (x, y) = (noise(40, 300, 8), noise(40, 300, 9));
        let [plain, debiased] = alignment(&Kernel::new(&x, &weights), &Kernel::new(&y, &weights), &weights);
        let (plain, debiased) = (plain.expect("defined"), debiased.expect("defined"));
        assert!(debiased.lo < 0.0 && debiased.hi > 0.0 && debiased.hi < 0.3, "{debiased:?}");
        assert!(plain.mean > 0.8, "{plain:?}");
        assert!(
            alignment(&Kernel::new(&Mat::zeros(40, 3), &weights), &Kernel::new(&y, &weights), &weights)
                .iter()
                .all(Option::is_none)
        );
    }
}
