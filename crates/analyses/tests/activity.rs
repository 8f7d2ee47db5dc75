//! The examination of adapters, against norms from plain loops over the files, and on adapters made to fail.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test or example may panic

use lorascope_analyses::{Activity, ChangeKind, ChangedWeight, Silent, Verdict, adapter_activity};
use lorascope_checkpoint::Checkpoint;
use lorascope_engine::{DEFAULT_MEMORY, Model};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// f32 tensors by name, with their shapes.
type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

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

fn examine(model: &Path, adapter: &Path) -> Activity {
    let base = Checkpoint::open(model).unwrap();
    let model = Model::<f32>::load(base, &[("lora".to_owned(), adapter.to_owned())], DEFAULT_MEMORY).unwrap();
    let tokens: Vec<u32> = (0..24).map(|i| 3 + (i * 37) % 509).collect();
    let mut all = adapter_activity(&model, &tokens, &Silent).unwrap();
    assert_eq!(all.len(), 1);
    all.remove(0)
}

fn read(path: &Path) -> Tensors {
    let bytes = std::fs::read(path).unwrap();
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let values =
        |data: &[u8]| data.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect();
    file.tensors().into_iter().map(|(n, v)| (n, (v.shape().to_vec(), values(v.data())))).collect()
}

fn write(path: &Path, tensors: &Tensors) {
    let bytes: Vec<Vec<u8>> =
        tensors.values().map(|(_, v)| v.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views = tensors.iter().zip(&bytes).map(|((name, (shape, _)), data)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), data).unwrap();
        (name, view)
    });
    std::fs::write(path, safetensors::serialize(views, None).unwrap()).unwrap();
}

/// A copy of a folder whose only safetensors file is changed.
fn changed(folder: &Path, file: &str, change: impl Fn(&mut Tensors)) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    let mut tensors = read(&folder.join(file));
    change(&mut tensors);
    write(&copy.path().join(file), &tensors);
    copy
}

fn adapter_with(folder: &Path, change: impl Fn(&mut Tensors)) -> tempfile::TempDir {
    changed(folder, "adapter_model.safetensors", change)
}

/// A base whose weights are those of a bf16 file.
fn in_bf16(model: &Path) -> tempfile::TempDir {
    changed(model, "model.safetensors", |tensors| {
        for value in tensors.values_mut().flat_map(|(_, v)| v) {
            *value = f32::from_bits((value.to_bits() + 0x7fff) & 0xffff_0000);
        }
    })
}

fn norm(values: impl IntoIterator<Item = f64>) -> f64 {
    values.into_iter().map(|v| v * v).sum::<f64>().sqrt()
}

fn close(what: &str, got: f64, want: f64, tolerance: f64) {
    assert!((got - want).abs() <= tolerance * want.abs(), "{what}: {got} instead of {want}");
}

/// `s·B·A` in plain loops over the adapter's file, `[out][in]`.
fn dense_update(tensors: &Tensors, path: &str, scale: f64) -> Vec<Vec<f64>> {
    let get = |which: &str| &tensors[&format!("base_model.model.{path}.lora_{which}.weight")];
    let ((a_shape, a), (b_shape, b)) = (get("A"), get("B"));
    let (rank, n_in) = (a_shape[0], a_shape[1]);
    let product = |o: usize, i: usize| {
        (0..rank).map(|k| f64::from(b[o * rank + k]) * f64::from(a[k * n_in + i])).sum::<f64>() * scale
    };
    (0..b_shape[0]).map(|o| (0..n_in).map(|i| product(o, i)).collect()).collect()
}

/// Path in the checkpoint of a changed linear map of the Llama-like families.
fn llama_path(change: &ChangedWeight) -> String {
    let module = change.module.replace("attn.", "self_attn.");
    format!("model.layers.{}.{module}", change.layer.unwrap())
}

