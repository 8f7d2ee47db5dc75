//! Speed of the packed product in GFLOP/s, beside the machine's own limit:
//! `cargo run --release -p lorascope-kernels --example matmul_speed [-- [SECONDS_PER_CELL] [tTHREADS] [transposed] [N_INxN_OUT …]]`.
//!
//! Each cell is the fastest of as many repetitions as fit into its time. `peak` is a loop of independent fused
//! multiply-adds on registers, which no product can beat; it also shows what the neighbours leave of the machine.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_kernels::{Isa, MatMut, MatRef, Packed, Write, isa, matmul, matmul_transposed};
use std::hint::black_box;
use std::time::Instant;

/// Shapes `(n_in, n_out)` of SmolLM2-135M and Gemma-2-2b.
const SHAPES: [(usize, usize); 5] = [(576, 576), (576, 1536), (1536, 576), (2304, 9216), (9216, 2304)];
const ROWS: [usize; 12] = [1, 2, 3, 4, 6, 8, 16, 32, 64, 128, 232, 512];

fn main() {
    let mut seconds = 0.3;
    let (mut shapes, mut threads, mut transposed) = (vec![], vec![1, 2], false);
    for arg in std::env::args().skip(1) {
        match arg.split_once('x') {
            Some((i, o)) => shapes.push((i.parse().expect("n_in"), o.parse().expect("n_out"))),
            None if arg == "transposed" => transposed = true,
            None if arg.starts_with('t') => threads = vec![arg[1..].parse().expect("threads")],
            None => seconds = arg.parse().expect("seconds per cell"),
        }
    }
    if shapes.is_empty() {
        shapes = SHAPES.to_vec();
    }
    for threads in threads {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("threads");
        pool.install(|| table(&shapes, threads, seconds, transposed));
    }
}

fn table(shapes: &[(usize, usize)], threads: usize, seconds: f64, transposed: bool) {
    let peak = rayon::broadcast(|_| peak(seconds)).into_iter().sum::<f64>();
    println!("{:?}, {threads} threads, peak {peak:.0} GFLOP/s", isa());
    print!("{:>12}", "rows");
    ROWS.iter().for_each(|rows| print!("{rows:>6}"));
    println!();
    for &(n_in, n_out) in shapes {
        let w = Packed::from_output_rows(MatRef::new(&vec![0.01f32; n_in * n_out], n_out, n_in));
        print!("{:>12}", format!("{n_in}x{n_out}"));
        for rows in ROWS {
            let (n_x, n_y) = if transposed { (n_out, n_in) } else { (n_in, n_out) };
            let x = vec![0.5f32; rows * n_x];
            let mut out = vec![0.0f32; rows * n_y];
            let time = fastest(seconds, || {
                let (out, x) = (MatMut::new(&mut out, rows, n_y), MatRef::new(&x, rows, n_x));
                if transposed {
                    matmul_transposed(out, x, &w, Write::Set)
                } else {
                    matmul(out, x, &w, Write::Set)
                }
            });
            print!("{:>6.0}", (2 * rows * n_in * n_out) as f64 / time / 1e9);
        }
        println!();
    }
}

fn fastest(seconds: f64, mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    while start.elapsed().as_secs_f64() < seconds {
        let t = Instant::now();
        run();
        best = best.min(t.elapsed().as_secs_f64());
    }
    best
}

/// GFLOP/s of one thread that only multiplies and adds.
fn peak(seconds: f64) -> f64 {
    const STEPS: usize = 100_000;
    const VECTORS: usize = 6;
    #[inline(always)]
    fn steps(x: f32) -> f32 {
        let (a, b) = (black_box([0.999f32; 16]), black_box([0.001f32; 16]));
        let mut acc = [[x; 16]; VECTORS];
        for _ in 0..STEPS {
            for v in &mut acc {
                for (v, (&a, &b)) in v.iter_mut().zip(a.iter().zip(&b)) {
                    *v = v.mul_add(a, b);
                }
            }
        }
        let mut sum = [0.0; 16];
        for v in acc {
            for (s, v) in sum.iter_mut().zip(v) {
                *s += v;
            }
        }
        black_box(sum)[0]
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx512f,avx512vl,avx512dq,avx512bw,avx2,fma")]
    fn avx512(x: f32) -> f32 {
        steps(x)
    }
    #[cfg(target_arch = "x86_64")]
    #[target_feature(enable = "avx2,fma")]
    fn avx2(x: f32) -> f32 {
        steps(x)
    }
    let time = fastest(seconds, || {
        let x = black_box(0.5);
        black_box(match isa() {
            // SAFETY: `isa` returns a variant only after detecting its features.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => unsafe { avx512(x) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => unsafe { avx2(x) },
            _ => steps(x),
        });
    });
    (2 * STEPS * VECTORS * 16) as f64 / time / 1e9
}
