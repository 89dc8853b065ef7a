// The KV cache: keys [layer, row, head, d, position], values [layer, row, head, position, d]; new positions, a prefix, another row.

struct CacheShape {
  int layers;
  int rows;
  int heads;
  int headDim;
  int capacity;
};

/** Of the first number of one head of one row. */
__device__ __forceinline__ long long headAt(const CacheShape& s, int layer, int row, int head) {
  return (((long long)layer * s.rows + row) * s.heads + head) * s.headDim * s.capacity;
}

/** One block for each of `width` new positions of each of the rows from `start`: the first counts[b] of them go behind what is there. */
extern "C" __global__ void __launch_bounds__(128) cache_append(const float* __restrict__ newKeys, const float* __restrict__ newValues, int keyStride, int valueStride, float* __restrict__ keys, float* __restrict__ values, const int* __restrict__ lengths, const int* __restrict__ counts, int layer, int start, int width, CacheShape s) {
  int b = blockIdx.x / width, t = blockIdx.x % width;
  if (t >= counts[b]) return;
  int position = lengths[b] + t;
  for (int i = threadIdx.x; i < s.heads * s.headDim; i += blockDim.x) {
    int d = i % s.headDim;
    long long head = headAt(s, layer, start + b, i / s.headDim);
    keys[head + (long long)d * s.capacity + position] = newKeys[(long long)blockIdx.x * keyStride + i];
    values[head + (long long)position * s.headDim + d] = newValues[(long long)blockIdx.x * valueStride + i];
  }
}

/** One block for each head of each layer: keys and values [layer, head, position, d] become the beginning of `row`. */
extern "C" __global__ void __launch_bounds__(128) cache_seed(const float* __restrict__ pastKeys, const float* __restrict__ pastValues, float* __restrict__ keys, float* __restrict__ values, int row, int length, CacheShape s) {
  long long head = headAt(s, blockIdx.x / s.heads, row, blockIdx.x % s.heads);
  long long from = (long long)blockIdx.x * length * s.headDim;
  for (int i = threadIdx.x; i < length * s.headDim; i += blockDim.x) {
    keys[head + (long long)(i % s.headDim) * s.capacity + i / s.headDim] = pastKeys[from + i];
    values[head + i] = pastValues[from + i];
  }
}

/** One block for each head of each layer: positions from `since` to below `end` of row `from` go to the same places of row `to`. */
extern "C" __global__ void __launch_bounds__(128) cache_copy(float* keys, float* values, int from, int to, int since, int end, CacheShape s) {
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
