// What we take for NVIDIA's interfaces held against NVIDIA's own headers and cuBLASLt's own library, where they can be had: no device is needed for that.
import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { bind, pointerOut, type Signatures } from '../../../src/runtime/cuda/bindings.ts'
import { cublasLtNumbers as lt, cublasLtSignatures, heuristicResult } from '../../../src/runtime/cuda/cublaslt-api.ts'
import { driverNumbers, driverSignatures, lostNumbers, lostNumbersLater } from '../../../src/runtime/cuda/driver-api.ts'
import { CudaUnavailable, loadLibrary } from '../../../src/runtime/cuda/library.ts'
import { nvrtcSignatures } from '../../../src/runtime/cuda/nvrtc.ts'
import { whyNot } from './stand-in/build.ts'

const libraries = process.env['CUDA_LIBRARIES']?.split(path.delimiter) ?? []
/** Beside the libraries, as in NVIDIA's packages and wheels. */
const includes = [...libraries.map((folder) => path.join(folder, '../include')), '/usr/local/cuda/include'].filter(
  (folder) => existsSync(folder),
)

/** Whether a C type goes where koffi passes one of ours. */
const prelude = `
#include <cstddef>
#include <type_traits>
template <class T> constexpr bool isWhole = std::is_integral_v<T> || std::is_enum_v<T>;
template <size_t bytes> struct Whole { template <class T> static constexpr bool takes = isWhole<T> && sizeof(T) == bytes; };
struct Handle { template <class T> static constexpr bool takes = (isWhole<T> || std::is_pointer_v<T>) && sizeof(T) == 8; };
struct Pointer { template <class T> static constexpr bool takes = std::is_pointer_v<T>; };
struct Text { template <class T> static constexpr bool takes = std::is_same_v<T, const char*>; };
template <class S> struct Same { template <class T> static constexpr bool takes = std::is_same_v<T, S>; };
template <class... Ours> struct Takes {
  template <class R, class... Theirs> static constexpr bool as(R (*)(Theirs...)) {
    if constexpr (sizeof...(Ours) != sizeof...(Theirs)) return false;
    else return Whole<4>::takes<R> && (Ours::template takes<Theirs> && ...);
  }
};
`
const kinds: Readonly<Record<Signatures[string][number], string>> = {
  int: 'Whole<4>',
  uint32_t: 'Whole<4>',
  uint8_t: 'Whole<1>',
  size_t: 'Whole<8>',
  int64_t: 'Whole<8>',
  uint64_t: 'Handle',
  'void *': 'Pointer',
  str: 'Text',
  float: 'Same<float>',
  CUipcMemHandle: 'Same<CUipcMemHandle>',
}

const forSignatures = (signatures: Signatures): string[] =>
  Object.entries(signatures).map(
    ([name, types]) =>
      `static_assert(Takes<${types.map((type) => kinds[type]).join(', ')}>::as(decltype(&${name})(nullptr)), "${name}");`,
  )

const forNumbers = (numbers: Readonly<Record<string, number>>): string[] =>
  Object.entries(numbers).map(([name, value]) => `static_assert((long long)(${name}) == ${value}, "${name}");`)

/** What of the claims does not hold, as the compiler says it. */
function complaints(header: string, claims: readonly string[]): string {
  const source = [`#include <${header}>`, prelude, ...claims].join('\n')
  const args = ['-std=c++17', '-fsyntax-only', ...includes.flatMap((folder) => ['-isystem', folder]), '-x', 'c++', '-']
  return spawnSync('g++', args, { input: source, encoding: 'utf8' }).stderr
}

/** false, or why nothing can be held against the header: it is missing, or one that it includes and that comes with another package. */
function whySkipped(header: string): string | false {
  const reason = whyNot()
  if (reason !== null) return reason
  const missing = /error: (\S+): No such file/.exec(complaints(header, []))?.[1]
  return missing === undefined ? false : `there is no ${missing} beside the folders of CUDA_LIBRARIES`
}

