// Tiles of keys, values and queries in 16 bits: in shared memory, and as what a warp's products take.

/** A head's numbers with zeros behind them, as products take them 16 at a time. */
#define WIDTH ((HEAD_DIM + 15) / 16 * 16)
#define STEPS (WIDTH / 16)
/** Eight rows of a tile lie in banks of their own. */
#define ROW (WIDTH + 8)
/** Positions that one block takes, 16 a warp. */
#define BLOCK_ROWS (16 * WARPS)
/** Of the other side, in shared memory at once. */
#define COLUMNS (HEAD_DIM > 64 ? 32 : 64)

/** Numbers of one head of one row, by position and d; zeros from `end` on. */
template <class Number>
struct Rows {
  const Number* from;
  /** From one to the next. */
  int positionStride;
  int dStride;
  int end;
  /** By which they are multiplied before they are rounded. */
  float scale;
};

__device__ __forceinline__ float wide(float number) { return number; }
__device__ __forceinline__ float wide(Half number) { return fromHalf(number); }

/** Those at d and d + 1. */
template <class Number>
__device__ __forceinline__ unsigned pairAt(const Rows<Number>& rows, int position, int d) {
  if (position >= rows.end) return 0;
  const Number* from = rows.from + (long long)position * rows.positionStride;
  float low = d < HEAD_DIM ? wide(from[(long long)d * rows.dStride]) * rows.scale : 0.0f;
  float high = d + 1 < HEAD_DIM ? wide(from[(long long)(d + 1) * rows.dStride]) * rows.scale : 0.0f;
  return packed(low, high);
}

/** COLUMNS positions from `base` on, by all threads of the block. Neighbouring threads read what lies side by side. */
template <class Number>
__device__ __forceinline__ void loadHalves(const Rows<Number>& rows, int base, Half (*to)[ROW]) {
  bool isAcross = rows.dStride != 1;
  for (int i = threadIdx.x; i < COLUMNS * WIDTH / 2; i += THREADS) {
    // Of past keys a warp takes 8 positions of 4 pairs, which go to 32 banks.
    int at = isAcross ? i / 32 % (COLUMNS / 8) * 8 + i % 8 : i / (WIDTH / 2);
    int pair = isAcross ? i / (4 * COLUMNS) * 4 + i % 32 / 8 : i % (WIDTH / 2);
    *(unsigned*)&to[at][2 * pair] = pairAt(rows, base + at, 2 * pair);
  }
}

/** 16 positions from `first` on as left factors of this warp. */
template <class Number>
__device__ __forceinline__ void loadLeft(const Rows<Number>& rows, int first, unsigned (&out)[STEPS][4]) {
  int group = threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
#pragma unroll
  for (int i = 0; i < STEPS; i++)
#pragma unroll
    for (int r = 0; r < 4; r++) out[i][r] = pairAt(rows, first + group + r % 2 * 8, 16 * i + 2 * pair + r / 2 * 8);
}

/** Right factors of a product over d: 16 positions from `position` on, 16 numbers from `d` on; two for each 8 positions. */
__device__ __forceinline__ void loadRight(unsigned (&out)[4], const Half (*tile)[ROW], int position, int d) {
  int lane = threadIdx.x % 32;
  loadMatrices(out, &tile[position + lane / 16 * 8 + lane % 8][d + lane / 8 % 2 * 8]);
}

/** Right factors of a product over the same positions; two for each 8 numbers. */
__device__ __forceinline__ void loadRightOver(unsigned (&out)[4], const Half (*tile)[ROW], int position, int d) {
  int lane = threadIdx.x % 32;
  loadTransposed(out, &tile[position + lane / 8 % 2 * 8 + lane % 8][d + lane / 16 * 8]);
}

/** sums += left · tileᵀ for 16 positions of the tile: the first 8, then the others. */
__device__ __forceinline__ void multiplyRows(float (&sums)[2][4], const unsigned (&left)[STEPS][4], const Half (*tile)[ROW], int position) {
#pragma unroll
  for (int i = 0; i < STEPS; i++) {
    unsigned right[4];
    loadRight(right, tile, position, 16 * i);
    multiplyAdd(sums[0], left[i], right[0], right[1]);
    multiplyAdd(sums[1], left[i], right[2], right[3]);
  }
}

