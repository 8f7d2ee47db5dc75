//! Control adapters keep what they promise to keep, and nothing else: held against plain loops over PEFT's own files.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests fail by panicking")]

mod common;

use common::tiny;
use lorascope_checkpoint::StoredTensor;
use lorascope_peft::{ControlError, ControlKind, LowRank, PeftAdapter};
use std::ops::Range;

/// The outputs of fused matrices, by thirds.
fn parts(adapter: &PeftAdapter) -> impl Fn(&str) -> Vec<Range<usize>> + '_ {
    |path| {
        let n = adapter.low_rank[path].b.n_rows();
        let thirds = if path.ends_with("c_attn") { 3 } else { 1 };
        (0..thirds).map(|i| i * n / thirds..(i + 1) * n / thirds).collect()
    }
}

fn control(adapter: &PeftAdapter, kind: ControlKind, seed: u64) -> PeftAdapter {
    adapter.control(kind, seed, &parts(adapter)).unwrap()
}

/// `MᵀM` of some rows of `[rows, cols]`, or `MMᵀ` of all with `turned`.
fn gram(stored: &StoredTensor, rows: Range<usize>, turned: bool) -> Vec<f64> {
    let (values, cols) = (stored.to_f32().unwrap(), stored.n_cols());
    let at = |r: usize, c: usize| f64::from(values[r * cols + c]);
    if turned {
        let n = stored.n_rows();
        (0..n * n).map(|ij| (0..cols).map(|c| at(ij / n, c) * at(ij % n, c)).sum()).collect()
    } else {
        (0..cols * cols).map(|ij| rows.clone().map(|r| at(r, ij / cols) * at(r, ij % cols)).sum()).collect()
    }
}

fn close(one: &[f64], other: &[f64], tolerance: f64, what: &str) {
    let size = one.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    for (a, b) in one.iter().zip(other) {
        assert!((a - b).abs() <= tolerance * size, "{what}: {a} and {b}");
    }
}

