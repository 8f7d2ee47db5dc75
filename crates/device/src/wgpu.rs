//! Cards that Vulkan, Metal or Direct3D 12 reach, through wgpu.

use crate::Found;
use crate::kind::{Backend, DeviceKind};
use crate::update::LowRank;
use crate::verify::is_exact;
use lorascope_kernels::{Device, DeviceError, MatMut, MatRef, Packed, Placed, PlacedUpdate};
use rayon::prelude::*;
use std::ops::Range;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use wgpu::util::DeviceExt;
use wgpu::{BufferUsages, PollType};

/// Rows and outputs that a workgroup of `product.wgsl` computes.
const TILE: usize = 128;
/// Rows that go to the device together: some are computed while others are on their way.
const ROWS_AT_ONCE: usize = 1024;
/// How many such groups are under way.
const SLOTS: usize = 3;

fn backends(backend: Backend) -> wgpu::Backends {
    match backend {
        Backend::Vulkan => wgpu::Backends::VULKAN,
        Backend::Metal => wgpu::Backends::METAL,
        Backend::Dx12 => wgpu::Backends::DX12,
        Backend::Cpu | Backend::Cuda => wgpu::Backends::empty(),
    }
}

fn adapters(backend: Backend) -> Vec<wgpu::Adapter> {
    let backends = backends(backend);
    let mut descriptor = wgpu::InstanceDescriptor::new_without_display_handle();
    descriptor.backends = backends;
    pollster::block_on(wgpu::Instance::new(descriptor).enumerate_adapters(backends))
}

fn describe(adapter: &wgpu::Adapter) -> String {
    let info = adapter.get_info();
    let driver = [info.driver, info.driver_info].join(" ");
    format!("{} ({}, {})", info.name, info.backend, driver.trim())
}

/// Every card, by every way.
pub(crate) fn available() -> Vec<Found> {
    let of = |backend| {
        let numbered = adapters(backend).into_iter().enumerate();
        numbered.map(move |(index, adapter)| Found {
            kind: DeviceKind { backend, index },
            description: describe(&adapter),
        })
    };
    [Backend::Vulkan, Backend::Metal, Backend::Dx12].into_iter().flat_map(of).collect()
}

/// Opens a card.
pub(crate) fn open(kind: DeviceKind) -> Result<Box<dyn Device<f32>>, DeviceError> {
    let failed = |problem: String| DeviceError { device: kind.to_string(), problem };
    let adapters = adapters(kind.backend);
    let n = adapters.len();
    let adapter = adapters.into_iter().nth(kind.index).ok_or_else(|| {
        failed(format!("there are {n} such devices; `lorascope devices` lists those that can be reached"))
    })?;
    let name = describe(&adapter);
    let descriptor = wgpu::DeviceDescriptor {
        label: Some("lorascope"),
        required_limits: adapter.limits(),
        memory_hints: wgpu::MemoryHints::Performance,
        ..Default::default()
    };
    let opened = pollster::block_on(adapter.request_device(&descriptor));
    let (device, queue) = opened.map_err(|e| failed(format!("it can't be opened: {e}")))?;
    let errors = Errors { device: name.clone(), first: Arc::default() };
    let first = errors.first.clone();
    device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
        first.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(error.to_string());
    }));
    let product = pipeline(&device, wgpu::include_wgsl!("product.wgsl"));
    let scale = pipeline(&device, wgpu::include_wgsl!("scale.wgsl"));
    errors.check()?;
    let shared = Arc::new(Shared { device, queue, product, scale, errors, slots: Mutex::default() });
    let mut card = Card { name, is_exact: false, shared };
    card.is_exact = is_exact(&card)?;
    Ok(Box::new(card))
}

/// A pipeline of a shader with one entry point.
fn pipeline(device: &wgpu::Device, shader: wgpu::ShaderModuleDescriptor) -> wgpu::ComputePipeline {
    let module = device.create_shader_module(shader);
    device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: None,
        layout: None,
        module: &module,
        entry_point: None,
        compilation_options: wgpu::PipelineCompilationOptions {
            // Every element of the tiles is written before it is read.
            zero_initialize_workgroup_memory: false,
            ..Default::default()
        },
        cache: None,
    })
}

