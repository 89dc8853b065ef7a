// One query a row over a cache in float32 or in 16 bits, split over the positions (flash-decoding: Dao et al. 2023): warps, and blocks
// where there are several, take parts of the past, which are joined behind them, always in the same order.
#define DECODE_WARPS 8
#ifdef HALF
typedef Half Stored;
__device__ __forceinline__ float valueOf(Stored stored) { return fromHalf(stored); }
__device__ __forceinline__ float asStored(float value) { return fromHalf(toHalf(value)); }
#else
typedef float Stored;
__device__ __forceinline__ float valueOf(Stored stored) { return stored; }
__device__ __forceinline__ float asStored(float value) { return value; }
#endif
/** What is known of one part of the past: Σ weight·value, then the largest score, then Σ weight relative to it. */
#define PART (HEAD_DIM + 2)

/** Joins `count` parts, `stride` numbers apart; every thread the number `d`. */
__device__ __forceinline__ float joinedAt(const float* parts, int count, int stride, int d, float& most, float& total) {
  most = LOWEST;
  for (int i = 0; i < count; i++) most = fmaxf(most, parts[i * stride + HEAD_DIM]);
  float value = 0.0f;
  total = 0.0f;
  for (int i = 0; i < count; i++) {
    float share = expf(parts[i * stride + HEAD_DIM] - most);
    total += parts[i * stride + HEAD_DIM + 1] * share;
    value += parts[i * stride + d] * share;
  }
  return value;
}

/** Positions from share·blockIdx.x on, and with the first of them the row's own new key. `parts`: null where there is one block for all, else [row, head, block, PART]. */
extern "C" __global__ void __launch_bounds__(32 * DECODE_WARPS) attention_decode(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const Stored* __restrict__ pastKey, const Stored* __restrict__ pastValue, const int* __restrict__ lengths, float* __restrict__ out, float* __restrict__ parts, int share, AttentionShape s) {
  __shared__ float query[HEAD_DIM], weights[DECODE_WARPS][32], own[DECODE_WARPS][PART];
  int b = blockIdx.z, h = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32, start = blockIdx.x * share;
  int end = min(start + share, seenOf(lengths, s, b, 0));
  const Stored* keys = pastKey + pastAt(s, b, h);
  const Stored* values = pastValue + pastAt(s, b, h);
  for (int d = threadIdx.x; d < HEAD_DIM; d += blockDim.x) query[d] = q[(long long)b * s.queryStride + h * HEAD_DIM + d];
  __syncthreads();
  float largest = LOWEST, sum = 0.0f, acc[PER_LANE];
  for (int j = 0; j < PER_LANE; j++) acc[j] = 0.0f;
  if (warp == 0 && blockIdx.x == 0 && s.keys > 0) {
    // The new key sees itself, rounded as the cache will have it.
    float product = 0.0f;
    for (int d = lane; d < HEAD_DIM; d += 32) product += query[d] * asStored(k[(long long)b * s.keyStride + h * HEAD_DIM + d]);
    largest = warpSum(product) * s.scale;
    sum = lane == 0 ? 1.0f : 0.0f;
    for (int j = 0; j < PER_LANE; j++) {
      int d = lane + 32 * j;
      if (d < HEAD_DIM) acc[j] = asStored(v[(long long)b * s.valueStride + h * HEAD_DIM + d]);
    }
  }
  for (int base = start + warp * 32; base < end; base += DECODE_WARPS * 32) {
    bool visible = base + lane < end;
    float score = 0.0f;
    if (visible)
      for (int d = 0; d < HEAD_DIM; d++) score += query[d] * valueOf(keys[(long long)d * s.past + base + lane]);
    float scaled = visible ? score * s.scale : LOWEST;
    float larger = fmaxf(largest, warpMax(scaled));
    float kept = expf(largest - larger), weight = visible ? expf(scaled - larger) : 0.0f;
    largest = larger;
    sum = sum * kept + weight;
    weights[warp][lane] = weight;
    __syncwarp();
    for (int j = 0; j < PER_LANE; j++) {
      int d = lane + 32 * j;
      float total = acc[j] * kept;
      if (d < HEAD_DIM)
        for (int key = 0; key < 32 && base + key < end; key++) total += weights[warp][key] * valueOf(values[(long long)(base + key) * HEAD_DIM + d]);
      acc[j] = total;
    }
    __syncwarp();
  }
  sum = warpSum(sum);
  for (int j = 0; j < PER_LANE; j++)
    if (lane + 32 * j < HEAD_DIM) own[warp][lane + 32 * j] = acc[j];
  if (lane == 0) {
    own[warp][HEAD_DIM] = largest;
    own[warp][HEAD_DIM + 1] = sum;
  }
  __syncthreads();
  for (int d = threadIdx.x; d < HEAD_DIM; d += blockDim.x) {
    float most, total, value = joinedAt(own[0], DECODE_WARPS, PART, d, most, total);
    if (parts == nullptr) {
      out[(long long)b * s.outStride + h * HEAD_DIM + d] = value / total;
    } else {
      float* to = parts + (((long long)b * s.heads + h) * gridDim.x + blockIdx.x) * PART;
      to[d] = value;
      if (d == 0) {
        to[HEAD_DIM] = most;
        to[HEAD_DIM + 1] = total;
      }
    }
  }
}

/** One block for each head of each row. */
extern "C" __global__ void __launch_bounds__(128) attention_decode_join(const float* __restrict__ parts, float* __restrict__ out, int count, AttentionShape s) {
  int b = blockIdx.z, h = blockIdx.y;
  const float* own = parts + ((long long)b * s.heads + h) * count * PART;
  for (int d = threadIdx.x; d < HEAD_DIM; d += blockDim.x) {
    float most, total, value = joinedAt(own, count, PART, d, most, total);
    out[(long long)b * s.outStride + h * HEAD_DIM + d] = value / total;
  }
}
