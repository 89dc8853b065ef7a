// Layer norm over the last axis (Ba et al. 2016) and its gradient, one warp a row, four rows a block.

/** x̂ = (x − mean) / σ, with σ = √(variance + ε); the second pass finds the row in the cache. */
__device__ __forceinline__ void rowMoments(const float* __restrict__ x, int width, float epsilon, float& mean, float& inverse) {
  int lane = threadIdx.x % 32;
  float sum = 0.0f;
  for (int i = lane; i < width; i += 32) sum += x[i];
  mean = warpSum(sum) / width;
  float squares = 0.0f;
  for (int i = lane; i < width; i += 32) squares += (x[i] - mean) * (x[i] - mean);
  inverse = rsqrtf(warpSum(squares) / width + epsilon);
}

extern "C" __global__ void __launch_bounds__(128) layer_norm(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ shift, float* __restrict__ out, int rows, int width, int stride, float epsilon) {
  int row = blockIdx.x * 4 + threadIdx.x / 32;
  if (row >= rows) return;
  const float* from = x + (long long)row * stride;
  float* to = out + (long long)row * width;
  float mean, inverse;
  rowMoments(from, width, epsilon, mean, inverse);
  for (int i = threadIdx.x % 32; i < width; i += 32) to[i] = (from[i] - mean) * inverse * scale[i] + shift[i];
}

/** dx = (g − mean(g) − x̂·mean(g·x̂)) / σ with g = dy·scale, plus `base` where it is not null: the residual's cotangent. */
extern "C" __global__ void __launch_bounds__(128) layer_norm_gradient(const float* __restrict__ x, const float* __restrict__ scale, const float* __restrict__ ct, const float* base, float* out, int rows, int width, float epsilon) {
  int row = blockIdx.x * 4 + threadIdx.x / 32;
  if (row >= rows) return;
  long long start = (long long)row * width;
  float mean, inverse;
  rowMoments(x + start, width, epsilon, mean, inverse);
  float sum = 0.0f, product = 0.0f;
  for (int i = threadIdx.x % 32; i < width; i += 32) {
    float g = ct[start + i] * scale[i];
    sum += g;
    product += g * (x[start + i] - mean) * inverse;
  }
  sum = warpSum(sum) / width;
  product = warpSum(product) / width;
  for (int i = threadIdx.x % 32; i < width; i += 32) {
    float normalized = (x[start + i] - mean) * inverse;
    float value = (ct[start + i] * scale[i] - sum - normalized * product) * inverse;
    out[start + i] = base == nullptr ? value : base[start + i] + value;
  }
}
