// Runs CUDA kernels on the CPU: threads of a block are fibers that switch at barriers and shuffles.
#pragma once
#include <cmath>
#include <csetjmp>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <tuple>
#include <vector>
#include <ucontext.h>

struct dim3 {
  unsigned x, y, z;
};
struct alignas(16) float4 {
  float x, y, z, w;
};
inline float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }

#ifdef __SANITIZE_ADDRESS__
#include <dlfcn.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace emu {

enum class State { ready, atBlock, atWarp, done };

/** One thread of the block that runs. */
struct Fiber {
  jmp_buf where;
  ucontext_t first;
  std::vector<char> stack;
  State state;
  dim3 index;
  unsigned flat;
  /** Shuffles so far: two slots in turn, so that one meeting of the warp is enough for each. */
  unsigned shuffles;
  bool started = false;
  /** AddressSanitizer's. */
  void* fake = nullptr;
};

constexpr size_t stackBytes = 128 * 1024;
constexpr unsigned warpSize = 32, threadsMax = 1024;

inline std::vector<Fiber> fibers;
inline Fiber* self = nullptr;
inline jmp_buf scheduler;
inline uint64_t lanes[2][threadsMax];
inline dim3 block, grid, blockNumber;
inline const std::function<void()>* body = nullptr;
/** Which threads go first: what is right does not depend on it. */
inline bool backwards = false;

// AddressSanitizer must know on which stack it is.
#ifdef __SANITIZE_ADDRESS__
inline const void* outerStack = nullptr;
inline size_t outerBytes = 0;
inline void* outerFake = nullptr;
/** The C library's own: the sanitizer's would mark a whole stack at every switch, of which there are millions. */
inline void jump(jmp_buf& to) {
  static auto* real = reinterpret_cast<void (*)(__jmp_buf_tag*, int)>(dlsym(dlopen("libc.so.6", RTLD_LAZY | RTLD_NOLOAD), "_longjmp"));
  real(to, 1);
}
inline void leaveFiber() { __sanitizer_start_switch_fiber(&self->fake, outerStack, outerBytes); }
inline void enteredFiber() { __sanitizer_finish_switch_fiber(self->fake, &outerStack, &outerBytes); }
inline void leaveScheduler(Fiber& fiber) { __sanitizer_start_switch_fiber(&outerFake, fiber.stack.data(), fiber.stack.size()); }
inline void enteredScheduler() { __sanitizer_finish_switch_fiber(outerFake, nullptr, nullptr); }
#else
inline void jump(jmp_buf& to) { _longjmp(to, 1); }
inline void leaveFiber() {}
inline void enteredFiber() {}
inline void leaveScheduler(Fiber&) {}
inline void enteredScheduler() {}
#endif

__attribute__((noinline)) inline void wait(State state) {
  self->state = state;
  leaveFiber();
  if (_setjmp(self->where) == 0) jump(scheduler);
  enteredFiber();
}

inline void entry() {
  enteredFiber();
  // A fiber serves one block after the other; `self` is another one whenever it wakes.
  for (;;) {
    (*body)();
    wait(State::done);
  }
}

__attribute__((noinline)) inline void resume(Fiber& fiber) {
  self = &fiber;
  if (!fiber.started) fiber.stack.resize(stackBytes);
  leaveScheduler(fiber);
  if (_setjmp(scheduler) != 0) return enteredScheduler();
  if (fiber.started) jump(fiber.where);
  fiber.started = true;
  getcontext(&fiber.first);
  fiber.first.uc_stack.ss_sp = fiber.stack.data();
  fiber.first.uc_stack.ss_size = fiber.stack.size();
  fiber.first.uc_link = nullptr;
  makecontext(&fiber.first, entry, 0);
  setcontext(&fiber.first);
}

