// What stands between the products of a transformer, each in one pass over its numbers: norms with modulation, norm and
// rotation of heads, gated sums. Sums are f32.

// LayerNorm of x (b, l, d), then * (1 + scale) + shift with scale and shift (b, d): a block for each of the b * l rows.
template <typename Y>
__device__ __forceinline__ void modulate(const float *x, const float *scale, const float *shift, long long scale_b,
                                         long long shift_b, Y *y, int l, int d, float eps) {
    x += (long long)blockIdx.x * d;
    y += (long long)blockIdx.x * d;
    scale += blockIdx.x / l * scale_b;
    shift += blockIdx.x / l * shift_b;
    float sum = 0;
    for (int i = threadIdx.x * 4; i < d; i += blockDim.x * 4) {
        const float4 v = four(x + i);
        sum += (v.x + v.y) + (v.z + v.w);
    }
    const float mean = sum_of_block(sum) / d;
    float squares = 0;
    for (int i = threadIdx.x * 4; i < d; i += blockDim.x * 4) {
        const float4 v = four(x + i);
        const float p = v.x - mean, q = v.y - mean, r = v.z - mean, s = v.w - mean;
        squares += (p * p + q * q) + (r * r + s * s);
    }
    const float factor = rsqrtf(sum_of_block(squares) / d + eps);
    for (int i = threadIdx.x * 4; i < d; i += blockDim.x * 4) {
        const float4 v = four(x + i), a = four(scale + i), b = four(shift + i);
        put(y + i, make_float4((v.x - mean) * factor * (1 + a.x) + b.x, (v.y - mean) * factor * (1 + a.y) + b.y,
                               (v.z - mean) * factor * (1 + a.z) + b.z, (v.w - mean) * factor * (1 + a.w) + b.w));
    }
}

extern "C" __global__ void modulate_f32(const float *x, const float *scale, const float *shift, long long scale_b,
                                        long long shift_b, float *y, int l, int d, float eps) {
    modulate(x, scale, shift, scale_b, shift_b, y, l, d, eps);
}

extern "C" __global__ void modulate_bf16(const float *x, const float *scale, const float *shift, long long scale_b,
                                         long long shift_b, u16 *y, int l, int d, float eps) {
    modulate(x, scale, shift, scale_b, shift_b, y, l, d, eps);
}

// RMSNorm of every head of x (b, l, h, d) by a weight (d), rotated over interleaved pairs by cos and sin (l, d / 2), to the
// tokens from `before` on of y (b, l_all, h, d). A warp for each head of a token; a grid of (l * h by warps, b).
template <typename X>
__device__ __forceinline__ void norm_rope(const X *x, const float *weight, const float *cos, const float *sin, X *y,
                                          int l, int l_all, int before, int h, int d, float eps) {
    const int head = blockIdx.x * (blockDim.x / 32) + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (head >= l * h) {
        return;
    }
    const int token = head / h;
    x += ((long long)blockIdx.y * l * h + head) * d;
    y += (((long long)blockIdx.y * l_all + before) * h + head) * d;
    cos += (long long)(before + token) * (d / 2);
    sin += (long long)(before + token) * (d / 2);
    float squares = 0;
    for (int i = lane * 4; i < d; i += 128) {
        const float4 v = four(x + i);
        squares += (v.x * v.x + v.y * v.y) + (v.z * v.z + v.w * v.w);
    }
    const float factor = rsqrtf(sum_of_warp(squares) / d + eps);
    for (int i = lane * 4; i < d; i += 128) {
        float4 v = four(x + i);
        const float4 w = four(weight + i);
        const float2 c = *(const float2 *)(cos + i / 2), s = *(const float2 *)(sin + i / 2);
        v = make_float4(v.x * factor * w.x, v.y * factor * w.y, v.z * factor * w.z, v.w * factor * w.w);
        put(y + i, make_float4(v.x * c.x - v.y * s.x, v.y * c.x + v.x * s.x, v.z * c.y - v.w * s.y,
                               v.w * c.y + v.z * s.y));
    }
}

extern "C" __global__ void norm_rope_f32(const float *x, const float *weight, const float *cos, const float *sin,
                                         float *y, int l, int l_all, int before, int h, int d, float eps) {
    norm_rope(x, weight, cos, sin, y, l, l_all, before, h, d, eps);
}

extern "C" __global__ void norm_rope_bf16(const u16 *x, const float *weight, const float *cos, const float *sin, u16 *y,
                                          int l, int l_all, int before, int h, int d, float eps) {
    norm_rope(x, weight, cos, sin, y, l, l_all, before, h, d, eps);
}

// residual + gate * x for residual and x (b, l, n) and gate (b, n): a block for each of the b * l rows.
template <typename X>
__device__ __forceinline__ void gated_add(const float *residual, const float *gate, long long gate_b, const X *x,
                                          float *y, int l, int n) {
    const long long row = (long long)blockIdx.x * n;
    gate += blockIdx.x / l * gate_b;
    for (int i = threadIdx.x * 4; i < n; i += blockDim.x * 4) {
        const float4 r = four(residual + row + i), g = four(gate + i), v = four(x + row + i);
        put(y + row + i, make_float4(r.x + g.x * v.x, r.y + g.y * v.y, r.z + g.z * v.z, r.w + g.w * v.w));
    }
}

extern "C" __global__ void gated_add_f32(const float *residual, const float *gate, long long gate_b, const float *x,
                                         float *y, int l, int n) {
    gated_add(residual, gate, gate_b, x, y, l, n);
}

extern "C" __global__ void gated_add_bf16(const float *residual, const float *gate, long long gate_b, const u16 *x,
                                          float *y, int l, int n) {
    gated_add(residual, gate, gate_b, x, y, l, n);
}
