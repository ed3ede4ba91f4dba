// Flash attention (arXiv:2205.14135, arXiv:2307.08691) in bf16 with f32 sums, for any number of queries and keys, on
// tensor cores of compute capability 8.0 and above.
//
// A block of four warps takes 128 queries of one head, two tiles of 16 a warp; keys and values pass by in steps of 64 through
// two stages of shared memory. Scores are exponents of two: the scale comes with log2(e) in it.

#define WARPS 4
#define TILES 2 // of 16 queries, for each warp
#define KEYS 64 // keys of a step

struct View {
    const u16 *data;
    long long b, h; // distances, in numbers; those of a head lie beside each other
    int l;
};

__device__ __forceinline__ u32 address_of(const void *shared) {
    return (u32)__cvta_generic_to_shared(shared);
}

// 16 bytes from global to shared memory; zeros where there is nothing.
__device__ __forceinline__ void copy_16(u32 to, const void *from, bool is_there) {
    int bytes = is_there ? 16 : 0;
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(bytes));
}

__device__ __forceinline__ void commit() { asm volatile("cp.async.commit_group;"); }

template <int PENDING> __device__ __forceinline__ void wait() {
    asm volatile("cp.async.wait_group %0;" ::"n"(PENDING));
}

__device__ __forceinline__ void load_4(u32 (&r)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

__device__ __forceinline__ void load_4_transposed(u32 (&r)[4], u32 from) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0,%1,%2,%3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(from));
}

