//! AdamW (Loshchilov & Hutter 2019) as PyTorch computes it, clipping by the norm of the whole gradient, and the learning
//! rate's course: linear warm-up, then linear decay.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How the optimiser goes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OptimizerSettings {
    /// Peak of the learning rate.
    pub learning_rate: f64,
    /// Steps until the peak.
    pub warm_up: usize,
    /// Share of the peak that is left in the last step.
    pub final_rate: f64,
    /// Memory of the mean gradient.
    pub beta_1: f64,
    /// Memory of the mean squared gradient.
    pub beta_2: f64,
    /// Added to the root of the mean square.
    pub epsilon: f64,
    /// Decoupled decay of weights, a unit of the learning rate.
    pub weight_decay: f64,
    /// Largest norm of the gradient over all parameters; longer ones are shortened to it.
    pub clip: f64,
}

impl Default for OptimizerSettings {
    fn default() -> Self {
        Self {
            learning_rate: 4e-4,
            warm_up: 5,
            final_rate: 0.2,
            beta_1: 0.9,
            beta_2: 0.98,
            epsilon: 1e-8,
            weight_decay: 0.0,
            clip: 1.0,
        }
    }
}

impl OptimizerSettings {
    /// The learning rate of step `step` (from 0) of `steps`: the peak is reached at the end of warm-up, `final_rate` of
    /// it in the last step.
    pub fn rate(&self, step: usize, steps: usize) -> f64 {
        let warm_up = self.warm_up.min(steps);
        if step < warm_up {
            return self.learning_rate * (step + 1) as f64 / warm_up as f64;
        }
        let gone = (step + 1 - warm_up) as f64 / (steps - warm_up) as f64;
        self.learning_rate * (1.0 - (1.0 - self.final_rate) * gone)
    }
}

/// Moments of one run; part of its checkpoint.
#[derive(Clone, Debug, PartialEq)]
pub struct AdamW {
    /// Mean gradient of each array.
    pub mean: Vec<Vec<f32>>,
    /// Mean squared gradient of each array.
    pub square: Vec<Vec<f32>>,
    /// Updates made.
    pub updates: u64,
}

/// Guards the division in clipping, as PyTorch does.
const CLIP_EPSILON: f64 = 1e-6;

impl AdamW {
    /// Before the first update, for arrays of these lengths.
    pub fn new(lengths: impl Iterator<Item = usize> + Clone) -> Self {
        let zeros = |n| vec![0.0; n];
        Self { mean: lengths.clone().map(zeros).collect(), square: lengths.map(zeros).collect(), updates: 0 }
    }

    /// Moves `values` along `ascent`, the gradient of what is maximised; returns the gradient's norm before clipping.
    /// Arithmetic in f64, numbers kept in f32; an entry whose gradient is always 0 stays as it is, apart from decay.
    pub fn step(
        &mut self,
        settings: &OptimizerSettings,
        rate: f64,
        values: &mut [&mut [f32]],
        ascent: &[Vec<f32>],
    ) -> f64 {
        let norm = norm(ascent);
        let scale = (settings.clip / (norm + CLIP_EPSILON)).min(1.0);
        self.updates += 1;
        let t = self.updates as f64;
        let corrections = (1.0 - settings.beta_1.powf(t), 1.0 - settings.beta_2.powf(t));
        let (b1, b2) = (settings.beta_1, settings.beta_2);
        let keep = 1.0 - rate * settings.weight_decay;
        let moments = self.mean.par_iter_mut().zip(&mut self.square);
        values.par_iter_mut().zip(ascent).zip(moments).for_each(|((values, ascent), (mean, square))| {
            for (((value, &up), mean), square) in values.iter_mut().zip(ascent).zip(mean).zip(square) {
                let g = scale * f64::from(up);
                *mean = (b1 * f64::from(*mean) + (1.0 - b1) * g) as f32;
                *square = (b2 * f64::from(*square) + (1.0 - b2) * g * g) as f32;
                let root = (f64::from(*square) / corrections.1).sqrt() + settings.epsilon;
                let moved = f64::from(*mean) / corrections.0 / root;
                *value = (keep * f64::from(*value) + rate * moved) as f32;
            }
        });
        norm
    }
}

