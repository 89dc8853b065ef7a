// Sums and products of numbers one by one, with a scalar or broadcast; tanh; fill; rounding to 16 bits.

/** Extents of the result, last axis last, and how far x and y move along each; 0 where they are stretched. */
struct Broadcast {
  int rank;
  int extents[6];
  int x[6];
  int y[6];
};

extern "C" __global__ void __launch_bounds__(256) add_same(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ out, int count) {
  int at = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (at + 4 <= count && areAligned(x, y, out)) {
    float4 a = *(const float4*)(x + at), b = *(const float4*)(y + at);
    *(float4*)(out + at) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
  } else {
    for (int end = at + 4; at < end && at < count; at++) out[at] = x[at] + y[at];
  }
}

extern "C" __global__ void __launch_bounds__(256) mul_same(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ out, int count) {
  int at = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (at + 4 <= count && areAligned(x, y, out)) {
    float4 a = *(const float4*)(x + at), b = *(const float4*)(y + at);
    *(float4*)(out + at) = make_float4(a.x * b.x, a.y * b.y, a.z * b.z, a.w * b.w);
  } else {
    for (int end = at + 4; at < end && at < count; at++) out[at] = x[at] * y[at];
  }
}

extern "C" __global__ void __launch_bounds__(256) add_scalar(const float* __restrict__ x, float* __restrict__ out, float y, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count) out[at] = x[at] + y;
}

extern "C" __global__ void __launch_bounds__(256) mul_scalar(const float* __restrict__ x, float* __restrict__ out, float y, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count) out[at] = x[at] * y;
}

__device__ __forceinline__ void broadcastAt(const Broadcast& s, int at, int& x, int& y) {
  x = y = 0;
  for (int axis = s.rank - 1; axis >= 0; axis--) {
    int i = at % s.extents[axis];
    at /= s.extents[axis];
    x += i * s.x[axis];
    y += i * s.y[axis];
  }
}

extern "C" __global__ void __launch_bounds__(256) add_broadcast(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ out, Broadcast s, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x, i, j;
  if (at >= count) return;
  broadcastAt(s, at, i, j);
  out[at] = x[i] + y[j];
}

extern "C" __global__ void __launch_bounds__(256) mul_broadcast(const float* __restrict__ x, const float* __restrict__ y, float* __restrict__ out, Broadcast s, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x, i, j;
  if (at >= count) return;
  broadcastAt(s, at, i, j);
  out[at] = x[i] * y[j];
}

extern "C" __global__ void __launch_bounds__(256) tanh_of(const float* __restrict__ x, float* __restrict__ out, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count) out[at] = tanhf(x[at]);
}

extern "C" __global__ void __launch_bounds__(256) fill(float* __restrict__ out, float value, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count) out[at] = value;
}

/** Rows of `width` numbers, `stride` apart, packed. */
extern "C" __global__ void __launch_bounds__(256) to_bfloat16(const float* __restrict__ x, unsigned short* __restrict__ out, int width, int stride, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count) out[at] = toBfloat16(x[(long long)(at / width) * stride + at % width]);
}

/** The same, of numbers that are multiplied by a power of two first. */
extern "C" __global__ void __launch_bounds__(256) to_float16(const float* __restrict__ x, unsigned short* __restrict__ out, int width, int stride, int count, float scale) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count) out[at] = toFloat16(x[(long long)(at / width) * stride + at % width] * scale);
}
