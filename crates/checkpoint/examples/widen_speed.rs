//! How fast a file's tensors become f32: GB of f32 written per second, over all tensors of a checkpoint, by stored type.
//!
//!     cargo run --release -p lorascope-checkpoint --example widen_speed -- MODEL [nf4]

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_checkpoint::{Checkpoint, Nf4Rounding, Result};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

fn main() -> Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        println!("give a model folder or a .gguf file");
        return Ok(());
    };
    let start = Instant::now();
    let mut checkpoint = Checkpoint::open(Path::new(&path))?;
    println!("opened in {:.1?}", start.elapsed());
    if std::env::args().nth(2).as_deref() == Some("nf4") {
        let start = Instant::now();
        checkpoint.round_through_nf4(Nf4Rounding::default())?;
        println!("rounded in {:.1?}", start.elapsed());
    }
    // Once to bring the pages in, once to measure.
    for pass in ["cold", "warm"] {
        let mut spent: BTreeMap<String, (usize, Duration)> = BTreeMap::new();
        let mut out = Vec::new();
        for name in checkpoint.names() {
            let tensor = checkpoint.tensor(name)?;
            out.resize(out.len().max(tensor.n_rows() * tensor.n_cols()), 0.0);
            let out = &mut out[..tensor.n_rows() * tensor.n_cols()];
            let start = Instant::now();
            tensor.widen_rows(0..tensor.n_rows(), out)?;
            let (n, time) = spent.entry(format!("{:?}", tensor.dtype())).or_default();
            (*n, *time) = (*n + out.len(), *time + start.elapsed());
        }
        for (dtype, (n, time)) in &spent {
            println!("{pass} {dtype}: {:.2} GB/s of f32", *n as f64 * 4e-9 / time.as_secs_f64());
        }
    }
    let start = Instant::now();
    println!("sha256 {} in {:.1?}", checkpoint.sha256()?, start.elapsed());
    Ok(())
}