#[test]
fn norms_from_factors_are_norms_of_the_dense_update() {
    let Some(tiny) = tiny() else { return };
    for family in ["gemma2", "gemma3", "llama", "mistral", "qwen2", "qwen3"] {
        let dir = tiny.join(family);
        let (model, adapter) = (dir.join("model"), dir.join("adapter"));
        let activity = examine(&model, &adapter);
        let base = read(&model.join("model.safetensors"));
        let tensors = read(&adapter.join("adapter_model.safetensors"));
        assert_eq!(activity.keys, tensors.len(), "{family}");
        assert_eq!(activity.changes.len() * 2, tensors.len(), "{family}: two factors for each change");
        for change in &activity.changes {
            let path = llama_path(change);
            let update = dense_update(&tensors, &path, 2.0);
            let dense = norm(update.into_iter().flatten());
            close(&path, change.factor_norm.unwrap(), dense, 1e-5);
            close(&path, change.delta_norm, dense, 1e-5);
            let weight = &base[&format!("{path}.weight")].1;
            close(&path, change.weight_norm, norm(weight.iter().map(|&v| f64::from(v))), 1e-9);
            assert_eq!((change.kind, change.rank, change.scale), (ChangeKind::LowRank, Some(4), Some(2.0)));
        }
        close(family, activity.delta_norm, norm(activity.changes.iter().map(|c| c.delta_norm)), 1e-9);
        assert_eq!(activity.verdict, Verdict::Active);
        assert!(activity.logits.max > 1.0 && activity.logits.kl > 0.0, "{family}: {:?}", activity.logits);
    }
}

#[test]
fn the_parts_of_a_fused_transposed_matrix_add_up() {
    let Some(tiny) = tiny() else { return };
    let dir = tiny.join("gpt2");
    let activity = examine(&dir.join("model"), &dir.join("adapter"));
    let base = read(&dir.join("model/model.safetensors"));
    let tensors = read(&dir.join("adapter/adapter_model.safetensors"));
    let of = |modules: &[&str], value: fn(&ChangedWeight) -> f64| {
        let wanted = |c: &&ChangedWeight| c.layer == Some(1) && modules.contains(&c.module.as_str());
        norm(activity.changes.iter().filter(wanted).map(value))
    };
    for (modules, path) in [
        (&["attn.q_proj", "attn.k_proj", "attn.v_proj"][..], "transformer.h.1.attn.c_attn"),
        (&["mlp.up_proj"], "transformer.h.1.mlp.c_fc"),
        (&["mlp.down_proj"], "transformer.h.1.mlp.c_proj"),
    ] {
        let update = norm(dense_update(&tensors, path, 2.0).into_iter().flatten());
        close(path, of(modules, |c| c.delta_norm), update, 1e-5);
        close(path, of(modules, |c| c.factor_norm.unwrap()), update, 1e-5);
        let weight =
            base.iter().find(|(name, _)| name.ends_with(&format!("{}.weight", &path[12..]))).unwrap();
        close(path, of(modules, |c| c.weight_norm), norm(weight.1.1.iter().map(|&v| f64::from(v))), 1e-9);
    }
}

/// What PEFT's `DoraLinearLayer` makes of a weight, minus the weight.
#[test]
fn dora_counts_what_the_rescaled_rows_change() {
    let Some(tiny) = tiny() else { return };
    let (model, adapter) = (tiny.join("llama/model"), tiny.join("llama/edge/dora"));
    let activity = examine(&model, &adapter);
    let (base, tensors) =
        (read(&model.join("model.safetensors")), read(&adapter.join("adapter_model.safetensors")));
    for change in &activity.changes {
        assert_eq!(change.kind, ChangeKind::Dora);
        let path = llama_path(change);
        let update = dense_update(&tensors, &path, 2.0);
        close(&path, change.factor_norm.unwrap(), norm(update.iter().flatten().copied()), 1e-5);
        let weight = &base[&format!("{path}.weight")].1;
        let magnitude = &tensors[&format!("base_model.model.{path}.lora_magnitude_vector")].1;
        let n_in = update[0].len();
        let rescaled = update.iter().enumerate().flat_map(|(o, row)| {
            let w = |i: usize| f64::from(weight[o * n_in + i]);
            let length = norm(row.iter().enumerate().map(|(i, d)| w(i) + d));
            let gain = f64::from(magnitude[o]) / length;
            row.iter().enumerate().map(move |(i, d)| gain * (w(i) + d) - w(i)).collect::<Vec<_>>()
        });
        close(&path, change.delta_norm, norm(rescaled), 1e-5);
    }
    assert_eq!(activity.verdict, Verdict::Active);
}

