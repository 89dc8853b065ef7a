// The gradient of attention: with a = softmax(s), ds = a·(da − Σ a·da), dq = ds·k/√d, dk = dsᵀ·q/√d, dv = aᵀ·do. No atomics: every
// number is written by one thread that adds in a fixed order.

/** dq, and Σ a·da = Σ do·o of each query for the kernel below. Laid out as the forward kernel is. */
extern "C" __global__ void __launch_bounds__(THREADS) attention_gradient_queries(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ pastKey, const float* __restrict__ pastValue, const int* __restrict__ lengths, const int* __restrict__ keyLengths, const float* __restrict__ out, const float* __restrict__ logSums, const float* __restrict__ ct, int ctStride, float* dq, int dqStride, float* __restrict__ means, AttentionShape s) {
  __shared__ float keys[TILE][HEAD_DIM + 1], values[TILE][HEAD_DIM + 1], queries[PER_BLOCK][HEAD_DIM], cts[PER_BLOCK][HEAD_DIM], slopes[WARPS][PER_WARP][TILE];
  int b = blockIdx.z, h = blockIdx.y, first = blockIdx.x * PER_BLOCK, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  long long row = (long long)b * s.queries, statistics = ((long long)b * s.heads + h) * s.queries;
  loadOwn(q + row * s.queryStride + h * HEAD_DIM, s.queryStride, first, s.queries, queries);
  loadOwn(ct + row * ctStride + h * HEAD_DIM, ctStride, first, s.queries, cts);
  int seen[PER_WARP];
  __syncthreads();
  float mean[PER_WARP], logSum[PER_WARP], acc[PER_WARP][PER_LANE];
  for (int i = 0; i < PER_WARP; i++) {
    int query = first + warp * PER_WARP + i;
    bool exists = query < s.queries;
    seen[i] = exists ? seenOf(lengths, s, b, query) : 0;
    logSum[i] = exists ? logSums[statistics + query] : 0.0f;
    float product = 0.0f;
    if (exists)
      for (int d = lane; d < HEAD_DIM; d += 32) product += cts[warp * PER_WARP + i][d] * out[(row + query) * s.outStride + h * HEAD_DIM + d];
    mean[i] = warpSum(product);
    if (exists && lane == 0) means[statistics + query] = mean[i];
    for (int j = 0; j < PER_LANE; j++) acc[i][j] = 0.0f;
  }
  if (dq == nullptr) return;
  Seen all = seenBy(k, v, pastKey, pastValue, lengths, keyLengths, s, b, h, first);
  for (int tile = 0; tile < all.tiles; tile++) {
    bool isPast = tile < all.pastTiles;
    int base = loadTile(all, s, tile, keys, values);
    for (int i = 0; i < PER_WARP; i++) {
      int query = first + warp * PER_WARP + i;
      bool visible = query < s.queries && (isPast ? base + lane < seen[i] : base + lane < all.newEnd && (keyLengths != nullptr || base + lane <= query));
      float score = 0.0f, product = 0.0f;
      for (int d = 0; d < HEAD_DIM; d++) {
        score += queries[warp * PER_WARP + i][d] * keys[lane][d];
        product += cts[warp * PER_WARP + i][d] * values[lane][d];
      }
      slopes[warp][i][lane] = visible ? expf(score * s.scale - logSum[i]) * (product - mean[i]) * s.scale : 0.0f;
    }
    __syncwarp();
    for (int key = 0; key < TILE; key++) {
      for (int j = 0; j < PER_LANE; j++) {
        int d = lane + 32 * j;
        float number = d < HEAD_DIM ? keys[key][d] : 0.0f;
        for (int i = 0; i < PER_WARP; i++) acc[i][j] += slopes[warp][i][key] * number;
      }
    }
    __syncwarp();
  }
  for (int i = 0; i < PER_WARP; i++) {
    int query = first + warp * PER_WARP + i;
    if (query >= s.queries) continue;
    for (int j = 0; j < PER_LANE; j++) {
      int d = lane + 32 * j;
      if (d < HEAD_DIM) dq[(row + query) * dqStride + h * HEAD_DIM + d] = acc[i][j];
    }
  }
}

/**
 * dk and dv: one block for PER_BLOCK keys of one head of one row, past ones first; a lane has one query of a tile. Past keys and
 * values get a gradient for each row, [batch, heads, d, past] and [batch, heads, past, d]. What is not asked for is null.
 */
