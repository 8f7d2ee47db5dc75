//! PEFT LoRA adapter folders to validated factors.
//!
//! [`load`] reads `adapter_config.json` and `adapter_model.safetensors`, works out what the configuration means on a
//! given base model exactly as PEFT 0.21 does, and holds the file against it: whatever is missing, surplus, of the
//! wrong shape, not finite, or not understood is an error that names the tensor or key. The adapter stays separate from
//! the base; nothing is merged here. [`PeftAdapter::control`] makes control adapters from an adapter's factors;
//! [`folder`] writes an adapter as PEFT would.
//!
//! This crate knows module paths and shapes ([`BaseModule`]), not model families, and never multiplies by weights.

mod adapter;
mod assemble;
mod base;
mod config;
mod controls;
mod error;
mod keys;
mod load;
mod plan;
mod select;
mod write;

pub use adapter::{Coverage, EmbeddingLowRank, LowRank, PeftAdapter};
pub use base::{BaseIdentity, BaseModule, ModuleKind};
pub use config::{BiasKind, InitWeights, LayerIndexes, LoraConfig, Patterns, Selector};
pub use controls::{ControlError, ControlKind};
pub use error::{Error, Problem, Result};
pub use load::load;
pub use safetensors::SafeTensorError;
pub use write::{Matrix, NewFolder, NewUpdate, factor_name, folder, weights_file};
