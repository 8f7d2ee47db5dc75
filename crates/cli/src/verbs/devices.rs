//! `lorascope devices`: which devices can be reached, and whether and how fast they compute what the processor computes.

use crate::args::DevicesArgs;
use anyhow::{Result, bail};
use lorascope_study::machine::{Shape, available, open, parity, set_threads, speed};
use std::process::ExitCode;

/// Products that are tried: borders of tiles, then maps of SmolLM2-135M and Gemma-2-2b at the rows of a sweep.
const SHAPES: [Shape; 9] = [
    Shape { rows: 1, n_in: 31, n_out: 17 },
    Shape { rows: 130, n_in: 300, n_out: 200 },
    Shape { rows: 513, n_in: 577, n_out: 129 },
    Shape { rows: 2048, n_in: 576, n_out: 1536 },
    Shape { rows: 2048, n_in: 1536, n_out: 576 },
    Shape { rows: 2048, n_in: 2304, n_out: 2048 },
    Shape { rows: 2048, n_in: 2304, n_out: 9216 },
    Shape { rows: 2048, n_in: 9216, n_out: 2304 },
    Shape { rows: 256, n_in: 2304, n_out: 4096 },
];

/// Below this many operations a time says nothing.
const TIMED_FROM: f64 = 1e9;

/// Farther than roundings of sums of ten thousand products in f32 can be.
const WRONG: f64 = 1e-5;

pub fn run(args: &DevicesArgs) -> Result<ExitCode> {
    let found = available();
    println!("cpu       this processor, {} threads", set_threads(None)?);
    for found in &found {
        println!("{:9} {}", found.kind.to_string(), found.description);
    }
    let Some(asked) = args.verify else {
        if found.is_empty() {
            println!(
                "no other device can be reached: no driver of NVIDIA's, Vulkan, Metal or Direct3D 12 answers"
            );
        }
        return Ok(ExitCode::SUCCESS);
    };
    let Some(device) = open(asked)? else {
        bail!("--verify compares a device with the processor; name one of the others")
    };
    println!("\nlorascope {} verifies {asked}: {}", env!("CARGO_PKG_VERSION"), device.name());
    println!(
        "{:>20} {:>12} {:>12} {:>14} {:>14} {:>7}",
        "product", "other bits", "largest", "device", "processor", "ratio"
    );
    let mut is_right = true;
    for shape in SHAPES {
        let found = parity(device.as_ref(), shape, 0)?;
        is_right &= found.largest < WRONG;
        print!(
            "{:>20} {:>12} {:>12.1e}",
            format!("{}x{}x{}", shape.rows, shape.n_in, shape.n_out),
            format!("{:.2}%", 100.0 * found.different as f64 / found.elements as f64),
            found.largest
        );
        if shape.operations() >= TIMED_FROM {
            let timed = speed(device.as_ref(), shape)?;
            let rate = |seconds: f64| format!("{:.0} GFLOP/s", shape.operations() / seconds / 1e9);
            let ratio = timed.processor / timed.device;
            print!(" {:>14} {:>14} {ratio:>7.1}", rate(timed.device), rate(timed.processor));
        }
        println!();
    }
    println!(
        "{}",
        if is_right && device.is_exact() {
            "Every product has the processor's bits."
        } else if is_right {
            "Products differ from the processor's by roundings: multiply-adds round twice on this device."
        } else {
            "WRONG: products differ by more than roundings. Please report this output."
        }
    );
    Ok(if is_right { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
