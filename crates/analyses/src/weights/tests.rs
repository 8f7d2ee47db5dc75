//! What comes from factors against dense matrices, on the small reference models of every family, and planted likenesses.

use super::intruders;
use super::settings::Settings;
use super::similarity::{Likeness, of_block};
use super::sizes;
use super::tables::{HEADS, SPECTRUM};
use super::variants::{Block, Held, Variant};
use crate::low_rank::{LowRankSvd, jacobi};
use lorascope_checkpoint::{Checkpoint, StoredTensor};
use lorascope_engine::{Adapter, Control, ControlKind, DEFAULT_MEMORY, Model, Module};
use lorascope_record::Table;
use nalgebra::DMatrix;
use std::path::{Path, PathBuf};

const FAMILIES: [&str; 7] = ["gemma2", "gemma3", "gpt2", "llama", "mistral", "qwen2", "qwen3"];

/// The folder of tiny models beside the repository, or `None` (said aloud) where it is absent.
fn tiny() -> Option<PathBuf> {
    let tiny = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/tiny");
    if tiny.is_dir() {
        return Some(tiny);
    }
    assert!(std::env::var_os("LORASCOPE_REQUIRE_SHARED").is_none(), "{} is missing", tiny.display());
    println!("skipped: reference data not found at {}", tiny.display());
    None
}

fn load(tiny: &Path, family: &str, adapters: &[(&str, &str)]) -> Model<f32> {
    let base = Checkpoint::open(&tiny.join(family).join("model")).unwrap();
    let adapters: Vec<(String, PathBuf)> =
        adapters.iter().map(|(name, dir)| ((*name).to_owned(), tiny.join(family).join(dir))).collect();
    Model::load(base, &adapters, DEFAULT_MEMORY).unwrap()
}

fn control(of: &Adapter, kind: ControlKind) -> Adapter {
    of.control("control", Control { of: of.name.clone(), kind, seed: 3 }).unwrap()
}

/// An adapter and others, as models 1, 2, …
fn variants<'a>(adapters: Vec<Held<'a>>) -> Vec<Variant<'a>> {
    let variant = |(i, adapter)| Variant { model: i + 1, control: None, adapter };
    adapters.into_iter().enumerate().map(variant).collect()
}

/// `s·B·A` of one module, dense.
fn dense(adapter: &Adapter, layer: usize, module: Module) -> DMatrix<f64> {
    let update = adapter.update(layer, module).unwrap();
    let f = update.factors;
    let (a, b) = (f.a.to_f32().unwrap(), f.b.to_f32().unwrap());
    let n_in = f.a.n_cols();
    DMatrix::from_fn(update.outputs.len(), n_in, |o, i| {
        let row = update.outputs.start + o;
        let sum: f64 = (0..f.rank).map(|k| f64::from(b[row * f.rank + k]) * f64::from(a[k * n_in + i])).sum();
        f.scale * sum
    })
}

/// The base's weight, dense.
fn weight(model: &Model<f32>, adapter: &Adapter, layer: usize, module: Module) -> DMatrix<f64> {
    let update = adapter.update(layer, module).unwrap();
    let stored = model.base_weight(update.path).unwrap();
    let (all, cols) = (stored.to_f32().unwrap(), stored.n_cols());
    let (n_out, n_in) = model.spec().module_shape(module);
    DMatrix::from_fn(n_out, n_in, |o, i| {
        let o = update.outputs.start + o;
        f64::from(if update.transposed { all[i * cols + o] } else { all[o * cols + i] })
    })
}

/// All singular values and the vectors of those that are not rounding.
fn full_svd(m: &DMatrix<f64>) -> (DMatrix<f64>, Vec<f64>, DMatrix<f64>) {
    let (u, mut values, v) = jacobi(m);
    let k = values.iter().filter(|s| **s > 1e-6 * values[0]).count();
    values.truncate(k);
    (u.columns(0, k).into_owned(), values, v.columns(0, k).into_owned())
}

fn close(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-5 * want.abs().max(1e-3), "{what}: {got} instead of {want}");
}

