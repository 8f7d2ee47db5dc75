//! Folders: shards, names, hashes, what is refused and how.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use lorascope_checkpoint::{Checkpoint, DType, StoredTensor};
use safetensors::tensor::{Dtype, TensorView};
use std::path::Path;
use tempfile::TempDir;

const CONFIG: &str = "{\"model_type\": \"llama\"}";

fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    folder
}

/// A safetensors file of tensors of shape [2, 3] with these values.
fn shard(tensors: &[(&str, Dtype, &[u8])]) -> Vec<u8> {
    let view = |&(name, dtype, bytes): &(&str, Dtype, _)| {
        let bytes: &[u8] = bytes;
        let n = bytes.len() * 8 / dtype.bitsize() / 3;
        (name.to_string(), TensorView::new(dtype, vec![n, 3], bytes).unwrap())
    };
    safetensors::serialize(tensors.iter().map(view), None).unwrap()
}

fn message(path: &Path) -> String {
    let error = Checkpoint::open(path).unwrap_err().to_string();
    error.replace(&path.display().to_string(), "FOLDER")
}

#[test]
fn every_float_type_widens_exactly() {
    // 1, -2, 0.5, infinity, -0, the smallest subnormal: in each type.
    let f16 = [0x3c00u16, 0xc000, 0x3800, 0x7c00, 0x8000, 0x0001].map(u16::to_le_bytes).concat();
    let bf16 = [0x3f80u16, 0xc000, 0x3f00, 0x7f80, 0x8000, 0x0001].map(u16::to_le_bytes).concat();
    let f64 = [1.0, -2.0, 0.5, f64::INFINITY, -0.0, 0.1].map(f64::to_le_bytes).concat();
    let file = shard(&[("h", Dtype::F16, &f16), ("b", Dtype::BF16, &bf16), ("d", Dtype::F64, &f64)]);
    let folder = folder(&[("config.json", CONFIG.as_bytes()), ("model.safetensors", &file)]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let last = [
        ("h", DType::F16, 2f32.powi(-24)),
        ("b", DType::BF16, f32::from_bits(1 << 16)),
        ("d", DType::F64, 0.1),
    ];
    for (name, dtype, last) in last {
        let tensor = checkpoint.tensor(name).unwrap();
        assert_eq!((tensor.dtype(), tensor.n_rows(), tensor.n_cols()), (dtype, 2, 3));
        let want = [1.0, -2.0, 0.5, f32::INFINITY, -0.0, last].map(f32::to_bits);
        assert_eq!(tensor.to_f32().unwrap().iter().map(|x| x.to_bits()).collect::<Vec<_>>(), want);
        assert_eq!(tensor.first_non_finite().unwrap(), Some(3));
    }
    assert_eq!(checkpoint.tensor("b").unwrap().n_bytes(), 12);
}

#[test]
fn rows_out_of_range_are_an_error() {
    let tensor = StoredTensor::from_f32("t", &[2, 3], vec![0.0; 6]);
    let mut out = [0.0; 6];
    let error = tensor.widen_rows(1..3, &mut out).unwrap_err().to_string();
    assert_eq!(error, "rows 1..3 of tensor `t` (2 rows of 3) do not fit a buffer of 6 numbers");
    assert!(tensor.widen_rows(0..1, &mut out).is_err());
    assert!(tensor.widen_rows(0..2, &mut out).is_ok());
    let missing = folder(&[("config.json", CONFIG.as_bytes()), ("model.safetensors", &shard(&[]))]);
    let checkpoint = Checkpoint::open(missing.path()).unwrap();
    let error = checkpoint.tensor("x").unwrap_err().to_string();
    assert_eq!(error, format!("tensor `x` is missing from {}", missing.path().display()));
}

#[test]
fn shards_become_one_checkpoint() {
    let (one, two) = (shard(&[("a", Dtype::F32, &[0; 24])]), shard(&[("b", Dtype::F32, &[0; 24])]));
    let index = |map: &str| format!("{{\"metadata\":{{}},\"weight_map\":{map}}}");
    let good = index("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}");
    let open = |index: &str, second: Option<&[u8]>| {
        let mut files = vec![
            ("config.json", CONFIG.as_bytes()),
            ("model.safetensors.index.json", index.as_bytes()),
            ("1.safetensors", &one),
        ];
        files.extend(second.map(|bytes| ("2.safetensors", bytes)));
        folder(&files)
    };
    let whole = open(&good, Some(&two));
    let checkpoint = Checkpoint::open(whole.path()).unwrap();
    assert!(checkpoint.names().eq(["a", "b"]));
    assert_eq!(checkpoint.files().len(), 4);
    assert_eq!(
        message(open(&good, None).path()),
        "shard `2.safetensors` is named by `FOLDER/model.safetensors.index.json` but is not there; the download is \
         incomplete"
    );
    let misplaced = index("{\"a\":\"1.safetensors\",\"b\":\"1.safetensors\"}");
    assert_eq!(
        message(open(&misplaced, Some(&two)).path()),
        "`FOLDER/model.safetensors.index.json` places tensor `b` in shard `1.safetensors`, which does not hold it"
    );
    assert_eq!(message(open(&good, Some(&one)).path()), {
        "`FOLDER/model.safetensors.index.json` places tensor `b` in shard `2.safetensors`, which does not hold it"
    });
    let twice = index("{\"a\":\"1.safetensors\",\"b\":\"2.safetensors\"}");
    let both = shard(&[("a", Dtype::F32, &[0; 24]), ("b", Dtype::F32, &[0; 24])]);
    assert_eq!(message(open(&twice, Some(&both)).path()), "tensor `a` occurs twice in `FOLDER`");
    for outside in ["../1.safetensors", "/1.safetensors", "x/1.safetensors", ""] {
        let index = index(&format!("{{\"a\":\"{outside}\"}}"));
        assert_eq!(
            message(open(&index, None).path()),
            format!(
                "`FOLDER/model.safetensors.index.json` is not valid: tensor `a`: shard `\"{outside}\"` is not a plain file name"
            )
        );
    }
    assert_eq!(
        message(open("{}", None).path()),
        "`FOLDER/model.safetensors.index.json` is not valid: expected an object `weight_map`"
    );
}

#[test]
fn what_is_no_checkpoint_is_refused_with_advice() {
    let empty = shard(&[]);
    let no_config = folder(&[("model.safetensors", &empty)]);
    assert_eq!(
        message(no_config.path()),
        "`FOLDER` has weights but no `config.json`; download it from the same model"
    );
    let bad = folder(&[("model.safetensors", &empty), ("config.json", b"{")]);
    assert_eq!(
        message(bad.path()),
        "`FOLDER/config.json` is not valid: EOF while parsing an object at line 1 column 1"
    );
    let list = folder(&[("model.safetensors", &empty), ("config.json", b"[]")]);
    assert_eq!(message(list.path()), "`FOLDER/config.json` is not valid: expected an object");
    let pickle = "is a PyTorch pickle, which can run code when it is read, so it is refused; convert it where you trust \
        it, with `model.save_pretrained(folder, safe_serialization=True)`, or use the model's `.safetensors` files";
    let bin = folder(&[("pytorch_model.bin", b"x"), ("config.json", b"{}")]);
    assert_eq!(message(bin.path()), format!("`FOLDER/pytorch_model.bin` {pickle}"));
    assert_eq!(message(&bin.path().join("pytorch_model.bin")), format!("`FOLDER` {pickle}"));
    let two = folder(&[("a.gguf", b""), ("b.gguf", b"")]);
    assert_eq!(message(two.path()), "`FOLDER` holds 2 `.gguf` files; name one of them");
    assert_eq!(
        message(folder(&[]).path()),
        "`FOLDER` holds no weights: expected `model.safetensors` or `model.safetensors.index.json` beside a \
         `config.json`, or exactly one `.gguf` file"
    );
    assert_eq!(
        message(&no_config.path().join("model.safetensors")),
        "`FOLDER` is neither a folder nor a `.gguf` file; give the folder that holds `config.json`"
    );
    assert!(message(Path::new("no/such/folder")).starts_with("cannot read `FOLDER`: "));
}

#[test]
fn gpt2_names_get_their_prefix_and_masks_are_left_out() {
    let file = shard(&[
        ("wte.weight", Dtype::F32, &[0; 24]),
        ("transformer.wpe.weight", Dtype::F32, &[0; 24]),
        ("h.0.attn.bias", Dtype::U8, &[0; 6]),
        ("h.0.attn.c_attn.bias", Dtype::F32, &[0; 24]),
    ]);
    let folder = folder(&[("config.json", b"{\"model_type\":\"gpt2\"}"), ("model.safetensors", &file)]);
    let checkpoint = Checkpoint::open(folder.path()).unwrap();
    let names = ["transformer.h.0.attn.c_attn.bias", "transformer.wpe.weight", "transformer.wte.weight"];
    assert!(checkpoint.names().eq(names));
    assert_eq!(checkpoint.tensor(names[2]).unwrap().name(), names[2]);
}

#[test]
fn a_folder_with_one_gguf_file_is_that_file_and_hashes_are_those_of_sha256sum() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/gguf/qwen2.gguf");
    let copy = folder(&[("model.gguf", &std::fs::read(&fixture).unwrap())]);
    let (file, inside) = (Checkpoint::open(&fixture).unwrap(), Checkpoint::open(copy.path()).unwrap());
    assert!(inside.path().ends_with("model.gguf"));
    let mut steps = Vec::new();
    let hash = file.sha256_with_progress(|done, total| steps.push((done, total))).unwrap();
    assert_eq!(hash, inside.sha256().unwrap());
    let size = std::fs::metadata(&fixture).unwrap().len();
    assert_eq!(steps.last(), Some(&(size, size)));
    let empty = folder(&[("config.json", b"{}"), ("model.safetensors", &shard(&[]))]);
    // printf '%s' '{}' > config.json; sha256sum config.json model.safetensors | sha256sum
    let lines = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a  config.json\n";
    let digest = |bytes: &[u8]| -> String {
        use sha2::{Digest, Sha256};
        Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let weights = digest(&shard(&[]));
    let want = digest(format!("{lines}{weights}  model.safetensors\n").as_bytes());
    assert_eq!(Checkpoint::open(empty.path()).unwrap().sha256().unwrap(), want);
}
