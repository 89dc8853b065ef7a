// cuBLASLt's matrix product, answered by loops on the CPU: float32 sums over float32, float16 or bfloat16 numbers.
#include "stand_in.h"
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <vector>

namespace {

enum Status { ok = 0, invalidValue = 7, executionFailed = 13, notSupported = 15 };
enum Type { float32 = 0, float16 = 2, bfloat16 = 14 };
enum Epilogue { plain = 1, bias = 4, gelu = 32 };

struct Matmul {
  int32_t transposeA = 0, transposeB = 0;
  uint32_t epilogue = plain;
  uint64_t biasPointer = 0;
};
struct Layout {
  int type;
  uint64_t rows, columns;
  int64_t leading;

  size_t bytes() const { return ((columns - 1) * leading + rows) * (type == float32 ? 4 : 2); }
};
/** In bytes: where A, B, C and D begin at least. */
struct Preference {
  uint64_t workspace = 0;
  uint32_t alignments[4] = {1, 1, 1, 1};
};

bool meet(const void* a, const Layout& la, const void* b, const Layout& lb) {
  auto *p = static_cast<const char*>(a), *q = static_cast<const char*>(b);
  return p < q + lb.bytes() && q < p + la.bytes();
}

float widen(uint16_t half, int type) {
  uint32_t bits;
  if (type == bfloat16) {
    bits = uint32_t(half) << 16;
  } else {
    uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = half >> 10 & 31, fraction = half & 1023;
    if (exponent == 0) {
      float value = std::ldexp(float(fraction), -24);
      return sign ? -value : value;
    }
    bits = sign | (exponent == 31 ? 255u : exponent + 112) << 23 | fraction << 13;
  }
  float value;
  memcpy(&value, &bits, 4);
  return value;
}

/** A matrix as its product sees it, in float32: element (i, j) at i + j·rows, or at j + i·columns where `rowsFirst` is false. */
std::vector<float> unpack(const void* data, const Layout& layout, bool transposed, bool columnMajor) {
  uint64_t rows = transposed ? layout.columns : layout.rows, columns = transposed ? layout.rows : layout.columns;
  std::vector<float> out(rows * columns);
  for (uint64_t j = 0; j < layout.columns; j++) {
    for (uint64_t i = 0; i < layout.rows; i++) {
      uint64_t from = i + j * layout.leading;
      float value = layout.type == float32 ? static_cast<const float*>(data)[from] : widen(static_cast<const uint16_t*>(data)[from], layout.type);
      uint64_t r = transposed ? j : i, c = transposed ? i : j;
      out[columnMajor ? r + c * rows : c + r * columns] = value;
    }
  }
  return out;
}

float geluOf(float x) { return 0.5f * x * (1.0f + std::tanh(0.7978845608f * (x + 0.044715f * x * x * x))); }

int multiply(const Matmul& op, float alpha, const void* a, const Layout& la, const void* b, const Layout& lb, float beta, const float* c, const Layout& lc, float* d, const Layout& ld) {
  std::vector<float> left = unpack(a, la, op.transposeA, true), right = unpack(b, lb, op.transposeB, true);
  uint64_t m = ld.rows, n = ld.columns, k = op.transposeA ? la.rows : la.columns;
  std::vector<float> sums(m);
  auto* biases = reinterpret_cast<const float*>(op.biasPointer);
  for (uint64_t j = 0; j < n; j++) {
    std::fill(sums.begin(), sums.end(), 0.0f);
    for (uint64_t p = 0; p < k; p++) {
      float factor = right[p + j * k];
      const float* column = &left[p * m];
      for (uint64_t i = 0; i < m; i++) sums[i] += factor * column[i];
    }
    for (uint64_t i = 0; i < m; i++) {
      float value = alpha * sums[i];
      if (beta != 0) value += beta * c[i + j * lc.leading];
      if (op.epilogue & bias) value += biases[i];
      d[i + j * ld.leading] = op.epilogue & gelu ? geluOf(value) : value;
    }
  }
  return standin::success;
}

}  // namespace

