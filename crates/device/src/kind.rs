//! What devices are called.

use std::fmt;
use std::str::FromStr;

/// A way to reach a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// The processor: no device.
    Cpu,
    /// NVIDIA's driver.
    Cuda,
    /// Vulkan, on any card that has a driver for it.
    Vulkan,
    /// Metal, on Apple's machines.
    Metal,
    /// Direct3D 12, on Windows.
    Dx12,
}

impl Backend {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Cpu, Self::Cuda, Self::Vulkan, Self::Metal, Self::Dx12];

    /// As it is written.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Cuda => "cuda",
            Self::Vulkan => "vulkan",
            Self::Metal => "metal",
            Self::Dx12 => "dx12",
        }
    }
}

/// A device by its way and number: `cpu`, `cuda`, `vulkan:1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct DeviceKind {
    /// The way.
    pub backend: Backend,
    /// Which of those that are reached that way, from 0.
    pub index: usize,
}

impl Default for DeviceKind {
    fn default() -> Self {
        Self { backend: Backend::Cpu, index: 0 }
    }
}

impl fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.index {
            0 => f.write_str(self.backend.name()),
            index => write!(f, "{}:{index}", self.backend.name()),
        }
    }
}

/// A text that names no device.
#[derive(Debug, thiserror::Error)]
#[error("`{given}` is no device; write one of {}, with a number where there are several: cuda:1", names())]
pub struct NoSuchKind {
    given: String,
}

fn names() -> String {
    Backend::ALL.map(Backend::name).join(", ")
}

impl FromStr for DeviceKind {
    type Err = NoSuchKind;
    fn from_str(text: &str) -> Result<Self, NoSuchKind> {
        let wrong = || NoSuchKind { given: text.to_owned() };
        let (name, index) = match text.split_once(':') {
            None => (text, 0),
            Some((name, index)) => (name, index.parse().map_err(|_| wrong())?),
        };
        let backend = Backend::ALL.into_iter().find(|b| b.name() == name).ok_or_else(wrong)?;
        match (backend, index) {
            (Backend::Cpu, 1..) => Err(wrong()),
            _ => Ok(Self { backend, index }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_go_there_and_back() {
        for text in ["cpu", "cuda", "cuda:1", "vulkan:3", "metal", "dx12"] {
            assert_eq!(text.parse::<DeviceKind>().expect(text).to_string(), text);
        }
        for text in ["", "gpu", "cuda:", "cuda:x", "cpu:1", "cuda:-1"] {
            let error = text.parse::<DeviceKind>().expect_err(text).to_string();
            assert!(error.contains("cpu, cuda, vulkan"), "{error}");
        }
    }
}