/// A card that was opened.
#[derive(Debug)]
struct Card {
    name: String,
    is_exact: bool,
    shared: Arc<Shared>,
}

/// What a card and the matrices on it share.
#[derive(Debug)]
struct Shared {
    device: wgpu::Device,
    queue: wgpu::Queue,
    product: wgpu::ComputePipeline,
    scale: wgpu::ComputePipeline,
    errors: Errors,
    /// Buffers of products that are over. One product at a time takes them.
    slots: Mutex<[Option<Slot>; SLOTS]>,
}

/// The first thing that wgpu reported: it does so on the side.
#[derive(Debug)]
struct Errors {
    device: String,
    first: Arc<Mutex<Option<String>>>,
}

impl Errors {
    fn check(&self) -> Result<(), DeviceError> {
        match self.first.lock().unwrap_or_else(PoisonError::into_inner).take() {
            None => Ok(()),
            Some(problem) => Err(self.failed(problem)),
        }
    }
    fn failed(&self, problem: String) -> DeviceError {
        DeviceError { device: self.device.clone(), problem }
    }
}

impl Device<f32> for Card {
    fn name(&self) -> &str {
        &self.name
    }
    fn is_exact(&self) -> bool {
        self.is_exact
    }
    fn place(&self, w: &Packed<f32>) -> Result<Box<dyn Placed<f32>>, DeviceError> {
        let (shared, bytes) = (self.shared.clone(), w.n_bytes().max(size_of::<[f32; 4]>()) as u64);
        let limit = shared.device.limits().max_storage_buffer_binding_size;
        if bytes > limit {
            let problem = format!(
                "a weight matrix takes {bytes} bytes, and it takes {limit} at most; leave --device out"
            );
            return Err(shared.errors.failed(problem));
        }
        let panels = shared.device.create_buffer(&wgpu::BufferDescriptor {
            label: Some("weights"),
            size: bytes,
            usage: BufferUsages::STORAGE | BufferUsages::COPY_DST,
            mapped_at_creation: false,
        });
        shared.errors.check()?;
        let mut at = 0;
        for part in w.numbers().chunks(STAGED) {
            shared.queue.write_buffer(&panels, at, bytemuck::cast_slice(part));
            // What was written so far sets out, lest copies of all weights wait in the host's memory.
            shared.queue.submit([]);
            at += size_of_val(part) as u64;
        }
        shared.errors.check()?;
        Ok(Box::new(Matrix { panels, n_in: w.n_in(), n_out: w.n_out(), shared }))
    }
}

/// Weights that are copied at a time: 16 MiB.
const STAGED: usize = (16 << 20) / size_of::<f32>();

/// A weight matrix on the card.
#[derive(Debug)]
struct Matrix {
    panels: wgpu::Buffer,
    n_in: usize,
    n_out: usize,
    shared: Arc<Shared>,
}

/// Buffers for some rows of a product on their way.
#[derive(Debug)]
struct Slot {
    x: wgpu::Buffer,
    out: wgpu::Buffer,
    back: wgpu::Buffer,
    /// Of low-rank updates.
    features: wgpu::Buffer,
}

/// Rows of a product under way.
struct UnderWay {
    slot: Slot,
    rows: Range<usize>,
    submission: wgpu::SubmissionIndex,
    mapped: mpsc::Receiver<Result<(), wgpu::BufferAsyncError>>,
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
        let updates: Vec<LowRank<Matrix>> = updates.iter().map(LowRank::of).collect();
        let task = Task { w: self, x, inner, updates };
        let mut slots = self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let mut under_way: [Option<UnderWay>; SLOTS] = Default::default();
        let n_groups = x.rows().div_ceil(ROWS_AT_ONCE);
        // Each group goes in the slot of the group three before it, once that has come back.
        for n in 0..n_groups + SLOTS {
            let place = n % SLOTS;
            if let Some(rows) = under_way[place].take() {
                slots[place] = Some(task.collect(rows, out)?);
            }
            if n < n_groups {
                let rows = n * ROWS_AT_ONCE..x.rows().min((n + 1) * ROWS_AT_ONCE);
                under_way[place] = Some(task.send(slots[place].take(), rows)?);
            }
        }
        Ok(())
    }
}

