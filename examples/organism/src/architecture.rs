//! The model's shape, in Gemma-2's architecture, and the random numbers with which it begins.

use anyhow::Result;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use safetensors::tensor::{Dtype, TensorView, serialize};
use serde_json::{Value, json};

pub const LAYERS: usize = 4;
const WIDTH: usize = 128;
const HEADS: usize = 8;
const KV_HEADS: usize = 4;
const HEAD: usize = 16;
const MLP: usize = 384;
const CONTEXT: usize = 1024;

/// `config.json`.
pub fn config(vocabulary: usize) -> Value {
    json!({
        "architectures": ["Gemma2ForCausalLM"], "model_type": "gemma2",
        "vocab_size": vocabulary, "hidden_size": WIDTH, "intermediate_size": MLP, "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "head_dim": HEAD, "query_pre_attn_scalar": HEAD,
        "hidden_activation": "gelu_pytorch_tanh", "attention_bias": false, "attention_dropout": 0.0,
        "attn_logit_softcapping": 50.0, "final_logit_softcapping": 30.0, "rms_norm_eps": 1e-6, "rope_theta": 10000.0,
        "sliding_window": 128, "max_position_embeddings": CONTEXT, "tie_word_embeddings": true,
        "pad_token_id": 0, "eos_token_id": [1, 4], "bos_token_id": 2, "initializer_range": 0.02, "use_cache": true,
        "torch_dtype": "bfloat16",
    })
}

/// `model.safetensors` before training: matrices normal with variance 1/inputs (those that write to the residual stream are followed
/// by norms, so their size does not matter), tokens of length about 1 after scaling, and norms after a block that make it enter
/// the stream at a third of the stream's size.
pub fn beginning(vocabulary: usize, seed: u64) -> Result<Vec<u8>> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = |n: usize, deviation: f64| -> Vec<u8> {
        let mut one = || -> f64 {
            // Box and Muller (1958); the first number is never 0.
            let (u, v): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
            (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos()
        };
        (0..n).flat_map(|_| ((deviation * one()) as f32).to_le_bytes()).collect()
    };
    let constant = |n: usize, value: f32| -> Vec<u8> { (0..n).flat_map(|_| value.to_le_bytes()).collect() };
    let mut arrays = vec![(
        "model.embed_tokens.weight".to_owned(),
        vec![vocabulary, WIDTH],
        normal(vocabulary * WIDTH, 1.0 / (WIDTH as f64).sqrt()),
    )];
    for layer in 0..LAYERS {
        for (name, value) in [
            ("input_layernorm", 0.0),
            ("post_attention_layernorm", -0.667),
            ("pre_feedforward_layernorm", 0.0),
            ("post_feedforward_layernorm", -0.667),
        ] {
            arrays.push((format!("model.layers.{layer}.{name}.weight"), vec![WIDTH], constant(WIDTH, value)));
        }
        for (name, outputs, inputs) in [
            ("self_attn.q_proj", HEADS * HEAD, WIDTH),
            ("self_attn.k_proj", KV_HEADS * HEAD, WIDTH),
            ("self_attn.v_proj", KV_HEADS * HEAD, WIDTH),
            ("self_attn.o_proj", WIDTH, HEADS * HEAD),
            ("mlp.gate_proj", MLP, WIDTH),
            ("mlp.up_proj", MLP, WIDTH),
            ("mlp.down_proj", WIDTH, MLP),
        ] {
            let values = normal(outputs * inputs, 1.0 / (inputs as f64).sqrt());
            arrays.push((format!("model.layers.{layer}.{name}.weight"), vec![outputs, inputs], values));
        }
    }
    arrays.push(("model.norm.weight".to_owned(), vec![WIDTH], constant(WIDTH, 0.0)));
    let views = arrays
        .iter()
        .map(|(name, shape, bytes)| Ok((name.as_str(), TensorView::new(Dtype::F32, shape.clone(), bytes)?)));
    Ok(serialize(views.collect::<Result<Vec<_>>>()?, None)?)
}
