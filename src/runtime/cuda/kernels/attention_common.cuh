// What attention forward and backward share: the geometry, and what a query sees. HEAD_DIM is given by who compiles.
#define WARPS 4
#define THREADS (32 * WARPS)
/** Numbers of a head that one lane takes, 32 apart. */
#define PER_LANE ((HEAD_DIM + 31) / 32)

struct AttentionShape {
  int queries;
  /** New ones of each row: as many as queries where attention is causal. */
  int keys;
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
  /** 1 where past keys and values are numbers of 16 bits. */
  int pastIsHalf;
  float scale;
  /** By which gradients are multiplied before they are rounded to 16 bits. */
  float gradientScale;
};

__device__ __forceinline__ int seenOf(const int* __restrict__ lengths, const AttentionShape& s, int b, int query) {
  int row = s.lengthsPerRow ? b : 0;
  return s.lengthsPerQuery ? lengths[row * s.queries + query] : lengths[row];
}

/** The most that any of `count` queries from `first` on sees of the past. */
__device__ __forceinline__ int seenMaxOf(const int* __restrict__ lengths, const AttentionShape& s, int b, int first, int count) {
  int seenMax = 0;
  for (int i = 0; i < count && first + i < s.queries; i++) seenMax = max(seenMax, seenOf(lengths, s, b, first + i));
  return seenMax;
}

/** Where the new keys end that queries before `queryEnd` see. Without `keyLengths` each sees those up to its own. */
__device__ __forceinline__ int keysEndOf(const int* __restrict__ keyLengths, const AttentionShape& s, int b, int queryEnd) {
  if (keyLengths != nullptr) return keyLengths[b];
  return queryEnd < s.keys ? queryEnd : s.keys;
}

__device__ __forceinline__ long long pastAt(const AttentionShape& s, int b, int h) {
  return ((long long)(s.pastPerRow ? b : 0) * s.heads + h) * HEAD_DIM * s.past;
}
