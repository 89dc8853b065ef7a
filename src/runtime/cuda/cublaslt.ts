// Matrix products by cuBLASLt: rows of ours are columns of its, so that nothing is transposed in memory.
import assert from 'node:assert/strict'
import { bind, pointerOut, type Bound } from './bindings.ts'
import { loadLibrary } from './library.ts'

const signatures = {
  cublasLtCreate: ['void *'],
  cublasLtMatmulDescCreate: ['void *', 'int', 'int'],
  cublasLtMatmulDescDestroy: ['uint64_t'],
  cublasLtMatmulDescSetAttribute: ['uint64_t', 'int', 'void *', 'size_t'],
  cublasLtMatrixLayoutCreate: ['void *', 'int', 'uint64_t', 'uint64_t', 'int64_t'],
  cublasLtMatrixLayoutDestroy: ['uint64_t'],
  cublasLtMatmulPreferenceCreate: ['void *'],
  cublasLtMatmulPreferenceDestroy: ['uint64_t'],
  cublasLtMatmulPreferenceSetAttribute: ['uint64_t', 'int', 'void *', 'size_t'],
  cublasLtMatmulAlgoGetHeuristic: [
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'int',
    'void *',
    'void *',
  ] as ('uint64_t' | 'int' | 'void *')[],
  cublasLtMatmul: [
    'uint64_t',
    'uint64_t',
    'void *',
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'void *',
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'uint64_t',
    'void *',
    'uint64_t',
    'size_t',
    'uint64_t',
  ] as ('uint64_t' | 'void *' | 'size_t')[],
} as const

/** Of cublasLt.h, cublas_api.h and library_types.h. */
const compute32F = 68
const types = { float32: 0, float16: 2, bfloat16: 14 } as const
const attribute = { transposeA: 3, transposeB: 4, epilogue: 7, biasPointer: 8 } as const
const preference = { workspaceBytes: 1, alignment: [5, 6, 7, 8] } as const
const epilogues = { default: 1, bias: 4, gelu: 32, geluBias: 36 } as const
const notSupported = 15
/** cublasLtMatmulHeuristicResult_t: the algorithm, 64 bytes, then what it needs. */
const heuristicBytes = 96
const algorithmBytes = 64

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
  readonly #api: Bound<typeof signatures>
  readonly #handle: bigint
  readonly #workspace: bigint
  /** By everything that the choice depends on; null where there is none. */
  readonly #algorithms = new Map<string, Uint8Array | null>()

  private constructor(api: Bound<typeof signatures>, handle: bigint, workspace: bigint) {
    this.#api = api
    this.#handle = handle
    this.#workspace = workspace
  }

  /** The device must be in use. Throws `CudaUnavailable`. */
  static open(folders: readonly string[], allocateWorkspace: () => bigint): CublasLt {
    const api = bind(loadLibrary('cublasLt', folders), 'cuBLASLt', signatures)
    const handle = pointerOut()
    check('cublasLtCreate', api.cublasLtCreate(handle))
    return new CublasLt(api, handle[0] as bigint, allocateWorkspace())
  }

  /** Puts the product on the stream. False where this version has none with gelu for it; nothing is done then. */
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
        assert.ok(product.gelu, `cuBLASLt has no algorithm for a product ${rows} × ${inner} × ${columns}`)
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
    check('cublasLtMatmulDescCreate', this.#api.cublasLtMatmulDescCreate(handle, compute32F, types.float32))
    const op = handle[0] as bigint
    made.push(() => this.#api.cublasLtMatmulDescDestroy(op))
    const set = (name: keyof typeof attribute, value: NodeJS.ArrayBufferView): void =>
      check(name, this.#api.cublasLtMatmulDescSetAttribute(op, attribute[name], value, value.byteLength))
    set('transposeA', Int32Array.of(right.transposed ? 1 : 0))
    set('transposeB', Int32Array.of(left.transposed ? 1 : 0))
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
    set(preference.workspaceBytes, BigUint64Array.of(BigInt(workspaceBytes)))
    preference.alignment.forEach((number, i) => set(number, Uint32Array.of(alignments[i] as number)))
    const [result, count] = [new Uint8Array(heuristicBytes), new Int32Array(1)]
    const status = this.#api.cublasLtMatmulAlgoGetHeuristic(this.#handle, op, a, b, c, d, wanted, 1, result, count)
    this.#api.cublasLtMatmulPreferenceDestroy(wanted)
    if (status !== notSupported) check('cublasLtMatmulAlgoGetHeuristic', status)
    const algorithm = status === 0 && (count[0] as number) > 0 ? result.slice(0, algorithmBytes) : null
    this.#algorithms.set(key, algorithm)
    return algorithm
  }
}

/** The largest power of two, at most 256, that divides an address. */
function alignmentOf(address: bigint): number {
  let alignment = 256
  while (address % BigInt(alignment) !== 0n) alignment /= 2
  return alignment
}

function check(what: string, status: number): void {
  if (status !== 0) throw new Error(`cuBLASLt: ${what} failed with status ${status}`)
}