/// Euclidean norm over all arrays, added up in their order.
pub fn norm(arrays: &[Vec<f32>]) -> f64 {
    let square = |array: &Vec<f32>| array.iter().map(|&v| f64::from(v) * f64::from(v)).sum::<f64>();
    arrays.iter().map(square).sum::<f64>().sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three updates of two numbers by `torch.optim.AdamW` (2.15, CPU, float64) with the settings below and gradients
    /// `-ascent`; the script is in the test's text.
    ///
    /// ```python
    /// import torch
    /// p = torch.tensor([1.0, -2.0], dtype=torch.float64, requires_grad=True)
    /// o = torch.optim.AdamW([p], lr=0.1, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.01)
    /// for g in ([0.3, -0.4], [0.6, 0.8], [-3.0, 4.0]):
    ///     p.grad = -torch.tensor(g, dtype=torch.float64)
    ///     torch.nn.utils.clip_grad_norm_([p], 1.0)
    ///     o.step()
    ///     print(p.tolist())
    /// ```
    #[test]
    fn updates_are_those_of_pytorch() {
        let settings = OptimizerSettings { weight_decay: 0.01, ..OptimizerSettings::default() };
        let mut adam = AdamW::new([1, 1].into_iter());
        let (mut one, mut two) = ([1.0f32], [-2.0f32]);
        let expected = TORCH;
        for (ascent, expected) in [[0.3, -0.4], [0.6, 0.8], [-3.0, 4.0]].into_iter().zip(expected) {
            let gradient: Vec<Vec<f32>> = ascent.iter().map(|&g| vec![g]).collect();
            adam.step(&settings, 0.1, &mut [&mut one, &mut two], &gradient);
            // Numbers of size 1 kept in f32: a few units of 6e-8.
            assert!((f64::from(one[0]) - expected[0]).abs() < 5e-7, "{one:?} {expected:?}");
            assert!((f64::from(two[0]) - expected[1]).abs() < 5e-7, "{two:?} {expected:?}");
        }
    }

    const TORCH: [[f64; 2]; 3] = [
        [1.0989999966666668, -2.0979999975],
        [1.194142491723427, -2.0593966438325406],
        [1.205900643800998, -1.993849671229087],
    ];

    #[test]
    fn the_rate_rises_and_falls() {
        let settings = OptimizerSettings { learning_rate: 1.0, warm_up: 4, ..OptimizerSettings::default() };
        let rates: Vec<f64> = (0..14).map(|s| settings.rate(s, 14)).collect();
        assert_eq!(rates[..4], [0.25, 0.5, 0.75, 1.0]);
        assert!(rates[3..].windows(2).all(|w| w[0] > w[1]));
        assert!((rates[13] - 0.2).abs() < 1e-12, "{rates:?}");
        // A run that ends within its warm-up.
        assert_eq!(settings.rate(1, 2), 1.0);
    }

    #[test]
    fn long_gradients_are_shortened_and_short_ones_are_not() {
        let mean_after = |gradient: [f32; 2]| {
            let mut adam = AdamW::new([2].into_iter());
            let mut values = [0.0f32; 2];
            let gradient = vec![gradient.to_vec()];
            let norm = adam.step(&OptimizerSettings::default(), 0.1, &mut [&mut values], &gradient);
            (norm, adam.mean[0].clone())
        };
        let (norm, mean) = mean_after([30.0, 40.0]);
        assert!((norm - 50.0).abs() < 1e-9);
        assert!((mean[0] - 0.06).abs() < 1e-7 && (mean[1] - 0.08).abs() < 1e-7, "{mean:?}");
        let (_, mean) = mean_after([0.3, 0.4]);
        assert!((mean[0] - 0.03).abs() < 1e-7, "{mean:?}");
    }

    #[test]
    fn what_has_no_gradient_stays() {
        let mut adam = AdamW::new([2].into_iter());
        let mut values = [0.5f32, -0.25];
        for _ in 0..3 {
            adam.step(&OptimizerSettings::default(), 0.1, &mut [&mut values], &[vec![1.0, 0.0]]);
        }
        assert!(values[0] != 0.5);
        assert_eq!(values[1], -0.25);
    }
}
