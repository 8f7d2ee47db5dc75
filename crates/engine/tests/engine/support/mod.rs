//! The tiny models, what Hugging Face computed with them, and short ways to run, capture and compare.

#![allow(dead_code)]

use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{Batch, Capture, DEFAULT_MEMORY, Edit, HookPoint, Hooks, Mat, Model, Number, Site};
use std::collections::HashMap;
use std::ops::Range;
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
pub fn load<R: Number>(model: &Path, adapters: &[(&str, PathBuf)]) -> Model<R> {
    let base = Checkpoint::open(model).unwrap();
    let adapters: Vec<(String, PathBuf)> =
        adapters.iter().map(|(n, p)| ((*n).to_owned(), p.clone())).collect();
    Model::load(base, &adapters, DEFAULT_MEMORY).unwrap()
}

/// Largest absolute difference, printed with where it is.
pub fn max_difference<R: Number>(what: &str, got: impl IntoIterator<Item = R>, want: &[f32]) -> f64 {
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

/// Every family that has a tiny model.
pub const FAMILIES: [&str; 7] = ["gemma2", "gemma3", "gpt2", "llama", "mistral", "qwen2", "qwen3"];

/// The tiny model of a family with its adapter, called `lora`.
pub fn tiny<R: Number>(family: &str) -> Option<Model<R>> {
    let dir = shared()?.join("tiny").join(family);
    Some(load(&dir.join("model"), &[("lora", dir.join("adapter"))]))
}

/// Calls `f` with the tiny model of every family: base (0) and adapter (1).
pub fn each_family<R: Number>(f: impl Fn(&str, &Model<R>)) {
    for family in FAMILIES {
        let Some(model) = tiny(family) else { return };
        f(family, &model);
    }
}

/// The tiny Llama with adapters of every kind that changes the arithmetic: plain, DoRA, with a bias of B, of several ranks.
pub fn llama_with_many<R: Number>() -> Option<Model<R>> {
    let dir = shared()?.join("tiny/llama");
    let edge = |name: &'static str| (name, dir.join("edge").join(name));
    let adapters =
        [("lora", dir.join("adapter")), edge("dora"), edge("lora_bias"), edge("rank_alpha_pattern")];
    Some(load(&dir.join("model"), &adapters))
}

/// `n` tokens that differ between seeds, none of them special.
pub fn tokens(seed: u64, n: usize) -> Vec<u32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as u32 % 509 + 3
    };
    (0..n).map(|_| next()).collect()
}

/// Numbers between −1 and 1 that differ between seeds.
pub fn noise<R: Number>(seed: u64, n: usize) -> Vec<R> {
    let one = |(i, t): (usize, u32)| R::from_f64((f64::from(t) + i as f64 * 37.0).sin());
    tokens(seed, n).into_iter().enumerate().map(one).collect()
}

/// All rows of a batch.
pub fn all_rows(batch: &Batch) -> Vec<usize> {
    (0..batch.n_rows()).collect()
}

/// Hook points that rows of a model have: those of low-rank updates only where its adapter has one.
pub fn points_of<R: Number>(model: &Model<R>, which: usize) -> Vec<HookPoint> {
    let adapted = |point: &HookPoint| match point {
        HookPoint::Layer(l, Site::LoraA(m) | Site::LoraOut(m)) => {
            which > 0 && model.adapters()[which - 1].rank(*l, *m).is_some()
        }
        HookPoint::Layer(l, Site::LoraResult) => {
            which > 0 && model.adapters()[which - 1].rank(*l, lorascope_engine::Module::O).is_some()
        }
        _ => true,
    };
    HookPoint::all(model.spec()).into_iter().filter(adapted).collect()
}

/// Values of points at rows, `[point][row][value]`, as one run gives them.
pub fn capture<R: Number>(
    model: &Model<R>,
    batch: &Batch,
    points: &[HookPoint],
    rows: &[usize],
) -> Vec<Vec<Vec<R>>> {
    let captures = points.iter().map(|&point| Capture { point, rows: rows.to_vec() }).collect();
    model.run(batch, &Hooks { captures, edits: Vec::new() }, &[]).unwrap().captures
}

/// Final normalised states of all rows under some edits.
pub fn states<R: Number>(model: &Model<R>, batch: &Batch, edits: Vec<Edit<R>>) -> Mat<R> {
    model.run(batch, &Hooks { captures: Vec::new(), edits }, &all_rows(batch)).unwrap().readout
}

/// `max |a − b|`; panics where lengths differ or a number is missing.
pub fn distance<R: Number>(a: &[R], b: &[R]) -> f64 {
    assert_eq!(a.len(), b.len());
    let difference = |(x, y): (&R, &R)| {
        let d = if x == y { 0.0 } else { (x.to_f64() - y.to_f64()).abs() };
        assert!(!d.is_nan());
        d
    };
    a.iter().zip(b).map(difference).fold(0.0, f64::max)
}

