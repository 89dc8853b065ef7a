// AdamW (Loshchilov & Hutter 2019, algorithm 2) on all trainables of a training in one pass, gradients clipped to a norm on the way.

struct AdamW {
  float beta1;
  float beta2;
  /** 1 - beta, rounded once. */
  float rest1;
  float rest2;
  float epsilon;
  float clipNorm;
};

/** Of the step: the learning rate over the correction of the first moment, the correction of the second, and the decay. */
struct AdamWStep {
  float rate;
  float secondCorrection;
  float decay;
};

__device__ __forceinline__ void adamwOne(float& parameter, float& first, float& second, float gradient, const AdamW& o, const AdamWStep& step) {
  first = o.beta1 * first + o.rest1 * gradient;
  second = o.beta2 * second + o.rest2 * gradient * gradient;
  parameter = step.decay * parameter - step.rate * first / (sqrtf(second) / step.secondCorrection + o.epsilon);
}

/** Four numbers a thread; `count` is a multiple of four. */
extern "C" __global__ void __launch_bounds__(256) adamw(float* __restrict__ parameters, float* __restrict__ first, float* __restrict__ second, const float* __restrict__ gradients, const float* __restrict__ norm, const AdamWStep* __restrict__ step, AdamW o, int count) {
  int at = (blockIdx.x * blockDim.x + threadIdx.x) * 4;
  if (at >= count) return;
  // As PyTorch's clip_grad_norm_: the 1e-6 keeps a norm of zero from dividing.
  float ratio = o.clipNorm / (norm[0] + 1e-6f), clip = ratio < 1.0f ? ratio : 1.0f;
  AdamWStep now = *step;
  float4 p = *(float4*)(parameters + at), m = *(float4*)(first + at), v = *(float4*)(second + at), g = *(const float4*)(gradients + at);
  adamwOne(p.x, m.x, v.x, g.x * clip, o, now);
  adamwOne(p.y, m.y, v.y, g.y * clip, o, now);
  adamwOne(p.z, m.z, v.z, g.z * clip, o, now);
  adamwOne(p.w, m.w, v.w, g.w * clip, o, now);
  *(float4*)(parameters + at) = p;
  *(float4*)(first + at) = m;
  *(float4*)(second + at) = v;
}
