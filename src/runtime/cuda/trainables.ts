// The trainables of one training on the device: parameters, moments and gradients, in one piece of memory.
import assert from 'node:assert/strict'
import {
  trainedGroups,
  type AdamWOptions,
  type ResidentTrainables,
  type TrainedGroup,
  type TrainedState,
} from '../training.ts'
import type { Driver } from './driver.ts'

/** Every trainable begins at a multiple of so many numbers, 256 bytes: what lies between them is and stays zero. */
const alignment = 64
/** In the order in which they lie. */
const groups = [...trainedGroups, 'gradients'] as const

let made = 0

export class DeviceTrainables implements ResidentTrainables {
  /** No two of a process have the same. */
  readonly id = made++
  readonly options: AdamWOptions
  /** Numbers of a group, with the gaps. */
  readonly count: number
  readonly #driver: Driver
  readonly #offsets = new Map<string, { readonly offset: number; readonly count: number }>()
  readonly #address: bigint
  #isDisposed = false

  constructor(driver: Driver, state: TrainedState, options: AdamWOptions) {
    this.#driver = driver
    this.options = options
    let end = 0
    for (const [name, { length }] of state.parameters) {
      this.#offsets.set(name, { offset: end, count: length })
      end += Math.ceil(length / alignment) * alignment
    }
    this.count = end
    const bytes = 4 * groups.length * end
    this.#address = driver.allocate(bytes, 'the trainables of a training with their moments')
    driver.fill(this.#address, 0, bytes)
    for (const group of trainedGroups) {
      for (const [name, data] of state[group]) {
        assert.equal(data.length, this.#offsets.get(name)?.count, `${group} of ${name}`)
        driver.upload(this.addressOf(group, name), data)
      }
    }
  }

  /** Of a trainable's first number, or of the group's. */
  addressOf(group: (typeof groups)[number], name?: string): bigint {
    assert.ok(!this.#isDisposed, 'trainables that were given up')
    const offset = name === undefined ? 0 : this.#offsets.get(name)?.offset
    assert.ok(offset !== undefined, `no trainable is named ${name}`)
    return this.#address + BigInt(4 * (groups.indexOf(group) * this.count + offset))
  }

  read(group: TrainedGroup): Map<string, Float32Array> {
    const read = new Map([...this.#offsets].map(([name, { count }]) => [name, new Float32Array(count)]))
    for (const [name, data] of read) this.#driver.download(data, this.addressOf(group, name))
    this.#driver.synchronize()
    return read
  }

  dispose(): void {
    if (this.#isDisposed) return
    this.#isDisposed = true
    this.#driver.free(this.#address)
  }
}
