// Copies numbers from one order of axes to another: transposes, stretched axes, parts of a whole.

/** Last axis last. */
struct Strides {
  int rank;
  int extents[6];
  int from[6];
  int to[6];
};

extern "C" __global__ void __launch_bounds__(256) copy_strided(const float* __restrict__ in, float* __restrict__ out, Strides s, int count) {
  int at = blockIdx.x * blockDim.x + threadIdx.x;
  if (at >= count) return;
  int from = 0, to = 0;
  for (int axis = s.rank - 1; axis >= 0; axis--) {
    int i = at % s.extents[axis];
    at /= s.extents[axis];
    from += i * s.from[axis];
    to += i * s.to[axis];
  }
  out[to] = in[from];
}
