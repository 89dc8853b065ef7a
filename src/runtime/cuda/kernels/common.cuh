// What the kernels share: sums over a warp or a block, in a fixed order, and numbers of 16 bits.
#define ALL_LANES 0xffffffffu
/** Below every score, and still a number: a difference of two of them is 0, not undefined. */
#define LOWEST (-3.0e38f)

__device__ __forceinline__ float warpSum(float value) {
  for (int step = 16; step > 0; step /= 2) value += __shfl_xor_sync(ALL_LANES, value, step);
  return value;
}

__device__ __forceinline__ float warpMax(float value) {
  for (int step = 16; step > 0; step /= 2) value = fmaxf(value, __shfl_xor_sync(ALL_LANES, value, step));
  return value;
}

/** Of a block of 256 threads, in thread 0. */
__device__ __forceinline__ float blockSum(float value) {
  __shared__ float partial[8];
  value = warpSum(value);
  if (threadIdx.x % 32 == 0) partial[threadIdx.x / 32] = value;
  __syncthreads();
  float total = 0.0f;
  if (threadIdx.x == 0)
    for (int i = 0; i < 8; i++) total += partial[i];
  return total;
}

/** bfloat16 is the upper half of a float32. */
__device__ __forceinline__ float fromBfloat16(unsigned short half) { return __uint_as_float((unsigned)half << 16); }

/** To the nearest, and to the even one of two that are as near; not-a-numbers stay what they are. */
__device__ __forceinline__ unsigned short toBfloat16(float value) {
  unsigned bits = __float_as_uint(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return (unsigned short)(bits >> 16 | 64);
  return (unsigned short)((bits + 0x7fffu + (bits >> 16 & 1)) >> 16);
}

/** IEEE 754 binary16: a sign, 5 bits of exponent, 10 of fraction. */
__device__ __forceinline__ float fromFloat16(unsigned short half) {
  unsigned sign = (half & 0x8000u) << 16, rest = half & 0x7fffu;
  // Below 2^-14 the fraction alone counts, in units of 2^-24.
  if (rest < 0x400u) return __uint_as_float(sign | __float_as_uint((float)rest * 5.9604644775390625e-8f));
  return __uint_as_float(sign | (rest >= 0x7c00u ? 0x7f800000u | rest << 13 : (rest << 13) + 0x38000000u));
}

/** To the nearest, as above; what is too large becomes the largest number there is. */
__device__ __forceinline__ unsigned short toFloat16(float value) {
  unsigned bits = __float_as_uint(value), sign = bits >> 16 & 0x8000u, magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return (unsigned short)(sign | 0x7e00u);
  if (magnitude >= 0x477ff000u) return (unsigned short)(sign | 0x7bffu);
  if (magnitude < 0x38800000u) return (unsigned short)(sign | (unsigned)rintf(__uint_as_float(magnitude) * 16777216.0f));
  return (unsigned short)(sign | (magnitude - 0x38000000u + 0xfffu + (magnitude >> 13 & 1)) >> 13);
}

/** Whether four numbers at a time can be read and written at these places: parts of a whole may begin anywhere. */
__device__ __forceinline__ bool areAligned(const void* a, const void* b, const void* c) {
  return (((unsigned long long)a | (unsigned long long)b | (unsigned long long)c) & 15) == 0;
}
