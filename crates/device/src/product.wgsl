// Products with packed weights: out[row][o] = Σ_k x[row][k] · w[o][first + k], in the order of additions that
// lorascope-kernels promises: running fused multiply-adds over 32 inner indices, summed within and then over blocks of 256.
//
// A workgroup computes 128 rows times 128 outputs. Each of its threads has 8 rows (two groups of four) and 8 outputs (two vectors
// of four), whose sums stay in registers.

struct Shape {
    rows: u32,
    n_k: u32,    // inner indices
    n_in: u32,   // inputs of the whole matrix
    first: u32,  // the first of them that is used
    n_out: u32,
    x_row: u32,    // the first row of x
    out_row: u32,  // and of out
    adds: u32,     // 1: added to what `out` holds; with at most 256 inner indices
}

@group(0) @binding(0) var<uniform> shape: Shape;
@group(0) @binding(1) var<storage, read> x: array<f32>;             // [row][k]
@group(0) @binding(2) var<storage, read> panels: array<vec4<f32>>;  // [panel][k][4 vectors of outputs]
@group(0) @binding(3) var<storage, read_write> out: array<f32>;     // [row][output]

const TILE = 128u;
const DEPTH = 16u;
const PARTIAL = 32u;
const BLOCK = 256u;

var<workgroup> x_tile: array<vec4<f32>, 512>;  // [k of the tile][32 vectors of four rows]
var<workgroup> w_tile: array<vec4<f32>, 512>;  // [k of the tile][8 panels][4 vectors of outputs]

fn load_x(row: u32, k: u32) -> f32 {
    if (row < shape.rows && k < shape.n_k) {
        return x[(shape.x_row + row) * shape.n_k + k];
    }
    return 0.0;
}

