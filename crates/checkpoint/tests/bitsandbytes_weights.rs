//! 4-bit weights against bitsandbytes on the CPU. The fixtures come from `scripts/bitsandbytes_weights.py`.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use lorascope_checkpoint::{
    Checkpoint, DType, Error, Nf4Rounding, RoundFrom, StoredTensor, read_safetensors,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn expected() -> BTreeMap<String, StoredTensor> {
    let tensors = read_safetensors(&fixtures().join("bnb_expected.safetensors")).unwrap();
    tensors.into_iter().map(|tensor| (tensor.name().to_owned(), tensor)).collect()
}

#[test]
fn every_kind_dequantises_as_bitsandbytes_does() {
    let checkpoint = Checkpoint::open(&fixtures().join("bnb")).unwrap();
    let expected = expected();
    let dequantised: Vec<_> = expected.values().filter(|t| t.name().ends_with(".dequantized")).collect();
    assert_eq!(dequantised.len(), checkpoint.names().count() - 1);
    for want in dequantised {
        let name = want.name().strip_suffix(".dequantized").unwrap().rsplit_once('.').unwrap().0;
        let tensor = checkpoint.tensor(name).unwrap();
        assert!(matches!(tensor.dtype(), DType::Nf4 | DType::Fp4));
        assert_eq!(tensor.shape(), want.shape());
        let want = want.to_f32().unwrap();
        assert_eq!(tensor.to_f32().unwrap(), want, "{name}");
        let last = tensor.n_rows() - 1;
        let mut row = vec![0.0; tensor.n_cols()];
        tensor.widen_rows(last..last + 1, &mut row).unwrap();
        assert_eq!(row, want[last * tensor.n_cols()..], "rows that begin inside a block");
    }
    assert_eq!(checkpoint.tensor("model.norm.weight").unwrap().dtype(), DType::F32);
}

/// A folder with the tensors `weights`, all F32.
fn folder(model_type: &str, weights: &[(&str, &[usize], Vec<f32>)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("config.json"), format!("{{\"model_type\": \"{model_type}\"}}"))
        .unwrap();
    let bytes: Vec<Vec<u8>> =
        weights.iter().map(|(_, _, values)| values.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let view = |i: usize| {
        let (name, shape, _) = &weights[i];
        (
            *name,
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.to_vec(), &bytes[i]).unwrap(),
        )
    };
    let file = safetensors::serialize((0..weights.len()).map(view), None).unwrap();
    std::fs::write(folder.path().join("model.safetensors"), file).unwrap();
    folder
}

#[test]
fn rounding_equals_quantising_and_dequantising() {
    let expected = expected();
    let mut checked = 0;
    for original in expected.values().filter(|t| t.name().ends_with(".original")) {
        let stem = original.name().strip_suffix(".original").unwrap();
        let want = &expected[&format!("{stem}.dequantized")];
        let name = stem.rsplit_once('.').unwrap().0;
        let folder = folder("llama", &[(name, original.shape(), original.to_f32().unwrap())]);
        let mut checkpoint = Checkpoint::open(folder.path()).unwrap();
        let from = match original.dtype() {
            DType::F16 => RoundFrom::F16,
            DType::BF16 => RoundFrom::BF16,
            _ => RoundFrom::AsStored,
        };
        checkpoint
            .round_through_nf4(Nf4Rounding { double_quantisation: stem.ends_with(".double"), from })
            .unwrap();
        let tensor = checkpoint.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.shape()), (DType::Nf4, want.shape()));
        assert_eq!(tensor.to_f32().unwrap(), want.to_f32().unwrap(), "{stem}");
        checked += 1;
    }
    assert_eq!(checked, 13);
}

#[test]
fn only_linear_weights_are_rounded_and_gpt2_along_its_inputs() {
    let ramp = |n: usize| (0..n).map(|i| (i as f32 * 0.37).sin()).collect::<Vec<_>>();
    let (n_in, n_out) = (96, 40);
    let transposed: Vec<f32> =
        (0..n_in * n_out).map(|i| ramp(n_in * n_out)[(i % n_in) * n_out + i / n_in]).collect();
    let llama_name = "model.layers.0.mlp.up_proj.weight";
    let kept = ["model.embed_tokens.weight", "lm_head.weight", "model.layers.0.input_layernorm.weight"];
    let llama = folder(
        "llama",
        &[
            (llama_name, &[n_out, n_in], transposed),
            (kept[0], &[4, 64], ramp(256)),
            (kept[1], &[4, 64], ramp(256)),
            (kept[2], &[64], ramp(64)),
        ],
    );
    let gpt2 = folder("gpt2", &[("h.0.mlp.c_fc.weight", &[n_in, n_out], ramp(n_in * n_out))]);
    let mut llama = Checkpoint::open(llama.path()).unwrap();
    llama.round_through_nf4(Nf4Rounding::default()).unwrap();
    for name in kept {
        assert_eq!(llama.tensor(name).unwrap().dtype(), DType::F32, "{name}");
    }
    let mut gpt2 = Checkpoint::open(gpt2.path()).unwrap();
    gpt2.round_through_nf4(Nf4Rounding::default()).unwrap();
    let conv = gpt2.tensor("transformer.h.0.mlp.c_fc.weight").unwrap();
    assert_eq!((conv.shape(), conv.dtype()), (&[n_in, n_out][..], DType::Nf4));
    let (conv, linear) = (conv.to_f32().unwrap(), llama.tensor(llama_name).unwrap().to_f32().unwrap());
    for i in 0..n_in * n_out {
        assert_eq!(conv[(i % n_in) * n_out + i / n_in], linear[i]);
    }
}

#[test]
fn a_weight_that_is_not_finite_is_not_rounded() {
    let name = "model.layers.0.mlp.up_proj.weight";
    let mut values = vec![1.0; 128];
    values[70] = 1e6;
    let folder = folder("llama", &[(name, &[2, 64], values)]);
    let mut checkpoint = Checkpoint::open(folder.path()).unwrap();
    let rounding = Nf4Rounding { from: RoundFrom::F16, ..Nf4Rounding::default() };
    let error = checkpoint.round_through_nf4(rounding).unwrap_err();
    assert!(
        matches!(&error, Error::Bitsandbytes { problem, .. } if problem.contains("number 70 is 1000000")),
        "{error}"
    );
    assert_eq!(checkpoint.tensor(name).unwrap().dtype(), DType::F32);
}
