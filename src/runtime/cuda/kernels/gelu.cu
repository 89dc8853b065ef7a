// GPT-2's tanh form of gelu and its gradient, four numbers a thread; behind a product with its bias; and gelu itself.
#define GELU_SCALE 0.7978845608028654f
#define GELU_CUBIC 0.044715f

/** y = x·(1 + tanh(√(2/π)·(x + 0.044715·x³)))/2 */
__device__ __forceinline__ float geluOf(float x) { return 0.5f * x * (1.0f + tanhf(GELU_SCALE * (x + GELU_CUBIC * x * x * x))); }

__device__ __forceinline__ float geluSlope(float x) {
  float t = tanhf(GELU_SCALE * (x + GELU_CUBIC * x * x * x));
  return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * GELU_SCALE * (1.0f + 3.0f * GELU_CUBIC * x * x);
}

extern "C" __global__ void __launch_bounds__(256) gelu(const float* x, float* out, int count) {
  int at = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (at + 4 <= count && areAligned(x, x, out)) {
    float4 v = *(const float4*)(x + at);
    *(float4*)(out + at) = make_float4(geluOf(v.x), geluOf(v.y), geluOf(v.z), geluOf(v.w));
  } else {
    for (int end = at + 4; at < end && at < count; at++) out[at] = geluOf(x[at]);
  }
}

extern "C" __global__ void __launch_bounds__(256) gelu_gradient(const float* x, const float* ct, float* out, int count) {
  int at = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (at + 4 <= count && areAligned(x, ct, out)) {
    float4 v = *(const float4*)(x + at), c = *(const float4*)(ct + at);
    *(float4*)(out + at) = make_float4(c.x * geluSlope(v.x), c.y * geluSlope(v.y), c.z * geluSlope(v.z), c.w * geluSlope(v.w));
  } else {
    for (int end = at + 4; at < end && at < count; at++) out[at] = ct[at] * geluSlope(x[at]);
  }
}

/** Rows of `width` numbers, `stride` apart, with the bias added where it is not null, then gelu where it is asked for: what cuBLASLt mostly does itself. */
extern "C" __global__ void __launch_bounds__(256) add_bias(float* out, const float* __restrict__ bias, int width, int stride, int isGelu, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  float* number = out + (long long)(at / width) * stride + at % width;
  float sum = *number + (bias == nullptr ? 0.0f : bias[at % width]);
  *number = isGelu ? geluOf(sum) : sum;
}

/** Φ(x): of the complement, so that little is left of large negative numbers and not nothing. */
__device__ __forceinline__ float normalOf(float x) { return 0.5f * erfcf(-x * 0.7071067811865476f); }

/** y = x·Φ(x) */
extern "C" __global__ void __launch_bounds__(256) exact_gelu(const float* x, float* out, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at < count) out[at] = x[at] * normalOf(x[at]);
}

/** dy/dx = Φ(x) + x·φ(x) */
extern "C" __global__ void __launch_bounds__(256) exact_gelu_gradient(const float* x, const float* ct, float* out, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  float v = x[at];
  out[at] = ct[at] * (normalOf(v) + v * 0.3989422804014327f * expf(-0.5f * v * v));
}
