//! Models and adapters: what their files hold is opened, loaded, and run once where it is small.

use crate::{assert_is_told, files, folder};
use lorascope_analyses::Progress;
use lorascope_checkpoint::{Checkpoint, StoredTensor};
use lorascope_engine::{Batch, Hooks, Model, States, read_spec};
use lorascope_study::Listener;
use lorascope_study::open::open_base;
use lorascope_text::Wrapping;
use safetensors::tensor::{Dtype, TensorView};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

/// Tiny models of all families, in the smallest form that there is of them.
const TINY: [(&str, &[u8]); 7] = [
    ("gemma2", include_bytes!("../../checkpoint/tests/fixtures/gguf/gemma2.gguf")),
    ("gemma3_text", include_bytes!("../../checkpoint/tests/fixtures/gguf/gemma3.gguf")),
    ("gpt2", include_bytes!("../../checkpoint/tests/fixtures/gguf/gpt2.gguf")),
    ("llama", include_bytes!("../../checkpoint/tests/fixtures/gguf/llama.gguf")),
    ("mistral", include_bytes!("../../checkpoint/tests/fixtures/gguf/mistral.gguf")),
    ("qwen2", include_bytes!("../../checkpoint/tests/fixtures/gguf/qwen2.gguf")),
    ("qwen3", include_bytes!("../../checkpoint/tests/fixtures/gguf/qwen3.gguf")),
];

/// A 4-bit model's config.
const BNB_CONFIG: &[u8] = include_bytes!("../../checkpoint/tests/fixtures/bnb/config.json");

/// Models above this many parameters are loaded but not run.
const MAX_PARAMETERS: usize = 200_000;

/// A `.gguf` file: opened as a base with its tokenizer, loaded, and run on what its tokenizer makes of a text.
pub fn gguf(data: &[u8]) {
    let folder = folder(&[("model.gguf", data)]);
    let path = folder.path().join("model.gguf");
    let Some(place) = path.to_str() else { return };
    match open_base(place, None, &Quiet) {
        Ok(base) => {
            if let Err(error) = base.tokenizer.tokens_prompt("Keep or give? You", Wrapping::Auto) {
                assert_is_told(&error.to_string());
            }
            load_and_run(base.checkpoint, &[]);
        }
        Err(error) => assert_is_told(&lorascope_study::told(&error)),
    }
    // The tensors of a model without tokenizer are read, too.
    if let Ok(checkpoint) = Checkpoint::open(&path) {
        load_and_run(checkpoint, &[]);
    }
}

/// A `model.safetensors` beside the config of a tiny Llama, or of a 4-bit model where it looks like one.
pub fn safetensors(data: &[u8]) {
    let four_bit = data.windows(10).any(|part| part == b".quant_map");
    let config = if four_bit { BNB_CONFIG } else { tiny("llama").0.as_bytes() };
    open_and_run(&folder(&[("config.json", config), ("model.safetensors", data)]), &[]);
}

/// A `config.json` beside the weights of the tiny model of its family.
pub fn config(data: &[u8]) {
    let value: Value = serde_json::from_slice(data).unwrap_or_default();
    if let Err(error) = read_spec(&value) {
        assert_is_told(&error.to_string());
    }
    let family = value.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let family = TINY.iter().map(|(name, _)| *name).find(|name| *name == family).unwrap_or("llama");
    open_and_run(&folder(&[("config.json", data), ("model.safetensors", &tiny(family).1)]), &[]);
}

/// An adapter of a tiny Llama: `adapter_config.json`, and behind a separator `adapter_model.safetensors`; without one, that of a real
/// adapter of this model.
pub fn adapter(data: &[u8]) {
    static DEFAULT: OnceLock<Vec<u8>> = OnceLock::new();
    let (config, weights) = files(data);
    let weights = weights.unwrap_or_else(|| DEFAULT.get_or_init(default_factors));
    let adapter = folder(&[("adapter_config.json", config), ("adapter_model.safetensors", weights)]);
    let (config, tensors) = tiny("llama");
    let base = folder(&[("config.json", config.as_bytes()), ("model.safetensors", tensors)]);
    open_and_run(&base, &[("adapter".to_owned(), adapter.path().to_owned())]);
}

