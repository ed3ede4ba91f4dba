// What all kernels share: numbers in f32 and bf16, read and written in fours, and sums over threads. It stands before each of
// the other files. No header of CUDA's is needed, so that NVIDIA's run-time compiler can translate it anywhere.

typedef unsigned int u32;
typedef unsigned short u16; // the bits of a bf16

__device__ __forceinline__ float4 four(const float *from) { return *(const float4 *)from; }
__device__ __forceinline__ float4 four(const u16 *from) {
    const uint2 bits = *(const uint2 *)from;
    return make_float4(__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u),
                       __uint_as_float(bits.y << 16), __uint_as_float(bits.y & 0xffff0000u));
}

// Two numbers in bf16, rounded to nearest even.
__device__ __forceinline__ u32 pack(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}

__device__ __forceinline__ void put(float *to, float4 x) { *(float4 *)to = x; }
__device__ __forceinline__ void put(u16 *to, float4 x) { *(uint2 *)to = make_uint2(pack(x.x, x.y), pack(x.z, x.w)); }

__device__ __forceinline__ float sum_of_warp(float x) {
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) {
        x += __shfl_xor_sync(~0u, x, distance);
    }
    return x;
}

// The sum over a block of up to 1,024 threads, to all of them.
__device__ __forceinline__ float sum_of_block(float x) {
    __shared__ float sums[32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, warps = blockDim.x / 32;
    x = sum_of_warp(x);
    if (lane == 0) {
        sums[warp] = x;
    }
    __syncthreads();
    x = sum_of_warp(lane < warps ? sums[lane] : 0);
    __syncthreads();
    return x;
}
