//! Graphics cards as [`Device`]s of lorascope's arithmetic: they hold weights and do the large products.
//!
//! Each way to reach a card is one file that implements [`Device`]; all run the same tiling with the same order of additions as
//! the processor. Where a card's multiply-add rounds once, as IEEE 754 has it, a product has the processor's bits; that is tried when a
//! device is opened, and said ([`Device::is_exact`]).

#[cfg_attr(not(feature = "cuda"), path = "absent.rs")]
mod cuda;
mod kind;
mod update;
mod verify;
#[cfg_attr(not(feature = "wgpu"), path = "absent.rs")]
mod wgpu;

pub use kind::{Backend, DeviceKind};
pub use verify::{Parity, Shape, Speed, noise, parity, speed};

use lorascope_kernels::{Device, DeviceError, use_device};

/// A card that was found.
#[derive(Clone, Debug)]
pub struct Found {
    /// What to say after `--device`.
    pub kind: DeviceKind,
    /// What it is.
    pub description: String,
}

/// All cards that can be reached, by every way that this build has.
pub fn available() -> Vec<Found> {
    [cuda::available(), wgpu::available()].concat()
}

/// Opens a device; `None` for the processor itself.
///
/// # Errors
/// No such device, a driver that is not there, a build without that way.
pub fn open(kind: DeviceKind) -> Result<Option<Box<dyn Device<f32>>>, DeviceError> {
    match kind.backend {
        Backend::Cpu => Ok(None),
        Backend::Cuda => cuda::open(kind).map(Some),
        Backend::Vulkan | Backend::Metal | Backend::Dx12 => wgpu::open(kind).map(Some),
    }
}

/// Opens a device for the whole process, before anything is computed; returns its name, `None` for the processor itself.
///
/// # Errors
/// As [`open`]; another device that was chosen before.
pub fn choose(kind: DeviceKind) -> Result<Option<&'static dyn Device<f32>>, DeviceError> {
    if let Some(device) = open(kind)? {
        use_device(device).map_err(|refused| DeviceError {
            device: refused.name().to_owned(),
            problem: "another device was chosen before; one serves the whole process".to_owned(),
        })?;
    }
    Ok(lorascope_kernels::device())
}
