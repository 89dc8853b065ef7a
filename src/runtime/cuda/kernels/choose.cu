// The next token of each row from its logits: the largest, or one drawn of those that top-k and top-p leave. One block a row, all sums in a fixed order.
#define CHOICE_THREADS 1024
#define CHOICE_WARPS (CHOICE_THREADS / 32)
#define INFINITE __uint_as_float(0x7f800000u)
#define NO_TOKEN 0x7fffffff

/** Of one row. `scale` is 1 / temperature; 0: the largest logit is taken; below 0: nothing is asked for. */
struct Choice {
  float scale;
  /** 0: all tokens. */
  int topK;
  float topP;
  /** In [0, 1). */
  float uniform;
};

/** Of one logit: `added`; then a penalty divides what is positive and multiplies what is negative; then `taken`, which may be infinite. A token below 0: none. */
struct Change {
  double added;
  double penalty;
  double taken;
  int token;
  int padding;
};

struct Pair {
  float mass;
  float count;
};

/** Added over the block, the same in every thread. `turn` alternates: whoever is late still reads the sums before. */
__device__ __forceinline__ Pair blockPair(Pair own, int& turn) {
  __shared__ Pair partial[2][CHOICE_WARPS];
  own.mass = warpSum(own.mass);
  own.count = warpSum(own.count);
  turn ^= 1;
  if (threadIdx.x % 32 == 0) partial[turn][threadIdx.x / 32] = own;
  __syncthreads();
  Pair all = {0.0f, 0.0f};
  for (int i = 0; i < CHOICE_WARPS; i++) {
    all.mass += partial[turn][i].mass;
    all.count += partial[turn][i].count;
  }
  return all;
}

struct Best {
  float logit;
  int token;
};

__device__ __forceinline__ Best better(Best a, Best b) {
  return b.logit > a.logit || (b.logit == a.logit && b.token < a.token) ? b : a;
}

/** The largest logit and the lowest token that has it, the same in every thread. */
__device__ __forceinline__ Best blockBest(const float* logits, int vocabulary) {
  __shared__ Best partial[CHOICE_WARPS];
  Best own = {-INFINITE, NO_TOKEN};
  for (int v = threadIdx.x; v < vocabulary; v += CHOICE_THREADS)
    if (logits[v] > own.logit) own = {logits[v], v};
  for (int step = 16; step > 0; step /= 2) {
    Best other;
    other.logit = __shfl_xor_sync(ALL_LANES, own.logit, step);
    other.token = __shfl_xor_sync(ALL_LANES, own.token, step);
    own = better(own, other);
  }
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = own;
  __syncthreads();
  Best all = partial[0];
  for (int i = 1; i < CHOICE_WARPS; i++) all = better(all, partial[i]);
  return all;
}

/** Integers in the order of the numbers, and back. */
__device__ __forceinline__ unsigned orderOf(float value) {
  unsigned bits = __float_as_uint(value);
  return bits >> 31 ? ~bits : bits | 0x80000000u;
}
__device__ __forceinline__ float ofOrder(unsigned order) {
  return __uint_as_float(order >> 31 ? order & 0x7fffffffu : ~order);
}

/** The k-th largest logit, by halving: k or more are at least as large as what `low` stands for, fewer as what `high` does. */
__device__ __forceinline__ float kthLargest(const float* logits, int vocabulary, int k, float largest, int& turn) {
  unsigned low = orderOf(-INFINITE), high = orderOf(largest) + 1u;
  while (high - low > 1u) {
    unsigned middle = low + (high - low) / 2u;
    float floor = ofOrder(middle);
    Pair found = {0.0f, 0.0f};
    for (int v = threadIdx.x; v < vocabulary; v += CHOICE_THREADS) found.count += logits[v] >= floor ? 1.0f : 0.0f;
    found = blockPair(found, turn);
    if (found.count < k) high = middle;
    else low = middle;
    if (found.count == k) break;
  }
  return ofOrder(low);
}