/// Calls `see` on every block of the model that somebody adapts.
fn for_each_block(model: &Model<f32>, variants: &[Variant], mut see: impl FnMut(&Block)) -> usize {
    let mut n = 0;
    for layer in 0..model.spec().n_layers {
        for module in model.spec().modules() {
            if let Some(block) = Block::new(model, variants, layer, module).unwrap() {
                see(&block);
                n += 1;
            }
        }
    }
    n
}

#[test]
fn decompositions_are_those_of_dense_matrices() {
    let Some(tiny) = tiny() else { return };
    let mut cases: Vec<(&str, &str)> = FAMILIES.map(|family| (family, "adapter")).to_vec();
    cases.extend(
        ["edge/rslora", "edge/rank_alpha_pattern", "edge/dora", "edge/layers_to_transform"]
            .map(|e| ("llama", e)),
    );
    for (family, edge) in cases {
        let model = load(&tiny, family, &[("lora", edge)]);
        let adapter = &model.adapters()[0];
        for (layer, module) in adapter.adapted() {
            let what = format!("{family} {edge} layer {layer} {module}");
            let svd = LowRankSvd::of(&adapter.update(layer, module).unwrap()).unwrap();
            let whole = dense(adapter, layer, module);
            let (_, values, _) = full_svd(&whole);
            assert_eq!(svd.rank(), values.len(), "{what}");
            for (got, want) in svd.values.iter().zip(&values) {
                close(&what, *got, *want);
            }
            let again = &svd.u * DMatrix::from_diagonal(&svd.values.clone().into()) * svd.v.transpose();
            assert!((again - &whole).norm() < 1e-10 * whole.norm(), "{what}");
            close(&what, svd.square().sqrt(), whole.norm());
            let sum: f64 = values.iter().sum();
            let entropy: f64 = values.iter().map(|v| -v / sum * (v / sum).ln()).sum();
            close(&what, svd.effective_rank().unwrap(), entropy.exp());
            close(&what, svd.stable_rank().unwrap(), whole.norm_squared() / values[0].powi(2));
        }
    }
}

#[test]
fn sizes_and_heads_are_those_of_dense_matrices() {
    let Some(tiny) = tiny() else { return };
    for family in FAMILIES {
        let model = load(&tiny, family, &[("lora", "adapter")]);
        let adapter = &model.adapters()[0];
        let spec = model.spec().clone();
        let all = variants(vec![Held::Loaded(adapter)]);
        let mut seen_heads = 0;
        for_each_block(&model, &all, |block| {
            let (mut spectra, mut heads) = (Table::new(&SPECTRUM), Table::new(&HEADS));
            let sizes = sizes::of_block(&model, &all, block, &mut spectra, &mut heads).unwrap();
            let (delta, base) = (
                dense(adapter, block.layer, block.module),
                weight(&model, adapter, block.layer, block.module),
            );
            let size = &sizes[0].weight;
            let what = format!("{family} layer {} {}", block.layer, block.module);
            close(&what, size.delta_norm, delta.norm());
            close(&what, size.weight_norm, base.norm());
            close(&what, size.ratio.unwrap(), delta.norm() / base.norm());
            let (norms, weights) = (heads.floats("norm").unwrap(), heads.floats("weight_norm").unwrap());
            let n = match block.module {
                Module::Q | Module::O => spec.n_heads,
                Module::K | Module::V => spec.n_kv_heads,
                _ => 0,
            };
            assert_eq!(norms.len(), n, "{what}");
            for head in 0..n {
                let slice = |m: &DMatrix<f64>| match block.module {
                    Module::O => m.columns(head * spec.d_head, spec.d_head).norm(),
                    _ => m.rows(head * spec.d_head, spec.d_head).norm(),
                };
                close(&format!("{what} head {head}"), norms[head], slice(&delta));
                close(&format!("{what} head {head}"), weights[head], slice(&base));
                seen_heads += 1;
            }
            let shares: f64 = heads.floats("share").unwrap().iter().sum();
            assert!(n == 0 || (shares - 1.0).abs() < 1e-9, "{what}: heads share {shares}");
        });
        assert_eq!(seen_heads, spec.n_layers * 2 * (spec.n_heads + spec.n_kv_heads), "{family}");
    }
}