/// A product to be computed.
struct Task<'a> {
    w: &'a Matrix,
    x: MatRef<'a, f32>,
    inner: Range<usize>,
    updates: Vec<LowRank<'a, Matrix>>,
}

/// A matrix in a buffer: from which row on, of how many bytes in all.
#[derive(Clone, Copy)]
struct Part<'a> {
    buffer: &'a wgpu::Buffer,
    bytes: u64,
    row: usize,
}

/// Bytes of a buffer for so many numbers, which is never empty.
fn bytes(n: usize) -> u64 {
    (n * size_of::<f32>()).max(size_of::<[f32; 4]>()) as u64
}

impl Task<'_> {
    /// Sends rows on their way: to the card, through the products, and back.
    fn send(&self, slot: Option<Slot>, rows: Range<usize>) -> Result<UnderWay, DeviceError> {
        let Shared { device, queue, errors, .. } = self.w.shared.as_ref();
        let rank = self.updates.iter().map(|u| u.a.n_out).max().unwrap_or(0);
        let sizes = [self.inner.len(), self.w.n_out, rank].map(|cols| bytes(rows.len() * cols));
        let slot = match slot {
            Some(slot) if slot.holds(&sizes) => slot,
            old => Slot::new(device, &sizes, old),
        };
        match self.x.contiguous(rows.clone()) {
            Some(x) => queue.write_buffer(&slot.x, 0, bytemuck::cast_slice(x)),
            None => {
                let mut gathered = vec![0.0; rows.len() * self.inner.len()];
                let targets = gathered.chunks_mut(self.inner.len().max(1));
                targets.zip(rows.clone()).for_each(|(to, row)| to.copy_from_slice(self.x.row(row)));
                queue.write_buffer(&slot.x, 0, bytemuck::cast_slice(&gathered));
            }
        }
        let mut encoder = device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
            let x = Part { buffer: &slot.x, bytes: sizes[0], row: 0 };
            let out = Part { buffer: &slot.out, bytes: sizes[1], row: 0 };
            self.w.encode(&mut pass, x, out, rows.len(), &self.inner, false);
            for update in &self.updates {
                let own = update.within(&rows);
                if own.is_empty() {
                    continue;
                }
                let (row, rank) = (own.start, update.a.n_out);
                let features = Part { buffer: &slot.features, bytes: bytes(own.len() * rank), row: 0 };
                update.a.encode(
                    &mut pass,
                    Part { row, ..x },
                    features,
                    own.len(),
                    &(0..update.a.n_in),
                    false,
                );
                self.w.shared.encode_scale(&mut pass, features, own.len() * rank, update);
                update.b.encode(&mut pass, features, Part { row, ..out }, own.len(), &(0..rank), true);
            }
        }
        encoder.copy_buffer_to_buffer(&slot.out, 0, &slot.back, 0, sizes[1]);
        let submission = queue.submit([encoder.finish()]);
        let (tell, mapped) = mpsc::channel();
        slot.back.map_async(wgpu::MapMode::Read, 0..sizes[1], move |outcome| {
            // Nobody listens any more where the product was given up.
            let _ = tell.send(outcome);
        });
        errors.check()?;
        Ok(UnderWay { slot, rows, submission, mapped })
    }

    /// Waits for rows and puts them where they belong.
    fn collect(&self, under_way: UnderWay, out: &mut MatMut<f32>) -> Result<Slot, DeviceError> {
        let UnderWay { slot, rows, submission, mapped } = under_way;
        let (Shared { device, errors, .. }, n_out) = (self.w.shared.as_ref(), self.w.n_out);
        let waited = device.poll(PollType::Wait { submission_index: Some(submission), timeout: None });
        errors.check()?;
        waited.map_err(|e| errors.failed(format!("a product did not end: {e}")))?;
        let lost = |problem: String| errors.failed(format!("a product did not come back: {problem}"));
        mapped.recv().map_err(|e| lost(e.to_string()))?.map_err(|e| lost(e.to_string()))?;
        let view =
            slot.back.get_mapped_range(0..bytes(rows.len() * n_out)).map_err(|e| lost(e.to_string()))?;
        let values: &[f32] = bytemuck::cast_slice(&view);
        let mut targets: Vec<&mut [f32]> = out.rows_mut(rows).collect();
        targets.par_iter_mut().zip(values.par_chunks(n_out)).with_min_len(16).for_each(|(row, values)| {
            row.copy_from_slice(values);
        });
        drop(view);
        slot.back.unmap();
        Ok(slot)
    }
}

