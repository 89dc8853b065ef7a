// Products of 16 bits by one warp on tensor cores, and the rounding before them. HALF is given by who compiles: 1 for bfloat16, 2 for float16.

typedef unsigned short Half;

#if HALF == 2
#define HALF_NAME "f16"
__device__ __forceinline__ float fromHalf(Half half) { return fromFloat16(half); }
__device__ __forceinline__ Half toHalf(float value) { return toFloat16(value); }
#else
#define HALF_NAME "bf16"
__device__ __forceinline__ float fromHalf(Half half) { return fromBfloat16(half); }
__device__ __forceinline__ Half toHalf(float value) { return toBfloat16(value); }
#endif

#ifdef __CUDACC__

/** Two numbers rounded to the nearest, the first in the lower 16 bits. */
__device__ __forceinline__ unsigned packed(float low, float high) {
  unsigned pair;
#if HALF == 2
  // What is too large becomes the largest number; a comparison lets not-a-numbers through.
  low = low > 65504.0f ? 65504.0f : low < -65504.0f ? -65504.0f : low;
  high = high > 65504.0f ? 65504.0f : high < -65504.0f ? -65504.0f : high;
#endif
  asm("cvt.rn." HALF_NAME "x2.f32 %0, %1, %2;" : "=r"(pair) : "f"(high), "f"(low));
  return pair;
}

/**
 * sum += a · b, a of 16 × 16 numbers, b of 16 × 8, sum of 16 × 8 in float32 (PTX ISA, mma.m16n8k16). With group = lane / 4 and
 * pair = lane % 4, a lane has of a: rows group and group + 8, columns 2·pair and the next, then the same 8 columns on; of b: rows
 * 2·pair and the next, then 8 rows on, column group; of sum: row group, columns 2·pair and the next, then row group + 8.
 */
__device__ __forceinline__ void multiplyAdd(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
  asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." HALF_NAME "." HALF_NAME ".f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

/**
 * Four matrices of 8 × 8 out of shared memory; lane 8·m + r gives where row r of matrix m begins, at a multiple of 16 bytes (PTX
 * ISA, ldmatrix). A lane gets of each the numbers 2·pair and the next of row group.
 */
__device__ __forceinline__ void loadMatrices(unsigned (&out)[4], const Half* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}

/** The same, of each matrix transposed: rows 2·pair and the next of column group. */
__device__ __forceinline__ void loadTransposed(unsigned (&out)[4], const Half* row) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
               : "r"((unsigned)__cvta_generic_to_shared(row))
               : "memory");
}

#else  // No device: whoever compiles for something else has these instructions in C++.

__device__ __forceinline__ unsigned packed(float low, float high) { return (unsigned)toHalf(low) | (unsigned)toHalf(high) << 16; }
__device__ __forceinline__ void multiplyAdd(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) { mmaM16N8K16(sum, a, b0, b1, fromHalf); }
__device__ __forceinline__ void loadMatrices(unsigned (&out)[4], const Half* row) { ldmatrixX4(out, row, false); }
__device__ __forceinline__ void loadTransposed(unsigned (&out)[4], const Half* row) { ldmatrixX4(out, row, true); }

#endif
