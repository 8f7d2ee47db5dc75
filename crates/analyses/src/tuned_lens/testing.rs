//! Small models and noise for the tests of this analysis.

use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{DEFAULT_MEMORY, Mat, Model, Number};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// A reference model of a few thousand parameters, with its adapter.
pub fn tiny<R: Number>(family: &str) -> Model<R> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tiny").join(family);
    let base = Checkpoint::open(&dir.join("model")).expect("the tiny models lie beside the repository");
    Model::load(base, &[("tuned".to_owned(), dir.join("adapter"))], DEFAULT_MEMORY).expect("a tiny model")
}

/// Numbers between -1 and 1.
pub fn noise<R: Number>(rows: usize, cols: usize, seed: u64) -> Mat<R> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let data = (0..rows * cols).map(|_| R::from_f64(rng.random_range(-1.0..1.0))).collect();
    Mat { data, rows, cols }
}
