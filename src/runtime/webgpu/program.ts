// A lowered graph as a session on the device, its weights fed from the device's memory.
import assert from 'node:assert/strict'
import { Tensor as OnnxTensor, type InferenceSession } from 'onnxruntime-node'
import type { Graph } from '../../graph/graph.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import { lower } from '../onnx/lower.ts'
import type { Feeds, Program } from '../runtime.ts'
import type { Device, DeviceTensor, OnnxFeeds } from './device.ts'
import type { DeviceWeights, WeightSet } from './weights.ts'

export interface ProgramParts {
  readonly device: Device
  readonly weights: DeviceWeights
}

/** Outputs come to the host, or stay on the device. */
export class WebgpuProgram implements Program {
  readonly #parts: ProgramParts
  readonly #session: InferenceSession
  readonly #weights: WeightSet
  readonly #weightFeeds: OnnxFeeds
  #isDisposed = false

  private constructor(parts: ProgramParts, session: InferenceSession, weights: WeightSet, weightFeeds: OnnxFeeds) {
    this.#parts = parts
    this.#session = session
    this.#weights = weights
    this.#weightFeeds = weightFeeds
  }

  /** `weights` were acquired for it, and are released with it. */
  static async open(
    parts: ProgramParts,
    graph: Graph,
    weights: WeightSet,
    place: 'host' | 'device' = 'host',
  ): Promise<WebgpuProgram> {
    const model = lower(graph, weights.weights, { provider: 'webgpu' })
    const session = await parts.device.open(model, place)
    return new WebgpuProgram(parts, session, weights, await weights.feedsOf(graph))
  }

  async run(feeds: Feeds): Promise<Record<string, Tensor>> {
    const outputs = await this.runOnDevice(feedsOf(feeds))
    return Object.fromEntries(Object.entries(outputs).map(([name, tensor]) => [name, fromOnnx(tensor)]))
  }

  /** Outputs that stay on the device are the caller's to dispose of, before the program is. */
  runOnDevice(feeds: OnnxFeeds): Promise<Readonly<Record<string, DeviceTensor>>> {
    return this.#parts.device.run(this.#session, { ...this.#weightFeeds, ...feeds })
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return
    this.#isDisposed = true
    await this.#session.release()
    this.#parts.weights.release(this.#weights)
  }
}

export function feedsOf(feeds: Feeds): Record<string, OnnxTensor> {
  return Object.fromEntries(Object.entries(feeds).map(([name, tensor]) => [name, toOnnx(tensor)]))
}

function toOnnx({ data, shape }: Tensor): OnnxTensor {
  if (data instanceof Int32Array) return new OnnxTensor('int32', data, shape)
  assert.ok(data instanceof Float32Array, 'the webgpu runtime takes float32 arrays')
  return new OnnxTensor('float32', data, shape)
}

function fromOnnx({ data, dims }: OnnxTensor): Tensor {
  assert.ok(data instanceof Float32Array)
  return { dtype: 'float32', shape: dims, data }
}