const claims: readonly (readonly [header: string, claims: readonly string[]])[] = [
  [
    'cuda.h',
    [
      ...forSignatures(driverSignatures),
      ...forNumbers({ ...driverNumbers, ...lostNumbers }),
      '#if CUDA_VERSION >= 12090',
      ...forNumbers(lostNumbersLater),
      '#endif',
      `static_assert(sizeof(CUipcMemHandle) == ${driverNumbers.CU_IPC_HANDLE_SIZE}, "");`,
      'static_assert(sizeof(CUuuid) == 16 && sizeof(CUdevice) == 4, "");',
    ],
  ],
  ['nvrtc.h', forSignatures(nvrtcSignatures)],
  [
    'cublasLt.h',
    [
      ...forSignatures(cublasLtSignatures),
      ...forNumbers(lt),
      `static_assert(sizeof(cublasLtMatmulHeuristicResult_t) == ${heuristicResult.bytes}, "");`,
      `static_assert(sizeof(cublasLtMatmulAlgo_t) == ${heuristicResult.algorithmBytes}, "");`,
      'static_assert(offsetof(cublasLtMatmulHeuristicResult_t, algo) == 0, "");',
      `static_assert(offsetof(cublasLtMatmulHeuristicResult_t, state) == ${heuristicResult.stateOffset}, "");`,
    ],
  ],
]

for (const [header, claimed] of claims) {
  test(`functions and numbers are those of ${header}`, { skip: whySkipped(header) }, () => {
    assert.equal(complaints(header, claimed), '')
  })
}

test('what is not as in the headers is found', { skip: whySkipped('nvrtc.h') }, () => {
  const wrong = {
    nvrtcVersion: ['void *'],
    nvrtcGetPTX: ['void *', 'void *', 'int'],
    nvrtcGetCUBIN: ['int', 'void *'],
  } as const
  const found = complaints('nvrtc.h', [...forSignatures(wrong), ...forNumbers({ NVRTC_SUCCESS: 1 })])
  for (const name of [...Object.keys(wrong), 'NVRTC_SUCCESS']) assert.match(found, new RegExp(`failed: ${name}\n`))
})

function openLibrary(name: 'nvrtc' | 'cublasLt'): ReturnType<typeof loadLibrary> | string {
  try {
    return loadLibrary(name, libraries)
  } catch (error) {
    if (error instanceof CudaUnavailable) return error.message
    throw error
  }
}

const library = openLibrary('cublasLt')

test("cuBLASLt's own library has every function, and takes each attribute in the size that we give it", {
  skip: typeof library === 'string' && library,
}, () => {
  assert.ok(typeof library !== 'string')
  const api = bind(library, 'cuBLASLt', cublasLtSignatures)
  const [operation, preference] = [pointerOut(), pointerOut()]
  assert.equal(api.cublasLtMatmulDescCreate(operation, lt.CUBLAS_COMPUTE_32F, lt.CUDA_R_32F), 0)
  assert.equal(api.cublasLtMatmulPreferenceCreate(preference), 0)
  const describe = (name: number, value: NodeJS.ArrayBufferView, bytes = value.byteLength): number =>
    api.cublasLtMatmulDescSetAttribute(operation[0] as bigint, name, value, bytes)
  const prefer = (name: number, value: NodeJS.ArrayBufferView, bytes = value.byteLength): number =>
    api.cublasLtMatmulPreferenceSetAttribute(preference[0] as bigint, name, value, bytes)
  const answers = [
    describe(lt.CUBLASLT_MATMUL_DESC_TRANSA, Int32Array.of(lt.CUBLAS_OP_T)),
    describe(lt.CUBLASLT_MATMUL_DESC_TRANSB, Int32Array.of(lt.CUBLAS_OP_N)),
    describe(lt.CUBLASLT_MATMUL_DESC_EPILOGUE, Uint32Array.of(lt.CUBLASLT_EPILOGUE_GELU_BIAS)),
    describe(lt.CUBLASLT_MATMUL_DESC_BIAS_POINTER, BigUint64Array.of(4096n)),
    prefer(lt.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, BigUint64Array.of(4096n)),
    prefer(lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, Uint32Array.of(16)),
    prefer(lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES, Uint32Array.of(16)),
    prefer(lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, Uint32Array.of(16)),
    prefer(lt.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES, Uint32Array.of(16)),
  ]
  assert.deepEqual(
    answers,
    answers.map(() => lt.CUBLAS_STATUS_SUCCESS),
  )
  // It does look at the size.
  assert.notEqual(describe(lt.CUBLASLT_MATMUL_DESC_EPILOGUE, BigUint64Array.of(1n)), lt.CUBLAS_STATUS_SUCCESS)
  assert.equal(api.cublasLtMatmulDescDestroy(operation[0] as bigint), 0)
  assert.equal(api.cublasLtMatmulPreferenceDestroy(preference[0] as bigint), 0)
})
