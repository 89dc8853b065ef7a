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
