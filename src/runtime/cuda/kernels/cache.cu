// The KV cache: keys [layer, row, head, d, position], values [layer, row, head, position, d]; new positions, a prefix, another row. In float32 or rounded to 16 bits.

struct CacheShape {
  int layers;
  int rows;
  int heads;
  int headDim;
  int capacity;
  /** Of its numbers: 0 for float32, 1 for bfloat16, 2 for float16. */
  int form;
};

/** Of the first number of one head of one row. */
__device__ __forceinline__ long long headAt(const CacheShape& s, int layer, int row, int head) {
  return (((long long)layer * s.rows + row) * s.heads + head) * s.headDim * s.capacity;
}

__device__ __forceinline__ void store(void* __restrict__ to, long long at, float number, int form) {
  if (form == 0) ((float*)to)[at] = number;
  else ((unsigned short*)to)[at] = form == 1 ? toBfloat16(number) : toFloat16(number);
}

template <class Number>
__device__ __forceinline__ void copyPositions(Number* keys, Number* values, int from, int to, int since, int end, const CacheShape& s) {
  long long source = headAt(s, blockIdx.x / s.heads, from, blockIdx.x % s.heads);
  long long target = headAt(s, blockIdx.x / s.heads, to, blockIdx.x % s.heads);
  int count = end - since;
  for (int i = threadIdx.x; i < count * s.headDim; i += blockDim.x) {
    long long key = (long long)(i / count) * s.capacity + since + i % count;
    keys[target + key] = keys[source + key];
    long long value = (long long)since * s.headDim + i;
    values[target + value] = values[source + value];
  }
}

/** One block for each of `width` new positions of each of the rows from `start`: the first counts[b] of them go behind what is there. */
extern "C" __global__ void __launch_bounds__(128) cache_append(const float* __restrict__ newKeys, const float* __restrict__ newValues, int keyStride, int valueStride, void* __restrict__ keys, void* __restrict__ values, const int* __restrict__ lengths, const int* __restrict__ counts, int layer, int start, int width, CacheShape s) {
  int b = blockIdx.x / width, t = blockIdx.x % width;
  if (t >= counts[b]) return;
  int position = lengths[b] + t;
  for (int i = threadIdx.x; i < s.heads * s.headDim; i += blockDim.x) {
    int d = i % s.headDim;
    long long head = headAt(s, layer, start + b, i / s.headDim);
    store(keys, head + (long long)d * s.capacity + position, newKeys[(long long)blockIdx.x * keyStride + i], s.form);
    store(values, head + (long long)position * s.headDim + d, newValues[(long long)blockIdx.x * valueStride + i], s.form);
  }
}

/** One block for each head of each layer: keys and values [layer, head, position, d] become the beginning of `row`. */
extern "C" __global__ void __launch_bounds__(128) cache_seed(const float* __restrict__ pastKeys, const float* __restrict__ pastValues, void* __restrict__ keys, void* __restrict__ values, int row, int length, CacheShape s) {
  long long head = headAt(s, blockIdx.x / s.heads, row, blockIdx.x % s.heads);
  long long from = (long long)blockIdx.x * length * s.headDim;
  for (int i = threadIdx.x; i < length * s.headDim; i += blockDim.x) {
    store(keys, head + (long long)(i % s.headDim) * s.capacity + i / s.headDim, pastKeys[from + i], s.form);
    store(values, head + i, pastValues[from + i], s.form);
  }
}

/** One block for each head of each layer: positions from `since` to below `end` of row `from` go to the same places of row `to`. */
extern "C" __global__ void __launch_bounds__(128) cache_copy(void* keys, void* values, int from, int to, int since, int end, CacheShape s) {
  if (s.form == 0) copyPositions((float*)keys, (float*)values, from, to, since, end, s);
  else copyPositions((unsigned short*)keys, (unsigned short*)values, from, to, since, end, s);
}
