// Products with packed weights: out[row][o] = sum over k of x[row][k] * w[o][first + k], in the order of additions that
// lorascope-kernels promises: running fused multiply-adds over 32 inner indices, summed within and then over blocks of 256.
//
// A block computes 128 rows times 128 outputs. Each of its 256 threads has 8 rows (two groups of four) and 8 outputs (two groups of
// four). Running sums and those of a block of 256 stay in registers; what is summed over blocks waits in `out`, where only its own
// thread touches it, once in 256 steps. While a tile is multiplied the next is on its way to registers.
//
// product.ptx is made from this by scripts/make_ptx.py.

#define TILE 128
#define DEPTH 16
#define PARTIAL 32
#define BLOCK 256
// Distances of rows in shared memory that keep the writes of a warp in different banks.
#define X_STRIDE (TILE + 4)
#define W_STRIDE (TILE + 16)

struct Ahead {
    float x[8];
    float4 w[2];
};

__device__ __forceinline__ void fetch(Ahead &ahead, const float *__restrict__ x, const float4 *__restrict__ panels,
                                      int thread, int k0, int first_row, int first_panel, int rows, int n_k, int n_in,
                                      int first, int n_panels) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
        // Four threads read 16 inner indices of a row.
        const int row = first_row + thread / 4 + i * 64, k = k0 + (thread % 4) * 4;
        const float *from = x + (long long)row * n_k + k;
        if (row < rows && k + 4 <= n_k && (n_k & 3) == 0) {
            const float4 four = *reinterpret_cast<const float4 *>(from);
            ahead.x[4 * i] = four.x;
            ahead.x[4 * i + 1] = four.y;
            ahead.x[4 * i + 2] = four.z;
            ahead.x[4 * i + 3] = four.w;
        } else {
#pragma unroll
            for (int j = 0; j < 4; j++) ahead.x[4 * i + j] = row < rows && k + j < n_k ? from[j] : 0.0f;
        }
        // 4 vectors of a panel's inner index, 16 inner indices, then the next panel.
        const int at = thread + i * 256, panel = first_panel + at / 64, depth = at / 4 % DEPTH;
        ahead.w[i] = panel < n_panels && k0 + depth < n_k
                         ? panels[((long long)panel * n_in + first + k0 + depth) * 4 + at % 4]
                         : make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    }
}

__device__ __forceinline__ void put(const Ahead &ahead, float (*x_tile)[X_STRIDE], float (*w_tile)[W_STRIDE], int thread) {
#pragma unroll
    for (int i = 0; i < 2; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) x_tile[(thread % 4) * 4 + j][thread / 4 + i * 64] = ahead.x[4 * i + j];
        const int at = thread + i * 256;
        *reinterpret_cast<float4 *>(&w_tile[at / 4 % DEPTH][at / 64 * 16 + at % 4 * 4]) = ahead.w[i];
    }
}

__device__ __forceinline__ void step(float (&partial)[8][8], const float *x_row, const float *w_row, int ty, int tx) {
    float a[8], b[8];
    *reinterpret_cast<float4 *>(a) = *reinterpret_cast<const float4 *>(x_row + ty * 4);
    *reinterpret_cast<float4 *>(a + 4) = *reinterpret_cast<const float4 *>(x_row + ty * 4 + 64);
    *reinterpret_cast<float4 *>(b) = *reinterpret_cast<const float4 *>(w_row + tx * 4);
    *reinterpret_cast<float4 *>(b + 4) = *reinterpret_cast<const float4 *>(w_row + tx * 4 + 64);
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) partial[i][j] = __fmaf_rn(a[i], b[j], partial[i][j]);
}

// The features of a low-rank update, multiplied by what they are scaled with, one number after the other.
extern "C" __global__ void scale(float *x, int n, float factor, float scale) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] = __fmul_rn(__fmul_rn(x[i], factor), scale);
}

