//! Seconds of attribution patching of one pair of prompts against those of one forward pass; prints JSON.
//!
//! `bench_gradients --base FILE_OR_FOLDER --tokens 232 --threads 2 --runs 10`
//!
//! Attribution is everything from tokens to estimates: the source's run, the target's run, the way back, and the products, for
//! every head's z and every MLP's output at every position. A forward pass is one run to the last position's logits.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{
    Batch, Capture, DEFAULT_MEMORY, Error, HookPoint, Hooks, Mat, Model, Run, Site, States, Wanted,
};
use std::path::Path;
use std::time::Instant;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// BOS of SmolLM2, then a fixed walk through the vocabulary.
fn token_ids(n: usize, step: u32) -> Vec<u32> {
    (0..n as u32).map(|i| if i == 0 { 1 } else { 3 + (step * i) % 40_000 }).collect()
}

/// Estimates of all units at all positions; their sum, and how many.
fn attribution(model: &Model<f32>, source: &[u32], target: &[u32]) -> Result<(f64, usize)> {
    let spec = model.spec();
    let sites = [Site::Z, Site::MlpOut];
    let captures = |batch: &Batch| -> Vec<Capture> {
        let rows: Vec<usize> = (0..batch.n_rows()).collect();
        let points = (0..spec.n_layers).flat_map(|l| sites.map(|s| HookPoint::Layer(l, s)));
        points.map(|point| Capture { point, rows: rows.clone() }).collect()
    };
    let batch = Batch::new(spec, &[(0, source)])?;
    let hooks = Hooks { captures: captures(&batch), edits: Vec::new() };
    let from = model.run(&batch, &hooks, &[])?;
    let batch = Batch::new(spec, &[(0, target)])?;
    let hooks = Hooks { captures: captures(&batch), edits: Vec::new() };
    let wanted = Wanted { captures: captures(&batch), ..Wanted::default() };
    let loss = |run: &Run<f32>| -> std::result::Result<Mat<f32>, Error> {
        let states = States {
            model: 0,
            normalized: run.readout.clone(),
            tokens: vec![vec![33, 34]],
            reference: Vec::new(),
            top: 0,
        };
        model.log_probs_backward(&states, &[vec![-1.0, 1.0]])
    };
    let (here, slopes) =
        model.gradients(&batch, &hooks, &[batch.n_rows() - 1], &wanted, DEFAULT_MEMORY, loss)?;
    let (mut sum, mut n) = (0.0, 0);
    for (i, capture) in wanted.captures.iter().enumerate() {
        let width =
            if matches!(capture.point, HookPoint::Layer(_, Site::Z)) { spec.d_head } else { spec.d_model };
        for row in 0..capture.rows.len() {
            let (new, old, slope) =
                (&from.captures[i][row], &here.captures[i][row], &slopes.captures[i][row]);
            for unit in 0..new.len() / width {
                let part = unit * width..(unit + 1) * width;
                let values = new[part.clone()].iter().zip(&old[part.clone()]).zip(&slope[part]);
                let estimate: f32 = values.map(|((n, o), s)| (n - o) * s).sum();
                sum += f64::from(estimate.abs());
                n += 1;
            }
        }
    }
    Ok((sum, n))
}

fn main() -> Result<()> {
    let (mut base, mut tokens, mut threads, mut runs) = (String::new(), 232, 1, 10);
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--base" => base = value,
            "--tokens" => tokens = value.parse()?,
            "--threads" => threads = value.parse()?,
            "--runs" => runs = value.parse()?,
            _ => return Err(format!("`{name}` is not an option").into()),
        }
    }
    rayon::ThreadPoolBuilder::new().num_threads(threads).build_global()?;
    let model: Model<f32> = Model::load(Checkpoint::open(Path::new(&base))?, &[], DEFAULT_MEMORY)?;
    let (source, target) = (token_ids(tokens, 7919), token_ids(tokens, 6151));
    let forward = || -> Result<f32> {
        let batch = Batch::new(model.spec(), &[(0, &target)])?;
        let run = model.run(&batch, &Hooks::default(), &[tokens - 1])?;
        Ok(model.all_logits(0, &run.readout)?.row(0)[1])
    };
    forward()?; // packs the weights
    let (mut forwards, mut attributions, mut n_estimates) = (Vec::new(), Vec::new(), 0);
    for _ in 0..runs {
        let start = Instant::now();
        forward()?;
        forwards.push(start.elapsed().as_secs_f64());
        let start = Instant::now();
        n_estimates = attribution(&model, &source, &target)?.1;
        attributions.push(start.elapsed().as_secs_f64());
    }
    let best = |seconds: &[f64]| seconds.iter().copied().fold(f64::INFINITY, f64::min);
    let result = serde_json::json!({
        "n_tokens": tokens,
        "threads": threads,
        "n_estimates": n_estimates,
        "forward_seconds": best(&forwards),
        "attribution_seconds": best(&attributions),
        "ratio": best(&attributions) / best(&forwards),
    });
    println!("{result}");
    Ok(())
}
