// Gradients of several batches of one optimizer step, added to their sum number by number.

extern "C" __global__ void __launch_bounds__(256) accumulate(const float* x, float* sum, int count) {
  int at = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (at + 4 <= count && areAligned(x, sum, sum)) {
    float4 a = *(const float4*)(sum + at), b = *(const float4*)(x + at);
    *(float4*)(sum + at) = make_float4(a.x + b.x, a.y + b.y, a.z + b.z, a.w + b.w);
  } else {
    for (int end = at + 4; at < end && at < count; at++) sum[at] += x[at];
  }
}
