//! The tiny reference models' folders open, and their tensors are those that the `safetensors` crate reads.

#![allow(clippy::unwrap_used, reason = "a panic is how a test fails")]

mod common;

use common::tiny;
use lorascope_checkpoint::{Checkpoint, DType};

#[test]
fn every_tiny_folder_equals_the_reference_reader() {
    for family in ["llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3", "gpt2"] {
        let Some(folder) = tiny(family) else { return };
        let checkpoint = Checkpoint::open(&folder).unwrap();
        let file = std::fs::read(folder.join("model.safetensors")).unwrap();
        let reference = safetensors::SafeTensors::deserialize(&file).unwrap();
        assert_eq!(checkpoint.names().count(), reference.len(), "{family}");
        for (name, want) in reference.iter() {
            let tensor = checkpoint.tensor(name).unwrap();
            assert_eq!((tensor.shape(), tensor.dtype()), (want.shape(), DType::F32), "{name}");
            let bytes: Vec<u8> = tensor.to_f32().unwrap().iter().flat_map(|x| x.to_le_bytes()).collect();
            assert_eq!(bytes, want.data(), "{family} {name}");
            assert_eq!(tensor.first_non_finite().unwrap(), None);
            tensor.release_pages();
            let last = tensor.n_rows() - 1;
            let mut row = vec![0.0; tensor.n_cols()];
            tensor.widen_rows(last..last + 1, &mut row).unwrap();
            assert_eq!(
                row,
                tensor.to_f32().unwrap()[last * tensor.n_cols()..],
                "after the pages were released"
            );
        }
        assert!(checkpoint.config()["model_type"].is_string());
    }
}
