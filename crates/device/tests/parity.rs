//! A device's products, bit for bit. Without a device (a software Vulkan is one) the test says that it was skipped.
//!
//! What bits are expected follows from the order of additions that lorascope-kernels promises, and from whether the device's multiply-add
//! rounds once (as the processor's) or twice.

#![allow(clippy::expect_used, reason = "a test stops at the first surprise")]

use lorascope_device::{Shape, available, noise, open};
use lorascope_kernels::{Device, MatMut, MatRef, Packed, Placed, PlacedUpdate};

/// Borders of tiles, of panels, of running sums and of blocks, and groups of rows under way at a time; and how many of the first
/// inputs are left out.
const SHAPES: [(Shape, usize); 7] = [
    (Shape { rows: 1, n_in: 1, n_out: 1 }, 0),
    (Shape { rows: 3, n_in: 31, n_out: 5 }, 0),
    (Shape { rows: 128, n_in: 256, n_out: 128 }, 0),
    (Shape { rows: 130, n_in: 300, n_out: 200 }, 0),
    (Shape { rows: 7, n_in: 577, n_out: 17 }, 0),
    (Shape { rows: 4500, n_in: 48, n_out: 40 }, 0),
    (Shape { rows: 40, n_in: 600, n_out: 33 }, 64),
];

#[test]
fn products_and_updates_have_the_bits_that_their_order_of_additions_gives() {
    let found = available();
    if found.is_empty() {
        println!("skipped: no device can be reached; Debian's mesa-vulkan-drivers bring one in software");
    }
    for found in found {
        let device =
            open(found.kind).expect("a device that was found opens").expect("it is not the processor");
        println!("{}: {} (rounds once: {})", found.kind, device.name(), device.is_exact());
        let multiply_add: fn(f32, f32, f32) -> f32 =
            if device.is_exact() { |sum, a, b| a.mul_add(b, sum) } else { |sum, a, b| sum + a * b };
        for (shape, skip) in SHAPES {
            check_product(device.as_ref(), shape, skip, multiply_add);
        }
        check_updates(device.as_ref(), multiply_add);
    }
}

type MultiplyAdd = fn(f32, f32, f32) -> f32;

fn check_product(device: &dyn Device<f32>, shape: Shape, skip: usize, multiply_add: MultiplyAdd) {
    let Shape { rows, n_in, n_out } = shape;
    let n_k = n_in - skip;
    let (x, w) = (noise(rows * n_k, 1), noise(n_out * n_in, 2));
    let mut got = vec![f32::NAN; rows * n_out];
    let (mut out, x_view) = (MatMut::new(&mut got, rows, n_out), MatRef::new(&x, rows, n_k));
    place(device, &w, n_out, n_in).product(&mut out, x_view, skip..n_in, &[]).expect("the device answers");
    for (at, got) in got.iter().enumerate() {
        let (row, output) = (at / n_out, at % n_out);
        let want = dot(&x[row * n_k..][..n_k], &w[output * n_in + skip..][..n_k], multiply_add);
        assert_eq!(
            got.to_bits(),
            want.to_bits(),
            "{shape:?} from {skip} at {row}, {output}: {got} and {want}"
        );
    }
}

/// Updates of rows that begin and end within groups of rows under way, beside rows without any; into rows that lie apart.
fn check_updates(device: &dyn Device<f32>, multiply_add: MultiplyAdd) {
    const APART: usize = 9;
    let (rows, n_in, n_out) = (2100, 70, 50);
    let (x, w) = (noise(rows * n_in, 1), noise(n_out * n_in, 2));
    let w_there = place(device, &w, n_out, n_in);
    let updates: Vec<_> = [(3..1030, 8, 1.0, 0.5), (1030..1031, 20, 0.7, 2.0), (1500..2090, 64, -1.0, 0.25)]
        .into_iter()
        .map(|(rows, rank, factor, scale)| {
            let (a, b) = (noise(rank * n_in, 3), noise(n_out * rank, 4));
            let there = (place(device, &a, rank, n_in), place(device, &b, n_out, rank));
            (rows, rank, factor, scale, a, b, there)
        })
        .collect();
    let placed: Vec<PlacedUpdate<f32>> = updates
        .iter()
        .map(|(rows, _, factor, scale, .., (a, b))| PlacedUpdate {
            rows: rows.clone(),
            a: a.as_ref(),
            b: b.as_ref(),
            factor: *factor,
            scale: *scale,
        })
        .collect();
    let mut got = vec![0.125; rows * (n_out + APART)];
    let mut out = MatMut::strided(&mut got, rows, n_out, n_out + APART);
    w_there.product(&mut out, MatRef::new(&x, rows, n_in), 0..n_in, &placed).expect("the device answers");
    for (row, got) in got.chunks(n_out + APART).enumerate() {
        let x = &x[row * n_in..][..n_in];
        let update = updates.iter().find(|(rows, ..)| rows.contains(&row));
        let features: Option<Vec<f32>> = update.map(|(_, _, factor, scale, a, ..)| {
            a.chunks(n_in).map(|a| dot(x, a, multiply_add) * factor * scale).collect()
        });
        for (output, got) in got.iter().enumerate() {
            let want = if output < n_out {
                let base = dot(x, &w[output * n_in..][..n_in], multiply_add);
                match (&features, update) {
                    (Some(features), Some((_, rank, .., b, _))) => {
                        base + dot(features, &b[output * rank..][..*rank], multiply_add)
                    }
                    _ => base,
                }
            } else {
                0.125
            };
            assert_eq!(got.to_bits(), want.to_bits(), "at {row}, {output}: {got} and {want}");
        }
    }
}

fn place(device: &dyn Device<f32>, w: &[f32], n_out: usize, n_in: usize) -> Box<dyn Placed<f32>> {
    device.place(&Packed::from_output_rows(MatRef::new(w, n_out, n_in))).expect("there is room")
}

/// A sum in the order that lorascope-kernels promises.
fn dot(x: &[f32], w: &[f32], multiply_add: MultiplyAdd) -> f32 {
    let blocks = x.chunks(256).zip(w.chunks(256)).map(|(x, w)| {
        let partials = x
            .chunks(32)
            .zip(w.chunks(32))
            .map(|(x, w)| x.iter().zip(w).fold(0.0, |sum, (&a, &b)| multiply_add(sum, a, b)));
        partials.fold(0.0, |total: f32, partial: f32| total + partial)
    });
    blocks.reduce(|sum, block| sum + block).unwrap_or(0.0)
}