/** Weights above `floor` stay, and of those equal to it the ones of tokens up to `last`. */
struct Kept {
  float floor;
  int last;
};

__device__ __forceinline__ float weightIf(Kept kept, const float* weights, int v) {
  float weight = weights[v];
  return weight > kept.floor || (weight == kept.floor && v <= kept.last) ? weight : 0.0f;
}

/** The first tokens, in their order, of those whose weight is `floor`, until there are `wanted`: the last of them. */
__device__ __forceinline__ int lastOfEquals(const float* weights, int vocabulary, float floor, float wanted, int& turn) {
  int low = -1, high = vocabulary - 1;
  while (high - low > 1) {
    int middle = low + (high - low) / 2;
    Pair found = {0.0f, 0.0f};
    for (int v = threadIdx.x; v <= middle; v += CHOICE_THREADS) found.count += weights[v] == floor ? 1.0f : 0.0f;
    found = blockPair(found, turn);
    if (found.count < wanted) low = middle;
    else high = middle;
  }
  return high;
}

/** The smallest set of largest weights that sums to `target`, of equals the lower token first (Holtzman et al. 2020); found by halving as above. */
__device__ __forceinline__ Kept nucleus(const float* weights, int vocabulary, float target, int& turn) {
  unsigned low = 0u, high = __float_as_uint(1.0f) + 1u;
  // Of the weights at least as large as what `low` and `high` stand for.
  Pair atLow = {INFINITE, (float)vocabulary}, atHigh = {0.0f, 0.0f};
  while (high - low > 1u && atLow.count - atHigh.count > 1.0f) {
    unsigned middle = low + (high - low) / 2u;
    float floor = __uint_as_float(middle);
    Pair found = {0.0f, 0.0f};
    for (int v = threadIdx.x; v < vocabulary; v += CHOICE_THREADS) {
      bool isAbove = weights[v] >= floor;
      found.mass += isAbove ? weights[v] : 0.0f;
      found.count += isAbove ? 1.0f : 0.0f;
    }
    found = blockPair(found, turn);
    if (found.mass >= target && found.count > 0.0f) {
      low = middle;
      atLow = found;
    } else {
      high = middle;
      atHigh = found;
    }
  }
  float floor = __uint_as_float(low), equals = atLow.count - atHigh.count;
  if (equals <= 1.0f) return {floor, vocabulary};
  float wanted = fminf(fmaxf(ceilf((target - atHigh.mass) / floor), 1.0f), equals);
  return {floor, wanted == equals ? vocabulary : lastOfEquals(weights, vocabulary, floor, wanted, turn)};
}

/** The token at which the weights, added in the order of tokens, pass `uniform` of their sum. Each warp has a stretch of them. */
__device__ __forceinline__ int drawn(Kept kept, const float* weights, int vocabulary, float uniform) {
  __shared__ float stretches[CHOICE_WARPS];
  __shared__ int answer;
  int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  int length = (vocabulary + CHOICE_THREADS - 1) / CHOICE_THREADS * 32;
  int end = min(vocabulary, (warp + 1) * length);
  float own = 0.0f;
  for (int v = warp * length + lane; v < end; v += 32) own += weightIf(kept, weights, v);
  own = warpSum(own);
  if (lane == 0) stretches[warp] = own;
  __syncthreads();
  float sum = 0.0f;
  int last = 0;
  for (int i = 0; i < CHOICE_WARPS; i++) {
    sum += stretches[i];
    if (stretches[i] > 0.0f) last = i;
  }
  float left = uniform * sum;
  int at = 0;
  while (at < last && left >= stretches[at]) left -= stretches[at++];
  if (warp == at) {
    int token = NO_TOKEN, latest = -1;
    for (int start = warp * length; start < end && token == NO_TOKEN; start += 32) {
      int v = start + lane;
      float weight = v < end ? weightIf(kept, weights, v) : 0.0f, upTo = weight;
      for (int step = 1; step < 32; step *= 2) {
        float before = __shfl_sync(ALL_LANES, upTo, (lane - step) & 31);
        if (lane >= step) upTo += before;
      }
      int found = weight > 0.0f && upTo > left ? v : NO_TOKEN, here = weight > 0.0f ? v : -1;
      for (int step = 16; step > 0; step /= 2) {
        found = min(found, __shfl_xor_sync(ALL_LANES, found, step));
        here = max(here, __shfl_xor_sync(ALL_LANES, here, step));
      }
      token = found;
      latest = max(latest, here);
      left -= __shfl_sync(ALL_LANES, upTo, 31);
    }
    // Where rounding leaves a rest, the last that has any weight.
    if (lane == 0) answer = token == NO_TOKEN ? latest : token;
  }
  __syncthreads();
  return answer;
}

