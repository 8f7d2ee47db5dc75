//! What a sweep of patches costs: against their number, and against the length of the prompt; prints one JSON line each.
//!
//! `bench_sweep --base FILE_OR_FOLDER [--adapter FOLDER] --threads 2 [--lengths 16,64,256,1024,2048] [--patches 100,1000,10000]`
//!
//! One prompt, base and adapter (or the base twice on two prompts); z of one head from one run put into the other at the last
//! position, over all heads and layers in turn. The trunk (both unpatched runs) is timed by itself. FLOPs are those that the
//! patches need: the output projection and MLP of their own layer, all of the layers above. The best product is
//! the fastest that the packed kernel reaches on this machine in the same process.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{
    Batch, Birth, Branch, DEFAULT_MEMORY, Edit, EditOp, HookPoint, Hooks, Model, Module, Site,
};
use lorascope_kernels::{MatMut, MatRef, Packed, Write, matmul};
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

struct Call {
    base: String,
    adapters: Vec<(String, PathBuf)>,
    threads: usize,
    lengths: Vec<usize>,
    patches: Vec<usize>,
}

fn call() -> Result<Call, Box<dyn Error>> {
    let mut call = Call {
        base: String::new(),
        adapters: Vec::new(),
        threads: 1,
        lengths: vec![16, 64, 256, 1024, 2048],
        patches: vec![100, 1_000, 10_000],
    };
    let numbers = |text: &str| text.split(',').map(str::parse).collect::<Result<Vec<usize>, _>>();
    let mut words = std::env::args().skip(1);
    while let Some(name) = words.next() {
        let value = words.next().ok_or_else(|| format!("`{name}` needs a value"))?;
        match name.as_str() {
            "--base" => call.base = value,
            "--adapter" => call.adapters.push((value.clone(), value.into())),
            "--threads" => call.threads = value.parse()?,
            "--lengths" => call.lengths = numbers(&value)?,
            "--patches" => call.patches = numbers(&value)?,
            _ => return Err(format!("`{name}` is not an option").into()),
        }
    }
    Ok(call)
}

fn prompt(n: usize, salt: usize, d_vocab: usize) -> Vec<u32> {
    (0..n).map(|i| (3 + (7919 * i + 401 * salt) % (d_vocab - 3)) as u32).collect()
}

/// GFLOP/s of a large product, the best of several.
fn best_product() -> f64 {
    let (rows, n_in, n_out) = (512, 2304, 9216);
    let noise = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<f32>>();
    let (x, w) = (noise(rows * n_in), noise(n_in * n_out));
    let packed = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
    let mut out = vec![0.0; rows * n_out];
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let start = Instant::now();
        matmul(MatMut::new(&mut out, rows, n_out), MatRef::new(&x, rows, n_in), &packed, Write::Set);
        best = best.min(start.elapsed().as_secs_f64());
    }
    2.0 * (rows * n_in * n_out) as f64 / best * 1e-9
}

/// FLOPs that a patch of z in `layer` at the last of `n` positions needs.
fn flops(model: &Model<f32>, target: usize, layer: usize, n: usize) -> f64 {
    let spec = model.spec();
    let adapter = target.checked_sub(1).map(|i| &model.adapters()[i]);
    let linear = |layer: usize, module: Module| {
        let (out, input) = spec.module_shape(module);
        let rank = adapter.and_then(|a| a.rank(layer, module)).unwrap_or(0);
        2 * (out * input + rank * (out + input))
    };
    let whole =
        |l: usize| spec.modules().map(|m| linear(l, m)).sum::<usize>() + 4 * n * spec.n_heads * spec.d_head;
    let own = spec.modules().filter(|m| !matches!(m, Module::Q | Module::K | Module::V));
    let own: usize = own.map(|m| linear(layer, m)).sum();
    (own + (layer + 1..spec.n_layers).map(whole).sum::<usize>()) as f64
}

