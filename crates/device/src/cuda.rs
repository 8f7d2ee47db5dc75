//! NVIDIA cards through their driver.
//!
//! The program for the card is PTX, made of `product.cu` and carried along: the driver translates it for its card, so nothing else of
//! CUDA need be installed. Multiply-adds round once there, so products have the processor's bits.

use crate::Found;
use crate::kind::{Backend, DeviceKind};
use crate::update::LowRank;
use crate::verify::is_exact;
use cudarc::driver::{
    CudaContext, CudaFunction, CudaSlice, CudaStream, CudaView, CudaViewMut, DriverError, LaunchConfig,
    PinnedHostSlice, PushKernelArg, sys,
};
use cudarc::nvrtc::Ptx;
use lorascope_kernels::{Device, DeviceError, MatMut, MatRef, Packed, Placed, PlacedUpdate};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError};

/// Rows and outputs that a block of `product.cu` computes, and its threads.
const TILE: usize = 128;
const THREADS: u32 = 256;
/// Rows that go to the card together: some are computed while others are on their way.
const ROWS_AT_ONCE: usize = 512;
/// How many such groups are under way.
const SLOTS: usize = 3;
/// Weights that are on their way at a time: 16 MiB.
const STAGED: usize = (16 << 20) / size_of::<f32>();
/// Numbers that a thread copies at a time.
const COPIED: usize = 1 << 16;

fn has_driver() -> bool {
    // SAFETY: it looks for the driver's library, whose start-up code is trusted as that of any library is.
    unsafe { sys::is_culib_present() }
}

/// Every card.
pub(crate) fn available() -> Vec<Found> {
    if !has_driver() {
        return Vec::new();
    }
    let n = CudaContext::device_count().unwrap_or(0);
    let describe = |index| {
        Some(Found {
            kind: DeviceKind { backend: Backend::Cuda, index },
            description: describe(&*CudaContext::new(index).ok()?).ok()?,
        })
    };
    (0..usize::try_from(n).unwrap_or(0)).filter_map(describe).collect()
}

fn describe(context: &CudaContext) -> Result<String, DriverError> {
    let (major, minor) = context.compute_capability()?;
    let gigabytes = context.total_mem()? as f64 / f64::from(1 << 30);
    Ok(format!("{} (cuda, compute capability {major}.{minor}, {gigabytes:.0} GiB)", context.name()?))
}

/// Opens a card.
pub(crate) fn open(kind: DeviceKind) -> Result<Box<dyn Device<f32>>, DeviceError> {
    let failed = |problem: String| DeviceError { device: kind.to_string(), problem };
    if !has_driver() {
        return Err(failed(
            "NVIDIA's driver (libcuda) is not on this machine; install it, or choose another --device".into(),
        ));
    }
    let told = |e: DriverError| failed(format!("it can't be opened: {e}"));
    let context = CudaContext::new(kind.index).map_err(told)?;
    // Each slot has a stream of its own, on which its own work is in order; nothing is shared between streams but weights, which are
    // there before the first product.
    // SAFETY: no slice is used on two streams at a time.
    unsafe { context.disable_event_tracking() };
    let name = describe(&context).map_err(told)?;
    let module = context.load_module(Ptx::from_src(include_str!("product.ptx"))).map_err(told)?;
    let product = module.load_function("product").map_err(told)?;
    let scale = module.load_function("scale").map_err(told)?;
    let stream = || context.new_stream().map_err(told);
    let streams = [stream()?, stream()?];
    // SAFETY: what is read of each buffer has been written before.
    let pinned = || {
        unsafe { context.alloc_pinned_with_flags(STAGED, sys::CU_MEMHOSTALLOC_WRITECOMBINED) }.map_err(told)
    };
    let staging = Mutex::new([pinned()?, pinned()?]);
    let shared = Arc::new(Shared {
        name,
        context: context.clone(),
        product,
        scale,
        streams,
        staging,
        slots: Mutex::default(),
    });
    let mut card = Card { is_exact: false, shared };
    card.is_exact = is_exact(&card)?;
    Ok(Box::new(card))
}