@compute @workgroup_size(256)
fn product(@builtin(workgroup_id) group: vec3<u32>, @builtin(local_invocation_index) thread: u32) {
    let first_row = group.y * TILE;
    let first_panel = group.x * (TILE / 16u);
    let n_panels = (shape.n_out + 15u) / 16u;
    // Which vectors of rows and of outputs are this thread's: one in each half of the tile.
    let rows_at = thread / 16u;
    let outs_at = thread % 16u;

    // Of the thread's four quarters, a matrix each, whose columns are rows of `out`. (Not arrays: what is indexed by a variable does
    // not stay in registers.)
    var partial_0: mat4x4<f32>;  // upper rows, left outputs
    var partial_1: mat4x4<f32>;  // upper, right
    var partial_2: mat4x4<f32>;  // lower, left
    var partial_3: mat4x4<f32>;  // lower, right
    var total_0: mat4x4<f32>;
    var total_1: mat4x4<f32>;
    var total_2: mat4x4<f32>;
    var total_3: mat4x4<f32>;
    var sum_0: mat4x4<f32>;
    var sum_1: mat4x4<f32>;
    var sum_2: mat4x4<f32>;
    var sum_3: mat4x4<f32>;

    for (var k0 = 0u; k0 < shape.n_k; k0 += DEPTH) {
        // Each thread brings two vectors of both tiles. A vector of x holds one k of four rows.
        for (var i = 0u; i < 2u; i++) {
            let at = thread + i * 256u;
            let k = k0 + at % DEPTH;
            let row = first_row + (at / DEPTH) * 4u;
            x_tile[(at % DEPTH) * 32u + at / DEPTH] =
                vec4<f32>(load_x(row, k), load_x(row + 1u, k), load_x(row + 2u, k), load_x(row + 3u, k));
            // Neighbouring threads read neighbouring vectors: 4 of a panel's inner index, 16 inner indices, then the next panel.
            let panel = first_panel + at / 64u;
            let depth = (at / 4u) % DEPTH;
            var w = vec4<f32>();
            if (panel < n_panels && k0 + depth < shape.n_k) {
                w = panels[(panel * shape.n_in + shape.first + k0 + depth) * 4u + at % 4u];
            }
            w_tile[depth * 32u + (at / 64u) * 4u + at % 4u] = w;
        }
        workgroupBarrier();
        // Inner indices that are not there must not be added, not even as zeros: -0 would become 0.
        let depth = min(DEPTH, shape.n_k - k0);
        for (var k = 0u; k < depth; k++) {
            let upper = x_tile[k * 32u + rows_at];
            let lower = x_tile[k * 32u + 16u + rows_at];
            let left = w_tile[k * 32u + outs_at];
            let right = w_tile[k * 32u + 16u + outs_at];
            partial_0[0] = fma(vec4<f32>(upper.x), left, partial_0[0]);
            partial_0[1] = fma(vec4<f32>(upper.y), left, partial_0[1]);
            partial_0[2] = fma(vec4<f32>(upper.z), left, partial_0[2]);
            partial_0[3] = fma(vec4<f32>(upper.w), left, partial_0[3]);
            partial_1[0] = fma(vec4<f32>(upper.x), right, partial_1[0]);
            partial_1[1] = fma(vec4<f32>(upper.y), right, partial_1[1]);
            partial_1[2] = fma(vec4<f32>(upper.z), right, partial_1[2]);
            partial_1[3] = fma(vec4<f32>(upper.w), right, partial_1[3]);
            partial_2[0] = fma(vec4<f32>(lower.x), left, partial_2[0]);
            partial_2[1] = fma(vec4<f32>(lower.y), left, partial_2[1]);
            partial_2[2] = fma(vec4<f32>(lower.z), left, partial_2[2]);
            partial_2[3] = fma(vec4<f32>(lower.w), left, partial_2[3]);
            partial_3[0] = fma(vec4<f32>(lower.x), right, partial_3[0]);
            partial_3[1] = fma(vec4<f32>(lower.y), right, partial_3[1]);
            partial_3[2] = fma(vec4<f32>(lower.z), right, partial_3[2]);
            partial_3[3] = fma(vec4<f32>(lower.w), right, partial_3[3]);
        }
        workgroupBarrier();
        let end = k0 + depth;
        if (end % PARTIAL == 0u || end == shape.n_k) {
            total_0 += partial_0;
            total_1 += partial_1;
            total_2 += partial_2;
            total_3 += partial_3;
            partial_0 = mat4x4<f32>();
            partial_1 = mat4x4<f32>();
            partial_2 = mat4x4<f32>();
            partial_3 = mat4x4<f32>();
        }
        if (end % BLOCK == 0u || end == shape.n_k) {
            if (end <= BLOCK) {
                sum_0 = total_0;
                sum_1 = total_1;
                sum_2 = total_2;
                sum_3 = total_3;
            } else {
                sum_0 += total_0;
                sum_1 += total_1;
                sum_2 += total_2;
                sum_3 += total_3;
            }
            total_0 = mat4x4<f32>();
            total_1 = mat4x4<f32>();
            total_2 = mat4x4<f32>();
            total_3 = mat4x4<f32>();
        }
    }

    let row = first_row + rows_at * 4u;
    let output = first_panel * 16u + outs_at * 4u;
    store_quarter(row, output, sum_0);
    store_quarter(row, output + 64u, sum_1);
    store_quarter(row + 64u, output, sum_2);
    store_quarter(row + 64u, output + 64u, sum_3);
}

fn store_quarter(row: u32, output: u32, sums: mat4x4<f32>) {
    store_row(row, output, sums[0]);
    store_row(row + 1u, output, sums[1]);
    store_row(row + 2u, output, sums[2]);
    store_row(row + 3u, output, sums[3]);
}

fn store_row(row: u32, output: u32, sums: vec4<f32>) {
    store(row, output, sums.x);
    store(row, output + 1u, sums.y);
    store(row, output + 2u, sums.z);
    store(row, output + 3u, sums.w);
}

fn store(row: u32, output: u32, sum: f32) {
    if (row < shape.rows && output < shape.n_out) {
        let at = (shape.out_row + row) * shape.n_out + output;
        if (shape.adds == 1u) {
            out[at] += sum;
        } else {
            out[at] = sum;
        }
    }
}
