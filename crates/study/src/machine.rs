//! What of the machine the process uses: threads, and the device for large products.

use anyhow::{Context as _, Result};
pub use lorascope_device::{DeviceKind, Found, Shape, available, open, parity, speed};
use lorascope_kernels::{Device, Isa, isa};

/// Sets the number of threads of all arithmetic; returns it.
///
/// # Errors
/// Threads that can't be started, or that were started already.
pub fn set_threads(threads: Option<u16>) -> Result<usize> {
    if let Some(n) = threads {
        rayon::ThreadPoolBuilder::new().num_threads(n.into()).build_global().context("starting threads")?;
    }
    Ok(rayon::current_num_threads())
}

/// Runs something on one of the threads that [`set_threads`] started. Each piece of arithmetic that is called from outside wakes one of them
/// and waits for it, which on many small pieces takes as long as on large ones.
pub fn on_own_threads<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    rayon::scope(|_| work())
}

/// Chooses the device for large products, for the life of the process; `None` where that is the processor.
///
/// # Errors
/// A device that can't be opened; another one chosen before.
pub fn choose_device(kind: DeviceKind) -> Result<Option<&'static dyn Device<f32>>> {
    let chosen = lorascope_device::choose(kind);
    chosen.map_err(|error| anyhow::anyhow!("device {error}"))
}

/// What two machines must have in common to give the same bytes, besides the run's identity: the kind of processor, and whether it
/// multiplies and adds in one rounding.
pub fn processor() -> String {
    let fused = if isa() == Isa::Baseline { "" } else { ", fused multiply-add" };
    format!("{}{fused}", std::env::consts::ARCH)
}

/// The arithmetic in words, and whether its results have other bits than the processor's.
pub(crate) fn arithmetic() -> (String, bool) {
    let plain = "f32; adapters kept apart from the base, never merged";
    match lorascope_kernels::device() {
        None => (plain.to_owned(), false),
        Some(device) if device.is_exact() => {
            (format!("{plain}; large products on {}, with the processor's bits", device.name()), false)
        }
        Some(device) => {
            (format!("{plain}; large products on {}, whose multiply-adds round twice", device.name()), true)
        }
    }
}