// c (16, 8) += a (16, 16) b (16, 8)
__device__ __forceinline__ void multiply(float (&c)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
                 "{%0,%1,%2,%3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ __forceinline__ float exp2_of(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// Where 8 numbers of a row lie in shared memory: pieces are permuted so that no two rows of eight meet in a bank.
template <int D> __device__ __forceinline__ u32 place(int row, int piece) {
    return (row * (D / 8) + (piece ^ (row & 7))) * 16;
}

// Rows from `first` of a head to shared memory; a thread takes the same piece of every row that it takes.
template <int D, int ROWS>
__device__ __forceinline__ void fetch(u32 to, const u16 *from, int stride, int first, int rows) {
    constexpr int AT_ONCE = WARPS * 32 / (D / 8);
    const int row = threadIdx.x / (D / 8), piece = threadIdx.x % (D / 8);
    const u16 *source = from + (long long)(first + row) * stride + piece * 8;
#pragma unroll
    for (int i = 0; i < ROWS / AT_ONCE; ++i) {
        const bool is_there = first + row + i * AT_ONCE < rows;
        copy_16(to + place<D>(row + i * AT_ONCE, piece), is_there ? source : from, is_there);
        source += AT_ONCE * stride;
    }
}

// The greatest or the sum over the four lanes that share a row.
__device__ __forceinline__ float greatest_of_row(float x) {
    x = fmaxf(x, __shfl_xor_sync(~0u, x, 1));
    return fmaxf(x, __shfl_xor_sync(~0u, x, 2));
}

__device__ __forceinline__ float sum_of_row(float x) {
    x += __shfl_xor_sync(~0u, x, 1);
    return x + __shfl_xor_sync(~0u, x, 2);
}

template <int D>
__device__ __forceinline__ void attend(View q, View k, View v, u16 *y, int heads, int l_q, int l_k, float scale) {
    constexpr int QUERIES = WARPS * TILES * 16, KEYS_BYTES = KEYS * D * 2;
    extern __shared__ __align__(128) unsigned char shared[];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    const int head = blockIdx.y % heads, batch = blockIdx.y / heads;
    const int first = blockIdx.x * QUERIES;
    const u32 q_at = address_of(shared), k_at = q_at + QUERIES * D * 2, v_at = k_at + 2 * KEYS_BYTES;
    const u16 *keys = k.data + batch * k.b + head * k.h, *values = v.data + batch * v.b + head * v.h;
    const int steps = (l_k + KEYS - 1) / KEYS;

    fetch<D, QUERIES>(q_at, q.data + batch * q.b + head * q.h, q.l, first, l_q);
    fetch<D, KEYS>(k_at, keys, k.l, 0, l_k);
    commit();
    fetch<D, KEYS>(v_at, values, v.l, 0, l_k);
    commit();

    float out[TILES][D / 8][4] = {};
    float greatest[TILES][2], sum[TILES][2];
    for (int t = 0; t < TILES; ++t) {
        for (int half = 0; half < 2; ++half) {
            greatest[t][half] = -1e30f;
            sum[t][half] = 0;
        }
    }
    // Which row and piece of a 16 x 16 part this lane names to ldmatrix.
    const int part_row = lane % 16, part_piece = lane / 16;
    const int key_row = (lane & 7) + (lane & 16) / 2, key_piece = (lane & 8) / 8;

    for (int step = 0; step < steps; ++step) {
        const u32 k_now = k_at + (step & 1) * KEYS_BYTES, v_now = v_at + (step & 1) * KEYS_BYTES;
        const bool is_last = step + 1 == steps;
        wait<1>(); // the keys are here, and all before them
        __syncthreads();
        if (!is_last) {
            fetch<D, KEYS>(k_at + (~step & 1) * KEYS_BYTES, keys, k.l, (step + 1) * KEYS, l_k);
        }
        commit();

        float scores[TILES][KEYS / 8][4] = {};
#pragma unroll
        for (int piece = 0; piece < D / 16; ++piece) {
            u32 queries[TILES][4];
#pragma unroll
            for (int t = 0; t < TILES; ++t) {
                load_4(queries[t], q_at + place<D>((warp * TILES + t) * 16 + part_row, piece * 2 + part_piece));
            }
#pragma unroll
            for (int n = 0; n < KEYS / 16; ++n) {
                u32 both[4];
                load_4(both, k_now + place<D>(n * 16 + key_row, piece * 2 + key_piece));
#pragma unroll
                for (int t = 0; t < TILES; ++t) {
                    multiply(scores[t][2 * n], queries[t], both[0], both[1]);
                    multiply(scores[t][2 * n + 1], queries[t], both[2], both[3]);
                }
            }
        }
        if (is_last && l_k % KEYS != 0) {
#pragma unroll
            for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    if (step * KEYS + n * 8 + lane % 4 * 2 + i % 2 >= l_k) {
                        for (int t = 0; t < TILES; ++t) {
                            scores[t][n][i] = -1e30f;
                        }
                    }
                }
            }
        }

        u32 weights[TILES][KEYS / 16][4];
#pragma unroll
        for (int t = 0; t < TILES; ++t) {
#pragma unroll
            for (int half = 0; half < 2; ++half) {
                float top = greatest[t][half];
#pragma unroll
                for (int n = 0; n < KEYS / 8; ++n) {
                    top = fmaxf(top, fmaxf(scores[t][n][2 * half], scores[t][n][2 * half + 1]));
                }
                top = greatest_of_row(top);
                const float shrink = exp2_of((greatest[t][half] - top) * scale), offset = top * scale;
                greatest[t][half] = top;
                float here = 0;
#pragma unroll
                for (int n = 0; n < KEYS / 8; ++n) {
#pragma unroll
                    for (int i = 2 * half; i < 2 * half + 2; ++i) {
                        scores[t][n][i] = exp2_of(scores[t][n][i] * scale - offset);
                        here += scores[t][n][i];
                    }
                }
                sum[t][half] = sum[t][half] * shrink + here;
                // After the first steps the greatest score hardly changes any more.
                if (__any_sync(~0u, shrink != 1)) {
#pragma unroll
                    for (int n = 0; n < D / 8; ++n) {
                        out[t][n][2 * half] *= shrink;
                        out[t][n][2 * half + 1] *= shrink;
                    }
                }
            }
#pragma unroll
            for (int n = 0; n < KEYS / 16; ++n) {
                weights[t][n][0] = pack(scores[t][2 * n][0], scores[t][2 * n][1]);
                weights[t][n][1] = pack(scores[t][2 * n][2], scores[t][2 * n][3]);
                weights[t][n][2] = pack(scores[t][2 * n + 1][0], scores[t][2 * n + 1][1]);
                weights[t][n][3] = pack(scores[t][2 * n + 1][2], scores[t][2 * n + 1][3]);
            }
        }

        wait<1>(); // the values are here
        __syncthreads();
        if (!is_last) {
            fetch<D, KEYS>(v_at + (~step & 1) * KEYS_BYTES, values, v.l, (step + 1) * KEYS, l_k);
        }
        commit();
#pragma unroll
        for (int n = 0; n < KEYS / 16; ++n) {
#pragma unroll
            for (int piece = 0; piece < D / 16; ++piece) {
                u32 both[4];
                load_4_transposed(both, v_now + place<D>(n * 16 + part_row, piece * 2 + part_piece));
#pragma unroll
                for (int t = 0; t < TILES; ++t) {
                    multiply(out[t][2 * piece], weights[t][n], both[0], both[1]);
                    multiply(out[t][2 * piece + 1], weights[t][n], both[2], both[3]);
                }
            }
        }
    }

#pragma unroll
    for (int t = 0; t < TILES; ++t) {
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            const float factor = 1.0f / sum_of_row(sum[t][half]);
            const int row = first + (warp * TILES + t) * 16 + half * 8 + lane / 4;
            if (row < l_q) {
                u16 *to = y + (((long long)batch * l_q + row) * heads + head) * D + lane % 4 * 2;
#pragma unroll
                for (int n = 0; n < D / 8; ++n) {
                    *(u32 *)(to + n * 8) =
                        pack(out[t][n][2 * half] * factor, out[t][n][2 * half + 1] * factor);
                }
            }
        }
    }
}

// q (b, h, l_q, d), k and v (b, h, l_k, d) as y (b, l_q, h, d); a grid of (queries in steps of 128, b * h).
#define ATTENTION(D)                                                                                                   \
    extern "C" __global__ void __launch_bounds__(WARPS * 32)                                                           \
        attention_##D(const u16 *q, const u16 *k, const u16 *v, u16 *y, long long q_b, long long q_h, int q_l,         \
                      long long k_b, long long k_h, int k_l, long long v_b, long long v_h, int v_l, int heads,         \
                      int l_q, int l_k, float scale) {                                                                 \
        attend<D>({q, q_b, q_h, q_l}, {k, k_b, k_h, k_l}, {v, v_b, v_h, v_l}, y, heads, l_q, l_k, scale);              \
    }

ATTENTION(64)
ATTENTION(128)
