//! Random directions: what a vector is held against.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Streams of randomness from here on are those of places; earlier ones belong to the bootstrap, permutations and folds.
const FIRST_STREAM: u64 = 1 << 32;

/// What is random at one place: the same whatever other places are asked for.
pub(super) fn rng(seed: u64, place: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(FIRST_STREAM + place);
    rng
}

/// Directions of length 1, uniform on the sphere: normal numbers by Box and Muller, brought to length 1.
pub(super) fn uniform(n: usize, d: usize, rng: &mut ChaCha8Rng) -> Vec<Vec<f64>> {
    let mut normal = || {
        // Zero has no logarithm.
        let (u, v): (f64, f64) = (1.0 - rng.random_range(0.0..1.0), rng.random_range(0.0..1.0));
        (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
    };
    let one = |_| {
        let values: Vec<f64> = (0..d).map(|_| normal()).collect();
        let length = norm(&values);
        values.into_iter().map(|v| v / length).collect()
    };
    (0..n).map(one).collect()
}

pub(super) fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Cosine of two vectors; `None` where one is zero.
pub(super) fn cosine(a: &[f64], b: &[f64]) -> Option<f64> {
    let lengths = norm(a) * norm(b);
    let product: f64 = a.iter().zip(b).map(|(x, y)| x * y).sum();
    (lengths > 0.0).then(|| (product / lengths).clamp(-1.0, 1.0))
}

/// A direction brought to a length, as it is added.
pub(super) fn of_length(direction: &[f64], length: f64) -> Vec<f32> {
    direction.iter().map(|v| (v * length) as f32).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_have_length_one_and_no_preference() {
        let all = uniform(400, 16, &mut rng(3, 5));
        assert_eq!(all, uniform(400, 16, &mut rng(3, 5)));
        assert_ne!(all[0], uniform(1, 16, &mut rng(3, 6))[0]);
        assert_ne!(all[0], uniform(1, 16, &mut rng(4, 5))[0]);
        for direction in &all {
            assert!((norm(direction) - 1.0).abs() < 1e-12);
        }
        for i in 0..16 {
            let mean = all.iter().map(|d| d[i]).sum::<f64>() / 400.0;
            let square = all.iter().map(|d| d[i] * d[i]).sum::<f64>() / 400.0;
            // A coordinate has variance 1/16, and its square a standard deviation of about √2/16: five standard errors.
            assert!(mean.abs() < 5.0 * 0.25 / 20.0, "{mean}");
            assert!((square - 1.0 / 16.0).abs() < 5.0 * 1.42 / 16.0 / 20.0, "{square}");
        }
    }

    #[test]
    fn lengths_are_those_asked_for() {
        let direction = &uniform(1, 576, &mut rng(0, 0))[0];
        let wide: Vec<f64> = of_length(direction, 7.25).into_iter().map(f64::from).collect();
        assert!((norm(&wide) - 7.25).abs() < 1e-5);
        assert!((cosine(&wide, direction).unwrap() - 1.0).abs() < 1e-12);
        assert_eq!(of_length(direction, 0.0), vec![0.0; 576]);
        assert_eq!(cosine(&[0.0; 3], &[1.0; 3]), None);
    }
}
