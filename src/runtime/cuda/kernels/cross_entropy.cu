// Cross-entropy of logits against labels, and its gradient with respect to the logits; one block a row, the softmax in one pass.
#define ENTROPY_THREADS 512

/** Largest logit, the sum of exponentials relative to it, and the plain sum. */
struct RowSums {
  float largest;
  float exponentials;
  float plain;
};

__device__ __forceinline__ RowSums joined(RowSums a, RowSums b) {
  float largest = fmaxf(a.largest, b.largest);
  return {largest, a.exponentials * expf(a.largest - largest) + b.exponentials * expf(b.largest - largest), a.plain + b.plain};
}

/** Of the row, the same in every thread. */
__device__ __forceinline__ RowSums rowSums(const float* __restrict__ logits, int vocabulary) {
  __shared__ RowSums partial[ENTROPY_THREADS / 32];
  RowSums own = {LOWEST, 0.0f, 0.0f};
  for (int v = threadIdx.x; v < vocabulary; v += blockDim.x) {
    float logit = logits[v];
    own.plain += logit;
    if (logit > own.largest) {
      own.exponentials = own.exponentials * expf(own.largest - logit) + 1.0f;
      own.largest = logit;
    } else {
      own.exponentials += expf(logit - own.largest);
    }
  }
  float largest = warpMax(own.largest);
  own.exponentials = warpSum(own.exponentials * expf(own.largest - largest));
  own.plain = warpSum(own.plain);
  own.largest = largest;
  __syncthreads();
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = own;
  __syncthreads();
  RowSums all = partial[0];
  for (int i = 1; i < ENTROPY_THREADS / 32; i++) all = joined(all, partial[i]);
  return all;
}

/** (1 − ε)·nll[label] + ε·mean nll, with nll = log Σ exp − logit. */
__device__ __forceinline__ float lossOf(RowSums sums, float logit, int vocabulary, float smoothing) {
  float logSum = sums.largest + logf(sums.exponentials);
  return (1.0f - smoothing) * (logSum - logit) + smoothing * (logSum - sums.plain / vocabulary);
}

extern "C" __global__ void __launch_bounds__(ENTROPY_THREADS) cross_entropy(const float* __restrict__ logits, const int* __restrict__ labels, float* __restrict__ losses, int vocabulary, float smoothing) {
  const float* row = logits + (long long)blockIdx.x * vocabulary;
  RowSums sums = rowSums(row, vocabulary);
  if (threadIdx.x == 0) losses[blockIdx.x] = lossOf(sums, row[labels[blockIdx.x]], vocabulary, smoothing);
}

/** Logits become their gradient, ct·(softmax − (1 − ε)·onehot(label) − ε/vocabulary); the loss goes beside it where it is asked for. */
extern "C" __global__ void __launch_bounds__(ENTROPY_THREADS) cross_entropy_gradient(float* logits, const int* __restrict__ labels, const float* __restrict__ ct, float* losses, int vocabulary, float smoothing) {
  float* row = logits + (long long)blockIdx.x * vocabulary;
  int label = labels[blockIdx.x];
  RowSums sums = rowSums(row, vocabulary);
  if (threadIdx.x == 0 && losses != nullptr) losses[blockIdx.x] = lossOf(sums, row[label], vocabulary, smoothing);
  // The loss reads what is overwritten next.
  __syncthreads();
  float scale = ct[blockIdx.x], inverse = 1.0f / sums.exponentials;
  for (int v = threadIdx.x; v < vocabulary; v += blockDim.x) {
    float target = smoothing / vocabulary + (v == label ? 1.0f - smoothing : 0.0f);
    row[v] = scale * (expf(row[v] - sums.largest) * inverse - target);
  }
}
