//! Where a training leaves its checkpoint and the adapters of its way: the run folder.

use crate::adapter::{CONFIG, Factors, WEIGHTS};
use crate::error::Result;
use crate::trainer::Keeper;
use lorascope_record::{Opened, RunFolder};

/// Folder of the adapters that are kept, in the run folder.
pub const CHECKPOINTS: &str = "checkpoints";

const PART: &str = "checkpoint";

/// Name of the folder of the adapter after so many steps: `step-000020`.
pub fn step_folder(step: usize) -> String {
    format!("step-{step:06}")
}

/// A run folder that keeps checkpoints, and adapters as PEFT folders with this configuration.
#[derive(Debug)]
pub struct Kept<'a> {
    folder: &'a RunFolder,
    config: &'a str,
}

impl<'a> Kept<'a> {
    /// `config` is the text of `adapter_config.json`.
    pub fn new(folder: &'a RunFolder, config: &'a str) -> Self {
        Self { folder, config }
    }

    /// Whether an adapter that was kept is not as it was: only going all the way again makes it anew.
    fn lost(&self) -> bool {
        let kept = |file: &String| file.starts_with(&format!("{CHECKPOINTS}/"));
        matches!(self.folder.opened(), Opened::Damaged { files } if files.iter().any(kept))
    }
}

impl Keeper for Kept<'_> {
    fn load(&self) -> Result<Option<Vec<u8>>> {
        Ok(if self.lost() { None } else { self.folder.part(PART)? })
    }

    fn save(&self, bytes: &[u8]) -> Result<()> {
        Ok(self.folder.save_part(PART, bytes)?)
    }

    fn keep(&self, step: usize, factors: &Factors) -> Result<()> {
        let place = format!("{CHECKPOINTS}/{}", step_folder(step));
        self.folder.write_bytes(&format!("{place}/{WEIGHTS}"), &factors.to_safetensors()?)?;
        self.folder.write_text(&format!("{place}/{CONFIG}"), self.config)?;
        Ok(())
    }
}
