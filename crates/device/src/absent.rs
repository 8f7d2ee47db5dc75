//! In place of a way to reach devices that this build is without.

use crate::Found;
use crate::kind::DeviceKind;
use lorascope_kernels::{Device, DeviceError};

pub(crate) fn available() -> Vec<Found> {
    Vec::new()
}

pub(crate) fn open(kind: DeviceKind) -> Result<Box<dyn Device<f32>>, DeviceError> {
    let problem = "this build of lorascope leaves it out; build with its default features".to_owned();
    Err(DeviceError { device: kind.to_string(), problem })
}
