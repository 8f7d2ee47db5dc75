//! Safetensors and GGUF files taken apart and put together by hand, right or wrong; no code under test takes part.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// A tensor of a safetensors file.
#[derive(Clone)]
pub struct Tensor {
    pub dtype: String,
    pub shape: Vec<usize>,
    pub data: Vec<u8>,
}

impl Tensor {
    pub fn zeros(shape: &[usize]) -> Self {
        Self {
            dtype: "F32".to_owned(),
            shape: shape.to_vec(),
            data: vec![0; 4 * shape.iter().product::<usize>()],
        }
    }

    /// Puts a number at a flat index.
    pub fn set(&mut self, index: usize, value: f32) {
        self.data[4 * index..4 * index + 4].copy_from_slice(&value.to_le_bytes());
    }
}

/// The tensors of a file by name.
pub type Tensors = BTreeMap<String, Tensor>;

/// Header and data of a file.
fn halves(path: &Path) -> (Map<String, Value>, Vec<u8>) {
    let bytes = fs::read(path).unwrap();
    let n = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    (serde_json::from_slice(&bytes[8..8 + n]).unwrap(), bytes[8 + n..].to_vec())
}

fn write(path: &Path, header: &Map<String, Value>, data: &[u8]) {
    let header = serde_json::to_vec(header).unwrap();
    fs::write(path, [&(header.len() as u64).to_le_bytes()[..], &header, data].concat()).unwrap();
}

/// Changes the header and leaves the data, so that they may disagree.
pub fn edit_header(path: &Path, change: impl FnOnce(&mut Map<String, Value>)) {
    let (mut header, data) = halves(path);
    change(&mut header);
    write(path, &header, &data);
}

/// Changes tensors; the file is whole afterwards.
pub fn edit_tensors(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let (header, data) = halves(path);
    let tensor = |value: &Value| {
        let number = |v: &Value| v.as_u64().unwrap() as usize;
        let (begin, end) = (number(&value["data_offsets"][0]), number(&value["data_offsets"][1]));
        Tensor {
            dtype: value["dtype"].as_str().unwrap().to_owned(),
            shape: value["shape"].as_array().unwrap().iter().map(number).collect(),
            data: data[begin..end].to_vec(),
        }
    };
    let entries = header.iter().filter(|(name, _)| *name != "__metadata__");
    let mut tensors: Tensors = entries.map(|(name, value)| (name.clone(), tensor(value))).collect();
    change(&mut tensors);
    let (mut header, mut data) = (Map::new(), Vec::new());
    for (name, t) in tensors {
        let begin = data.len();
        data.extend(t.data);
        header.insert(name, json!({"dtype": t.dtype, "shape": t.shape, "data_offsets": [begin, data.len()]}));
    }
    write(path, &header, &data);
}

/// Cuts a file after `n` bytes.
pub fn truncate(path: &Path, n: usize) {
    let bytes = fs::read(path).unwrap();
    fs::write(path, &bytes[..n]).unwrap();
}

/// A GGUF file (version 3) with text metadata, a declared number of tensors, and `rest` after the metadata.
pub fn gguf(metadata: &[(&str, &str)], n_tensors: u64, rest: &[u8]) -> Vec<u8> {
    let text = |t: &str| [&(t.len() as u64).to_le_bytes()[..], t.as_bytes()].concat();
    let mut bytes = [&b"GGUF"[..], &3u32.to_le_bytes(), &n_tensors.to_le_bytes()].concat();
    bytes.extend((metadata.len() as u64).to_le_bytes());
    for (key, value) in metadata {
        // 8 is the type number of texts.
        bytes.extend([text(key), 8u32.to_le_bytes().to_vec(), text(value)].concat());
    }
    bytes.extend(rest);
    bytes
}
