// GroupNorm of pictures (b, c, y, x) whose channels lie one after another. Sums are f32.

// Of part blockIdx.x of group blockIdx.y, `part` of its `count` numbers: the mean, and the sum of (x - mean)^2.
template <typename X>
__device__ __forceinline__ void moments_of_part(const X *x, float *mean, float *squares, int count, int part) {
    const int from = blockIdx.x * part, to = min(count, from + part);
    x += (long long)blockIdx.y * count;
    float sum = 0;
    for (int i = from + threadIdx.x * 4; i < to; i += blockDim.x * 4) {
        const float4 v = four(x + i);
        sum += (v.x + v.y) + (v.z + v.w);
    }
    const float m = sum_of_block(sum) / (to - from);
    sum = 0;
    for (int i = from + threadIdx.x * 4; i < to; i += blockDim.x * 4) {
        const float4 v = four(x + i);
        const float p = v.x - m, q = v.y - m, r = v.z - m, s = v.w - m;
        sum += (p * p + q * q) + (r * r + s * s);
    }
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) {
        mean[blockIdx.y * gridDim.x + blockIdx.x] = m;
        squares[blockIdx.y * gridDim.x + blockIdx.x] = sum;
    }
}

extern "C" __global__ void moments_of_part_f32(const float *x, float *mean, float *squares, int count, int part) {
    moments_of_part(x, mean, squares, count, part);
}

extern "C" __global__ void moments_of_part_bf16(const u16 *x, float *mean, float *squares, int count, int part) {
    moments_of_part(x, mean, squares, count, part);
}

// Both of group blockIdx.x, from those of its parts (Chan, Golub and LeVeque, 1979).
extern "C" __global__ void merge_moments(const float *means, const float *all_squares, float *mean, float *squares,
                                         int parts, int count, int part) {
    means += blockIdx.x * parts;
    all_squares += blockIdx.x * parts;
    float sum = 0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x) {
        sum += means[i] * (float)min(part, count - i * part);
    }
    const float m = sum_of_block(sum) / count;
    sum = 0;
    for (int i = threadIdx.x; i < parts; i += blockDim.x) {
        const float between = means[i] - m;
        sum += all_squares[i] + between * between * (float)min(part, count - i * part);
    }
    sum = sum_of_block(sum);
    if (threadIdx.x == 0) {
        mean[blockIdx.x] = m;
        squares[blockIdx.x] = sum;
    }
}

// x * factor + summand, with SiLU if `silu`, for channels of `pixels` numbers: channel blockIdx.y with a factor and a summand
// of its own.
template <typename X>
__device__ __forceinline__ void scale(const X *x, const float *factor, const float *summand, X *y, int pixels, int silu) {
    const float a = factor[blockIdx.y], b = summand[blockIdx.y];
    const int i = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
    if (i >= pixels) {
        return;
    }
    const long long at = (long long)blockIdx.y * pixels + i;
    const float4 v = four(x + at);
    float z[4] = {v.x * a + b, v.y * a + b, v.z * a + b, v.w * a + b};
    if (silu) {
#pragma unroll
        for (int k = 0; k < 4; ++k) {
            z[k] = z[k] / (1 + __expf(-z[k]));
        }
    }
    put(y + at, make_float4(z[0], z[1], z[2], z[3]));
}

extern "C" __global__ void scale_f32(const float *x, const float *factor, const float *summand, float *y, int pixels,
                                     int silu) {
    scale(x, factor, summand, y, pixels, silu);
}

extern "C" __global__ void scale_bf16(const u16 *x, const float *factor, const float *summand, u16 *y, int pixels,
                                      int silu) {
    scale(x, factor, summand, y, pixels, silu);
}
