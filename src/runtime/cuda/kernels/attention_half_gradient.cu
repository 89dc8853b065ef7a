// The gradient of attention in 16 bits on tensor cores; formulas and order of sums are those of attention_gradient.cu (Dao 2023, arXiv
// 2307.08691, algorithm 2, in two kernels instead of atomics). Cotangents are multiplied by gradientScale, and what comes of them divided.

/** dq, and Σ do·o of each query, multiplied, for the kernel below. One block for BLOCK_ROWS queries. */
extern "C" __global__ void __launch_bounds__(THREADS) attention_half_gradient_queries(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ pastKey, const float* __restrict__ pastValue, const int* __restrict__ lengths, const int* __restrict__ keyLengths, const float* __restrict__ out, const float* __restrict__ logSums, const float* __restrict__ ct, int ctStride, float* dq, int dqStride, float* __restrict__ means, AttentionShape s) {
  __shared__ __align__(16) Half keys[COLUMNS][ROW], values[COLUMNS][ROW];
  int b = blockIdx.z, h = blockIdx.y, first = blockIdx.x * BLOCK_ROWS, firstOfWarp = first + threadIdx.x / 32 * 16;
  int own = firstOfWarp + threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
  bool isCausal = keyLengths == nullptr;
  long long row = (long long)b * s.queries, statistics = ((long long)b * s.heads + h) * s.queries;
  unsigned queries[STEPS][4], cts[STEPS][4];
  loadLeft(newRows(q, s.queryStride, s.queries, b, h, s.queries, 1.0f), firstOfWarp, queries);
  loadLeft(newRows(ct, ctStride, s.queries, b, h, s.queries, s.gradientScale), firstOfWarp, cts);
  int seen[2];
  float mean[2], logSum[2], acc[2 * STEPS][4];
  for (int r = 0; r < 2; r++) {
    int query = own + 8 * r;
    bool exists = query < s.queries;
    seen[r] = exists ? seenOf(lengths, s, b, query) : 0;
    logSum[r] = exists ? logSums[statistics + query] : 0.0f;
    float product = 0.0f;
    // Of the rounded cotangents, as the products below are: then the slopes of a query add up to zero.
#pragma unroll
    for (int i = 0; i < 4 * STEPS; i++) {
      int d = i / 2 * 8 + 2 * pair + i % 2;
      Half number = (Half)(cts[i / 4][r + i / 2 % 2 * 2] >> 16 * (i % 2));
      if (exists && d < HEAD_DIM) product += fromHalf(number) * out[(row + query) * s.outStride + h * HEAD_DIM + d];
    }
    mean[r] = groupSum(product);
    if (exists && pair == 0) means[statistics + query] = mean[r];
  }
  if (dq == nullptr) return;
  for (int i = 0; i < 2 * STEPS; i++)
    for (int c = 0; c < 4; c++) acc[i][c] = 0.0f;
  Walk walk = walkOf(lengths, keyLengths, s, b, first);
  for (int tile = 0; tile < walk.tiles; tile++) {
    TileOf here = loadKeys(walk, tile, firstOfWarp + 15, k, v, pastKey, pastValue, isCausal, s, b, h, keys, values);
    if (firstOfWarp >= s.queries) continue;
    for (int j = 0; j < here.steps; j++) {
      float slopes[2][4] = {}, products[2][4] = {};
      multiplyRows(slopes, queries, keys, 16 * j);
      multiplyRows(products, cts, values, 16 * j);
      for (int c = 0; c < 8; c++) {
        int r = c / 2 % 2, query = own + 8 * r, key = here.base + 16 * j + c / 4 * 8 + 2 * pair + c % 2;
        bool visible = query < s.queries && (here.isPast ? key < seen[r] : key < walk.newEnd && (!isCausal || key <= query));
        float& slope = slopes[c / 4][c % 4];
        slope = visible ? expf(slope * s.scale - logSum[r]) * (products[c / 4][c % 4] - mean[r]) * s.scale : 0.0f;
      }
      multiplyOver(acc, slopes, keys, 16 * j);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int query = own + 8 * r;
    if (query >= s.queries) continue;
#pragma unroll
    for (int i = 0; i < 4 * STEPS; i++) {
      int d = i / 2 * 8 + 2 * pair + i % 2;
      if (d < HEAD_DIM) dq[(row + query) * dqStride + h * HEAD_DIM + d] = acc[i / 2][2 * r + i % 2] / s.gradientScale;
    }
  }
}

/** dk and dv: one block for BLOCK_ROWS keys of one head of one row, past ones first. What is not asked for is null. */
extern "C" __global__ void __launch_bounds__(THREADS) attention_half_gradient_keys(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const float* __restrict__ pastKey, const float* __restrict__ pastValue, const int* __restrict__ lengths, const int* __restrict__ keyLengths, const float* __restrict__ logSums, const float* __restrict__ means, const float* __restrict__ ct, int ctStride, float* dk, int dkStride, float* dv, int dvStride, float* dPastKey, float* dPastValue, AttentionShape s) {
  __shared__ __align__(16) Half queries[COLUMNS][ROW], cts[COLUMNS][ROW];
  __shared__ float logSum[COLUMNS], mean[COLUMNS];
  __shared__ int seen[COLUMNS];
  int b = blockIdx.z, h = blockIdx.y, pair = threadIdx.x % 4;
  int pastBlocks = (s.past + BLOCK_ROWS - 1) / BLOCK_ROWS;
  bool isPast = (int)blockIdx.x < pastBlocks, isCausal = keyLengths == nullptr;
  int first = (isPast ? blockIdx.x : blockIdx.x - pastBlocks) * BLOCK_ROWS, firstOfWarp = first + threadIdx.x / 32 * 16;
  int own = firstOfWarp + threadIdx.x % 32 / 4, end = isPast ? s.past : keysEndOf(keyLengths, s, b, s.queries);
  float *toKeys = isPast ? dPastKey : dk, *toValues = isPast ? dPastValue : dv;
  if (toKeys == nullptr && toValues == nullptr) return;
  long long statistics = ((long long)b * s.heads + h) * s.queries;
  unsigned keys[STEPS][4], values[STEPS][4];
  if (isPast) {
    loadLeft(pastKeysOf<float>(pastKey, s, b, h, end), firstOfWarp, keys);
    loadLeft(pastValuesOf<float>(pastValue, s, b, h, end), firstOfWarp, values);
  } else {
    loadLeft(newRows(k, s.keyStride, s.keys, b, h, end, 1.0f), firstOfWarp, keys);
    loadLeft(newRows(v, s.valueStride, s.keys, b, h, end, 1.0f), firstOfWarp, values);
  }
  float keyAcc[2 * STEPS][4], valueAcc[2 * STEPS][4];
  for (int i = 0; i < 2 * STEPS; i++)
    for (int c = 0; c < 4; c++) keyAcc[i][c] = valueAcc[i][c] = 0.0f;
  // Where attention is causal no query before a new key sees it.
  bool isBelow = !isPast && isCausal;
  for (int base = isBelow ? first / COLUMNS * COLUMNS : 0; base < s.queries; base += COLUMNS) {
    __syncthreads();
    loadHalves(newRows(q, s.queryStride, s.queries, b, h, s.queries, 1.0f), base, queries);
    loadHalves(newRows(ct, ctStride, s.queries, b, h, s.queries, s.gradientScale), base, cts);
    for (int i = threadIdx.x; i < COLUMNS; i += THREADS) {
      bool exists = base + i < s.queries;
      logSum[i] = exists ? logSums[statistics + base + i] : 0.0f;
      mean[i] = exists ? means[statistics + base + i] : 0.0f;
      seen[i] = exists && isPast ? seenOf(lengths, s, b, base + i) : 0;
    }
    __syncthreads();
    int count = min(COLUMNS, s.queries - base);
    for (int j = isBelow ? max(0, (firstOfWarp - base) / 16) : 0; firstOfWarp < end && 16 * j < count; j++) {
      float weights[2][4] = {}, slopes[2][4] = {};
      multiplyRows(weights, keys, queries, 16 * j);
      multiplyRows(slopes, values, cts, 16 * j);
      for (int c = 0; c < 8; c++) {
        int at = 16 * j + c / 4 * 8 + 2 * pair + c % 2, query = base + at, key = own + c / 2 % 2 * 8;
        bool visible = query < s.queries && key < end && (isPast ? key < seen[at] : !isCausal || key <= query);
        float &weight = weights[c / 4][c % 4], &slope = slopes[c / 4][c % 4];
        weight = visible ? expf(weight * s.scale - logSum[at]) : 0.0f;
        slope = visible ? weight * (slope - mean[at]) * s.scale : 0.0f;
      }
      multiplyOver(valueAcc, weights, cts, 16 * j);
      multiplyOver(keyAcc, slopes, queries, 16 * j);
    }
  }
  long long pastOut = ((long long)b * s.heads + h) * HEAD_DIM * s.past, keyRow = (long long)b * s.keys;
#pragma unroll
  for (int r = 0; r < 2; r++) {
    int key = own + 8 * r;
    // New keys that no query sees have a gradient, too.
    if (key >= (isPast ? s.past : s.keys)) continue;
#pragma unroll
    for (int i = 0; i < 4 * STEPS; i++) {
      int d = i / 2 * 8 + 2 * pair + i % 2;
      if (d >= HEAD_DIM) continue;
      long long keyTo = isPast ? pastOut + (long long)d * s.past + key : (keyRow + key) * dkStride + h * HEAD_DIM + d;
      long long valueTo = isPast ? pastOut + (long long)key * HEAD_DIM + d : (keyRow + key) * dvStride + h * HEAD_DIM + d;
      if (toKeys != nullptr) toKeys[keyTo] = keyAcc[i / 2][2 * r + i % 2] / s.gradientScale;
      if (toValues != nullptr) toValues[valueTo] = valueAcc[i / 2][2 * r + i % 2] / s.gradientScale;
    }
  }
}
