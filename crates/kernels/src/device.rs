//! Another processor for large products: a graphics card that holds weights and multiplies by them.
//!
//! There is one for the whole process, chosen before anything is computed, as there is one pool of threads. What it computes is
//! an operation of this crate done elsewhere: products follow the same order of additions and keep rows independent, so a device
//! whose multiply-add rounds once gives the same bits ([`Device::is_exact`]).

use crate::{MatMut, MatRef, Packed, Real};
use std::any::Any;
use std::fmt::{Debug, Display};
use std::ops::Range;
use std::sync::{Mutex, OnceLock, PoisonError};

/// Floating-point operations below which the way to a device and back takes longer than the product here.
const WORTH_THE_WAY: usize = 100_000_000;

/// Operations for each byte that goes there and back below which moving it takes longer. It keeps low-rank factors here.
const WORTH_A_BYTE: usize = 32;

/// A device that can hold weight matrices.
pub trait Device<R>: Send + Sync + Debug {
    /// What it is, for people: make, driver, how it is reached.
    fn name(&self) -> &str;
    /// Whether its products have the bits of this processor's.
    fn is_exact(&self) -> bool;
    /// A copy of the matrix in the device's memory.
    ///
    /// # Errors
    /// No room, or a device that does not answer.
    fn place(&self, w: &Packed<R>) -> Result<Box<dyn Placed<R>>, DeviceError>;
}

/// A weight matrix in a device's memory, which it leaves when this is dropped.
pub trait Placed<R>: Any + Send + Sync + Debug {
    /// What [`crate::matmul_inner`] writes with [`crate::Write::Set`], and to some rows of it what low-rank updates add.
    ///
    /// # Errors
    /// A device that does not answer; `out` is arbitrary then.
    fn product(
        &self,
        out: &mut MatMut<R>,
        x: MatRef<R>,
        inner: Range<usize>,
        updates: &[PlacedUpdate<R>],
    ) -> Result<(), DeviceError>;
}

/// A low-rank update of some rows of a product: `out += b · (scale · (factor · (a · x)))`, rounded after each step. No two updates of
/// a product have a row in common, and none has a rank above 256, up to which the second product is one sum.
#[derive(Clone, Debug)]
pub struct Update<'a, R> {
    /// Rows of the product.
    pub rows: Range<usize>,
    /// `[rank, n_in]`.
    pub a: &'a Packed<R>,
    /// `[n_out, rank]`.
    pub b: &'a Packed<R>,
    /// What the features `a · x` are multiplied by first,
    pub factor: R,
    /// and then.
    pub scale: R,
}

impl<'a, R: Real> Update<'a, R> {
    fn placed_on(&self, device: &dyn Device<R>) -> Result<PlacedUpdate<'a, R>, DeviceError> {
        let Self { ref rows, a, b, factor, scale } = *self;
        Ok(PlacedUpdate {
            rows: rows.clone(),
            a: a.placed_on(device)?,
            b: b.placed_on(device)?,
            factor,
            scale,
        })
    }
}

/// [`Update`] on the device that the product is computed on.
#[derive(Clone, Debug)]
pub struct PlacedUpdate<'a, R> {
    /// Rows of the product.
    pub rows: Range<usize>,
    /// `[rank, n_in]`.
    pub a: &'a dyn Placed<R>,
    /// `[n_out, rank]`.
    pub b: &'a dyn Placed<R>,
    /// What the features are multiplied by first,
    pub factor: R,
    /// and then.
    pub scale: R,
}

/// What a device can't do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceError {
    /// The device, by name.
    pub device: String,
    /// What happened, and what to do.
    pub problem: String,
}

impl Display for DeviceError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.device, self.problem)
    }
}

impl std::error::Error for DeviceError {}

static CHOSEN: OnceLock<Box<dyn Device<f32>>> = OnceLock::new();
static FAILURE: Mutex<Option<DeviceError>> = Mutex::new(None);

/// From now on, for the life of the process, large products with weights that are [`Packed::on_device`] go to this device. Gives it
/// back where another was chosen before.
///
/// # Errors
/// The device, if there is one already.
pub fn use_device(device: Box<dyn Device<f32>>) -> Result<(), Box<dyn Device<f32>>> {
    CHOSEN.set(device)
}

/// The device in use.
pub fn device() -> Option<&'static dyn Device<f32>> {
    CHOSEN.get().map(Box::as_ref)
}

/// The first thing that went wrong with the device since this was asked last. The product that failed was computed here, so
/// results are whole; but whoever chose the device should hear of it.
pub fn device_failure() -> Option<DeviceError> {
    // Without a device there is nothing to look at, and this is asked for every layer.
    CHOSEN.get()?;
    FAILURE.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// `out = x · wᵀ` with low-rank updates of some rows, by the device, if there is one, the weights may lie there and it is worth the way.
/// Returns whether it was done; else `out` is arbitrary. The bits are those of [`crate::matmul`], once for `w` and twice for each
/// update, on an exact device.
pub fn product_elsewhere<R: Real>(
    out: &mut MatMut<R>,
    x: MatRef<R>,
    w: &Packed<R>,
    updates: &[Update<R>],
) -> bool {
    inner_elsewhere(out, x, w, &(0..w.n_in()), updates)
}

/// [`product_elsewhere`] over a part of the inner dimension.
pub(crate) fn inner_elsewhere<R: Real>(
    out: &mut MatMut<R>,
    x: MatRef<R>,
    w: &Packed<R>,
    inner: &Range<usize>,
    updates: &[Update<R>],
) -> bool {
    let Some(device) = R::device() else { return false };
    let operations = 2 * x.rows * inner.len() * w.n_out();
    let bytes = x.rows * (inner.len() + w.n_out()) * size_of::<R>();
    if !w.may_be_placed() || operations < WORTH_THE_WAY.max(WORTH_A_BYTE * bytes) {
        return false;
    }
    let placed: Result<Vec<PlacedUpdate<R>>, DeviceError> =
        updates.iter().map(|u| u.placed_on(device)).collect();
    placed
        .and_then(|updates| w.placed_on(device)?.product(out, x, inner.clone(), &updates))
        .map_err(|error| {
            FAILURE.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error);
        })
        .is_ok()
}
