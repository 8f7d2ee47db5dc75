//! Which models are asked for, by name; nothing is opened yet.

use crate::checkpoints::Checkpoints;
use crate::controls::ControlOf;
use lorascope_checkpoint::RoundFrom;
use std::path::PathBuf;
use std::str::FromStr;

/// A base and its adapters, as users name them.
#[derive(Debug, Clone)]
pub struct Models {
    /// The base: a folder, a `.gguf` file, a hub id, or `organism`, the embedded one.
    pub base: String,
    /// Adapters: name, and a PEFT folder, a hub id, or `organism:hybrid` and the like.
    pub adapters: Vec<(String, String)>,
    /// Folders of checkpoints, as further adapters.
    pub checkpoints: Vec<Checkpoints>,
    /// Controls made from adapters, as further models.
    pub controls: Vec<ControlOf>,
    /// Where to write the controls as PEFT adapters.
    pub save_controls: Option<PathBuf>,
    /// The type from which the base is rounded through bitsandbytes NF4 first.
    pub nf4: Option<Nf4>,
    /// Bytes for packed weights.
    pub memory: usize,
}

/// In which type the weights were when they were rounded to NF4.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nf4 {
    /// As the file stores them.
    Stored,
    /// float16.
    F16,
    /// bfloat16.
    Bf16,
}

impl Nf4 {
    /// All of them.
    pub const ALL: [Nf4; 3] = [Nf4::Stored, Nf4::F16, Nf4::Bf16];

    /// As study files and commands write it.
    pub const fn name(self) -> &'static str {
        match self {
            Nf4::Stored => "stored",
            Nf4::F16 => "f16",
            Nf4::Bf16 => "bf16",
        }
    }

    /// What it means.
    pub const fn meaning(self) -> &'static str {
        match self {
            Nf4::Stored => "As the file stores them",
            Nf4::F16 => "float16",
            Nf4::Bf16 => "bfloat16",
        }
    }

    pub(crate) fn round_from(self) -> RoundFrom {
        match self {
            Nf4::Stored => RoundFrom::AsStored,
            Nf4::F16 => RoundFrom::F16,
            Nf4::Bf16 => RoundFrom::BF16,
        }
    }
}

impl FromStr for Nf4 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|from| from.name() == text);
        found.ok_or_else(|| format!("`nf4` is `{text}`; it must be stored, f16 or bf16"))
    }
}
