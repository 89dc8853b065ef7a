// Tiles of keys, values and queries in shared memory, in float32.
/** Queries, or keys, that one warp takes at a time: fewer where wide heads fill the shared memory. */
#define PER_WARP (HEAD_DIM > 64 ? 2 : 4)
#define PER_BLOCK (WARPS * PER_WARP)
/** Of the other side, one a lane. */
#define TILE 32

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

/** The keys and values of one head of one row that a block of queries sees, tile by tile: the past first, then the new ones. */
struct Seen {
  const float* pastKeys;
  const float* pastValues;
  const float* newKeys;
  const float* newValues;
  /** Where those end that any of the queries sees. */
  int pastEnd;
  int newEnd;
  int pastTiles;
  int tiles;
};

/** For PER_BLOCK queries from `first` on. */
__device__ __forceinline__ Seen seenBy(const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ pastKey, const float* __restrict__ pastValue, const int* __restrict__ lengths, const int* __restrict__ keyLengths, const AttentionShape& s, int b, int h, int first) {
  long long row = (long long)b * s.keys, past = pastAt(s, b, h);
  int pastEnd = seenMaxOf(lengths, s, b, first, PER_BLOCK), newEnd = keysEndOf(keyLengths, s, b, first + PER_BLOCK);
  int pastTiles = (pastEnd + TILE - 1) / TILE;
  const float *newKeys = k == nullptr ? nullptr : k + row * s.keyStride + h * HEAD_DIM, *newValues = v == nullptr ? nullptr : v + row * s.valueStride + h * HEAD_DIM;
  return {pastKey + past, pastValue + past, newKeys, newValues, pastEnd, newEnd, pastTiles, pastTiles + (newEnd + TILE - 1) / TILE};
}

/** Loads a tile once every thread is done with the one before. Answers its first position, of the past or of the new ones. */
__device__ __forceinline__ int loadTile(const Seen& seen, const AttentionShape& s, int tile, float (*keys)[HEAD_DIM + 1], float (*values)[HEAD_DIM + 1]) {
  int base = (tile < seen.pastTiles ? tile : tile - seen.pastTiles) * TILE;
  __syncthreads();
  if (tile < seen.pastTiles) {
    loadPast(seen.pastKeys, seen.pastValues, s.past, base, seen.pastEnd, keys, values);
  } else {
    loadRows(seen.newKeys, s.keyStride, base, seen.newEnd, keys);
    loadRows(seen.newValues, s.valueStride, base, seen.newEnd, values);
  }
  __syncthreads();
  return base;
}