#[test]
fn similarities_are_those_of_dense_matrices() {
    let Some(tiny) = tiny() else { return };
    for family in FAMILIES {
        let model = load(&tiny, family, &[("lora", "adapter")]);
        let adapter = &model.adapters()[0];
        let other = control(adapter, ControlKind::Shuffled);
        let turned = control(adapter, ControlKind::Random);
        let all =
            variants(vec![Held::Loaded(adapter), Held::Made(Box::new(other)), Held::Made(Box::new(turned))]);
        let n = for_each_block(&model, &all, |block| {
            let found = of_block(&all, block);
            assert_eq!(found.len(), 3);
            for l in &found {
                let of = |model: usize| dense(&all[model - 1].adapter, block.layer, block.module);
                let (one, other) = (of(l.pair.0), of(l.pair.1));
                let what = format!("{family} layer {} {} {:?}", block.layer, block.module, l.pair);
                let (u1, _, v1) = full_svd(&one);
                let (u2, _, v2) = full_svd(&other);
                let overlap = |a: &DMatrix<f64>, b: &DMatrix<f64>| {
                    // Principal angles one by one.
                    let cosines = jacobi(&a.tr_mul(b)).1;
                    cosines.iter().map(|c| c * c).sum::<f64>() / a.ncols().min(b.ncols()) as f64
                };
                let cosine = one.dot(&other) / (one.norm() * other.norm());
                assert!((l.cosine.unwrap() - cosine).abs() < 1e-5, "{what}: {:?} {cosine}", l.cosine);
                close(&what, l.overlap_out.unwrap(), overlap(&u1, &u2));
                close(&what, l.overlap_in.unwrap(), overlap(&v1, &v2));
                close(&what, l.chance_out.unwrap(), u1.ncols().max(u2.ncols()) as f64 / block.n_out as f64);
            }
        });
        assert_eq!(n, model.spec().n_layers * model.spec().modules().count(), "{family}");
    }
}

/// An adapter with other factors in every linear map.
fn with_factors(adapter: &Adapter, change: impl Fn(&mut Vec<f32>, &mut Vec<f32>, usize)) -> Adapter {
    // A control is a copy that may be changed.
    let mut made = control(adapter, ControlKind::SignFlipped);
    for (path, update) in &mut made.peft.low_rank {
        let original = &adapter.peft.low_rank[path];
        let (mut a, mut b) = (original.a.to_f32().unwrap(), original.b.to_f32().unwrap());
        change(&mut a, &mut b, update.rank);
        update.a = StoredTensor::from_f32(original.a.name(), original.a.shape(), a);
        update.b = StoredTensor::from_f32(original.b.name(), original.b.shape(), b);
    }
    made
}

fn alike(model: &Model<f32>, one: &Adapter, other: Adapter) -> Vec<Likeness> {
    let all = variants(vec![Held::Loaded(one), Held::Made(Box::new(other))]);
    let mut found = Vec::new();
    for_each_block(model, &all, |block| found.extend(of_block(&all, block)));
    found
}

#[test]
fn the_same_change_by_other_factors_is_the_same() {
    let Some(tiny) = tiny() else { return };
    let model = load(&tiny, "llama", &[("lora", "adapter")]);
    let adapter = &model.adapters()[0];
    // B·R and R⁻¹·A with R = [[1, 2, 0, 0], [0, 1, 0, 0], [0, 0, 4, 0], [0, 0, 0, −1/2]].
    let rotated = with_factors(adapter, |a, b, rank| {
        assert_eq!(rank, 4);
        for row in b.chunks_exact_mut(4) {
            (row[1], row[2], row[3]) = (2.0 * row[0] + row[1], 4.0 * row[2], -0.5 * row[3]);
        }
        let n = a.len() / 4;
        for i in 0..n {
            a[i] -= 2.0 * a[n + i];
            a[2 * n + i] /= 4.0;
            a[3 * n + i] *= -2.0;
        }
    });
    for l in alike(&model, adapter, rotated) {
        for value in [l.cosine, l.overlap_out, l.overlap_in] {
            // f32 factors, multiplied out.
            assert!((value.unwrap() - 1.0).abs() < 1e-6, "{l:?}");
        }
    }
    for l in alike(&model, adapter, control(adapter, ControlKind::SignFlipped)) {
        assert!((l.cosine.unwrap() + 1.0).abs() < 1e-12, "{l:?}");
        assert!((l.overlap_out.unwrap() - 1.0).abs() < 1e-12 && (l.overlap_in.unwrap() - 1.0).abs() < 1e-12);
    }
}