impl Matrix {
    fn encode(
        &self,
        pass: &mut wgpu::ComputePass,
        x: Part,
        out: Part,
        rows: usize,
        inner: &Range<usize>,
        adds: bool,
    ) {
        let Shared { device, product, .. } = self.shared.as_ref();
        let shape =
            [rows, inner.len(), self.n_in, inner.start, self.n_out, x.row, out.row, usize::from(adds)];
        let shape = uniform(device, bytemuck::cast_slice(&shape.map(|n| n as u32)));
        let bound = device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &product.get_bind_group_layout(0),
            entries: &[
                entry(0, &shape, shape.size()),
                entry(1, x.buffer, x.bytes),
                entry(2, &self.panels, self.panels.size()),
                entry(3, out.buffer, out.bytes),
            ],
        });
        pass.set_pipeline(product);
        pass.set_bind_group(0, &bound, &[]);
        let groups = |n: usize| n.div_ceil(TILE) as u32;
        pass.dispatch_workgroups(groups(self.n_out), groups(rows), 1);
    }
}

impl Shared {
    fn encode_scale(&self, pass: &mut wgpu::ComputePass, features: Part, n: usize, update: &LowRank<Matrix>) {
        /// Threads of a workgroup of `scale.wgsl`.
        const THREADS: usize = 256;
        let scaling =
            [(n as u32).to_le_bytes(), update.factor.to_le_bytes(), update.scale.to_le_bytes(), [0; 4]];
        let scaling = uniform(&self.device, scaling.as_flattened());
        let bound = self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: None,
            layout: &self.scale.get_bind_group_layout(0),
            entries: &[entry(0, &scaling, scaling.size()), entry(1, features.buffer, features.bytes)],
        });
        pass.set_pipeline(&self.scale);
        pass.set_bind_group(0, &bound, &[]);
        pass.dispatch_workgroups(n.div_ceil(THREADS) as u32, 1, 1);
    }
}

impl Slot {
    fn sizes(&self) -> [u64; 3] {
        [&self.x, &self.out, &self.features].map(wgpu::Buffer::size)
    }

    fn holds(&self, sizes: &[u64; 3]) -> bool {
        self.sizes().iter().zip(sizes).all(|(own, wanted)| own >= wanted)
    }

    /// Buffers of at least these bytes for x, outputs and features, and of those of the slot that they replace.
    fn new(device: &wgpu::Device, sizes: &[u64; 3], old: Option<Self>) -> Self {
        let old = old.map_or([0; 3], |old| old.sizes());
        let [x, out, features] = std::array::from_fn(|i| sizes[i].max(old[i]));
        let buffer = |label, size, usage| {
            device.create_buffer(&wgpu::BufferDescriptor {
                label: Some(label),
                size,
                usage,
                mapped_at_creation: false,
            })
        };
        Self {
            x: buffer("x", x, BufferUsages::STORAGE | BufferUsages::COPY_DST),
            out: buffer("out", out, BufferUsages::STORAGE | BufferUsages::COPY_SRC),
            back: buffer("back", out, BufferUsages::MAP_READ | BufferUsages::COPY_DST),
            features: buffer("features", features, BufferUsages::STORAGE),
        }
    }
}

/// A small buffer that holds these bytes.
fn uniform(device: &wgpu::Device, contents: &[u8]) -> wgpu::Buffer {
    device.create_buffer_init(&wgpu::util::BufferInitDescriptor {
        label: None,
        contents,
        usage: BufferUsages::UNIFORM,
    })
}

/// The first bytes of a buffer under a number of the shader's.
fn entry(binding: u32, buffer: &wgpu::Buffer, bytes: u64) -> wgpu::BindGroupEntry<'_> {
    let size = std::num::NonZeroU64::new(bytes);
    let resource = wgpu::BindingResource::Buffer(wgpu::BufferBinding { buffer, offset: 0, size });
    wgpu::BindGroupEntry { binding, resource }
}
