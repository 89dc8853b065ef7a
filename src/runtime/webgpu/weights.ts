// Frozen weights on the device in float32, once for all programs of a process that use them.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import { readWeight, widened } from '../../tensor/read-weight.ts'
import type { Weights } from '../../tensor/weights.ts'
import { weightInput } from '../onnx/emitter.ts'
import type { Device, DeviceTensor } from './device.ts'

export class DeviceWeights {
  readonly #device: Device
  /** By checkpoint: its hash, or the object itself where it has none. */
  readonly #sets = new Map<string | Weights, WeightSet>()

  constructor(device: Device) {
    this.#device = device
  }

  /** Held until `release` was called as often. */
  acquire(weights: Weights): WeightSet {
    const key = weights.sha256 ?? weights
    const set = this.#sets.get(key) ?? new WeightSet(this.#device, weights)
    this.#sets.set(key, set)
    set.users += 1
    return set
  }

  release(set: WeightSet): void {
    set.users -= 1
    if (set.users > 0) return
    this.#sets.delete(set.weights.sha256 ?? set.weights)
    set.dispose()
  }
}

export class WeightSet {
  readonly weights: Weights
  users = 0
  readonly #device: Device
  readonly #loaded = new Map<string, Promise<DeviceTensor>>()

  constructor(device: Device, weights: Weights) {
    this.#device = device
    this.weights = weights
  }

  /** Those of a graph, as inputs of its programs. Read from their files when first asked for. */
  async feedsOf({ nodes }: Graph): Promise<Record<string, DeviceTensor>> {
    const feeds: Record<string, DeviceTensor> = {}
    for (const { op, attributes } of nodes)
      if (op === 'weight') feeds[weightInput(attributes.name)] = await this.#get(attributes.name)
    return feeds
  }

  dispose(): void {
    // One that could not be loaded has said so to whoever asked for it.
    for (const loaded of this.#loaded.values()) void loaded.then((tensor) => tensor.dispose()).catch(() => undefined)
    this.#loaded.clear()
  }

  #get(name: string): Promise<DeviceTensor> {
    const known = this.#loaded.get(name)
    if (known !== undefined) return known
    const loaded = this.#load(name)
    this.#loaded.set(name, loaded)
    return loaded
  }

  async #load(name: string): Promise<DeviceTensor> {
    const weight = this.weights.tensors.get(name) ?? assert.fail(`no weight is named ${name}`)
    const numbers = widened(weight, readWeight(this.weights.folder, weight))
    return this.#device.upload(numbers, weight.shape, `weight ${name}`)
  }
}
