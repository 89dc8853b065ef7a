// Rows of a table at indices, and the opposite direction: rows added into zeros at indices.

/** One block a row. `stride` is from one row of the table to the next. */
extern "C" __global__ void __launch_bounds__(128) gather(const float* __restrict__ table, const int* __restrict__ indices, float* __restrict__ out, int width, int stride) {
  const float* from = table + (long long)indices[blockIdx.x] * stride;
  float* to = out + (long long)blockIdx.x * width;
  if (width % 4 == 0 && stride % 4 == 0 && areAligned(table, table, out)) {
    for (int i = threadIdx.x; i < width / 4; i += blockDim.x) ((float4*)to)[i] = ((const float4*)from)[i];
  } else {
    for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = from[i];
  }
}

extern "C" __global__ void __launch_bounds__(128) gather_bfloat16(const unsigned short* __restrict__ table, const int* __restrict__ indices, float* __restrict__ out, int width, int stride) {
  const unsigned short* from = table + (long long)indices[blockIdx.x] * stride;
  float* to = out + (long long)blockIdx.x * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = fromBfloat16(from[i]);
}

extern "C" __global__ void __launch_bounds__(128) gather_float16(const unsigned short* __restrict__ table, const int* __restrict__ indices, float* __restrict__ out, int width, int stride) {
  const unsigned short* from = table + (long long)indices[blockIdx.x] * stride;
  float* to = out + (long long)blockIdx.x * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = fromFloat16(from[i]);
}

/** One block for each row of `out`: it looks through all indices, so rows are added in their order and no bit is left to chance. */
extern "C" __global__ void __launch_bounds__(128) scatter_add(const float* __restrict__ rows, const int* __restrict__ indices, float* __restrict__ out, int count, int width) {
  __shared__ int hits[128];
  int own = (int)blockIdx.x;
  float* to = out + (long long)own * width;
  for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] = 0.0f;
  for (int base = 0; base < count; base += 128) {
    __syncthreads();
    int at = base + (int)threadIdx.x;
    hits[threadIdx.x] = at < count ? indices[at] : -1;
    __syncthreads();
    for (int j = 0; j < 128 && base + j < count; j++) {
      if (hits[j] != own) continue;
      // Each thread adds to columns of its own.
      for (int i = threadIdx.x; i < width; i += blockDim.x) to[i] += rows[(long long)(base + j) * width + i];
    }
  }
}