/** sums += left · tile over 16 positions of the tile, where `left` are sums of `multiplyRows` over them, rounded. */
__device__ __forceinline__ void multiplyOver(float (&sums)[2 * STEPS][4], const float (&left)[2][4], const Half (*tile)[ROW], int position) {
  unsigned factor[4] = {packed(left[0][0], left[0][1]), packed(left[0][2], left[0][3]), packed(left[1][0], left[1][1]), packed(left[1][2], left[1][3])};
#pragma unroll
  for (int i = 0; i < STEPS; i++) {
    unsigned right[4];
    loadRightOver(right, tile, position, 16 * i);
    multiplyAdd(sums[2 * i], factor, right[0], right[1]);
    multiplyAdd(sums[2 * i + 1], factor, right[2], right[3]);
  }
}

/** Of the four lanes that have parts of one row. */
__device__ __forceinline__ float groupSum(float value) {
  value += __shfl_xor_sync(ALL_LANES, value, 1);
  return value + __shfl_xor_sync(ALL_LANES, value, 2);
}

__device__ __forceinline__ float groupMax(float value) {
  value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, 1));
  return fmaxf(value, __shfl_xor_sync(ALL_LANES, value, 2));
}

/** The new positions of one head of one row, before `end`. */
__device__ __forceinline__ Rows<float> newRows(const float* __restrict__ from, int stride, int count, int b, int h, int end, float scale) {
  return {from == nullptr ? nullptr : from + (long long)b * count * stride + h * HEAD_DIM, stride, 1, end, scale};
}

template <class Number>
__device__ __forceinline__ Rows<Number> pastKeysOf(const void* __restrict__ keys, const AttentionShape& s, int b, int h, int end) {
  return {(const Number*)keys + pastAt(s, b, h), 1, s.past, end, 1.0f};
}

template <class Number>
__device__ __forceinline__ Rows<Number> pastValuesOf(const void* __restrict__ values, const AttentionShape& s, int b, int h, int end) {
  return {(const Number*)values + pastAt(s, b, h), HEAD_DIM, 1, end, 1.0f};
}

/** What a block of queries sees, tile by tile: the past first, then the new keys. */
struct Walk {
  int pastEnd;
  int newEnd;
  int pastTiles;
  int tiles;
};

__device__ __forceinline__ Walk walkOf(const int* __restrict__ lengths, const int* __restrict__ keyLengths, const AttentionShape& s, int b, int first) {
  int pastEnd = seenMaxOf(lengths, s, b, first, BLOCK_ROWS), newEnd = keysEndOf(keyLengths, s, b, first + BLOCK_ROWS);
  int pastTiles = (pastEnd + COLUMNS - 1) / COLUMNS;
  return {pastEnd, newEnd, pastTiles, pastTiles + (newEnd + COLUMNS - 1) / COLUMNS};
}

/** Of a tile of keys: whether they are past ones, the first, and how many times 16 of them a warp looks at. */
struct TileOf {
  bool isPast;
  int base;
  int steps;
};

/** Loads it once every thread is done with the one before. `last`: the last query of the warp. */
__device__ __forceinline__ TileOf loadKeys(const Walk& walk, int tile, int last, const float* __restrict__ k, const float* __restrict__ v, const void* __restrict__ pastKey, const void* __restrict__ pastValue, bool isCausal, const AttentionShape& s, int b, int h, Half (*keys)[ROW], Half (*values)[ROW]) {
  bool isPast = tile < walk.pastTiles;
  int base = (isPast ? tile : tile - walk.pastTiles) * COLUMNS, end = isPast ? walk.pastEnd : walk.newEnd;
  __syncthreads();
  if (!isPast) {
    loadHalves(newRows(k, s.keyStride, s.keys, b, h, end, 1.0f), base, keys);
    loadHalves(newRows(v, s.valueStride, s.keys, b, h, end, 1.0f), base, values);
  } else if (s.pastIsHalf) {
    loadHalves(pastKeysOf<Half>(pastKey, s, b, h, end), base, keys);
    loadHalves(pastValuesOf<Half>(pastValue, s, b, h, end), base, values);
  } else {
    loadHalves(pastKeysOf<float>(pastKey, s, b, h, end), base, keys);
    loadHalves(pastValuesOf<float>(pastValue, s, b, h, end), base, values);
  }
  __syncthreads();
  // A warp whose queries come before all of them sees none.
  int seenEnd = isPast || !isCausal ? end : min(end, last + 1);
  return {isPast, base, (min(COLUMNS, seenEnd - base) + 15) / 16};
}
