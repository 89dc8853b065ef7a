// Frozen weights on the device, in float32 or 16 bits, once for all programs of a process that use them.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import type { OpName } from '../../graph/ops.ts'
import { readWeight, widened } from '../../tensor/read-weight.ts'
import { sizeOf } from '../../tensor/tensor.ts'
import type { Weight, Weights } from '../../tensor/weights.ts'
import type { Driver } from './driver.ts'
import type { ResidentWeights } from './lowering.ts'
import type { Form } from './steps.ts'
import type { WeightExchange } from './weight-exchange.ts'

export class DeviceWeights {
  readonly #driver: Driver
  readonly #exchange: WeightExchange | null
  /** By checkpoint: its hash, or the object itself where it has none. */
  readonly #sets = new Map<string | Weights, LoadedWeights>()

  /** `exchange`: null where every process has its own. */
  constructor(driver: Driver, exchange: WeightExchange | null = null) {
    this.#driver = driver
    this.#exchange = exchange
  }

  /** Held until `release` was called as often. */
  acquire(weights: Weights): LoadedWeights {
    const key = weights.sha256 ?? weights
    const set = this.#sets.get(key) ?? new LoadedWeights(this.#driver, weights, this.#exchange)
    this.#sets.set(key, set)
    set.users += 1
    return set
  }

  release(set: LoadedWeights): void {
    set.users -= 1
    if (set.users > 0) return
    this.#sets.delete(set.weights.sha256 ?? set.weights)
    set.free()
  }
}

export class LoadedWeights implements ResidentWeights {
  readonly weights: Weights
  users = 0
  readonly #driver: Driver
  readonly #exchange: WeightExchange | null
  readonly #addresses = new Map<string, bigint>()

  constructor(driver: Driver, weights: Weights, exchange: WeightExchange | null) {
    this.#driver = driver
    this.weights = weights
    // Without a hash nobody knows whose weights they are.
    this.#exchange = weights.sha256 === undefined ? null : exchange
  }

  /** Read from its file when first asked for, unless another process lends it. */
  address(name: string, form: Form): bigint {
    const key = `${form} ${name}`
    const known = this.#addresses.get(key)
    if (known !== undefined) return known
    const weight = this.weights.tensors.get(name)
    assert.ok(weight !== undefined, `no weight is named ${name}`)
    const bytes = Math.max(4, sizeOf(weight.shape) * (form === 'float32' ? 4 : 2))
    const shared = `${this.weights.sha256} ${key}`
    const borrowed = this.#exchange?.borrow(shared, bytes, (address) => this.#isAt(address, weight, form)) ?? null
    const address = borrowed ?? this.#driver.allocate(bytes, `weight ${name}`)
    this.#addresses.set(key, address)
    if (borrowed !== null) return address
    this.#driver.upload(address, inForm(weight, this.#read(weight), form))
    if (this.#exchange !== null) {
      // Whoever borrows it looks at once.
      this.#driver.synchronize()
      this.#exchange.lend(shared, bytes, address)
    }
    return address
  }

  free(): void {
    for (const address of this.#addresses.values()) (this.#exchange ?? this.#driver).free(address)
    this.#addresses.clear()
  }

  /** Whether the memory begins as the weight does: what another process says may be out of date. */
  #isAt(address: bigint, weight: Weight, form: Form): boolean {
    const count = Math.min(comparedMax, sizeOf(weight.shape))
    const wanted = inForm(weight, this.#read({ ...weight, bytes: (weight.bytes / sizeOf(weight.shape)) * count }), form)
    const found = new Uint8Array(wanted.byteLength)
    this.#driver.download(found, address)
    this.#driver.synchronize()
    return Buffer.from(wanted.buffer, wanted.byteOffset, wanted.byteLength).equals(found)
  }

  #read(weight: Weight): Uint8Array {
    return readWeight(this.weights.folder, weight)
  }
}

/** Which input each of these takes in the form of the program, where it is a frozen weight; all else is float32. */
const inputInForm: Partial<Record<OpName, number>> = { gather: 0, linear: 1, crossEntropy: 1, crossEntropyGrad: 1 }

/** Before the graph runs: each frozen weight in the form in which the graph's kernels read it. */
export function loadFrozen({ nodes }: Graph, weights: ResidentWeights, form: Form): void {
  for (const node of nodes) {
    node.inputs.forEach(({ node: { op, attributes } }, i) => {
      if (op === 'weight') weights.address(attributes.name, inputInForm[node.op] === i ? form : 'float32')
    })
  }
}

/** Numbers of a borrowed weight that are held against its file. */
const comparedMax = 4096

function inForm({ dtype, name }: Weight, bytes: Uint8Array, form: Form): Float32Array | Uint16Array {
  if (dtype === form && dtype !== 'float32') return new Uint16Array(bytes.buffer)
  const wide = widened({ dtype, name }, bytes)
  if (form === 'float32') return wide
  return form === 'bfloat16' ? roundBfloat16(wide) : roundFloat16(wide)
}

/** To the nearest, and to the even one of two that are as near; not-a-numbers stay what they are. */
export function roundBfloat16(values: Float32Array): Uint16Array {
  return Uint16Array.from(bitsOf(values), (each) =>
    (each & 0x7fffffff) > 0x7f800000 ? (each >>> 16) | 64 : (each + 0x7fff + ((each >>> 16) & 1)) >>> 16,
  )
}

/** The same to binary16; what is too large becomes the largest number there is. */
export function roundFloat16(values: Float32Array): Uint16Array {
  return Uint16Array.from(bitsOf(values), (bits, i) => {
    const [sign, magnitude] = [(bits >>> 16) & 0x8000, bits & 0x7fffffff]
    if (magnitude > 0x7f800000) return sign | 0x7e00
    if (magnitude >= 0x477ff000) return sign | 0x7bff
    if (magnitude >= 0x38800000) return sign | ((magnitude - 0x38000000 + 0xfff + ((magnitude >>> 13) & 1)) >>> 13)
    // Below 2^-14 in units of 2^-24: adding 2^52 leaves a whole number, the even one of two.
    return sign | (Math.abs(values[i] as number) * 2 ** 24 + 2 ** 52 - 2 ** 52)
  })
}

const bitsOf = (values: Float32Array): Uint32Array => new Uint32Array(values.buffer, values.byteOffset, values.length)
