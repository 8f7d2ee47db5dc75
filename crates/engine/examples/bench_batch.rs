//! Speed and memory of deciding: many prompts that share beginnings, on a base and its adapters; prints JSON.
//!
//! `bench_batch --base FILE_OR_FOLDER [--adapter FOLDER]... --threads 2 --runs 3 [--memory GIB]`
//!
//! Fifteen prompts of 232 tokens as in `bench/prompts_15.json`: three scenarios that share the first 40 tokens, five
//! prompts of each that share 143 more, 49 of their own; 1,204 of 3,480 tokens are distinct. Each model reads each
//! prompt's last token out over the whole vocabulary.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{Batch, DEFAULT_MEMORY, Hooks, Model, States};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

const PROMPTS: usize = 15;

/// What the command line asks for.
struct Call {
    base: String,
    adapters: Vec<(String, PathBuf)>,
    threads: usize,
    runs: usize,
    memory: usize,
}

fn call() -> Result<Call, Box<dyn Error>> {
    let mut call =
        Call { base: String::new(), adapters: Vec::new(), threads: 1, runs: 3, memory: DEFAULT_MEMORY };
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--base" => call.base = value,
            "--adapter" => call.adapters.push((value.clone(), value.into())),
            "--threads" => call.threads = value.parse()?,
            "--runs" => call.runs = value.parse()?,
            "--memory" => call.memory = (value.parse::<f64>()? * f64::from(1 << 30)) as usize,
            _ => return Err(format!("`{name}` is not an option").into()),
        }
    }
    Ok(call)
}

fn prompts() -> Vec<Vec<u32>> {
    let token = |branch: usize, place: usize| (3 + (7919 * place + 401 * branch) % 40_000) as u32;
    let at = |prompt: usize, place: usize| match place {
        0..40 => token(0, place),
        40..183 => token(1 + prompt / 5, place),
        _ => token(4 + prompt, place),
    };
    (0..PROMPTS).map(|prompt| (0..232).map(|place| at(prompt, place)).collect()).collect()
}

/// Multiplications and additions that the batch needs, with each shared token computed once.
fn flops(model: &Model<f32>, batch: &Batch, n_read: usize) -> f64 {
    let spec = model.spec();
    let linears: usize = spec.modules().map(|m| spec.module_shape(m)).map(|(o, i)| o * i).sum();
    let of_row = |row: usize| {
        let adapter =
            batch.row(row).model.checked_sub(1).map_or(0, |i| model.adapters()[i].peft.report.parameters);
        let attention = 2 * (batch.row(row).position + 1) * spec.n_heads * spec.d_head * spec.n_layers;
        2 * (spec.n_layers * linears + adapter + attention)
    };
    let layers: usize = (0..batch.n_rows()).map(of_row).sum();
    (layers + 2 * n_read * spec.d_vocab * spec.d_model) as f64
}

/// Largest resident memory of this process so far, in GiB, where the system tells.
fn peak_gib() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:"))?;
    Some(line.trim().trim_end_matches(" kB").parse::<f64>().ok()? / f64::from(1 << 20))
}

fn main() -> Result<(), Box<dyn Error>> {
    let call = call()?;
    rayon::ThreadPoolBuilder::new().num_threads(call.threads).build_global()?;
    let loading = Instant::now();
    let base = Checkpoint::open(Path::new(&call.base))?;
    let model: Model<f32> = Model::load(base, &call.adapters, call.memory)?;
    let load_seconds = loading.elapsed().as_secs_f64();
    let prompts = prompts();
    let sequences: Vec<(usize, &[u32])> =
        (0..model.n_models()).flat_map(|m| prompts.iter().map(move |p| (m, &p[..]))).collect();
    let batch = Batch::new(model.spec(), &sequences)?;
    let last = |s: usize| batch.row_of(s, sequences[s].1.len() - 1);
    let readout: Vec<usize> = (0..sequences.len()).filter_map(last).collect();
    let (mut layers, mut vocabulary, mut sums) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..call.runs {
        let start = Instant::now();
        let run = model.run(&batch, &Hooks::default(), &readout)?;
        layers.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        let mut sum = 0.0;
        for m in 0..model.n_models() {
            let rows: Vec<usize> = (m * PROMPTS..(m + 1) * PROMPTS).collect();
            let normalized = run.readout.gather(&rows);
            let tokens = vec![vec![0, 1]; PROMPTS];
            let states = States { model: m, normalized, tokens, reference: Vec::new(), top: 5 };
            let read = model.next_tokens(&states)?;
            sum += read.iter().map(|r| r.logits[0] - r.logits[1] + r.log_sum_exp).sum::<f64>();
        }
        vocabulary.push(start.elapsed().as_secs_f64());
        sums.push(sum);
    }
    if sums.iter().any(|s| *s != sums[0]) {
        return Err("two runs gave different results".into());
    }
    let total = layers.iter().zip(&vocabulary).map(|(a, b)| a + b).fold(f64::INFINITY, f64::min);
    let work = flops(&model, &batch, readout.len());
    let result = serde_json::json!({
        "rows": batch.n_rows(),
        "threads": call.threads,
        "resident": model.is_resident(),
        "checksum": sums[0],
        "load_seconds": load_seconds,
        "seconds_layers": layers,
        "seconds_vocabulary": vocabulary,
        "tflop": work * 1e-12,
        "gflop_per_second": work / total * 1e-9,
        "peak_resident_gib": peak_gib(),
    });
    println!("{result}");
    Ok(())
}
