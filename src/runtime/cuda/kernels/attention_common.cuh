// What attention forward and backward share: the geometry, and what a query sees. HEAD_DIM is given by who compiles.
#define WARPS 4
#define THREADS (32 * WARPS)
/** Queries, or keys, that one warp takes at a time: fewer where wide heads fill the shared memory. */
#define PER_WARP (HEAD_DIM > 64 ? 2 : 4)
#define PER_BLOCK (WARPS * PER_WARP)
/** Of the other side, one a lane. */
#define TILE 32
/** Numbers of a head that one lane takes, 32 apart. */
#define PER_LANE ((HEAD_DIM + 31) / 32)

struct AttentionShape {
  int queries;
  int heads;
  int past;
  /** 0 where one past serves all rows, 1 where each has its own; the same for lengths. */
  int pastPerRow;
  int lengthsPerRow;
  int lengthsPerQuery;
  /** From one position to the next. */
  int queryStride;
  int keyStride;
  int valueStride;
  int outStride;
  float scale;
};

__device__ __forceinline__ int seenOf(const int* __restrict__ lengths, const AttentionShape& s, int b, int query) {
  int row = s.lengthsPerRow ? b : 0;
  return s.lengthsPerQuery ? lengths[row * s.queries + query] : lengths[row];
}

__device__ __forceinline__ long long pastAt(const AttentionShape& s, int b, int h) {
  return ((long long)(s.pastPerRow ? b : 0) * s.heads + h) * HEAD_DIM * s.past;
}

/** Loads up to TILE positions of keys and values from `base` on; zeros where there are none. */
__device__ __forceinline__ void loadPast(const float* __restrict__ keys, const float* __restrict__ values, int past, int base, int end, float (*toKeys)[HEAD_DIM + 1], float (*toValues)[HEAD_DIM + 1]) {
  for (int i = threadIdx.x; i < TILE * HEAD_DIM; i += THREADS) {
    int position = i % TILE, d = i / TILE;
    toKeys[position][d] = base + position < end ? keys[(long long)d * past + base + position] : 0.0f;
  }
  for (int i = threadIdx.x; i < TILE * HEAD_DIM; i += THREADS) {
    int position = i / HEAD_DIM, d = i % HEAD_DIM;
    toValues[position][d] = base + position < end ? values[(long long)(base + position) * HEAD_DIM + d] : 0.0f;
  }
}

/** The same of positions that lie `stride` apart. */
__device__ __forceinline__ void loadRows(const float* __restrict__ from, int stride, int base, int end, float (*to)[HEAD_DIM + 1]) {
  for (int i = threadIdx.x; i < TILE * HEAD_DIM; i += THREADS) {
    int position = i / HEAD_DIM, d = i % HEAD_DIM;
    to[position][d] = base + position < end ? from[(long long)(base + position) * stride + d] : 0.0f;
  }
}

/** PER_BLOCK positions from `base` on. */
__device__ __forceinline__ void loadOwn(const float* __restrict__ from, int stride, int base, int end, float (*to)[HEAD_DIM]) {
  for (int i = threadIdx.x; i < PER_BLOCK * HEAD_DIM; i += THREADS) {
    int position = i / HEAD_DIM, d = i % HEAD_DIM;
    to[position][d] = base + position < end ? from[(long long)(base + position) * stride + d] : 0.0f;
  }
}
