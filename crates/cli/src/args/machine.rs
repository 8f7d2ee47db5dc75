//! What of the machine a run may use.

use anyhow::Result;
use clap::Args;
use lorascope_study::machine::{DeviceKind, choose_device, set_threads};
use lorascope_study::names::parse_size;

/// Memory, threads, and the device for large products.
#[derive(Args, Debug, Clone)]
pub struct MachineArgs {
    /// Memory for packed weights, e.g. 3GiB; with less, weights are packed anew in every sweep. Training takes half of it again
    #[arg(long, value_name = "SIZE", value_parser = parse_size, default_value = "3GiB")]
    pub memory: usize,
    /// Threads (default: all cores)
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub threads: Option<u16>,
    /// Who does the large products: cpu, cuda, vulkan, metal or dx12, with a number where there are several (cuda:1); `lorascope
    /// devices` lists them
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceKind::default())]
    pub device: DeviceKind,
}

impl MachineArgs {
    /// Takes the threads and the device, before anything is computed; returns the number of threads.
    ///
    /// # Errors
    /// Threads that can't be started, a device that can't be opened.
    pub fn take(&self) -> Result<usize> {
        let threads = set_threads(self.threads)?;
        if let Some(device) = choose_device(self.device)? {
            eprintln!("large products on {}", device.name());
            if !device.is_exact() {
                eprintln!(
                    "its multiply-adds round twice: results differ from the processor's in their last digits"
                );
            }
        }
        Ok(threads)
    }
}
