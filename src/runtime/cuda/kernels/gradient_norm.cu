// The norm of all gradients of a training: each block adds the squares of its share, then one block adds those sums, always in the same order.

/** `count` is a multiple of four. */
extern "C" __global__ void __launch_bounds__(256) squares(const float* __restrict__ x, float* __restrict__ sums, int count) {
  float sum = 0.0f;
  for (int at = (blockIdx.x * blockDim.x + threadIdx.x) * 4; at < count; at += gridDim.x * blockDim.x * 4) {
    float4 a = *(const float4*)(x + at);
    sum += (a.x * a.x + a.y * a.y) + (a.z * a.z + a.w * a.w);
  }
  sum = blockSum(sum);
  if (threadIdx.x == 0) sums[blockIdx.x] = sum;
}

extern "C" __global__ void __launch_bounds__(256) norm_of(const float* __restrict__ sums, float* __restrict__ norm, int count) {
  float sum = 0.0f;
  for (int i = threadIdx.x; i < count; i += blockDim.x) sum += sums[i];
  sum = blockSum(sum);
  if (threadIdx.x == 0) norm[0] = sqrtf(sum);
}
