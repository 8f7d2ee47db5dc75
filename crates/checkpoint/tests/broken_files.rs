//! Damaged and hostile files: what the messages say, word for word, and that nothing panics.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

use lorascope_checkpoint::{Checkpoint, read_safetensors};
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// A safetensors file of this header and as many zero bytes of data.
fn safetensors_file(header: &str, n_data: usize) -> Vec<u8> {
    let mut file = (header.len() as u64).to_le_bytes().to_vec();
    file.extend(header.as_bytes());
    file.resize(file.len() + n_data, 0);
    file
}

fn written(name: &str, bytes: &[u8]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    (folder, path)
}

#[test]
fn broken_safetensors_files() {
    let entry = |dtype: &str, shape: &str, offsets: &str| {
        format!("{{\"a\":{{\"dtype\":\"{dtype}\",\"shape\":{shape},\"data_offsets\":{offsets}}}}}")
    };
    let two = |first: &str, second: &str| {
        format!(
            "{{\"a\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{first}}},\
             \"b\":{{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":{second}}}}}"
        )
    };
    let invalid = "`FILE` is not a valid safetensors file: ";
    let huge = [&u64::MAX.to_le_bytes()[..], b"{}"].concat();
    let cases: Vec<(Vec<u8>, String)> = vec![
        (vec![], format!("{invalid}it has 0 bytes, too few for the header's length; the file is truncated")),
        (vec![1, 2, 3], format!("{invalid}it has 3 bytes, too few for the header's length; the file is truncated")),
        (
            huge,
            format!(
                "{invalid}its header is declared 18446744073709551615 bytes long, but only 2 bytes follow; truncated or \
                 not safetensors"
            ),
        ),
        (safetensors_file("{", 0), format!("{invalid}header: EOF while parsing an object at line 1 column 1")),
        (
            safetensors_file("[]", 0),
            format!(
                "{invalid}header: invalid type: sequence, expected an object that maps tensor names to dtype, shape and \
                 data_offsets at line 1 column 0"
            ),
        ),
        (
            safetensors_file(&entry("Q9", "[1]", "[0,4]"), 4),
            format!("{invalid}tensor `a` has the unknown dtype `Q9`"),
        ),
        (
            safetensors_file(&entry("I64", "[1]", "[0,8]"), 8),
            "tensor `a` in `FILE` is stored as `I64`; readable are F64, F32, F16, BF16 and bitsandbytes NF4/FP4".into(),
        ),
        (
            safetensors_file(&entry("F32", "[4294967296,4294967296]", "[0,4]"), 4),
            format!("{invalid}the shape of tensor `a`, [4294967296, 4294967296], overflows"),
        ),
        (
            safetensors_file(&entry("F32", "[0,4294967296,4294967296,9]", "[0,0]"), 0),
            format!("{invalid}the shape of tensor `a`, [0, 4294967296, 4294967296, 9], overflows"),
        ),
        (
            safetensors_file(&entry("F32", "[4]", "[0,16]"), 12),
            format!(
                "{invalid}tensor `a` has offsets 0..16, but the data are 12 bytes long; the file is truncated or damaged"
            ),
        ),
        (
            safetensors_file(&entry("F32", "[1]", "[4,0]"), 4),
            format!(
                "{invalid}tensor `a` has offsets 4..0, but the data are 4 bytes long; the file is truncated or damaged"
            ),
        ),
        (
            safetensors_file(&entry("F16", "[3]", "[0,4]"), 4),
            format!("{invalid}tensor `a` of shape [3] needs 6 bytes, but its offsets give 4"),
        ),
        (
            safetensors_file(&two("[0,8]", "[4,12]"), 12),
            format!("{invalid}the data of tensor `b` overlap those of the tensor before it (byte 4 < 8)"),
        ),
        (safetensors_file(&two("[0,8]", "[12,20]"), 20), format!("{invalid}bytes 8..12 of the data belong to no tensor")),
        (safetensors_file(&two("[0,8]", "[8,16]"), 20), format!("{invalid}bytes 16..20 of the data belong to no tensor")),
        (
            safetensors_file(&two("[0,8]", "[8,16]").replace("\"b\"", "\"a\""), 16),
            format!("{invalid}header: `a` occurs twice at line 1 column 57"),
        ),
    ];
    for (bytes, want) in cases {
        let (_folder, path) = written("model.safetensors", &bytes);
        let error = read_safetensors(&path).unwrap_err().to_string();
        assert_eq!(error.replace(&path.display().to_string(), "FILE"), want);
    }
}

