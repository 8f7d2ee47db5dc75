//! The factors that are trained: how they begin, and the PEFT folder in which they end.
//!
//! They begin as PEFT's default has it: A uniform within ±1/√inputs (Kaiming's rule with a = √5), B zero, so that the
//! adapter does nothing at first. The random numbers of a matrix depend on the seed and its path alone.

use crate::error::Result;
use crate::settings::Settings;
use crate::targets::{Part, Target, Targets};
use lorascope_peft::{Matrix, factor_name, weights_file};
use lorascope_record::{sha256_hex, write_atomic};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde_json::{Value, json};
use std::path::Path;

/// Name of the configuration in an adapter's folder.
pub const CONFIG: &str = "adapter_config.json";
/// Name of the weights in an adapter's folder.
pub const WEIGHTS: &str = "adapter_model.safetensors";

/// One array of an adapter.
#[derive(Clone, Debug, PartialEq)]
pub struct Factor {
    /// Name of its tensor in a PEFT file.
    pub name: String,
    /// Rows: the rank for A, outputs for B.
    pub rows: usize,
    /// Columns: inputs for A, the rank for B.
    pub cols: usize,
    /// Row by row.
    pub values: Vec<f32>,
    /// What may move; the rest is zero and stays so.
    pub part: Part,
}

/// All arrays of an adapter: for each target A, then B.
#[derive(Clone, Debug, PartialEq)]
pub struct Factors(pub Vec<Factor>);

impl Factors {
    /// Before training.
    pub fn new(targets: &Targets, rank: usize, seed: u64) -> Self {
        Self(targets.targets.iter().flat_map(|target| pair(target, rank, seed)).collect())
    }

    /// The values, for an optimiser to move.
    pub fn values_mut(&mut self) -> Vec<&mut [f32]> {
        self.0.iter_mut().map(|f| f.values.as_mut_slice()).collect()
    }

    /// Sets the gradient of what may not move to zero.
    pub fn mask(&self, gradient: &mut [Vec<f32>]) {
        for (factor, gradient) in self.0.iter().zip(gradient) {
            factor.part.clear_outside(gradient, factor.cols);
        }
    }

    /// `adapter_model.safetensors`, with the names, shapes and metadata that PEFT writes.
    ///
    /// # Errors
    /// The library refuses a shape; it can't for factors made here.
    pub fn to_safetensors(&self) -> Result<Vec<u8>> {
        let mut matrices = Vec::with_capacity(self.0.len());
        for f in &self.0 {
            matrices.push(Matrix { name: &f.name, rows: f.rows, cols: f.cols, values: &f.values });
        }
        Ok(weights_file(&matrices)?)
    }
}

/// Little-endian, as safetensors has numbers.
pub(crate) fn to_bytes(values: &[f32]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(4 * values.len());
    values.iter().for_each(|v| bytes.extend_from_slice(&v.to_le_bytes()));
    bytes
}

fn pair(target: &Target, rank: usize, seed: u64) -> [Factor; 2] {
    let bound = 1.0 / (target.n_in as f64).sqrt();
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(stream_of(&target.path));
    let mut a: Vec<f32> = (0..rank * target.n_in).map(|_| rng.random_range(-bound..bound) as f32).collect();
    target.a.clear_outside(&mut a, target.n_in);
    let name = |which: &str| factor_name(&target.path, which);
    let (a_part, b_part) = (target.a.clone(), target.b.clone());
    [
        Factor { name: name("A"), rows: rank, cols: target.n_in, values: a, part: a_part },
        Factor {
            name: name("B"),
            rows: target.n_out,
            cols: rank,
            values: vec![0.0; target.n_out * rank],
            part: b_part,
        },
    ]
}

/// A stream of random numbers of its own for every matrix.
fn stream_of(path: &str) -> u64 {
    let digest = sha256_hex(path.as_bytes());
    u64::from_str_radix(&digest[..16], 16).unwrap_or_else(|_| unreachable!("hexadecimal digits"))
}

/// `adapter_config.json` as PEFT 0.21 reads it. `base` is the name that the file gives the base model.
pub fn config(settings: &Settings, targets: &Targets, base: &str) -> Value {
    let whole = settings.alpha.fract() == 0.0 && settings.alpha.abs() < 1e15;
    let alpha = if whole { json!(settings.alpha as i64) } else { json!(settings.alpha) };
    json!({
        "alpha_pattern": {},
        "base_model_name_or_path": base,
        "bias": "none",
        "exclude_modules": null,
        "fan_in_fan_out": targets.transposed,
        "inference_mode": true,
        "init_lora_weights": true,
        "layers_pattern": null,
        "layers_to_transform": targets.layers,
        "lora_alpha": alpha,
        "lora_bias": false,
        "lora_dropout": 0.0,
        "modules_to_save": null,
        "peft_type": "LORA",
        "r": settings.rank,
        "rank_pattern": {},
        "revision": null,
        "target_modules": targets.names,
        "task_type": "CAUSAL_LM",
        "use_dora": false,
        "use_rslora": settings.rslora,
    })
}