fn main() -> Result<(), Box<dyn Error>> {
    let call = call()?;
    rayon::ThreadPoolBuilder::new().num_threads(call.threads).build_global()?;
    let base = Checkpoint::open(Path::new(&call.base))?;
    let model: Model<f32> = Model::load(base, &call.adapters, DEFAULT_MEMORY)?;
    let spec = model.spec();
    let target = model.n_models() - 1;
    let product = best_product();
    let longest = call.lengths.iter().copied().filter(|&n| n <= spec.n_ctx).collect::<Vec<_>>();
    let most = call.patches.iter().copied().max().unwrap_or(0);
    let middle = longest.iter().copied().find(|&n| n >= 256).unwrap_or(longest[longest.len() - 1]);
    let mut cases: Vec<(usize, usize)> = longest.iter().map(|&n| (n, most)).collect();
    cases.extend(call.patches.iter().map(|&p| (middle, p)));
    // Once for nothing: weights are packed.
    model.run(&Batch::new(spec, &[(0, &prompt(8, 0, spec.d_vocab))])?, &Hooks::default(), &[])?;
    for (n, patches) in cases {
        let (one, other) = (prompt(n, 0, spec.d_vocab), prompt(n, 1, spec.d_vocab));
        let sequences: Vec<(usize, &[u32])> = vec![(target, &one), (0, &other)];
        let places: Vec<(usize, usize)> =
            (0..patches).map(|i| (i / spec.n_heads % spec.n_layers, i % spec.n_heads)).collect();
        let point = |layer: usize| HookPoint::Layer(layer, Site::Z);
        let branch = |&(layer, _): &(usize, usize)| Branch {
            sequences: vec![0],
            from: n - 1,
            birth: Birth::before(point(layer)).expect("z is in a layer"),
        };
        let time = |batch: &Batch, edits: Vec<Edit<f32>>, rows: &[usize]| -> Result<f64, Box<dyn Error>> {
            let hooks = Hooks { captures: Vec::new(), edits };
            let start = Instant::now();
            let run = model.run(batch, &hooks, rows)?;
            let pair = [1, 2];
            let places: Vec<usize> = (0..rows.len()).collect();
            for places in places.chunk_by(|&a, &b| batch.row(rows[a]).model == batch.row(rows[b]).model) {
                model.logits_of(batch.row(rows[places[0]]).model, &run.readout.gather(places), &pair)?;
            }
            Ok(start.elapsed().as_secs_f64())
        };
        let trunk = Batch::new(spec, &sequences)?;
        let ends = |b: &Batch| [b.row_of(0, n - 1).unwrap(), b.row_of(1, n - 1).unwrap()];
        let trunk_seconds = time(&trunk, Vec::new(), &ends(&trunk))?;
        let start = Instant::now();
        let branches: Vec<Branch> = places.iter().map(branch).collect();
        let batch = Batch::with_branches(spec, &sequences, &branches)?;
        let source = ends(&batch)[1];
        let edit = |(b, &(layer, head)): (usize, &(usize, usize))| Edit {
            point: point(layer),
            row: batch.branch_row(b, 0, n - 1).unwrap(),
            units: head * spec.d_head..(head + 1) * spec.d_head,
            op: EditOp::CopyFrom(source),
        };
        let edits: Vec<Edit<f32>> = places.iter().enumerate().map(edit).collect();
        let rows: Vec<usize> = (0..patches).map(|b| batch.branch_row(b, 0, n - 1).unwrap()).collect();
        let mut sorted = rows.clone();
        sorted.sort_unstable();
        time(&batch, edits, &sorted)?;
        let seconds = start.elapsed().as_secs_f64();
        let work: f64 = places.iter().map(|&(layer, _)| flops(&model, target, layer, n)).sum();
        let own = (seconds - trunk_seconds).max(1e-9);
        let result = serde_json::json!({
            "tokens": n,
            "patches": patches,
            "seconds": seconds,
            "seconds_trunk": trunk_seconds,
            "milliseconds_per_patch": 1e3 * own / patches as f64,
            "gflop_per_second": work / own * 1e-9,
            "best_product_gflop_per_second": product,
            "efficiency": work / own * 1e-9 / product,
        });
        println!("{result}");
    }
    Ok(())
}