/// A card that was opened.
#[derive(Debug)]
struct Card {
    is_exact: bool,
    shared: Arc<Shared>,
}

/// What a card and the matrices on it share.
#[derive(Debug)]
struct Shared {
    name: String,
    context: Arc<CudaContext>,
    product: CudaFunction,
    scale: CudaFunction,
    /// On which weights come, and by way of what.
    streams: [Arc<CudaStream>; 2],
    staging: Mutex<[PinnedHostSlice<f32>; 2]>,
    /// Buffers of products that are over. One product at a time takes them.
    slots: Mutex<[Option<Slot>; SLOTS]>,
}

impl Shared {
    fn failed(&self, doing: &str, error: DriverError) -> DeviceError {
        let hint = match error.0 {
            sys::CUresult::CUDA_ERROR_OUT_OF_MEMORY => {
                "; give a smaller --memory, so that layers come and go, or leave --device out"
            }
            _ => "",
        };
        DeviceError { device: self.name.clone(), problem: format!("{doing}: {error}{hint}") }
    }
}

impl Device<f32> for Card {
    fn name(&self) -> &str {
        &self.shared.name
    }
    fn is_exact(&self) -> bool {
        self.is_exact
    }
    fn place(&self, w: &Packed<f32>) -> Result<Box<dyn Placed<f32>>, DeviceError> {
        let failed = |e| self.shared.failed("placing weights", e);
        let panels = upload(&self.shared, w).map_err(failed)?;
        Ok(Box::new(Matrix { panels, n_in: w.n_in(), n_out: w.n_out(), shared: self.shared.clone() }))
    }
}

/// Copies weights by way of two pinned buffers, of which one is filled while the other is on its way.
fn upload(shared: &Shared, w: &Packed<f32>) -> Result<CudaSlice<f32>, DriverError> {
    let numbers = w.numbers();
    let mut staging = shared.staging.lock().unwrap_or_else(PoisonError::into_inner);
    // SAFETY: every number is written below, before anything reads it.
    let mut panels = unsafe { shared.streams[0].alloc::<f32>(numbers.len()) }?;
    shared.streams[0].synchronize()?;
    for (i, part) in numbers.chunks(STAGED).enumerate() {
        let (stream, buffer) = (&shared.streams[i % 2], &mut staging[i % 2]);
        stream.synchronize()?;
        let buffer = &mut buffer.as_mut_slice()?[..part.len()];
        buffer
            .par_chunks_mut(COPIED)
            .zip(part.par_chunks(COPIED))
            .for_each(|(to, from)| to.copy_from_slice(from));
        let at = i * STAGED;
        stream.memcpy_htod(&*buffer, &mut panels.slice_mut(at..at + part.len()))?;
    }
    shared.streams.iter().try_for_each(|stream| stream.synchronize())?;
    Ok(panels)
}

/// A weight matrix on the card.
#[derive(Debug)]
struct Matrix {
    panels: CudaSlice<f32>,
    n_in: usize,
    n_out: usize,
    shared: Arc<Shared>,
}

/// Buffers for some rows of a product on their way, on both sides.
#[derive(Debug)]
struct Slot {
    stream: Arc<CudaStream>,
    x_here: PinnedHostSlice<f32>,
    out_here: PinnedHostSlice<f32>,
    x_there: CudaSlice<f32>,
    out_there: CudaSlice<f32>,
    /// Of low-rank updates.
    features: CudaSlice<f32>,
}