#[test]
fn a_new_dora_adapter_is_below_precision_or_does_nothing() {
    let Some(tiny) = tiny() else { return };
    let (model, dora) = (tiny.join("llama/model"), tiny.join("llama/edge/dora"));
    let base = read(&model.join("model.safetensors"));
    // As PEFT starts one: B = 0, magnitudes = norms of the weight's rows.
    let new = adapter_with(&dora, |tensors| {
        for (name, (_, values)) in tensors.iter_mut() {
            if name.contains("lora_B") {
                values.fill(0.0);
            }
            let Some(path) = name.strip_suffix(".lora_magnitude_vector") else { continue };
            let weight = &base[&format!("{}.weight", path.strip_prefix("base_model.model.").unwrap())];
            let rows = weight.1.chunks_exact(weight.0[1]);
            *values = rows.map(|r| norm(r.iter().map(|&v| f64::from(v))) as f32).collect();
        }
    });
    let activity = examine(&model, new.path());
    println!("{:?} {:?}", activity.verdict, activity.logits);
    assert!(activity.changes.iter().all(|c| c.ratio.unwrap() < 1e-7), "no more than f32 rounds");
    assert!(!matches!(activity.verdict, Verdict::Active), "{:?}", activity.logits);
}

#[test]
fn replaced_weights_are_held_against_the_base() {
    let Some(tiny) = tiny() else { return };
    let model = tiny.join("llama/model");
    let base = read(&model.join("model.safetensors"));
    for (case, path, in_file) in [
        ("save_lm_head", "lm_head", "base_model.model.lm_head.weight"),
        ("save_embed", "model.embed_tokens", "base_model.model.model.embed_tokens.weight"),
    ] {
        let adapter = tiny.join("llama/edge").join(case);
        let activity = examine(&model, &adapter);
        let change = activity.changes.iter().find(|c| c.module == path).unwrap();
        assert_eq!((change.kind, change.layer, change.rank), (ChangeKind::Replaced, None, None));
        let tensors = read(&adapter.join("adapter_model.safetensors"));
        let own = &tensors[in_file].1;
        let old = &base[&format!("{path}.weight")].1;
        let difference = own.iter().zip(old).map(|(a, b)| f64::from(*a) - f64::from(*b));
        close(case, change.delta_norm, norm(difference), 1e-9);
        assert_eq!(activity.replaced, 1);
        assert_eq!(activity.verdict, Verdict::Active);

        // The same weight put in its own place, and no update beside it.
        let same = adapter_with(&adapter, |tensors| {
            for (name, (_, values)) in tensors.iter_mut() {
                match name == in_file {
                    true => values.clone_from(&base[&format!("{path}.weight")].1),
                    false => values.fill(0.0),
                }
            }
        });
        let activity = examine(&model, same.path());
        assert!(
            matches!(&activity.verdict, Verdict::DoesNothing(why) if why.contains("equal to the base's"))
        );
        assert_eq!((activity.logits.max, activity.logits.kl), (0.0, 0.0));
    }
}

#[test]
fn an_adapter_with_b_zero_does_nothing() {
    let Some(tiny) = tiny() else { return };
    for family in ["gpt2", "gemma2", "llama"] {
        let dir = tiny.join(family);
        let zeroed = adapter_with(&dir.join("adapter"), |tensors| {
            tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")).for_each(|(_, t)| t.1.fill(0.0));
        });
        let activity = examine(&dir.join("model"), zeroed.path());
        assert_eq!(
            activity.verdict,
            Verdict::DoesNothing(format!(
                "all of its {} changes are exactly zero: one factor is 0",
                activity.changes.len()
            ))
        );
        assert_eq!(activity.inert.len(), activity.changes.len());
        let moved = activity.logits;
        assert_eq!((moved.max, moved.mean, moved.kl, activity.delta_norm), (0.0, 0.0, 0.0, 0.0));
        assert_eq!(activity.merge, None);
    }
}

