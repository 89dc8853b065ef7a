// Attention over past and new keys and values, causal or not, in one pass (online softmax: Milakov & Gimelshein 2018; Dao et al. 2022).

/** One block for PER_BLOCK queries of one head of one row; a lane has one key of a tile, then HEAD_DIM/32 numbers of the output. */
extern "C" __global__ void __launch_bounds__(THREADS) attention(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ pastKey, const float* __restrict__ pastValue, const int* __restrict__ lengths, const int* __restrict__ keyLengths, float* __restrict__ out, float* logSums, AttentionShape s) {
  __shared__ float keys[TILE][HEAD_DIM + 1], values[TILE][HEAD_DIM + 1], queries[PER_BLOCK][HEAD_DIM], weights[WARPS][PER_WARP][TILE];
  int b = blockIdx.z, h = blockIdx.y, first = blockIdx.x * PER_BLOCK, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  long long row = (long long)b * s.queries;
  loadOwn(q + row * s.queryStride + h * HEAD_DIM, s.queryStride, first, s.queries, queries);
  int seen[PER_WARP];
  float largest[PER_WARP], sum[PER_WARP], acc[PER_WARP][PER_LANE];
  for (int i = 0; i < PER_WARP; i++) {
    int query = first + warp * PER_WARP + i;
    seen[i] = query < s.queries ? seenOf(lengths, s, b, query) : 0;
    largest[i] = LOWEST;
    sum[i] = 0.0f;
    for (int j = 0; j < PER_LANE; j++) acc[i][j] = 0.0f;
  }
  Seen all = seenBy(k, v, pastKey, pastValue, lengths, keyLengths, s, b, h, first);
  for (int tile = 0; tile < all.tiles; tile++) {
    bool isPast = tile < all.pastTiles;
    int base = loadTile(all, s, tile, keys, values);
    float score[PER_WARP];
    for (int i = 0; i < PER_WARP; i++) score[i] = 0.0f;
    for (int d = 0; d < HEAD_DIM; d++) {
      float key = keys[lane][d];
      for (int i = 0; i < PER_WARP; i++) score[i] += queries[warp * PER_WARP + i][d] * key;
    }
    for (int i = 0; i < PER_WARP; i++) {
      int query = first + warp * PER_WARP + i;
      bool visible = query < s.queries && (isPast ? base + lane < seen[i] : base + lane < all.newEnd && (keyLengths != nullptr || base + lane <= query));
      float scaled = visible ? score[i] * s.scale : LOWEST;
      float larger = fmaxf(largest[i], warpMax(scaled));
      float kept = expf(largest[i] - larger), weight = visible ? expf(scaled - larger) : 0.0f;
      largest[i] = larger;
      // Each lane sums its own keys; the lanes are added once, at the end.
      sum[i] = sum[i] * kept + weight;
      for (int j = 0; j < PER_LANE; j++) acc[i][j] *= kept;
      weights[warp][i][lane] = weight;
    }
    __syncwarp();
    for (int key = 0; key < TILE; key++) {
      for (int j = 0; j < PER_LANE; j++) {
        int d = lane + 32 * j;
        float value = d < HEAD_DIM ? values[key][d] : 0.0f;
        for (int i = 0; i < PER_WARP; i++) acc[i][j] += weights[warp][i][key] * value;
      }
    }
    __syncwarp();
  }
  for (int i = 0; i < PER_WARP; i++) {
    int query = first + warp * PER_WARP + i;
    float total = warpSum(sum[i]);
    if (query >= s.queries) continue;
    for (int j = 0; j < PER_LANE; j++) {
      int d = lane + 32 * j;
      if (d < HEAD_DIM) out[(row + query) * s.outStride + h * HEAD_DIM + d] = acc[i][j] / total;
    }
    if (lane == 0 && logSums != nullptr) logSums[((long long)b * s.heads + h) * s.queries + query] = largest[i] + logf(total);
  }
}

#define DECODE_WARPS 8

/** One query a row, with its own new key or none: the warps of a block share the past among them, and their parts are joined at the end. */
extern "C" __global__ void __launch_bounds__(32 * DECODE_WARPS) attention_decode(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ pastKey, const float* __restrict__ pastValue, const int* __restrict__ lengths, const int* __restrict__ keyLengths, float* __restrict__ out, AttentionShape s) {
  __shared__ float query[HEAD_DIM], weights[DECODE_WARPS][TILE], parts[DECODE_WARPS][HEAD_DIM], largests[DECODE_WARPS], sums[DECODE_WARPS];
  int b = blockIdx.z, h = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32, seen = seenOf(lengths, s, b, 0);
  const float* keys = pastKey + pastAt(s, b, h);
  const float* values = pastValue + pastAt(s, b, h);
  for (int d = threadIdx.x; d < HEAD_DIM; d += blockDim.x) query[d] = q[(long long)b * s.queryStride + h * HEAD_DIM + d];
  __syncthreads();
  float largest = LOWEST, sum = 0.0f, acc[PER_LANE];
  for (int j = 0; j < PER_LANE; j++) acc[j] = 0.0f;
  if (warp == 0 && s.keys > 0) {
    // The new key sees itself: it begins the first warp's part.
    float product = 0.0f;
    for (int d = lane; d < HEAD_DIM; d += 32) product += query[d] * k[(long long)b * s.keyStride + h * HEAD_DIM + d];
    largest = warpSum(product) * s.scale;
    sum = lane == 0 ? 1.0f : 0.0f;
    for (int j = 0; j < PER_LANE; j++) {
      int d = lane + 32 * j;
      if (d < HEAD_DIM) acc[j] = v[(long long)b * s.valueStride + h * HEAD_DIM + d];
    }
  }
  for (int base = warp * TILE; base < seen; base += DECODE_WARPS * TILE) {
    bool visible = base + lane < seen;
    float score = 0.0f;
    if (visible)
      for (int d = 0; d < HEAD_DIM; d++) score += query[d] * keys[(long long)d * s.past + base + lane];
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
        for (int key = 0; key < TILE && base + key < seen; key++) total += weights[warp][key] * values[(long long)(base + key) * HEAD_DIM + d];
      acc[j] = total;
    }
    __syncwarp();
  }
  sum = warpSum(sum);
  for (int j = 0; j < PER_LANE; j++)
    if (lane + 32 * j < HEAD_DIM) parts[warp][lane + 32 * j] = acc[j];
  if (lane == 0) {
    largests[warp] = largest;
    sums[warp] = sum;
  }
  __syncthreads();
  for (int d = threadIdx.x; d < HEAD_DIM; d += blockDim.x) {
    float most = LOWEST, total = 0.0f, value = 0.0f;
    for (int w = 0; w < DECODE_WARPS; w++) most = fmaxf(most, largests[w]);
    for (int w = 0; w < DECODE_WARPS; w++) {
      float share = expf(largests[w] - most);
      total += sums[w] * share;
      value += parts[w][d] * share;
    }
    out[(long long)b * s.outStride + h * HEAD_DIM + d] = value / total;
  }
}