// With `adds`, which goes with at most 256 inner indices, the product is added to what `out` holds.
extern "C" __global__ void __launch_bounds__(256, 1)
product(const float *__restrict__ x, const float4 *__restrict__ panels, float *__restrict__ out, int rows, int n_k, int n_in,
        int first, int n_out, int adds) {
    __shared__ __align__(16) float x_tile[2][DEPTH][X_STRIDE];
    __shared__ __align__(16) float w_tile[2][DEPTH][W_STRIDE];
    const int thread = threadIdx.x, ty = thread / 16, tx = thread % 16;
    const int first_row = blockIdx.y * TILE, first_panel = blockIdx.x * (TILE / 16), n_panels = (n_out + 15) / 16;

    float partial[8][8], total[8][8];
#pragma unroll
    for (int i = 0; i < 8; i++)
#pragma unroll
        for (int j = 0; j < 8; j++) partial[i][j] = total[i][j] = 0.0f;

    Ahead ahead;
    fetch(ahead, x, panels, thread, 0, first_row, first_panel, rows, n_k, n_in, first, n_panels);
    put(ahead, x_tile[0], w_tile[0], thread);
    __syncthreads();
    int now = 0;
    for (int k0 = 0; k0 < n_k; k0 += DEPTH) {
        const bool more = k0 + DEPTH < n_k;
        if (more) fetch(ahead, x, panels, thread, k0 + DEPTH, first_row, first_panel, rows, n_k, n_in, first, n_panels);
        // Inner indices that are not there must not be added, not even as zeros: -0 would become 0.
        if (k0 + DEPTH <= n_k) {
#pragma unroll
            for (int k = 0; k < DEPTH; k++) step(partial, x_tile[now][k], w_tile[now][k], ty, tx);
        } else {
#pragma unroll 1
            for (int k = 0; k < n_k - k0; k++) step(partial, x_tile[now][k], w_tile[now][k], ty, tx);
        }
        if (more) {
            put(ahead, x_tile[now ^ 1], w_tile[now ^ 1], thread);
            now ^= 1;
        }
        __syncthreads();
        const int end = min(k0 + DEPTH, n_k);
        if (end % PARTIAL == 0 || end == n_k) {
#pragma unroll
            for (int i = 0; i < 8; i++)
#pragma unroll
                for (int j = 0; j < 8; j++) {
                    total[i][j] = __fadd_rn(total[i][j], partial[i][j]);
                    partial[i][j] = 0.0f;
                }
        }
        if (end % BLOCK == 0 || end == n_k) {
#pragma unroll
            for (int i = 0; i < 8; i++) {
                const int row = first_row + i / 4 * 64 + ty * 4 + i % 4;
                if (row < rows) {
#pragma unroll
                    for (int half = 0; half < 2; half++) {
                        const int o = first_panel * 16 + half * 64 + tx * 4;
                        float *to = out + (long long)row * n_out + o;
                        float *sums = &total[i][half * 4];
                        if (o + 4 <= n_out && (n_out & 3) == 0) {
                            float4 four = make_float4(sums[0], sums[1], sums[2], sums[3]);
                            if (end > BLOCK || adds) {
                                const float4 before = *reinterpret_cast<const float4 *>(to);
                                four.x = __fadd_rn(before.x, four.x);
                                four.y = __fadd_rn(before.y, four.y);
                                four.z = __fadd_rn(before.z, four.z);
                                four.w = __fadd_rn(before.w, four.w);
                            }
                            *reinterpret_cast<float4 *>(to) = four;
                        } else {
#pragma unroll
                            for (int j = 0; j < 4; j++)
                                if (o + j < n_out) to[j] = end > BLOCK || adds ? __fadd_rn(to[j], sums[j]) : sums[j];
                        }
                    }
                }
#pragma unroll
                for (int j = 0; j < 8; j++) total[i][j] = 0.0f;
            }
        }
    }
}