#[test]
fn one_inert_module_is_named() {
    let Some(tiny) = tiny() else { return };
    let dir = tiny.join("llama");
    let partly = adapter_with(&dir.join("adapter"), |tensors| {
        let one = |name: &&String| name.contains("layers.2.self_attn.k_proj.lora_B");
        let name = tensors.keys().find(one).unwrap().clone();
        tensors.get_mut(&name).unwrap().1.fill(0.0);
    });
    let activity = examine(&dir.join("model"), partly.path());
    assert_eq!(activity.inert, ["layer 2 attn.k_proj"]);
    assert_eq!(activity.verdict, Verdict::Active);
    assert!(activity.merge.is_some());
}

/// The failure that `lorascope info` is there to find: an update far below one unit of bf16.
#[test]
fn a_small_update_acts_but_a_merge_in_bf16_loses_it() {
    let Some(tiny) = tiny() else { return };
    let dir = tiny.join("llama");
    let base = in_bf16(&dir.join("model"));
    for (share, active) in [(1e-4, true), (1e-7, false)] {
        // B has `share` of the standard deviation of the weight.
        let weights = read(&base.path().join("model.safetensors"));
        let small = adapter_with(&dir.join("adapter"), |tensors| {
            for (name, (_, values)) in tensors.iter_mut().filter(|(name, _)| name.contains("lora_B")) {
                let path = name.strip_prefix("base_model.model.").unwrap().replace(".lora_B", "");
                let weight = &weights[&path].1;
                let std = norm(weight.iter().map(|&v| f64::from(v))) / (weight.len() as f64).sqrt();
                let own = norm(values.iter().map(|&v| f64::from(v))) / (values.len() as f64).sqrt();
                values.iter_mut().for_each(|v| *v *= (share * std / own) as f32);
            }
        });
        for (base, exact) in [(base.path(), true), (&dir.join("model"), false)] {
            let activity = examine(base, small.path());
            let merge = activity.merge.unwrap();
            println!(
                "share {share:e}, bf16 base {exact}: {:?} {:?} {merge:?}",
                activity.verdict, activity.logits
            );
            assert!(activity.logits.max > 0.0, "un-merged it acts");
            assert_eq!(activity.verdict == Verdict::Active, active);
            assert!(activity.inert.is_empty());
            assert!(merge.retained.overall < 0.1 && merge.unchanged.overall > 0.95);
            // A base that is stored in bf16 loses nothing itself: the error is the update, lost.
            assert_eq!(merge.base_error.overall == 0.0, exact);
            assert!(if exact {
                (0.9..1.1).contains(&merge.error.overall)
            } else {
                merge.error.overall > 10.0
            });
        }
    }
}

#[test]
fn a_large_update_survives_a_merge() {
    let Some(tiny) = tiny() else { return };
    let dir = tiny.join("llama");
    let base = in_bf16(&dir.join("model"));
    let merge = examine(base.path(), &dir.join("adapter")).merge.unwrap();
    assert!((merge.retained.overall - 1.0).abs() < 0.01 && merge.error.overall < 0.01, "{merge:?}");
    assert!(merge.retained.min <= merge.retained.median && merge.retained.median <= merge.retained.max);
}

#[test]
fn biases_count() {
    let Some(tiny) = tiny() else { return };
    let (model, adapter) = (tiny.join("llama/model"), tiny.join("llama/edge/lora_bias"));
    let tensors = read(&adapter.join("adapter_model.safetensors"));
    let activity = examine(&model, &adapter);
    let of_bias = |c: &&ChangedWeight| c.kind == ChangeKind::Bias;
    assert_eq!(activity.changes.iter().filter(of_bias).count(), activity.adapted);
    let change = activity.changes.iter().find(|c| c.place() == "layer 3 attn.v_proj.bias").unwrap();
    let bias = &tensors["base_model.model.model.layers.3.self_attn.v_proj.lora_B.bias"].1;
    close("bias", change.delta_norm, 2.0 * norm(bias.iter().map(|&v| f64::from(v))), 1e-6);
    assert_eq!((change.ratio, change.rank), (None, None));
}