impl Placed<f32> for Matrix {
    fn product(
        &self,
        out: &mut MatMut<f32>,
        x: MatRef<f32>,
        inner: Range<usize>,
        updates: &[PlacedUpdate<f32>],
    ) -> Result<(), DeviceError> {
        assert!(inner.end <= self.n_in && inner.len() == x.cols() && self.n_out == out.cols());
        if inner.is_empty() {
            out.rows_mut(0..x.rows()).for_each(|row| row.fill(0.0));
            return Ok(());
        }
        let updates: Vec<LowRank<Matrix>> = updates.iter().map(LowRank::of).collect();
        let task = Task { w: self, x, inner, updates };
        let mut slots = self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let done = task.pipeline(&mut slots, out);
        if done.is_err() {
            // Whatever was under way is given up with its buffers.
            *slots = Default::default();
        }
        done.map_err(|e| self.shared.failed("multiplying", e))
    }
}

/// A product to be computed.
struct Task<'a> {
    w: &'a Matrix,
    x: MatRef<'a, f32>,
    inner: Range<usize>,
    updates: Vec<LowRank<'a, Matrix>>,
}

impl Task<'_> {
    /// Sends rows group by group, each in the slot of the group three before it, once that has come back.
    fn pipeline(&self, slots: &mut [Option<Slot>; SLOTS], out: &mut MatMut<f32>) -> Result<(), DriverError> {
        let n_rows = self.x.rows();
        let group = |n: usize| n * ROWS_AT_ONCE..n_rows.min((n + 1) * ROWS_AT_ONCE);
        let n_groups = n_rows.div_ceil(ROWS_AT_ONCE);
        let sizes = self.sizes(n_rows.min(ROWS_AT_ONCE));
        for n in 0..n_groups + SLOTS {
            let place = &mut slots[n % SLOTS];
            if let (Some(slot), Some(before)) =
                (place.as_mut(), n.checked_sub(SLOTS).filter(|&b| b < n_groups))
            {
                slot.collect(self.w.n_out, group(before), out)?;
            }
            if n < n_groups {
                let slot = match place.take() {
                    Some(slot) if slot.holds(&sizes) => slot,
                    old => Slot::new(&self.w.shared.context, &sizes, old)?,
                };
                self.send(place.insert(slot), group(n))?;
            }
        }
        Ok(())
    }

    /// Numbers of x, of outputs, and of features that a group of rows has.
    fn sizes(&self, rows: usize) -> [usize; 3] {
        let rank = self.updates.iter().map(|u| u.a.n_out).max().unwrap_or(0);
        [self.inner.len(), self.w.n_out, rank].map(|cols| rows * cols)
    }

    /// Sends rows on their way: to the card, through the products, and back.
    fn send(&self, slot: &mut Slot, rows: Range<usize>) -> Result<(), DriverError> {
        let (n_k, n_out) = (self.inner.len(), self.w.n_out);
        let Slot { stream, x_here, out_here, x_there, out_there, features } = slot;
        let staged = &mut x_here.as_mut_slice()?[..rows.len() * n_k];
        staged.par_chunks_mut(n_k).with_min_len(16).enumerate().for_each(|(i, to)| {
            to.copy_from_slice(self.x.row(rows.start + i));
        });
        // Nobody touches the pinned buffers until `collect` has waited for the stream.
        stream.memcpy_htod(&*staged, &mut x_there.slice_mut(..staged.len()))?;
        self.w.launch(
            stream,
            &x_there.as_view(),
            &mut out_there.as_view_mut(),
            rows.len(),
            &self.inner,
            false,
        )?;
        for update in &self.updates {
            let own = update.within(&rows);
            if own.is_empty() {
                continue;
            }
            let rank = update.a.n_out;
            let x = x_there.slice(own.start * n_k..own.end * n_k);
            let mut out = out_there.slice_mut(own.start * n_out..own.end * n_out);
            update.a.launch(stream, &x, &mut features.as_view_mut(), own.len(), &(0..n_k), false)?;
            self.w.shared.launch_scale(stream, features, own.len() * rank, update.factor, update.scale)?;
            update.b.launch(stream, &features.as_view(), &mut out, own.len(), &(0..rank), true)?;
        }
        let n = rows.len() * n_out;
        stream.memcpy_dtoh(&out_there.slice(..n), &mut out_here.as_mut_slice()?[..n])
    }
}

