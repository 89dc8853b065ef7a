// Matrix products by cuBLASLt: rows of ours are columns of its, so that nothing is transposed in memory.
import assert from 'node:assert/strict'
import { bind, pointerOut, type Bound } from './bindings.ts'
import { cublasLtNumbers, cublasLtSignatures, heuristicResult } from './cublaslt-api.ts'
import { loadLibrary } from './library.ts'

const types = {
  float32: cublasLtNumbers.CUDA_R_32F,
  float16: cublasLtNumbers.CUDA_R_16F,
  bfloat16: cublasLtNumbers.CUDA_R_16BF,
} as const
const attribute = {
  transposeA: cublasLtNumbers.CUBLASLT_MATMUL_DESC_TRANSA,
  transposeB: cublasLtNumbers.CUBLASLT_MATMUL_DESC_TRANSB,
  epilogue: cublasLtNumbers.CUBLASLT_MATMUL_DESC_EPILOGUE,
  biasPointer: cublasLtNumbers.CUBLASLT_MATMUL_DESC_BIAS_POINTER,
} as const
const epilogues = {
  default: cublasLtNumbers.CUBLASLT_EPILOGUE_DEFAULT,
  bias: cublasLtNumbers.CUBLASLT_EPILOGUE_BIAS,
  gelu: cublasLtNumbers.CUBLASLT_EPILOGUE_GELU,
  geluBias: cublasLtNumbers.CUBLASLT_EPILOGUE_GELU_BIAS,
} as const
/** Of A, B, C and D. */
const alignmentPreferences = [
  cublasLtNumbers.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES,
  cublasLtNumbers.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
  cublasLtNumbers.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES,
  cublasLtNumbers.CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES,
] as const

/** What NVIDIA advises for Hopper; enough for every other. */
export const workspaceBytes = 32 * 2 ** 20

/** One factor: rows of `stride` numbers each, of which the product takes the transpose where told so. */
export interface Factor {
  readonly address: bigint
  readonly stride: number
  readonly type: keyof typeof types
  readonly transposed: boolean
}

/** out [rows, columns] = scale · left [rows, inner] · right [inner, columns] + added + bias, then gelu. */
export interface Product {
  readonly rows: number
  readonly columns: number
  readonly inner: number
  readonly left: Factor
  readonly right: Factor
  readonly out: { readonly address: bigint; readonly stride: number }
  readonly added: { readonly address: bigint; readonly stride: number } | null
  readonly bias: bigint | null
  readonly gelu: boolean
  readonly scale: number
}

export class CublasLt {
  readonly #api: Bound<typeof cublasLtSignatures>
  readonly #handle: bigint
  readonly #workspace: bigint
  /** By everything that the choice depends on; null where there is none. */
  readonly #algorithms = new Map<string, Uint8Array | null>()

  private constructor(api: Bound<typeof cublasLtSignatures>, handle: bigint, workspace: bigint) {
    this.#api = api
    this.#handle = handle
    this.#workspace = workspace
  }

  /** The device must be in use, by a driver for CUDA `versionMax`. Throws `CudaUnavailable`. */
  static open(folders: readonly string[], versionMax: number, allocateWorkspace: () => bigint): CublasLt {
    const api = bind(loadLibrary('cublasLt', folders, versionMax), 'cuBLASLt', cublasLtSignatures)
    const handle = pointerOut()
    check('cublasLtCreate', api.cublasLtCreate(handle))
    return new CublasLt(api, handle[0] as bigint, allocateWorkspace())
  }