/// `a · b`.
pub fn dot(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(x, y)| x * y).sum()
}

/// The tensors of a safetensors file in f64, as they are stored: nothing of the code under test reads them.
pub struct Stored(HashMap<String, (Vec<usize>, Vec<f64>)>);

impl Stored {
    pub fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
        let values = |data: &[u8]| {
            data.chunks_exact(4).map(|b| f64::from(f32::from_le_bytes(b.try_into().unwrap()))).collect()
        };
        let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
            (name, (view.shape().to_vec(), values(view.data())))
        };
        Self(file.tensors().into_iter().map(tensor).collect())
    }

    pub fn find(&self, name: &str) -> Option<&[f64]> {
        self.0.get(name).map(|(_, values)| values.as_slice())
    }

    pub fn get(&self, name: &str) -> &[f64] {
        self.find(name).unwrap_or_else(|| panic!("no tensor {name}"))
    }

    /// `M x` for a matrix stored `[out, in]`, or `[in, out]` if `transposed`.
    pub fn times(&self, name: &str, transposed: bool, x: &[f64]) -> Vec<f64> {
        let (shape, values) = &self.0[name];
        let (n_out, n_in) = if transposed { (shape[1], shape[0]) } else { (shape[0], shape[1]) };
        assert_eq!(n_in, x.len(), "{name}");
        let at = |o: usize, i: usize| if transposed { values[i * n_out + o] } else { values[o * n_in + i] };
        (0..n_out).map(|o| (0..n_in).map(|i| at(o, i) * x[i]).sum()).collect()
    }
}

/// A folder's files, copied to where a test may change them.
pub fn copy_folder(from: &Path) -> tempfile::TempDir {
    let to = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        if path.is_file() {
            std::fs::copy(&path, to.path().join(path.file_name().unwrap())).unwrap();
        }
    }
    to
}

/// Changes a JSON file.
pub fn edit_json(path: &Path, change: impl Fn(&mut serde_json::Value)) {
    let mut value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    change(&mut value);
    std::fs::write(path, serde_json::to_vec(&value).unwrap()).unwrap();
}

/// The tiny Llama with its adapter at another `lora_alpha` (the rank is 4), with and without a bias of B.
pub fn llama_scaled<R: Number>(alpha: u32) -> Option<Model<R>> {
    let dir = shared()?.join("tiny/llama");
    let scaled = |from: PathBuf| {
        let copy = copy_folder(&from);
        edit_json(&copy.path().join("adapter_config.json"), |c| c["lora_alpha"] = alpha.into());
        copy
    };
    let (plain, biased) = (scaled(dir.join("adapter")), scaled(dir.join("edge/lora_bias")));
    let adapters = [("scaled", plain.path().to_owned()), ("biased", biased.path().to_owned())];
    Some(load(&dir.join("model"), &adapters))
}

/// f32 tensors by name, with their shapes.
pub type Tensors = std::collections::BTreeMap<String, (Vec<usize>, Vec<f32>)>;

/// Changes a safetensors file of f32 tensors.
pub fn edit_tensors(path: &Path, change: impl Fn(&mut Tensors)) {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values =
        |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    let mut tensors: Tensors =
        file.tensors().into_iter().map(|(n, v)| (n, (v.shape().to_vec(), values(v.data())))).collect();
    change(&mut tensors);
    let stored: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, (shape, values))| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views = stored.iter().map(|(name, shape, data)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap();
        (name.clone(), view)
    });
    let bytes = safetensors::serialize(views, None).unwrap();
    std::fs::write(path, bytes).unwrap();
}

/// A point's values per head where it has heads, one slice otherwise.
pub fn slice<R: Number>(model: &Model<R>, point: HookPoint, width: usize, head: usize) -> Range<usize> {
    let spec = model.spec();
    let HookPoint::Layer(_, site) = point else { return 0..width };
    let n = match site {
        Site::Q
        | Site::RotQ
        | Site::Z
        | Site::AttnScores
        | Site::Pattern
        | Site::Result
        | Site::LoraResult
        | Site::QInput => spec.n_heads,
        Site::K | Site::V | Site::RotK | Site::KInput | Site::VInput => spec.n_kv_heads,
        _ => width, // one neuron or coordinate
    };
    let (head, each) = (head % n, width / n);
    head * each..(head + 1) * each
}

/// A factor that makes something of the values of a point: 0, but not where a norm would divide by it.
pub fn ablation<R: Number>(point: HookPoint) -> R {
    R::from_f64(if point.to_string().ends_with("hook_scale") { 2.0 } else { 0.0 })
}