EXPORT int cublasLtCreate(uint64_t* handle) { return *handle = 1, ok; }
EXPORT int cublasLtDestroy(uint64_t) { return ok; }
EXPORT size_t cublasLtGetVersion() { return 120900; }
EXPORT const char* cublasLtGetStatusString(int status) { return status == invalidValue ? "an invalid value" : status == notSupported ? "not supported" : "failed"; }
EXPORT int cublasLtMatmulDescCreate(uint64_t* op, int compute, int scale) {
  if (compute != 68 || scale != float32) return notSupported;
  return *op = reinterpret_cast<uint64_t>(new Matmul), ok;
}
EXPORT int cublasLtMatmulDescDestroy(uint64_t op) { return delete reinterpret_cast<Matmul*>(op), ok; }
EXPORT int cublasLtMatmulDescSetAttribute(uint64_t handle, int attribute, const void* value, size_t bytes) {
  auto* op = reinterpret_cast<Matmul*>(handle);
  void* to = attribute == 3 ? &op->transposeA : attribute == 4 ? &op->transposeB : attribute == 7 ? static_cast<void*>(&op->epilogue) : attribute == 8 ? &op->biasPointer : nullptr;
  if (to == nullptr || bytes != (attribute == 8 ? 8u : 4u)) return invalidValue;
  return memcpy(to, value, bytes), ok;
}
EXPORT int cublasLtMatrixLayoutCreate(uint64_t* layout, int type, uint64_t rows, uint64_t columns, int64_t leading) {
  if (rows == 0 || columns == 0 || leading < int64_t(rows)) return invalidValue;
  return *layout = reinterpret_cast<uint64_t>(new Layout{type, rows, columns, leading}), ok;
}
EXPORT int cublasLtMatrixLayoutDestroy(uint64_t layout) { return delete reinterpret_cast<Layout*>(layout), ok; }
EXPORT int cublasLtMatmulPreferenceCreate(uint64_t* preference) { return *preference = reinterpret_cast<uint64_t>(new Preference), ok; }
EXPORT int cublasLtMatmulPreferenceDestroy(uint64_t preference) { return delete reinterpret_cast<Preference*>(preference), ok; }
EXPORT int cublasLtMatmulPreferenceSetAttribute(uint64_t handle, int attribute, const void* value, size_t bytes) {
  auto* preference = reinterpret_cast<Preference*>(handle);
  if (attribute == 1 && bytes == 8) return memcpy(&preference->workspace, value, 8), ok;
  if (attribute < 5 || attribute > 8 || bytes != 4) return invalidValue;
  return memcpy(&preference->alignments[attribute - 5], value, 4), ok;
}

EXPORT int cublasLtMatmulAlgoGetHeuristic(uint64_t, uint64_t operation, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t preference, int, void* results, int* count) {
  auto* op = reinterpret_cast<Matmul*>(operation);
  auto *la = reinterpret_cast<Layout*>(a), *lb = reinterpret_cast<Layout*>(b), *lc = reinterpret_cast<Layout*>(c), *ld = reinterpret_cast<Layout*>(d);
  uint64_t k = op->transposeA ? la->rows : la->columns;
  bool fits = (op->transposeA ? la->columns : la->rows) == ld->rows && (op->transposeB ? lb->rows : lb->columns) == ld->columns &&
              (op->transposeB ? lb->columns : lb->rows) == k && lc->rows == ld->rows && lc->columns == ld->columns;
  *count = 0;
  if (!fits) return invalidValue;
  // As some of NVIDIA's versions do for some types: whoever asked must have another way.
  const char* refused = getenv("STAND_IN_WITHOUT_EPILOGUES");
  bool isRefused = refused != nullptr && (op->epilogue & strtoul(refused, nullptr, 10)) != 0;
  if (la->type != lb->type || lc->type != float32 || ld->type != float32 || isRefused) return notSupported;
  memset(results, 0, 96);
  // An algorithm counts on what it was asked for with.
  memcpy(results, reinterpret_cast<Preference*>(preference), sizeof(Preference));
  return *count = 1, ok;
}
EXPORT int cublasLtMatmul(uint64_t, uint64_t operation, const void* alpha, const void* a, uint64_t la, const void* b, uint64_t lb, const void* beta, const void* c, uint64_t lc, void* d, uint64_t ld, const void* algorithm, void* workspace, size_t workspaceBytes, uint64_t stream) {
  Matmul op = *reinterpret_cast<Matmul*>(operation);
  Layout layoutA = *reinterpret_cast<Layout*>(la), layoutB = *reinterpret_cast<Layout*>(lb), layoutC = *reinterpret_cast<Layout*>(lc), layoutD = *reinterpret_cast<Layout*>(ld);
  Preference asked;
  memcpy(&asked, algorithm, sizeof(asked));
  const void* places[] = {a, b, c, d};
  for (int i = 0; i < 4; i++)
    if (reinterpret_cast<uint64_t>(places[i]) % asked.alignments[i] != 0) return invalidValue;
  if (workspaceBytes < asked.workspace || reinterpret_cast<uint64_t>(workspace) % 256 != 0) return invalidValue;
  // The result may take the place of what is added, and of nothing else.
  bool isInPlace = c == d && layoutC.leading == layoutD.leading;
  bool isAdded = *static_cast<const float*>(beta) != 0;
  if (meet(a, layoutA, d, layoutD) || meet(b, layoutB, d, layoutD) || (isAdded && !isInPlace && meet(c, layoutC, d, layoutD))) return invalidValue;
  if ((op.epilogue & bias) && op.biasPointer % 16 != 0) return invalidValue;
  float scaleProduct = *static_cast<const float*>(alpha), scaleAdded = *static_cast<const float*>(beta);
  int result = standin::enqueue(stream, [=] { return multiply(op, scaleProduct, a, layoutA, b, layoutB, scaleAdded, static_cast<const float*>(c), layoutC, static_cast<float*>(d), layoutD); });
  return result == standin::success ? ok : executionFailed;
}
