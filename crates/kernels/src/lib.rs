//! The arithmetic of lorascope: packed matrix products, norms, rotary embedding, softmax, activations.
//!
//! Every operation is generic over [`Real`] (f32 for work, f64 for checks) and is written once, in plain Rust
//! that the compiler vectorises; [`vectorised!`] compiles the same body for AVX-512, AVX2 and the baseline and
//! chooses at run time. There are no intrinsics.
//!
//! Two promises that the rest of lorascope builds on:
//!
//! * **Row independence.** What an operation computes for a row depends on that row alone, bit for bit: not on
//!   how many rows are in the batch, on their order, or on the number of threads. So a patched row that equals
//!   its source gives exactly the source's result, and a resumed run gives the same bytes.
//! * **No hidden state.** Nothing here allocates caches or knows about models. The one thing that belongs to the process, besides
//!   the pool of threads, is the device that large products may go to ([`use_device`]).

#[macro_use]
mod dispatch;
mod activation;
mod device;
mod dot;
mod elementwise;
mod matmul;
mod matrix;
mod norm;
mod packed;
mod real;
mod rotary;
mod softmax;
mod tile;

pub use activation::{
    Activation, activate, activate_backward, activate_gated, activate_gated_backward, softcap,
    softcap_backward,
};
pub use device::{
    Device, DeviceError, Placed, PlacedUpdate, Update, device, device_failure, product_elsewhere, use_device,
};
pub use dispatch::{Isa, isa};
pub use dot::dot_ordered;
pub use elementwise::{add_assign, add_row, add_scaled_assign, all_finite, dot, hadamard_rows, scale_assign};
pub use matmul::{Write, matmul, matmul_inner, matmul_transposed};
pub use matrix::{MatMut, MatRef};
pub use norm::{layer_norm, norm_backward, norm_scale_backward, rms_norm};
pub use packed::{PANEL, Packed};
pub use real::Real;
pub use rotary::{rotate_half, rotate_half_back};
pub use softmax::{LogSumExp, Weights, softmax_backward, softmax_masked};
