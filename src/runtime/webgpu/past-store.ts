// Stored prefixes in the memory of the device, so that a row begins with one without a word from the host.
import type { CacheLayout, Past } from '../runtime.ts'
import type { Device, DeviceTensor } from './device.ts'

/** Of all of them; the least recently used goes first. */
const bytesMax = 256 * 2 ** 20

interface Stored {
  readonly tensor: DeviceTensor
  readonly bytes: number
}

export class PastStore {
  readonly #device: Device
  readonly #shape: Pick<CacheLayout, 'heads' | 'headDim'>
  /** By the memory of the keys, and what part of it they are: once nobody holds that, they cannot be asked for again. */
  readonly #byNumbers = new WeakMap<ArrayBufferLike, Map<string, Stored>>()
  /** Least recently used first. */
  readonly #order = new Set<Stored>()
  #bytes = 0

  constructor(device: Device, shape: Pick<CacheLayout, 'heads' | 'headDim'>) {
    this.#device = device
    this.#shape = shape
  }

  get bytes(): number {
    return this.#bytes
  }

  /** Keys and values by layer, [2·layers, positions, heads·headDim]. Numbers that were given once must not change. */
  async get({ keys, values, length }: Past): Promise<DeviceTensor> {
    const parts = this.#byNumbers.get(keys.buffer) ?? new Map<string, Stored>()
    this.#byNumbers.set(keys.buffer, parts)
    const part = `${keys.byteOffset} ${keys.length} ${length}`
    const known = parts.get(part)
    if (known !== undefined && this.#order.delete(known)) {
      this.#order.add(known)
      return known.tensor
    }
    const bytes = 2 * keys.byteLength
    this.#makeRoom(bytes)
    const numbers = byPosition([keys, values], length, this.#shape)
    const width = this.#shape.heads * this.#shape.headDim
    const stored = {
      tensor: await this.#device.upload(
        numbers,
        [numbers.length / (length * width), length, width],
        `a prefix of ${length} positions`,
      ),
      bytes,
    }
    parts.set(part, stored)
    this.#order.add(stored)
    this.#bytes += bytes
    return stored.tensor
  }

  dispose(): void {
    for (const stored of this.#order) this.#drop(stored)
  }

  #makeRoom(bytes: number): void {
    for (const stored of this.#order) {
      if (this.#bytes + bytes <= bytesMax) return
      this.#drop(stored)
    }
  }

  #drop(stored: Stored): void {
    this.#order.delete(stored)
    this.#bytes -= stored.bytes
    stored.tensor.dispose()
  }
}

/** [layers, heads, length, headDim] of keys and of values as [2·layers, length, heads·headDim]. */
function byPosition(
  halves: readonly [Float32Array, Float32Array],
  length: number,
  { heads, headDim }: Pick<CacheLayout, 'heads' | 'headDim'>,
): Float32Array {
  const width = heads * headDim
  const size = length * width
  const numbers = new Float32Array(2 * halves[0].length)
  halves.forEach((from, half) => {
    for (let at = 0; at < from.length; at += headDim) {
      const line = at / headDim
      const [layer, head, position] = [
        Math.floor(line / (heads * length)),
        Math.floor(line / length) % heads,
        line % length,
      ]
      const to = (2 * layer + half) * size + position * width + head * headDim
      numbers.set(from.subarray(at, at + headDim), to)
    }
  })
  return numbers
}
