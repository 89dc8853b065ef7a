// Sums over some axes, always in the same order: one thread for each sum, or one block where the sums are few and long.

struct Reduction {
  int keptRank;
  int kept[6];
  int keptStrides[6];
  int summedRank;
  int summed[6];
  int summedStrides[6];
};

__device__ __forceinline__ int keptAt(const Reduction& s, int at) {
  int from = 0;
  for (int axis = s.keptRank - 1; axis >= 0; axis--) {
    from += at % s.kept[axis] * s.keptStrides[axis];
    at /= s.kept[axis];
  }
  return from;
}

__device__ __forceinline__ int summedAt(const Reduction& s, int at) {
  int from = 0;
  for (int axis = s.summedRank - 1; axis >= 0; axis--) {
    from += at % s.summed[axis] * s.summedStrides[axis];
    at /= s.summed[axis];
  }
  return from;
}

extern "C" __global__ void __launch_bounds__(256) sum_each(const float* __restrict__ in, float* __restrict__ out, Reduction s, int sums, int terms) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= sums) return;
  const float* from = in + keptAt(s, at);
  float sum = 0.0f;
  for (int i = 0; i < terms; i++) sum += from[summedAt(s, i)];
  out[at] = sum;
}

extern "C" __global__ void __launch_bounds__(256) sum_block(const float* __restrict__ in, float* __restrict__ out, Reduction s, int terms) {
  const float* from = in + keptAt(s, blockIdx.x);
  float sum = 0.0f;
  for (int i = threadIdx.x; i < terms; i += blockDim.x) sum += from[summedAt(s, i)];
  sum = blockSum(sum);
  if (threadIdx.x == 0) out[blockIdx.x] = sum;
}
