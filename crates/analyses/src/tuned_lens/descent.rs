//! Steps down the divergence itself, from the closed form on.
//!
//! The closed form predicts the mean of the final states, and a mean is shorter than the states are; the final norm makes it
//! long again, so that its distributions are too sure of themselves. A squared error does not see that, the divergence does.

use super::affine::{Affine, theta_gradient};
use super::readout::Readout;
use super::settings::Settings;
use lorascope_engine::Mat;

/// Adam's decay rates and the guard of its denominator (Kingma & Ba 2015).
const MOMENTS: (f32, f32, f32) = (0.9, 0.999, 1e-8);

/// `settings.steps` steps of Adam on the mean KL(final ‖ lens), with a rate that falls to zero along a half cosine. Rows are taken
/// in their order, which is random already, again from the first when all have been seen.
pub(super) fn descend(
    start: &Affine,
    from: &Mat<f32>,
    to: &Mat<f32>,
    readout: &Readout<f32>,
    settings: &Settings,
) -> Affine {
    let mut map = start.clone();
    let (mut first, mut second) = (vec![0.0; map.theta.data.len()], vec![0.0; map.theta.data.len()]);
    let (decay, decay_squares, guard) = MOMENTS;
    for step in 0..settings.steps {
        let rows: Vec<usize> =
            (step * settings.batch..(step + 1) * settings.batch).map(|i| i % from.rows).collect();
        let states = from.gather(&rows);
        let by_state = readout.gradient(&map.apply(&states), &to.gather(&rows));
        let gradient = theta_gradient(&map, &map.features(&states), &by_state);
        let along = step as f64 / settings.steps as f64;
        let rate = settings.rate * 0.5 * (1.0 + (std::f64::consts::PI * along).cos());
        let unbias = 1.0 / (1.0 - f64::from(decay).powi(step as i32 + 1));
        let unbias_squares = 1.0 / (1.0 - f64::from(decay_squares).powi(step as i32 + 1)) as f32;
        let rate = (rate * unbias) as f32;
        let moments = first.iter_mut().zip(&mut second);
        for ((theta, &g), (m, v)) in map.theta.data.iter_mut().zip(&gradient.data).zip(moments) {
            *m = decay * *m + (1.0 - decay) * g;
            *v = decay_squares * *v + (1.0 - decay_squares) * g * g;
            *theta -= rate * *m / ((*v * unbias_squares).sqrt() + guard);
        }
    }
    map
}