/// A GGUF file in pieces that can each be wrong.
struct Gguf {
    version: u32,
    n_tensors: u64,
    metadata: Vec<(&'static str, u32, Vec<u8>)>,
    tensors: Vec<(&'static str, Vec<u64>, u32, u64)>,
    n_data: usize,
}

impl Gguf {
    /// One F32 tensor `[2]` in an empty llama.
    fn new() -> Self {
        let arch = [&5u64.to_le_bytes()[..], b"llama"].concat();
        let tensors = vec![("output_norm.weight", vec![2], 0, 0)];
        Self {
            version: 3,
            n_tensors: 1,
            metadata: vec![("general.architecture", 8, arch)],
            tensors,
            n_data: 8,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let mut file = b"GGUF".to_vec();
        file.extend(self.version.to_le_bytes());
        file.extend(self.n_tensors.to_le_bytes());
        file.extend((self.metadata.len() as u64).to_le_bytes());
        let text = |file: &mut Vec<u8>, text: &str| {
            file.extend((text.len() as u64).to_le_bytes());
            file.extend(text.as_bytes());
        };
        for (key, kind, value) in &self.metadata {
            text(&mut file, key);
            file.extend(kind.to_le_bytes());
            file.extend(value);
        }
        for (name, dims, kind, offset) in &self.tensors {
            text(&mut file, name);
            file.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|n| file.extend(n.to_le_bytes()));
            file.extend(kind.to_le_bytes());
            file.extend(offset.to_le_bytes());
        }
        file.resize(file.len().next_multiple_of(32) + self.n_data, 0);
        file
    }
}

#[test]
fn broken_gguf_files() {
    let unreadable = "`FILE` is not a readable GGUF file: ";
    let with = |change: &dyn Fn(&mut Gguf)| {
        let mut file = Gguf::new();
        change(&mut file);
        file.bytes()
    };
    let cases: Vec<(Vec<u8>, &str)> = vec![
        (b"GGML rest".to_vec(), "it begins with \"GGML\" instead of `GGUF`"),
        (b"GG".to_vec(), "it begins with \"GG\" instead of `GGUF`"),
        (b"GGUF\x03\0".to_vec(), "it ends at byte 6, inside the version; the file is truncated or damaged"),
        (
            with(&|f| f.version = 1),
            "its version is 1; readable are 2 and 3, little-endian; convert it again with a current llama.cpp",
        ),
        (
            with(&|f| f.n_tensors = u64::MAX),
            "the list of tensors has 18446744073709551615 entries, more than the rest of the file can hold; the file is \
             damaged",
        ),
        (
            with(&|f| f.metadata[0].2 = u64::MAX.to_le_bytes().to_vec()),
            "it ends at byte 136, inside metadata `general.architecture`; the file is truncated or damaged",
        ),
        (with(&|f| f.metadata[0].1 = 99), "metadata `general.architecture` has the unreadable type 99"),
        (
            with(&|f| f.metadata[0].2 = [&2u64.to_le_bytes()[..], &[0xff, 0xfe]].concat()),
            "metadata `general.architecture` is not UTF-8",
        ),
        (with(&|f| f.metadata.clear()), "metadata `general.architecture` is missing or is not a text"),
        (
            with(&|f| f.metadata[0].2 = [&5u64.to_le_bytes()[..], b"mamba"].concat()),
            "its architecture is `mamba`; readable are llama, qwen2, qwen3, gemma2, gemma3 and gpt2",
        ),
        (with(&|f| f.metadata.push(f.metadata[0].clone())), "`general.architecture` occurs twice"),
        (
            with(&|f| f.metadata.push(("general.alignment", 4, 3u32.to_le_bytes().to_vec()))),
            "metadata `general.alignment` is Unsigned(3), but should be a power of two of at most 2^30",
        ),
        (
            with(&|f| f.tensors[0].2 = 10),
            "tensor `output_norm.weight` is stored as `Q2_K`; readable are F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, \
             Q4_K, Q5_K and Q6_K; quantise the model to one of them",
        ),
        (with(&|f| f.tensors[0].1 = vec![2; 5]), "tensor `output_norm.weight` has 5 dimensions"),
        (
            with(&|f| f.tensors[0].1 = vec![1 << 40, 1 << 40]),
            "the shape of tensor `output_norm.weight`, [1099511627776, 1099511627776], overflows",
        ),
        (
            with(&|f| f.tensors[0].2 = 2),
            "tensor `output_norm.weight` has rows of 2 numbers, not a multiple of its type's block of 32",
        ),
        (
            with(&|f| f.tensors[0].3 = 4),
            "tensor `output_norm.weight` has the offset 4, not a multiple of the alignment 32",
        ),
        (
            with(&|f| f.n_data = 4),
            "tensor `output_norm.weight` lies at bytes 128..136, but the file has 132; it is truncated or damaged",
        ),
        (
            with(&|f| f.tensors[0].3 = u64::MAX - 31),
            "tensor `output_norm.weight` lies at bytes 18446744073709551615..18446744073709551615, but the file has 136; \
             it is truncated or damaged",
        ),
        (
            with(&|f| {
                f.tensors.push(("output.weight", vec![2], 0, 0));
                f.n_tensors = 2;
            }),
            "the data of tensor `output.weight` overlap those of tensor `output_norm.weight`",
        ),
        (
            with(&|f| f.tensors[0].0 = "blk.0.ssm_in.weight"),
            "tensor `blk.0.ssm_in.weight` is unknown for architecture `llama`; leaving it out would change the model",
        ),
        (
            with(&|f| f.tensors[0].0 = "blk.0.attn_q.weight"),
            "metadata `llama.attention.head_count` is missing or is not one number of heads, the same for all layers",
        ),
        (
            with(&|f| {
                f.tensors[0].0 = "blk.0.attn_q.weight";
                f.metadata.push(("llama.attention.head_count", 4, 3u32.to_le_bytes().to_vec()));
            }),
            "tensor `blk.0.attn_q.weight` has shape [2], which does not fit the heads that the metadata give",
        ),
        (
            with(&|f| f.metadata.push(("split.count", 2, 3u16.to_le_bytes().to_vec()))),
            "it is one of 3 parts of a model; join them with `llama-gguf-split --merge`",
        ),
        (with(&|_| ()), "metadata `llama.embedding_length` is missing or is not a number"),
    ];
    for (bytes, want) in cases {
        let (_folder, path) = written("model.gguf", &bytes);
        let error = Checkpoint::open(&path).unwrap_err().to_string();
        assert_eq!(error.replace(&path.display().to_string(), "FILE"), format!("{unreadable}{want}"));
    }
}

/// Overwrites bytes with small, large or random values, then cuts.
fn damage(file: &[u8], places: &[(usize, u64, usize)], cut: Option<usize>, within: usize) -> Vec<u8> {
    let mut file = file.to_vec();
    for (at, value, width) in places {
        let at = at % within.min(file.len());
        let end = file.len().min(at + width);
        let length = end - at;
        file[at..end].copy_from_slice(&value.to_le_bytes()[..length]);
    }
    if let Some(cut) = cut {
        let length = cut % (file.len() + 1);
        file.truncate(length);
    }
    file
}

fn places() -> impl Strategy<Value = Vec<(usize, u64, usize)>> {
    let value =
        prop_oneof![any::<u64>(), 0..300u64, Just(u64::MAX), Just(1 << 63), Just(u64::from(u32::MAX))];
    prop::collection::vec((any::<usize>(), value, prop_oneof![Just(1usize), Just(4), Just(8)]), 0..4)
}

fn read_all(checkpoint: &Checkpoint) {
    for name in checkpoint.names() {
        let tensor = checkpoint.tensor(name).unwrap();
        let values = tensor.to_f32().unwrap();
        assert_eq!(values.len(), tensor.n_rows() * tensor.n_cols());
        tensor.first_non_finite().unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn damaged_gguf_files_never_panic(places in places(), cut in prop::option::of(any::<usize>()), family in 0..3usize) {
        let family = ["llama", "gemma3", "gpt2"][family];
        let file = std::fs::read(fixtures().join("gguf").join(format!("{family}.gguf"))).unwrap();
        let (_folder, path) = written("model.gguf", &damage(&file, &places, cut, 3000));
        if let Ok(checkpoint) = Checkpoint::open(&path) {
            read_all(&checkpoint);
        }
    }

    #[test]
    fn damaged_four_bit_folders_never_panic(places in places(), cut in prop::option::of(any::<usize>())) {
        let file = std::fs::read(fixtures().join("bnb/model.safetensors")).unwrap();
        let (folder, _path) = written("model.safetensors", &damage(&file, &places, cut, file.len()));
        std::fs::write(folder.path().join("config.json"), "{}").unwrap();
        if let Ok(checkpoint) = Checkpoint::open(folder.path()) {
            read_all(&checkpoint);
        }
    }

    /// Damaged headers are accepted just when the `safetensors` crate accepts them; but a name may not occur twice.
    #[test]
    fn damaged_safetensors_files_are_judged_as_by_the_reference(places in places(), cut in prop::option::of(any::<usize>())) {
        let header = "{\"__metadata__\":{\"format\":\"pt\"},\
            \"a\":{\"dtype\":\"F32\",\"shape\":[2,3],\"data_offsets\":[0,24]},\
            \"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}}";
        let file = damage(&safetensors_file(header, 32), &places, cut, header.len() + 8);
        let (_folder, path) = written("model.safetensors", &file);
        let reference = safetensors::SafeTensors::deserialize(&file);
        match (read_safetensors(&path), reference) {
            (Ok(ours), Ok(theirs)) => prop_assert_eq!(ours.len(), theirs.len()),
            (Ok(_), Err(theirs)) => prop_assert!(false, "only the reference refuses: {}", theirs),
            (Err(ours), Ok(_)) => {
                let ours = ours.to_string();
                prop_assert!(ours.contains("occurs twice") || ours.contains("is stored as"), "{}", ours);
            }
            (Err(_), Err(_)) => {}
        }
    }
}