impl Matrix {
    fn launch(
        &self,
        stream: &CudaStream,
        x: &CudaView<f32>,
        out: &mut CudaViewMut<f32>,
        rows: usize,
        inner: &Range<usize>,
        adds: bool,
    ) -> Result<(), DriverError> {
        let numbers =
            [rows, inner.len(), self.n_in, inner.start, self.n_out, usize::from(adds)].map(|n| n as i32);
        let tiles = |n: usize| n.div_ceil(TILE) as u32;
        let config = LaunchConfig {
            grid_dim: (tiles(self.n_out), tiles(rows), 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let mut launch = stream.launch_builder(&self.shared.product);
        launch.arg(x).arg(&self.panels).arg(out);
        numbers.iter().for_each(|n| {
            launch.arg(n);
        });
        // SAFETY: the arguments are those of `product` in product.cu, and the buffers hold what the numbers say.
        unsafe { launch.launch(config) }.map(drop)
    }
}

impl Shared {
    fn launch_scale(
        &self,
        stream: &CudaStream,
        features: &mut CudaSlice<f32>,
        n: usize,
        factor: f32,
        scale: f32,
    ) -> Result<(), DriverError> {
        let config = LaunchConfig {
            grid_dim: (n.div_ceil(THREADS as usize) as u32, 1, 1),
            block_dim: (THREADS, 1, 1),
            shared_mem_bytes: 0,
        };
        let n = n as i32;
        let mut launch = stream.launch_builder(&self.scale);
        launch.arg(features).arg(&n).arg(&factor).arg(&scale);
        // SAFETY: the arguments are those of `scale` in product.cu, and there are `n` features.
        unsafe { launch.launch(config) }.map(drop)
    }
}

impl Slot {
    /// Waits for rows and puts them where they belong.
    fn collect(
        &mut self,
        n_out: usize,
        rows: Range<usize>,
        out: &mut MatMut<f32>,
    ) -> Result<(), DriverError> {
        self.stream.synchronize()?;
        let values = &self.out_here.as_slice()?[..rows.len() * n_out];
        let mut targets: Vec<&mut [f32]> = out.rows_mut(rows).collect();
        targets.par_iter_mut().zip(values.par_chunks(n_out)).with_min_len(16).for_each(|(row, values)| {
            row.copy_from_slice(values);
        });
        Ok(())
    }

    fn sizes(&self) -> [usize; 3] {
        [self.x_here.len(), self.out_here.len(), self.features.len()]
    }

    fn holds(&self, sizes: &[usize; 3]) -> bool {
        self.sizes().iter().zip(sizes).all(|(own, wanted)| own >= wanted)
    }

    /// Buffers for at least so many numbers of x, of outputs and of features, and for those of the slot that they replace.
    fn new(context: &Arc<CudaContext>, sizes: &[usize; 3], old: Option<Self>) -> Result<Self, DriverError> {
        let old = old.map_or([0; 3], |old| old.sizes());
        let [n_x, n_out, n_features] = std::array::from_fn(|i| sizes[i].max(old[i]).max(1));
        let stream = context.new_stream()?;
        // SAFETY: what is read of each buffer has been written before: the numbers of the rows under way.
        unsafe {
            Ok(Self {
                x_here: context.alloc_pinned_with_flags(n_x, sys::CU_MEMHOSTALLOC_WRITECOMBINED)?,
                out_here: context.alloc_pinned_with_flags(n_out, 0)?,
                x_there: stream.alloc(n_x)?,
                out_there: stream.alloc(n_out)?,
                features: stream.alloc(n_features)?,
                stream,
            })
        }
    }
}