/// `B·A`, dense.
fn product(update: &LowRank) -> Vec<f64> {
    let (a, b) = (update.a.to_f32().unwrap(), update.b.to_f32().unwrap());
    let (n_in, n_out) = (update.a.n_cols(), update.b.n_rows());
    let one = |o: usize, i: usize| {
        (0..update.rank).map(|k| f64::from(b[o * update.rank + k]) * f64::from(a[k * n_in + i])).sum::<f64>()
    };
    (0..n_out).flat_map(|o| (0..n_in).map(move |i| (o, i))).map(|(o, i)| update.scale * one(o, i)).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    let dot = |x: &[f64], y: &[f64]| x.iter().zip(y).map(|(x, y)| x * y).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// Equal Gram matrices of both factors give equal singular values of their product: `BAAᵀBᵀ` and `(BᵀB)(AAᵀ)` have the same
/// eigenvalues but for zeros.
#[test]
fn random_controls_keep_all_singular_values_and_no_direction() {
    for family in ["llama", "gpt2", "gemma2"] {
        let Some(adapter) = tiny(family, "adapter") else { return };
        let made = control(&adapter, ControlKind::Random, 3);
        let mut cosines = 0.0;
        for (path, update) in &adapter.low_rank {
            let own = &made.low_rank[path];
            for part in parts(&adapter)(path) {
                // f32 factors: 64 products of two of them, each rounded to 6e-8.
                close(&gram(&update.b, part.clone(), false), &gram(&own.b, part, false), 1e-6, path);
            }
            close(&gram(&update.a, 0..0, true), &gram(&own.a, 0..0, true), 1e-6, path);
            assert_eq!((own.rank, own.scale), (update.rank, update.scale));
            let n = (update.b.n_rows() * update.a.n_cols()) as f64;
            let found = cosine(&product(update), &product(own));
            // Its standard deviation is 1/√(outputs·inputs) for uniformly random directions.
            assert!(found.abs() * n.sqrt() < 5.0, "{family} {path}: {found}");
            cosines += found * found * n;
        }
        let n = adapter.low_rank.len() as f64;
        assert!((cosines / n - 1.0).abs() < 5.0 * (2.0 / n).sqrt(), "{family}: mean square {}", cosines / n);
    }
}

#[test]
fn random_numbers_depend_on_the_seed_alone() {
    let Some(adapter) = tiny("llama", "adapter") else { return };
    let factors = |seed| {
        let made = control(&adapter, ControlKind::Random, seed);
        let values: Vec<f32> = made.low_rank.values().flat_map(|u| u.b.to_f32().unwrap()).collect();
        (values, made.sha256)
    };
    assert_eq!(factors(1), factors(1));
    assert_ne!(factors(1).0, factors(2).0);
    assert_ne!(factors(1).1, factors(2).1);
    assert_ne!(factors(1).1, adapter.sha256);
}

#[test]
fn the_sign_flipped_control_is_the_opposite() {
    for edge in ["adapter", "edge/lora_bias", "edge/rank_alpha_pattern"] {
        let Some(adapter) = tiny("llama", edge) else { return };
        let made = control(&adapter, ControlKind::SignFlipped, 0);
        for (path, update) in &adapter.low_rank {
            let opposite: Vec<f64> = product(&made.low_rank[path]).iter().map(|v| -v).collect();
            assert_eq!(product(update), opposite, "{path}");
            if let Some(bias) = &update.bias {
                let own = made.low_rank[path].bias.as_ref().unwrap().to_f32().unwrap();
                assert!(bias.to_f32().unwrap().iter().zip(own).all(|(a, b)| *a == -b), "{path}");
            }
        }
    }
}

#[test]
fn the_shuffled_control_moves_every_update_within_its_kind() {
    for (family, edge) in [("llama", "adapter"), ("gpt2", "adapter"), ("llama", "edge/rank_alpha_pattern")] {
        let Some(adapter) = tiny(family, edge) else { return };
        let made = control(&adapter, ControlKind::Shuffled, 5);
        let name = |path: &str| path.rsplit('.').next().unwrap().to_owned();
        let mut found = 0;
        for (path, update) in &adapter.low_rank {
            assert_ne!(product(update), product(&made.low_rank[path]), "{family} {path} did not move");
            let same = made.low_rank.iter().filter(|(to, own)| {
                name(to) == name(path)
                    && own.b.to_f32().unwrap() == update.b.to_f32().unwrap()
                    && own.a.to_f32().unwrap() == update.a.to_f32().unwrap()
                    && (own.rank, own.scale) == (update.rank, update.scale)
            });
            found += same.count();
        }
        assert_eq!(found, adapter.low_rank.len(), "{family}: every update is somewhere, once");
        assert_eq!(made.low_rank.len(), adapter.low_rank.len());
    }
}

#[test]
fn what_is_not_low_rank_has_no_control() {
    for (edge, said) in [
        ("edge/dora", "the DoRA update of"),
        ("edge/save_embed", "of the adapter's own"),
        ("edge/save_lm_head", "the weight of the adapter's own at `lm_head`"),
    ] {
        let Some(adapter) = tiny("llama", edge) else { return };
        for kind in ControlKind::ALL {
            let error = adapter.control(kind, 0, &parts(&adapter)).unwrap_err();
            assert!(
                matches!(error, ControlError::NotLowRank { .. }) && error.to_string().contains(said),
                "{error}"
            );
        }
    }
}

#[test]
fn an_adapter_of_one_layer_can_not_be_shuffled() {
    let Some(mut adapter) = tiny("llama", "adapter") else { return };
    adapter.low_rank.retain(|path, _| path.contains(".2."));
    let error = adapter.control(ControlKind::Shuffled, 0, &parts(&adapter)).unwrap_err();
    assert!(matches!(error, ControlError::NothingMoves), "{error}");
    assert!(adapter.control(ControlKind::Random, 0, &parts(&adapter)).is_ok());
}

#[test]
fn kinds_have_names() {
    for kind in ControlKind::ALL {
        assert_eq!(kind.name().parse(), Ok(kind));
    }
    assert!("rand".parse::<ControlKind>().unwrap_err().contains("random, sign_flipped, shuffled"));
}