/// A JSON value as text that ends in a line break.
pub fn config_text(config: &Value) -> String {
    format!("{config:#}\n")
}

/// Writes an adapter folder; each file is whole or not there.
///
/// # Errors
/// A full disk or another failure of the file system; what stood there before is then unchanged.
pub fn write_folder(folder: &Path, config: &Value, factors: &Factors) -> Result<()> {
    write_atomic(&folder.join(WEIGHTS), &factors.to_safetensors()?)?;
    write_atomic(&folder.join(CONFIG), config_text(config).as_bytes())?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::targets::Targets;
    use lorascope_engine::read_spec;

    fn factors(settings: &str, seed: u64) -> (Targets, Factors) {
        let config = serde_json::json!({
            "model_type": "llama", "hidden_size": 64, "intermediate_size": 100, "num_hidden_layers": 2,
            "num_attention_heads": 4, "num_key_value_heads": 2, "vocab_size": 7,
            "max_position_embeddings": 5, "hidden_act": "silu"
        });
        let (family, spec) = read_spec(&config).unwrap();
        let settings = Settings::from_table(settings.parse().unwrap()).unwrap();
        let targets = Targets::resolve(&settings, &spec, family).unwrap();
        let factors = Factors::new(&targets, 8, seed);
        (targets, factors)
    }

    #[test]
    fn a_is_uniform_within_its_bound_and_b_is_zero() {
        let (_, factors) = factors("", 42);
        let down = factors.0.iter().find(|f| f.name.ends_with("0.mlp.down_proj.lora_A.weight")).unwrap();
        assert_eq!((down.rows, down.cols), (8, 100));
        let largest = down.values.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(largest <= 0.1 && largest > 0.098, "{largest}");
        // Uniform on ±0.1: variance 0.01/3; 800 draws leave 5% of it uncertain, five times that is allowed.
        let variance = down.values.iter().map(|v| f64::from(v * v)).sum::<f64>() / 800.0;
        assert!((variance * 300.0 - 1.0).abs() < 0.16, "{variance}");
        assert!(
            factors
                .0
                .iter()
                .filter(|f| f.name.contains("lora_B"))
                .all(|f| f.values.iter().all(|v| *v == 0.0))
        );
    }

    #[test]
    fn random_numbers_depend_on_seed_and_path_alone() {
        let ((_, all), (_, again), (_, other)) = (factors("", 1), factors("", 1), factors("", 2));
        assert_eq!(all, again);
        assert_ne!(all.0[0].values, other.0[0].values);
        assert_ne!(all.0[0].values, all.0[14].values, "the same module of two layers");
        let (_, some) = factors("layers = [1]\nmodules = ['q']", 1);
        assert_eq!(some.0[0], all.0[14]);
    }

    #[test]
    fn what_may_not_move_is_zero() {
        let (_, factors) = factors("heads = ['1.2']", 1);
        let a = factors.0.iter().find(|f| f.name.contains("o_proj.lora_A")).unwrap();
        for row in a.values.chunks(64) {
            assert!(row[..32].iter().chain(&row[48..]).all(|v| *v == 0.0));
            assert!(row[32..48].iter().all(|v| *v != 0.0));
        }
        let mut gradient: Vec<Vec<f32>> = factors.0.iter().map(|f| vec![1.0; f.values.len()]).collect();
        factors.mask(&mut gradient);
        let moving: usize = gradient.iter().flatten().filter(|g| **g == 1.0).count();
        // q: A 8×64, B 16×8; k and v: A 8×64, B 16×8; o: A 8×16, B 64×8.
        assert_eq!(moving, 3 * (8 * 64 + 16 * 8) + 8 * 16 + 64 * 8);
    }

    #[test]
    fn the_configuration_says_what_was_asked() {
        let (targets, _) = factors("layers = [1]", 1);
        let settings = Settings { alpha: 12.5, rank: 4, ..Settings::default() };
        let written = config(&settings, &targets, "ORG/BASE");
        assert_eq!(written["lora_alpha"], json!(12.5));
        assert_eq!(written["layers_to_transform"], json!([1]));
        assert_eq!(written["r"], json!(4));
        assert_eq!(config(&Settings::default(), &targets, "")["lora_alpha"], json!(16));
    }
}