/** Rounded to float32 after each part, as the host does it. */
__device__ __forceinline__ float changed(float logit, const Change& change) {
  float sum = (float)(logit + change.added);
  float penalized = (float)(sum < 0.0f ? sum * change.penalty : sum / change.penalty);
  return (float)(penalized - change.taken);
}

/** `weights` is room for as many numbers as there are logits, and `changes` of each row [changesMax], each token once. A token below 0: no logit is finite. `logprobs` are those of softmax(logits). */
extern "C" __global__ void __launch_bounds__(CHOICE_THREADS) choose(const float* __restrict__ logits, float* weights, const Choice* __restrict__ choices, int* __restrict__ tokens, float* __restrict__ logprobs, const Change* __restrict__ changes, int changesMax, int vocabulary) {
  Choice choice = choices[blockIdx.x];
  if (choice.scale < 0.0f) {
    if (threadIdx.x == 0) {
      tokens[blockIdx.x] = -1;
      logprobs[blockIdx.x] = 0.0f;
    }
    return;
  }
  int turn = 0;
  const float* row = logits + (long long)blockIdx.x * vocabulary;
  float* own = weights + (long long)blockIdx.x * vocabulary;
  Best best = blockBest(row, vocabulary);
  float largest = best.logit;
  Pair all = {0.0f, 0.0f};
  for (int v = threadIdx.x; v < vocabulary; v += CHOICE_THREADS) all.mass += expf(row[v] - largest);
  all = blockPair(all, turn);
  // What is chosen from: the logits, or a copy that the rules have changed.
  const float* seen = row;
  if (changesMax > 0) {
    for (int v = threadIdx.x; v < vocabulary; v += CHOICE_THREADS) own[v] = row[v];
    __syncthreads();
    for (int i = threadIdx.x; i < changesMax; i += CHOICE_THREADS) {
      Change change = changes[(long long)blockIdx.x * changesMax + i];
      if (change.token >= 0) own[change.token] = changed(own[change.token], change);
    }
    __syncthreads();
    seen = own;
    best = blockBest(seen, vocabulary);
  }
  bool isFinite = fabsf(best.logit) < INFINITE && fabsf(largest) < INFINITE;
  int token = isFinite ? best.token : -1;
  if (isFinite && choice.scale > 0.0f) {
    float floor = choice.topK > 0 && choice.topK < vocabulary ? kthLargest(seen, vocabulary, choice.topK, best.logit, turn) : -INFINITE;
    Pair sum = {0.0f, 0.0f};
    // Each thread reads what it writes, so that one may take the place of the other.
    for (int v = threadIdx.x; v < vocabulary; v += CHOICE_THREADS) {
      float logit = seen[v];
      own[v] = logit >= floor ? expf((logit - best.logit) * choice.scale) : 0.0f;
      sum.mass += own[v];
    }
    sum = blockPair(sum, turn);
    Kept kept = {0.0f, vocabulary};
    if (choice.topP < 1.0f) kept = nucleus(own, vocabulary, choice.topP * sum.mass, turn);
    token = drawn(kept, own, vocabulary, choice.uniform);
  }
  if (threadIdx.x > 0) return;
  tokens[blockIdx.x] = token;
  logprobs[blockIdx.x] = token < 0 ? 0.0f : row[token] - largest - logf(all.mass);
}