/** Runs the threads of one warp until each is done or waits for the block. Answers whether any ran. */
inline bool runWarp(Fiber* first, unsigned count) {
  bool ran = false;
  for (;;) {
    unsigned waiting = 0, done = 0;
    for (unsigned step = 0; step < count; step++) {
      unsigned i = backwards ? count - 1 - step : step;
      if (first[i].state == State::ready) {
        ran = true;
        resume(first[i]);
      }
      waiting += first[i].state == State::atWarp;
      done += first[i].state == State::done;
    }
    if (waiting == 0 || waiting + done < count) return ran;
    for (unsigned i = 0; i < count; i++)
      if (first[i].state == State::atWarp) first[i].state = State::ready;
  }
}

/** Runs one block; false where some of its threads wait for others that never come. */
inline bool runBlock() {
  unsigned count = block.x * block.y * block.z;
  for (unsigned i = 0; i < count; i++) {
    Fiber& fiber = fibers[i];
    fiber.state = State::ready;
    fiber.flat = i;
    fiber.shuffles = 0;
    fiber.index = {i % block.x, i / block.x % block.y, i / block.x / block.y};
  }
  for (;;) {
    bool ran = false;
    unsigned warps = (count + warpSize - 1) / warpSize;
    for (unsigned step = 0; step < warps; step++) {
      unsigned i = (backwards ? warps - 1 - step : step) * warpSize;
      ran |= runWarp(&fibers[i], count - i < warpSize ? count - i : warpSize);
    }
    unsigned waiting = 0, done = 0;
    for (unsigned i = 0; i < count; i++) {
      waiting += fibers[i].state == State::atBlock;
      done += fibers[i].state == State::done;
    }
    if (done == count) return true;
    if (waiting > 0 && waiting + done == count) {
      for (unsigned i = 0; i < count; i++)
        if (fibers[i].state == State::atBlock) fibers[i].state = State::ready;
    } else if (!ran) {
      // Their stacks are in the middle of a kernel: they are of no use for another.
      fibers.clear();
      return false;
    }
  }
}

/** null, or what went wrong. */
inline const char* run(const std::function<void()>& work, dim3 gridSize, dim3 blockSize) {
  unsigned count = blockSize.x * blockSize.y * blockSize.z;
  if (count == 0 || count > threadsMax || gridSize.x == 0 || gridSize.y == 0 || gridSize.z == 0 || gridSize.y > 65535 || gridSize.z > 65535)
    return "a grid or block of this size cannot be launched";
  if (fibers.size() != threadsMax) fibers = std::vector<Fiber>(threadsMax);
  const char* order = getenv("STAND_IN_ORDER");
  backwards = order != nullptr && strcmp(order, "backwards") == 0;
  body = &work;
  grid = gridSize;
  block = blockSize;
  for (blockNumber.z = 0; blockNumber.z < grid.z; blockNumber.z++)
    for (blockNumber.y = 0; blockNumber.y < grid.y; blockNumber.y++)
      for (blockNumber.x = 0; blockNumber.x < grid.x; blockNumber.x++)
        if (!runBlock()) return "a barrier was reached by some threads of a block and never by the others";
  return nullptr;
}

/** The kernel with its arguments, copied from where the launch points to. */
template <class... A>
std::function<void()>* bind(void (*kernel)(A...), void** parameters) {
  std::tuple<std::decay_t<A>...> arguments;
  size_t i = 0;
  std::apply([&](auto&... each) { ((memcpy(&each, parameters[i++], sizeof(each))), ...); }, arguments);
  return new std::function<void()>([kernel, arguments] { std::apply(kernel, arguments); });
}

template <class T>
T exchange(T value, unsigned from) {
  unsigned slot = self->shuffles++ % 2;
  memcpy(&lanes[slot][self->flat], &value, sizeof(T));
  wait(State::atWarp);
  memcpy(&value, &lanes[slot][from], sizeof(T));
  return value;
}

/** What a lane brings to a product of the warp, widened: its numbers of both factors, in the order of the registers. */
struct Fragment {
  float a[8], b[4];
};
inline Fragment fragments[2][threadsMax];
inline const unsigned short* rows[2][threadsMax];

}  // namespace emu

