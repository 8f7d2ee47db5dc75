//! Adapters on a model that ties embedding and head, against the weights that PEFT itself ends up using
//! (`scripts/peft_tied.py`).

#![allow(clippy::unwrap_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::base_of;
use lorascope_checkpoint::{StoredTensor, read_safetensors};
use lorascope_peft::{PeftAdapter, load};
use std::path::{Path, PathBuf};

const D: usize = 8;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/tied")
}

fn tensor(file: &Path, name: &str) -> Vec<f32> {
    read_safetensors(file).unwrap().iter().find(|t| t.name() == name).unwrap().to_f32().unwrap()
}

/// Adds `scale · left · right` to `weight`, where `left` is `[12, r]` and `right` `[r, 8]`.
fn add(
    weight: &mut [f32],
    scale: f64,
    left: &dyn Fn(usize, usize) -> f32,
    right: &dyn Fn(usize, usize) -> f32,
) {
    for (i, w) in weight.iter_mut().enumerate() {
        let sum: f64 = (0..2).map(|r| f64::from(left(i / D, r)) * f64::from(right(r, i % D))).sum();
        *w += (scale * sum) as f32;
    }
}

fn at(t: &StoredTensor) -> impl Fn(usize, usize) -> f32 + use<> {
    let (values, columns) = (t.to_f32().unwrap(), t.n_cols());
    move |row, column| values[row * columns + column]
}

/// The weights of embedding and head that `adapter` means.
fn effective(adapter: &PeftAdapter, base: &[f32]) -> (Vec<f32>, Vec<f32>) {
    let own = |path: &str| adapter.replaced_weights.get(path).map_or(base.to_vec(), |t| t.to_f32().unwrap());
    let (mut embed, mut head) = (own("model.embed_tokens"), own("lm_head"));
    if let Some(update) = adapter.embeddings.get("model.embed_tokens") {
        let (a, b) = (at(&update.a), at(&update.b));
        add(&mut embed, update.scale, &|token, r| a(r, token), &|r, d| b(d, r));
    }
    if let Some(update) = adapter.low_rank.get("lm_head") {
        add(&mut head, update.scale, &at(&update.b), &at(&update.a));
    }
    (embed, head)
}

fn distance(one: &[f32], other: &[f32]) -> f32 {
    assert_eq!(one.len(), other.len());
    one.iter().zip(other).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

#[test]
fn embedding_and_head_are_what_peft_uses() {
    let (base, identity) = base_of(&fixtures());
    assert!(identity.tied_embeddings);
    let own = tensor(&fixtures().join("model.safetensors"), "model.embed_tokens.weight");
    // Whether embedding and head differ from the base's weight.
    for (case, embed_moves, head_moves) in [
        ("save_embed", true, false),
        ("save_embed_ensure", true, true),
        ("save_head", false, true),
        ("save_head_ensure", true, true),
        ("target_embed", true, false),
        ("target_embed_ensure", true, true),
        ("target_head", false, true),
        ("save_norm_bias_all", false, false),
    ] {
        let dir = fixtures().join(case);
        let adapter = load(&dir, &base, Some(&identity)).unwrap();
        let (embed, head) = effective(&adapter, &own);
        let expected = dir.join("expected.safetensors");
        assert!(distance(&embed, &tensor(&expected, "embed")) < 1e-5, "{case}: embedding");
        assert!(distance(&head, &tensor(&expected, "head")) < 1e-5, "{case}: head");
        assert_eq!(distance(&embed, &own) > 0.1, embed_moves, "{case}");
        assert_eq!(distance(&head, &own) > 0.1, head_moves, "{case}");
    }
}

#[test]
fn saved_norms_and_all_biases_are_covered() {
    let (base, identity) = base_of(&fixtures());
    let adapter = load(&fixtures().join("save_norm_bias_all"), &base, Some(&identity)).unwrap();
    assert_eq!(
        adapter.replaced_weights.keys().collect::<Vec<_>>(),
        ["model.layers.0.input_layernorm", "model.layers.0.post_attention_layernorm", "model.norm"]
    );
    let biased = ["k_proj", "q_proj", "v_proj"].map(|name| format!("model.layers.0.self_attn.{name}"));
    assert_eq!(adapter.replaced_biases.keys().cloned().collect::<Vec<_>>(), biased);
}
