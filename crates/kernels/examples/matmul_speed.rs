//! Speed of the packed product in GFLOP/s: `cargo run --release -p lorascope-kernels --example matmul_speed`.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_kernels::{MatMut, MatRef, Packed, Write, isa, matmul};
use std::time::Instant;

fn main() {
    println!("{:?}, {} threads", isa(), rayon::current_num_threads());
    for (n_in, n_out) in [(576, 1536), (2304, 9216)] {
        let w = Packed::from_output_rows(MatRef::new(&vec![0.01f32; n_in * n_out], n_out, n_in));
        print!("{n_in} x {n_out}:");
        for rows in [1usize, 2, 3, 4, 5, 6, 8, 16, 32, 128, 232, 512] {
            let x = vec![0.5f32; rows * n_in];
            let mut out = vec![0.0f32; rows * n_out];
            let flops = (2 * rows * n_in * n_out) as f64;
            let mut best = f64::INFINITY;
            let start = Instant::now();
            while start.elapsed().as_secs_f64() < 0.7 {
                let t = Instant::now();
                matmul(MatMut::new(&mut out, rows, n_out), MatRef::new(&x, rows, n_in), &w, Write::Set);
                best = best.min(t.elapsed().as_secs_f64());
            }
            print!("  {rows}: {:.0}", flops / best / 1e9);
        }
        println!();
    }
}