#[test]
fn changes_without_common_outputs_or_inputs_are_orthogonal() {
    let Some(tiny) = tiny() else { return };
    let model = load(&tiny, "llama", &[("lora", "adapter")]);
    let adapter = &model.adapters()[0];
    // Only even outputs, only odd ones; the same inputs.
    let half = |parity: usize| {
        with_factors(adapter, move |_, b, rank| {
            for row in b.chunks_exact_mut(rank).skip(parity).step_by(2) {
                row.fill(0.0);
            }
        })
    };
    let (even, odd) = (half(1), half(0));
    for l in alike(&model, &even, odd) {
        assert!(l.cosine.unwrap().abs() < 1e-15 && l.overlap_out.unwrap() < 1e-25, "{l:?}");
        assert!((l.overlap_in.unwrap() - 1.0).abs() < 1e-12, "{l:?}");
    }
    let nothing = with_factors(adapter, |_, b, _| b.fill(0.0));
    for l in alike(&model, adapter, nothing) {
        assert_eq!((l.cosine, l.overlap_out, l.overlap_in, l.chance_in), (None, None, None, None));
    }
}

#[test]
fn random_controls_have_the_same_singular_values_in_every_part_of_every_family() {
    let Some(tiny) = tiny() else { return };
    for family in FAMILIES {
        let model = load(&tiny, family, &[("lora", "adapter")]);
        let adapter = &model.adapters()[0];
        let made = control(adapter, ControlKind::Random);
        for (layer, module) in adapter.adapted() {
            let own = LowRankSvd::of(&adapter.update(layer, module).unwrap()).unwrap();
            let random = LowRankSvd::of(&made.update(layer, module).unwrap()).unwrap();
            for (a, b) in own.values.iter().zip(&random.values) {
                close(&format!("{family} layer {layer} {module}"), *b, *a);
            }
            let cosine = dense(adapter, layer, module).dot(&dense(&made, layer, module)) / own.square();
            assert!(cosine.abs() < 0.5, "{family} layer {layer} {module}: {cosine}");
        }
    }
}

#[test]
fn intruders_of_stored_weights_are_those_of_dense_ones() {
    let Some(tiny) = tiny() else { return };
    let settings = Settings { intruders: 5, ..Settings::default() };
    for family in ["gpt2", "llama", "gemma2"] {
        let model = load(&tiny, family, &[("lora", "adapter")]);
        let adapter = &model.adapters()[0];
        let all = variants(vec![Held::Loaded(adapter)]);
        for_each_block(&model, &all, |block| {
            let table = intruders::of_block(&model, &all, block, &settings).unwrap();
            let (delta, base) = (
                dense(adapter, block.layer, block.module),
                weight(&model, adapter, block.layer, block.module),
            );
            let (own, _, _) = full_svd(&base);
            let (tuned, values, _) = full_svd(&(&base + &delta));
            let cosines = table.floats("max_cosine").unwrap();
            let sizes = table.floats("singular_value").unwrap();
            assert_eq!(cosines.len(), 5);
            for j in 0..5 {
                let want = own.tr_mul(&tuned.column(j).into_owned()).amax();
                let what = format!("{family} layer {} {} component {j}", block.layer, block.module);
                close(&what, sizes[j], values[j]);
                assert!((cosines[j] - want).abs() < 1e-4, "{what}: {} instead of {want}", cosines[j]);
            }
        });
    }
}
