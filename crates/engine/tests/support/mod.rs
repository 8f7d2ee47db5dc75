//! Reference tensors of the tiny models, as Hugging Face computed them.

#![allow(dead_code)]

use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{DEFAULT_MEMORY, Model};
use lorascope_kernels::Real;
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// The folder of reference data beside the repository, or `None` (said aloud) where it is absent.
pub fn shared() -> Option<PathBuf> {
    let shared = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared");
    if shared.is_dir() {
        return Some(shared);
    }
    assert!(std::env::var_os("LORASCOPE_REQUIRE_SHARED").is_none(), "{} is missing", shared.display());
    println!("skipped: reference data not found at {}", shared.display());
    None
}

/// Tensors of a `ref.safetensors`.
pub struct Reference {
    floats: HashMap<String, Vec<f32>>,
    pub input_ids: Vec<Vec<u32>>,
}

impl Reference {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let mut floats = HashMap::new();
        let mut input_ids = Vec::new();
        for (name, view) in file.tensors() {
            if name == "input_ids" {
                let ids: Vec<u32> = view
                    .data()
                    .chunks_exact(8)
                    .map(|b| u32::try_from(i64::from_le_bytes(b.try_into().unwrap())).unwrap())
                    .collect();
                input_ids = ids.chunks_exact(view.shape()[1]).map(<[u32]>::to_vec).collect();
            } else {
                let values = view.data().chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap()));
                floats.insert(name, values.collect());
            }
        }
        Self { floats, input_ids }
    }

    pub fn get(&self, name: &str) -> &[f32] {
        self.floats.get(name).unwrap_or_else(|| panic!("no reference tensor {name}"))
    }
}

/// A tiny model with adapters.
pub fn load<R: Real>(model: &Path, adapters: &[(&str, PathBuf)]) -> Model<R> {
    let base = Checkpoint::open(model).unwrap();
    let adapters: Vec<(String, PathBuf)> = adapters.iter().map(|(n, p)| ((*n).to_owned(), p.clone())).collect();
    Model::load(base, &adapters, DEFAULT_MEMORY).unwrap()
}

/// Largest absolute difference, printed with where it is.
pub fn max_difference<R: Real>(what: &str, got: impl IntoIterator<Item = R>, want: &[f32]) -> f64 {
    let mut worst = (0.0f64, 0);
    let mut n = 0;
    for (i, (g, w)) in got.into_iter().zip(want).enumerate() {
        let difference = (g.to_f64() - f64::from(*w)).abs();
        assert!(!difference.is_nan(), "{what}[{i}] is NaN");
        if difference > worst.0 {
            worst = (difference, i);
        }
        n += 1;
    }
    assert_eq!(n, want.len(), "{what}: number of values");
    worst.0
}