extern "C" __global__ void __launch_bounds__(THREADS) attention_gradient_keys(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ pastKey, const float* __restrict__ pastValue, const int* __restrict__ lengths, const int* __restrict__ keyLengths, const float* __restrict__ logSums, const float* __restrict__ means, const float* __restrict__ ct, int ctStride, float* dk, int dkStride, float* dv, int dvStride, float* dPastKey, float* dPastValue, AttentionShape s) {
  __shared__ float queries[TILE][HEAD_DIM + 1], cts[TILE][HEAD_DIM + 1], keys[PER_BLOCK][HEAD_DIM], values[PER_BLOCK][HEAD_DIM], weights[WARPS][PER_WARP][TILE], slopes[WARPS][PER_WARP][TILE];
  int b = blockIdx.z, h = blockIdx.y, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int pastBlocks = (s.past + PER_BLOCK - 1) / PER_BLOCK;
  bool isPast = (int)blockIdx.x < pastBlocks;
  int first = (isPast ? blockIdx.x : blockIdx.x - pastBlocks) * PER_BLOCK, end = isPast ? s.past : s.keys;
  float *toKeys = isPast ? dPastKey : dk, *toValues = isPast ? dPastValue : dv;
  if (toKeys == nullptr && toValues == nullptr) return;
  long long row = (long long)b * s.queries, keyRow = (long long)b * s.keys, statistics = ((long long)b * s.heads + h) * s.queries, past = pastAt(s, b, h);
  if (isPast) {
    for (int i = threadIdx.x; i < PER_BLOCK * HEAD_DIM; i += THREADS) {
      int position = first + i % PER_BLOCK, d = i / PER_BLOCK;
      keys[i % PER_BLOCK][d] = position < end ? pastKey[past + (long long)d * s.past + position] : 0.0f;
    }
    loadOwn(pastValue + past, HEAD_DIM, first, end, values);
  } else {
    loadOwn(k + keyRow * s.keyStride + h * HEAD_DIM, s.keyStride, first, end, keys);
    loadOwn(v + keyRow * s.valueStride + h * HEAD_DIM, s.valueStride, first, end, values);
  }
  float keyAcc[PER_WARP][PER_LANE], valueAcc[PER_WARP][PER_LANE];
  for (int i = 0; i < PER_WARP; i++)
    for (int j = 0; j < PER_LANE; j++) keyAcc[i][j] = valueAcc[i][j] = 0.0f;
  int keyEnd = keysEndOf(keyLengths, s, b, s.queries);
  // Where attention is causal no query before a new key sees it.
  for (int base = isPast || keyLengths != nullptr ? 0 : first / TILE * TILE; base < s.queries; base += TILE) {
    __syncthreads();
    loadRows(q + row * s.queryStride + h * HEAD_DIM, s.queryStride, base, s.queries, queries);
    loadRows(ct + row * ctStride + h * HEAD_DIM, ctStride, base, s.queries, cts);
    __syncthreads();
    int query = base + lane;
    bool exists = query < s.queries;
    int seen = exists && isPast ? seenOf(lengths, s, b, query) : 0;
    float logSum = exists ? logSums[statistics + query] : 0.0f, mean = exists ? means[statistics + query] : 0.0f;
    for (int i = 0; i < PER_WARP; i++) {
      int position = first + warp * PER_WARP + i;
      bool visible = exists && position < end && (isPast ? position < seen : position < keyEnd && (keyLengths != nullptr || position <= query));
      float score = 0.0f, product = 0.0f;
      for (int d = 0; d < HEAD_DIM; d++) {
        score += keys[warp * PER_WARP + i][d] * queries[lane][d];
        product += values[warp * PER_WARP + i][d] * cts[lane][d];
      }
      float weight = visible ? expf(score * s.scale - logSum) : 0.0f;
      weights[warp][i][lane] = weight;
      slopes[warp][i][lane] = visible ? weight * (product - mean) * s.scale : 0.0f;
    }
    __syncwarp();
    for (int at = 0; at < TILE; at++) {
      for (int j = 0; j < PER_LANE; j++) {
        int d = lane + 32 * j;
        float number = d < HEAD_DIM ? queries[at][d] : 0.0f, cotangent = d < HEAD_DIM ? cts[at][d] : 0.0f;
        for (int i = 0; i < PER_WARP; i++) {
          keyAcc[i][j] += slopes[warp][i][at] * number;
          valueAcc[i][j] += weights[warp][i][at] * cotangent;
        }
      }
    }
    __syncwarp();
  }
  long long pastOut = ((long long)b * s.heads + h) * HEAD_DIM * s.past;
  for (int i = 0; i < PER_WARP; i++) {
    int position = first + warp * PER_WARP + i;
    if (position >= end) continue;
    for (int j = 0; j < PER_LANE; j++) {
      int d = lane + 32 * j;
      if (d >= HEAD_DIM) continue;
      long long keyTo = isPast ? pastOut + (long long)d * s.past + position : (keyRow + position) * dkStride + h * HEAD_DIM + d;
      long long valueTo = isPast ? pastOut + (long long)position * HEAD_DIM + d : (keyRow + position) * dvStride + h * HEAD_DIM + d;
      if (toKeys != nullptr) toKeys[keyTo] = keyAcc[i][j];
      if (toValues != nullptr) toValues[valueTo] = valueAcc[i][j];
    }
  }
}