/// Factors of rank 2 of the query and value projections of the tiny Llama's two layers, every number a little different.
fn default_factors() -> Vec<u8> {
    let config: Value = serde_json::from_str(&tiny("llama").0).expect("a config");
    let (_, spec) = read_spec(&config).expect("a specification");
    let mut tensors = Vec::new();
    for layer in 0..spec.n_layers {
        for (name, n_out) in
            [("q_proj", spec.n_heads * spec.d_head), ("v_proj", spec.n_kv_heads * spec.d_head)]
        {
            let path = format!("base_model.model.model.layers.{layer}.self_attn.{name}.lora_");
            tensors.push((format!("{path}A.weight"), vec![2, spec.d_model]));
            tensors.push((format!("{path}B.weight"), vec![n_out, 2]));
        }
    }
    let fill = |(name, shape): (String, Vec<usize>)| {
        let n: usize = shape.iter().product();
        (name, shape, (0..n).map(|i| (i as f32 * 0.7).sin() * 0.1).collect())
    };
    file_of(tensors.into_iter().map(fill).collect())
}

fn open_and_run(folder: &tempfile::TempDir, adapters: &[(String, PathBuf)]) {
    match Checkpoint::open(folder.path()) {
        Ok(checkpoint) => load_and_run(checkpoint, adapters),
        Err(error) => assert_is_told(&error.to_string()),
    }
}

/// Loads a model; one that is small is run on three tokens. What comes out of a run is finite, or the run is an error.
fn load_and_run(base: Checkpoint, adapters: &[(String, PathBuf)]) {
    let model = match Model::<f32>::load(base, adapters, 0) {
        Ok(model) => model,
        Err(error) => return assert_is_told(&error.to_string()),
    };
    let spec = model.spec();
    if spec.n_parameters() > MAX_PARAMETERS || spec.d_vocab < 3 {
        return;
    }
    match next_tokens(&model) {
        Ok(values) => {
            assert!(values.iter().all(|v| v.is_finite()), "numbers that are not finite: {values:?}")
        }
        Err(error) => assert_is_told(&error.to_string()),
    }
}

/// Log-probabilities of two tokens after three others, for every model.
fn next_tokens(model: &Model<f32>) -> lorascope_engine::Result<Vec<f64>> {
    let tokens = [0, 2, 1];
    let sequences: Vec<(usize, &[u32])> = (0..model.n_models()).map(|m| (m, &tokens[..])).collect();
    let batch = Batch::new(model.spec(), &sequences)?;
    let last: Vec<usize> = (0..sequences.len()).filter_map(|s| batch.row_of(s, tokens.len() - 1)).collect();
    let run = model.run(&batch, &Hooks::default(), &last)?;
    let mut values = Vec::new();
    for id in 0..model.n_models() {
        let normalized = run.readout.gather(&[id]);
        let asked = States { model: id, normalized, tokens: vec![vec![0, 1]], reference: Vec::new(), top: 1 };
        values
            .extend(model.next_tokens(&asked)?.iter().flat_map(|next| [next.log_prob(0), next.log_prob(1)]));
    }
    Ok(values)
}

/// Tells nobody.
struct Quiet;

impl Progress for Quiet {
    fn begin(&self, _what: &str, _total: u64) {}
    fn at(&self, _done: u64) {}
    fn end(&self) {}
}

impl Listener for Quiet {
    fn note(&self, _text: &str) {}
    fn say(&self, _text: &str) {}
}

/// Config and safetensors file of a tiny model.
fn tiny(family: &str) -> &'static (String, Vec<u8>) {
    static MADE: OnceLock<BTreeMap<&'static str, (String, Vec<u8>)>> = OnceLock::new();
    let made = MADE.get_or_init(|| TINY.iter().map(|(name, bytes)| (*name, as_folder(bytes))).collect());
    &made[family]
}

fn as_folder(gguf: &[u8]) -> (String, Vec<u8>) {
    let folder = folder(&[("model.gguf", gguf)]);
    let checkpoint = Checkpoint::open(folder.path()).expect("a tiny model");
    let tensor = |name: &str| {
        let tensor: &StoredTensor = checkpoint.tensor(name).expect("a tensor that was listed");
        (name.to_owned(), tensor.shape().to_vec(), tensor.to_f32().expect("numbers"))
    };
    (checkpoint.config().to_string(), file_of(checkpoint.names().map(tensor).collect()))
}

/// A safetensors file of f32 tensors: name, shape, numbers.
fn file_of(tensors: Vec<(String, Vec<usize>, Vec<f32>)>) -> Vec<u8> {
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = tensors
        .into_iter()
        .map(|(name, shape, values)| (name, shape, values.iter().flat_map(|v| v.to_le_bytes()).collect()))
        .collect();
    let views: Vec<_> = bytes
        .iter()
        .map(|(name, shape, bytes)| {
            (name, TensorView::new(Dtype::F32, shape.clone(), bytes).expect("numbers that fill their shape"))
        })
        .collect();
    ::safetensors::serialize(views, None).expect("a safetensors file")
}
