//! Does a device compute what the processor computes, and how fast?

use lorascope_kernels::{Device, DeviceError, MatMut, MatRef, Packed, Write, matmul_inner};
use std::time::Instant;

/// A product: `[rows, n_in]` times the transpose of `[n_out, n_in]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows.
    pub rows: usize,
    /// Inner dimension.
    pub n_in: usize,
    /// Outputs.
    pub n_out: usize,
}

/// How a device's product stands to the processor's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Parity {
    /// Elements whose bits differ.
    pub different: usize,
    /// Elements in all.
    pub elements: usize,
    /// The largest difference, in units of the largest output.
    pub largest: f64,
}

/// Seconds for one product, there and back, by the device and by the processor with the present pool of threads: the best of
/// several each.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// The device.
    pub device: f64,
    /// The processor.
    pub processor: f64,
}

impl Shape {
    /// Floating-point operations.
    pub fn operations(&self) -> f64 {
        2.0 * self.rows as f64 * self.n_in as f64 * self.n_out as f64
    }
}

/// Holds a device's product against the processor's, on numbers made from a seed; over inputs `skip..` only, as shares of
/// heads need it.
///
/// # Errors
/// A device that does not answer.
pub fn parity(device: &dyn Device<f32>, shape: Shape, skip: usize) -> Result<Parity, DeviceError> {
    let Shape { rows, n_in, n_out } = shape;
    let inner = skip.min(n_in)..n_in;
    let (x, w) = (noise(rows * inner.len(), 1), noise(n_out * n_in, 2));
    let w = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
    let (mut there, mut here) = (vec![f32::NAN; rows * n_out], vec![f32::NAN; rows * n_out]);
    let x = MatRef::new(&x, rows, inner.len());
    device.place(&w)?.product(&mut MatMut::new(&mut there, rows, n_out), x, inner.clone(), &[])?;
    matmul_inner(MatMut::new(&mut here, rows, n_out), x, &w, inner, Write::Set);
    let pairs = || there.iter().zip(&here);
    let scale = here.iter().fold(0.0f64, |most, v| most.max(f64::from(v.abs()))).max(f64::MIN_POSITIVE);
    // A number that is none counts as infinitely far.
    let distance = |(&a, &b): (&f32, &f32)| match f64::from((a - b).abs()) {
        d if d.is_nan() => f64::INFINITY,
        d => d / scale,
    };
    Ok(Parity {
        different: pairs().filter(|(a, b)| a.to_bits() != b.to_bits()).count(),
        elements: here.len(),
        largest: pairs().map(distance).fold(0.0, f64::max),
    })
}

/// Whether products have the processor's bits, tried on one that is sensitive to how multiply-adds round.
///
/// # Errors
/// A device that does not answer, or whose products are wrong.
pub(crate) fn is_exact(device: &dyn Device<f32>) -> Result<bool, DeviceError> {
    /// Far above what roundings differ by, far below what a wrong product does.
    const WRONG: f64 = 1e-4;
    let found = parity(device, Shape { rows: 70, n_in: 300, n_out: 150 }, 0)?;
    if found.largest > WRONG {
        let problem = format!(
            "it multiplies wrongly (off by {:.1e} of the largest output); please report this with the device's name and driver",
            found.largest
        );
        return Err(DeviceError { device: device.name().to_owned(), problem });
    }
    Ok(found.different == 0)
}

/// Times a product on both.
///
/// # Errors
/// A device that does not answer.
pub fn speed(device: &dyn Device<f32>, shape: Shape) -> Result<Speed, DeviceError> {
    const TIMES: usize = 5;
    let Shape { rows, n_in, n_out } = shape;
    let (x, w) = (noise(rows * n_in, 1), noise(n_out * n_in, 2));
    let w = Packed::from_output_rows(MatRef::new(&w, n_out, n_in));
    let x = MatRef::new(&x, rows, n_in);
    let placed = device.place(&w)?;
    let mut out = vec![0.0; rows * n_out];
    let (mut there, mut here) = (f64::INFINITY, f64::INFINITY);
    for _ in 0..TIMES {
        let begun = Instant::now();
        placed.product(&mut MatMut::new(&mut out, rows, n_out), x, 0..n_in, &[])?;
        there = there.min(begun.elapsed().as_secs_f64());
        let begun = Instant::now();
        matmul_inner(MatMut::new(&mut out, rows, n_out), x, &w, 0..n_in, Write::Set);
        here = here.min(begun.elapsed().as_secs_f64());
    }
    Ok(Speed { device: there, processor: here })
}

/// Numbers between -1/2 and 1/2 that look random (xorshift).
pub fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..n).map(|_| next()).collect()
}
