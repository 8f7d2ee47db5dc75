//! Seconds of one plain forward pass, for `bench/run.sh`; prints JSON.
//!
//! `bench_forward --base FILE_OR_FOLDER --tokens 232 --threads 2 --runs 10 [--last-only] [--capture]`
//!
//! The weights are packed before the clock starts. With `--last-only` only the last position's logits are computed, as
//! `logits_to_keep=1` does in `transformers`. With `--capture` every hook point is kept at every position but each head's own input
//! and share of the output (`hook_q_input`, `hook_result` and the like), as TransformerLens' `run_with_cache` does.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{Batch, Capture, DEFAULT_MEMORY, HookPoint, Hooks, Model, ModelSpec, Site};
use std::error::Error;
use std::path::Path;
use std::time::Instant;

/// What the command line asks for.
struct Call {
    base: String,
    tokens: usize,
    threads: usize,
    runs: usize,
    last_only: bool,
    capture: bool,
}

fn call() -> Result<Call, Box<dyn Error>> {
    let mut call =
        Call { base: String::new(), tokens: 232, threads: 1, runs: 10, last_only: false, capture: false };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        match name.as_str() {
            "--last-only" => call.last_only = true,
            "--capture" => call.capture = true,
            _ => {}
        }
        if matches!(name.as_str(), "--last-only" | "--capture") {
            continue;
        }
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--base" => call.base = value,
            "--tokens" => call.tokens = value.parse()?,
            "--threads" => call.threads = value.parse()?,
            "--runs" => call.runs = value.parse()?,
            _ => return Err(format!("`{name}` is not an option").into()),
        }
    }
    Ok(call)
}

/// BOS of SmolLM2, then a fixed walk through the vocabulary; `bench/peers` uses the same.
fn token_ids(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| if i == 0 { 1 } else { 3 + (7919 * i) % 40_000 }).collect()
}

/// Everything at all rows but the inputs and shares of single heads, and what belongs to adapters, of which there are none.
fn captures(spec: &ModelSpec, rows: usize) -> Vec<Capture> {
    let points = HookPoint::all(spec).into_iter();
    let left_out = |site: &Site| {
        let of_heads = matches!(site, Site::Result | Site::QInput | Site::KInput | Site::VInput);
        of_heads || matches!(site, Site::LoraA(_) | Site::LoraOut(_) | Site::LoraResult)
    };
    let kept = points.filter(|p| !matches!(p, HookPoint::Layer(_, site) if left_out(site)));
    kept.map(|point| Capture { point, rows: (0..rows).collect() }).collect()
}

/// Processor seconds of this process (Linux; in hundredths).
fn processor_seconds() -> Result<f64, Box<dyn Error>> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let after = stat.rsplit(')').next().ok_or("no name in /proc/self/stat")?;
    let fields: Vec<&str> = after.split_whitespace().collect();
    let ticks = fields[11].parse::<f64>()? + fields[12].parse::<f64>()?;
    Ok(ticks / 100.0)
}

fn main() -> Result<(), Box<dyn Error>> {
    let call = call()?;
    rayon::ThreadPoolBuilder::new().num_threads(call.threads).build_global()?;
    let loading = Instant::now();
    let model: Model<f32> = Model::load(Checkpoint::open(Path::new(&call.base))?, &[], DEFAULT_MEMORY)?;
    let ids = token_ids(call.tokens);
    let batch = Batch::new(model.spec(), &[(0, &ids)])?;
    let last = call.tokens - 1;
    let readout: Vec<usize> = if call.last_only { vec![last] } else { (0..call.tokens).collect() };
    let captures = if call.capture { captures(model.spec(), batch.n_rows()) } else { Vec::new() };
    let hooks = Hooks { captures, edits: Vec::new() };
    let forward = || -> Result<f32, Box<dyn Error>> {
        let run = model.run(&batch, &hooks, &readout)?;
        let logits = model.all_logits(0, &run.readout)?;
        Ok(logits.row(logits.rows - 1)[1])
    };
    let logit = forward()?; // packs the weights
    let load_seconds = loading.elapsed().as_secs_f64();
    let mut seconds = Vec::with_capacity(call.runs);
    let before = processor_seconds()?;
    for _ in 0..call.runs {
        let start = Instant::now();
        if forward()? != logit {
            return Err("two passes gave different logits".into());
        }
        seconds.push(start.elapsed().as_secs_f64());
    }
    let processor = processor_seconds()? - before;
    let result = serde_json::json!({
        "n_tokens": call.tokens,
        "threads": call.threads,
        "logits": if call.last_only { "last" } else { "all" },
        "last_logit_of_token_1": logit,
        "load_seconds": load_seconds,
        "processor_seconds": processor,
        "seconds": seconds,
    });
    println!("{result}");
    Ok(())
}
