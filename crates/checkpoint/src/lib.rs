//! Files on disk to named tensors: Hugging Face folders (safetensors), GGUF files, bitsandbytes 4-bit.
//!
//! Whatever the file format, the rest of lorascope sees one thing: a [`Checkpoint`] with a Hugging Face
//! `config.json` value and tensors under their Hugging Face names and shapes. Data stays memory-mapped in its
//! stored type; [`StoredTensor::widen_rows`] turns rows into f32 when somebody needs them.
//!
//! This crate knows nothing about model families, adapters or arithmetic on tensors.

mod bnb;
mod bytes;
mod checkpoint;
mod digest;
mod dtype;
mod error;
mod folder;
mod ggml;
pub mod gguf;
mod safetensors;
mod tensor;
mod view;

pub use bnb::{Nf4Rounding, RoundFrom};
pub use checkpoint::Checkpoint;
pub use dtype::DType;
pub use error::{Error, Result, SafetensorsProblem};
pub use safetensors::read_safetensors;
pub use tensor::StoredTensor;