  /** Puts the product on the stream. False where this version has none with that bias or gelu behind it; nothing is done then. */
  multiply(product: Product, stream: bigint): boolean {
    const { rows, columns, inner, left, right, out, added } = product
    assert.equal(left.type, right.type, 'factors of a product have one type')
    const made: (() => void)[] = []
    try {
      const op = this.#operation(product, made)
      const layout = (type: Factor['type'], r: number, c: number, stride: number): bigint => {
        const handle = pointerOut()
        // A single row may be laid out anyhow, but cuBLASLt wants a stride of a whole row.
        const leading = BigInt(Math.max(stride, r))
        check('layout', this.#api.cublasLtMatrixLayoutCreate(handle, types[type], BigInt(r), BigInt(c), leading))
        made.push(() => this.#api.cublasLtMatrixLayoutDestroy(handle[0] as bigint))
        return handle[0] as bigint
      }
      // Its first factor is our right one: what we call [inner, columns] it sees as columns × inner.
      const a = right.transposed
        ? layout(right.type, inner, columns, right.stride)
        : layout(right.type, columns, inner, right.stride)
      const b = left.transposed
        ? layout(left.type, rows, inner, left.stride)
        : layout(left.type, inner, rows, left.stride)
      const c = layout('float32', columns, rows, added?.stride ?? out.stride)
      const d = layout('float32', columns, rows, out.stride)
      const algorithm = this.#algorithm(product, [op, a, b, c, d])
      if (algorithm === null) {
        assert.ok(
          product.gelu || product.bias !== null,
          `cuBLASLt has no algorithm for a product ${rows} × ${inner} × ${columns}`,
        )
        return false
      }
      const status = this.#api.cublasLtMatmul(
        this.#handle,
        op,
        Float32Array.of(product.scale),
        right.address,
        a,
        left.address,
        b,
        Float32Array.of(added === null ? 0 : 1),
        (added ?? out).address,
        c,
        out.address,
        d,
        algorithm,
        this.#workspace,
        workspaceBytes,
        stream,
      )
      check(`a product ${rows} × ${inner} × ${columns}`, status)
      return true
    } finally {
      for (const destroy of made) destroy()
    }
  }

  #operation({ left, right, bias, gelu }: Product, made: (() => void)[]): bigint {
    const handle = pointerOut()
    check(
      'cublasLtMatmulDescCreate',
      this.#api.cublasLtMatmulDescCreate(handle, cublasLtNumbers.CUBLAS_COMPUTE_32F, types.float32),
    )
    const op = handle[0] as bigint
    made.push(() => this.#api.cublasLtMatmulDescDestroy(op))
    const set = (name: keyof typeof attribute, value: NodeJS.ArrayBufferView): void =>
      check(name, this.#api.cublasLtMatmulDescSetAttribute(op, attribute[name], value, value.byteLength))
    set('transposeA', Int32Array.of(transposition(right)))
    set('transposeB', Int32Array.of(transposition(left)))
    const epilogue = gelu ? (bias === null ? 'gelu' : 'geluBias') : bias === null ? 'default' : 'bias'
    set('epilogue', Uint32Array.of(epilogues[epilogue]))
    if (bias !== null) set('biasPointer', BigUint64Array.of(bias))
    return op
  }

  #algorithm(product: Product, [op, a, b, c, d]: readonly [bigint, bigint, bigint, bigint, bigint]): Uint8Array | null {
    const { left, right, out, added } = product
    const alignments = [right, left, added ?? out, out].map(({ address }) => alignmentOf(address))
    const key = JSON.stringify(product, (_, value: unknown) => (typeof value === 'bigint' ? alignmentOf(value) : value))
    const known = this.#algorithms.get(key)
    if (known !== undefined) return known
    const handle = pointerOut()
    check('cublasLtMatmulPreferenceCreate', this.#api.cublasLtMatmulPreferenceCreate(handle))
    const wanted = handle[0] as bigint
    const set = (number: number, value: NodeJS.ArrayBufferView): void =>
      check('preference', this.#api.cublasLtMatmulPreferenceSetAttribute(wanted, number, value, value.byteLength))
    set(cublasLtNumbers.CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, BigUint64Array.of(BigInt(workspaceBytes)))
    alignmentPreferences.forEach((number, i) => set(number, Uint32Array.of(alignments[i] as number)))
    const [result, count] = [new Uint8Array(heuristicResult.bytes), new Int32Array(1)]
    const status = this.#api.cublasLtMatmulAlgoGetHeuristic(this.#handle, op, a, b, c, d, wanted, 1, result, count)
    this.#api.cublasLtMatmulPreferenceDestroy(wanted)
    if (status !== cublasLtNumbers.CUBLAS_STATUS_NOT_SUPPORTED) check('cublasLtMatmulAlgoGetHeuristic', status)
    const isFound = status === 0 && (count[0] as number) > 0 && stateOf(result) === 0
    const algorithm = isFound ? result.slice(0, heuristicResult.algorithmBytes) : null
    this.#algorithms.set(key, algorithm)
    return algorithm
  }
}

const transposition = ({ transposed }: Factor): number =>
  transposed ? cublasLtNumbers.CUBLAS_OP_T : cublasLtNumbers.CUBLAS_OP_N

/** Of an answer of the heuristic: whether its algorithm is one. */
const stateOf = (result: Uint8Array): number => new DataView(result.buffer).getInt32(heuristicResult.stateOffset, true)

/** The largest power of two, at most 256, that divides an address. */
function alignmentOf(address: bigint): number {
  let alignment = 256
  while (address % BigInt(alignment) !== 0n) alignment /= 2
  return alignment
}

function check(what: string, status: number): void {
  if (status !== 0) throw new Error(`cuBLASLt: ${what} failed with status ${status}`)
}
