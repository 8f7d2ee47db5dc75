//! A training that was cut off, as bytes: factors, moments of the optimiser, and everything measured so far.
//!
//! Random numbers of a training depend on its seed and the step alone, so the step is their whole state. The run folder
//! keeps the bytes (atomically, with a checksum over them and the run's identity); what they hold is safetensors with one
//! JSON text in its metadata. Going on from a checkpoint gives the bits of a run that was never cut off.

use crate::adapter::{Factors, to_bytes};
use crate::error::{Error, Result};
use crate::metrics::Step;
use crate::optimizer::AdamW;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Where a training stands after some steps.
#[derive(Clone, Debug, PartialEq)]
pub struct Checkpoint {
    /// Factors.
    pub factors: Factors,
    /// Moments of the optimiser.
    pub optimizer: AdamW,
    /// What changes besides.
    pub progress: Progress,
}

/// The part of a checkpoint that is not arrays.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// Steps done, each with what was measured.
    pub steps: Vec<Step>,
    /// Updates of the optimiser.
    pub updates: u64,
    /// PPO's weight of the divergence.
    pub kl_coefficient: f64,
}

const KEY: &str = "progress";
/// What the arrays of a factor are called, before its own name.
const KINDS: [&str; 3] = ["value", "mean", "square"];

impl Checkpoint {
    /// As bytes.
    ///
    /// # Errors
    /// The library refuses a shape.
    pub fn to_bytes(&self) -> Result<Vec<u8>> {
        let mut arrays = Vec::with_capacity(3 * self.factors.0.len());
        for (i, factor) in self.factors.0.iter().enumerate() {
            let values = [&factor.values, &self.optimizer.mean[i], &self.optimizer.square[i]];
            for (kind, values) in KINDS.into_iter().zip(values) {
                arrays.push((
                    format!("{kind}.{}", factor.name),
                    vec![factor.rows, factor.cols],
                    to_bytes(values),
                ));
            }
        }
        let views = arrays.iter().map(|(name, shape, bytes)| {
            Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?))
        });
        let views = views.collect::<Result<Vec<_>>>()?;
        let progress = serde_json::to_string(&self.progress).map_err(broken)?;
        Ok(serialize(views, Some(HashMap::from([(KEY.to_owned(), progress)])))?)
    }

    /// From bytes; `like` has the arrays that must be there.
    ///
    /// # Errors
    /// Bytes of another training.
    pub fn from_bytes(bytes: &[u8], like: &Factors) -> Result<Self> {
        let (_, header) = SafeTensors::read_metadata(bytes)?;
        let text = header.metadata().as_ref().and_then(|m| m.get(KEY));
        let text = text.ok_or_else(|| Error::Checkpoint(format!("it has no `{KEY}`")))?;
        let progress: Progress = serde_json::from_str(text).map_err(broken)?;
        let stored = SafeTensors::deserialize(bytes)?;
        let array = |kind: &str, name: &str, shape: [usize; 2]| -> Result<Vec<f32>> {
            let name = format!("{kind}.{name}");
            let view = stored.tensor(&name)?;
            if view.dtype() != Dtype::F32 || view.shape() != shape {
                return Err(Error::Checkpoint(format!(
                    "`{name}` has shape {:?}, not {shape:?}",
                    view.shape()
                )));
            }
            let number = |b: &[u8]| f32::from_le_bytes([b[0], b[1], b[2], b[3]]);
            Ok(view.data().chunks_exact(4).map(number).collect())
        };
        let mut factors = like.clone();
        let (mut mean, mut square) = (Vec::new(), Vec::new());
        for factor in &mut factors.0 {
            let shape = [factor.rows, factor.cols];
            factor.values = array(KINDS[0], &factor.name, shape)?;
            mean.push(array(KINDS[1], &factor.name, shape)?);
            square.push(array(KINDS[2], &factor.name, shape)?);
        }
        let optimizer = AdamW { mean, square, updates: progress.updates };
        Ok(Self { factors, optimizer, progress })
    }
}

fn broken(error: serde_json::Error) -> Error {
    Error::Checkpoint(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adapter::Factor;
    use crate::metrics::StateStep;
    use crate::targets::Part;

    fn factors(rows: usize) -> Factors {
        let values = (0..rows * 2).map(|i| (i as f32).sin()).collect();
        Factors(vec![Factor { name: "x.lora_A.weight".to_owned(), rows, cols: 2, values, part: Part::Whole }])
    }

    #[test]
    fn everything_comes_back_bit_for_bit() {
        let states = vec![StateStep {
            prompt: 3,
            reward: 0.1 + 0.2,
            p_defect: 1.0 / 3.0,
            legal_mass: 1e-7,
            kl: 5e-324,
        }];
        let step = Step {
            forms: vec![0, 2],
            objective: -2.0 / 7.0,
            gradient_norm: 1e300,
            learning_rate: 4e-4,
            kl_coefficient: Some(0.2),
            states,
        };
        let factors = factors(3);
        let mut optimizer = AdamW::new([6].into_iter());
        optimizer.mean[0][2] = f32::MIN_POSITIVE / 2.0;
        optimizer.square[0][5] = 1.0 / 3.0;
        optimizer.updates = 9;
        let progress = Progress { steps: vec![step], updates: 9, kl_coefficient: 0.1 + 0.2 };
        let checkpoint = Checkpoint { factors, optimizer, progress };
        let bytes = checkpoint.to_bytes().unwrap();
        assert_eq!(Checkpoint::from_bytes(&bytes, &checkpoint.factors).unwrap(), checkpoint);
    }

    #[test]
    fn another_trainings_checkpoint_is_refused() {
        let checkpoint = Checkpoint {
            factors: factors(3),
            optimizer: AdamW::new([6].into_iter()),
            progress: Progress::default(),
        };
        let bytes = checkpoint.to_bytes().unwrap();
        let message = Checkpoint::from_bytes(&bytes, &factors(4)).unwrap_err().to_string();
        assert!(message.contains("`value.x.lora_A.weight` has shape [3, 2], not [4, 2]"), "{message}");
        assert!(Checkpoint::from_bytes(&bytes[..40], &factors(3)).is_err());
        assert!(Checkpoint::from_bytes(b"", &factors(3)).is_err());
    }
}
