// Attention in 16 bits on tensor cores, in one pass (online softmax; Dao 2023, arXiv 2307.08691, algorithm 1): products of numbers of 16
// bits, everything else in float32. A lane has two queries, 8 apart, and of each tile two neighbouring keys in eight.

/** One block for BLOCK_ROWS queries of one head of one row. */
extern "C" __global__ void __launch_bounds__(THREADS) attention_half(const float* __restrict__ q, const float* __restrict__ k, const float* __restrict__ v, const void* __restrict__ pastKey, const void* __restrict__ pastValue, const int* __restrict__ lengths, const int* __restrict__ keyLengths, float* __restrict__ out, float* logSums, AttentionShape s) {
  __shared__ __align__(16) Half keys[COLUMNS][ROW], values[COLUMNS][ROW];
  int b = blockIdx.z, h = blockIdx.y, first = blockIdx.x * BLOCK_ROWS, firstOfWarp = first + threadIdx.x / 32 * 16;
  int own = firstOfWarp + threadIdx.x % 32 / 4, pair = threadIdx.x % 4;
  bool isCausal = keyLengths == nullptr;
  unsigned queries[STEPS][4];
  loadLeft(newRows(q, s.queryStride, s.queries, b, h, s.queries, 1.0f), firstOfWarp, queries);
  int seen[2];
  float largest[2], sum[2], acc[2 * STEPS][4];
  for (int r = 0; r < 2; r++) {
    seen[r] = own + 8 * r < s.queries ? seenOf(lengths, s, b, own + 8 * r) : 0;
    largest[r] = LOWEST;
    sum[r] = 0.0f;
  }
  for (int i = 0; i < 2 * STEPS; i++)
    for (int c = 0; c < 4; c++) acc[i][c] = 0.0f;
  Walk walk = walkOf(lengths, keyLengths, s, b, first);
  for (int tile = 0; tile < walk.tiles; tile++) {
    TileOf here = loadKeys(walk, tile, firstOfWarp + 15, k, v, pastKey, pastValue, isCausal, s, b, h, keys, values);
    if (firstOfWarp >= s.queries || here.steps <= 0) continue;
    float scores[COLUMNS / 16][2][4];
    float larger[2] = {largest[0], largest[1]};
#pragma unroll
    for (int j = 0; j < COLUMNS / 16; j++) {
      for (int c = 0; c < 8; c++) scores[j][c / 4][c % 4] = 0.0f;
      if (j < here.steps) multiplyRows(scores[j], queries, keys, 16 * j);
      for (int c = 0; c < 8; c++) {
        int r = c / 2 % 2, query = own + 8 * r, key = here.base + 16 * j + c / 4 * 8 + 2 * pair + c % 2;
        bool visible = j < here.steps && query < s.queries && (here.isPast ? key < seen[r] : key < walk.newEnd && (!isCausal || key <= query));
        float& score = scores[j][c / 4][c % 4];
        score = visible ? score * s.scale : LOWEST;
        larger[r] = fmaxf(larger[r], score);
      }
    }
    for (int r = 0; r < 2; r++) {
      larger[r] = groupMax(larger[r]);
      float kept = expf(largest[r] - larger[r]);
      largest[r] = larger[r];
      // Each lane sums its own keys; the lanes are added once, at the end.
      sum[r] *= kept;
      for (int i = 0; i < 2 * STEPS; i++)
        for (int c = 0; c < 2; c++) acc[i][2 * r + c] *= kept;
    }
#pragma unroll
    for (int j = 0; j < COLUMNS / 16; j++) {
      if (j >= here.steps) continue;
      for (int c = 0; c < 8; c++) {
        float& score = scores[j][c / 4][c % 4];
        score = score == LOWEST ? 0.0f : expf(score - largest[c / 2 % 2]);
        sum[c / 2 % 2] += score;
      }
      multiplyOver(acc, scores[j], values, 16 * j);
    }
  }
#pragma unroll
  for (int r = 0; r < 2; r++) {
    float total = groupSum(sum[r]);
    int query = own + 8 * r;
    if (query >= s.queries) continue;
    float* to = out + ((long long)b * s.queries + query) * s.outStride + h * HEAD_DIM;
#pragma unroll
    for (int i = 0; i < 4 * STEPS; i++) {
      int d = i / 2 * 8 + 2 * pair + i % 2;
      if (d < HEAD_DIM) to[d] = acc[i / 2][2 * r + i % 2] / total;
    }
    if (pair == 0 && logSums != nullptr) logSums[((long long)b * s.heads + h) * s.queries + query] = largest[r] + logf(total);
  }
}