#define __global__
#define __device__
#define __forceinline__ inline
#define __restrict__
#define __launch_bounds__(...)
#define __align__(n) __attribute__((aligned(n)))
// One block runs at a time.
#define __shared__ static
#define threadIdx (emu::self->index)
#define blockIdx (emu::blockNumber)
#define blockDim (emu::block)
#define gridDim (emu::grid)

inline void __syncthreads() { emu::wait(emu::State::atBlock); }
inline void __syncwarp(unsigned = 0xffffffffu) { emu::wait(emu::State::atWarp); }
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return emu::exchange(value, emu::self->flat / 32 * 32 + unsigned(lane) % 32);
}
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return emu::exchange(value, emu::self->flat / 32 * 32 + ((emu::self->flat % 32) ^ unsigned(mask)));
}
template <class T>
T __shfl_down_sync(unsigned, T value, unsigned delta) {
  unsigned lane = emu::self->flat % 32;
  return emu::exchange(value, lane + delta < 32 ? emu::self->flat + delta : emu::self->flat);
}
inline float __uint_as_float(unsigned bits) {
  float value;
  memcpy(&value, &bits, 4);
  return value;
}
inline unsigned __float_as_uint(float value) {
  unsigned bits;
  memcpy(&bits, &value, 4);
  return bits;
}
template <class T>
T min(T a, T b) {
  return b < a ? b : a;
}
template <class T>
T max(T a, T b) {
  return a < b ? b : a;
}
inline float rsqrtf(float x) { return 1.0f / std::sqrt(x); }

/**
 * mma.sync.aligned.m16n8k16.row.col (PTX ISA 9.7.14): which lane has which numbers is in mma.cuh. `widen` makes a float of 16 bits.
 * Sums are in float32, by columns of a; a device adds in an order of its own.
 */
template <class Widen>
void mmaM16N8K16(float (&sum)[4], const unsigned (&a)[4], unsigned b0, unsigned b1, Widen widen) {
  unsigned slot = emu::self->shuffles++ % 2, lane = emu::self->flat % 32;
  emu::Fragment& own = emu::fragments[slot][emu::self->flat];
  const unsigned b[2] = {b0, b1};
  for (int i = 0; i < 8; i++) own.a[i] = widen((unsigned short)(a[i / 2] >> 16 * (i % 2)));
  for (int i = 0; i < 4; i++) own.b[i] = widen((unsigned short)(b[i / 2] >> 16 * (i % 2)));
  emu::wait(emu::State::atWarp);
  const emu::Fragment* warp = &emu::fragments[slot][emu::self->flat - lane];
  for (int c = 0; c < 4; c++) {
    unsigned row = lane / 4 + c / 2 * 8, column = 2 * (lane % 4) + c % 2;
    float total = 0.0f;
    for (unsigned k = 0; k < 16; k++)
      total += warp[row % 8 * 4 + k % 8 / 2].a[2 * (row / 8 + 2 * (k / 8)) + k % 2] * warp[column * 4 + k % 8 / 2].b[2 * (k / 8) + k % 2];
    sum[c] += total;
  }
}

/** ldmatrix.sync.aligned.m8n8.x4 (PTX ISA 9.7.14), transposed or not. */
inline void ldmatrixX4(unsigned (&out)[4], const unsigned short* row, bool transposed) {
  unsigned slot = emu::self->shuffles++ % 2, lane = emu::self->flat % 32, group = lane / 4, pair = lane % 4 * 2;
  if (reinterpret_cast<uintptr_t>(row) % 16 != 0) {
    fprintf(stderr, "ldmatrix of a misaligned address\n");
    abort();
  }
  emu::rows[slot][emu::self->flat] = row;
  emu::wait(emu::State::atWarp);
  const unsigned short* const* warp = &emu::rows[slot][emu::self->flat - lane];
  for (unsigned m = 0; m < 4; m++) {
    unsigned short low = transposed ? warp[8 * m + pair][group] : warp[8 * m + group][pair];
    unsigned short high = transposed ? warp[8 * m + pair + 1][group] : warp[8 * m + group][pair + 1];
    out[m] = low | unsigned(high) << 16;
  }
}
