// The features of a low-rank update, multiplied by what they are scaled with, one number after the other.

struct Scaling {
    n: u32,
    factor: f32,
    scale: f32,
}

@group(0) @binding(0) var<uniform> scaling: Scaling;
@group(0) @binding(1) var<storage, read_write> features: array<f32>;

@compute @workgroup_size(256)
fn scale(@builtin(global_invocation_id) id: vec3<u32>) {
    if (id.x < scaling.n) {
        features[id.x] = features[id.x] * scaling.factor * scaling.scale;
    }
}
