// One GPU behind onnxruntime's WebGPU provider: sessions on it, tensors in its memory, and what becomes of its errors.
import assert from 'node:assert/strict'
import { InferenceSession, Tensor as OnnxTensor } from 'onnxruntime-node'
import { sizeOf } from '../../tensor/tensor.ts'
import { type Adapter, describeAdapter } from './adapters.ts'
import { ModelBuilder } from './model-builder.ts'
import { mebibytes } from '../room.ts'

/** float32 numbers on the device, there until `dispose()`. */
export type DeviceTensor = OnnxTensor
export type OnnxFeeds = Readonly<Record<string, OnnxTensor>>

/** Why there is no GPU for us: a fact about the machine, with what would change it. */
export class WebgpuUnavailable extends Error {
  override readonly name = 'WebgpuUnavailable'
}

/** Where the outputs of a session are: `given`, in the memory that each run names for them. */
export type OutputPlace = 'host' | 'device' | 'given'

export interface DeviceOptions {
  /** What is known of the GPU that the provider takes. */
  readonly adapter: Adapter
  /** Hears of an error after which nothing works on the device in this process. */
  readonly onLost?: (error: Error) => void
}

export class Device {
  readonly adapter: Adapter
  readonly #onLost: (error: Error) => void
  readonly #kept = new Map<string, Promise<InferenceSession>>()
  #isLost = false

  private constructor({ adapter, onLost = () => undefined }: DeviceOptions) {
    this.adapter = adapter
    this.#onLost = onLost
  }

  /** Throws `WebgpuUnavailable` where the provider finds no GPU, or one that does not answer. */
  static async open(options: DeviceOptions): Promise<Device> {
    const device = new Device(options)
    const problem = await device.#problem()
    if (problem === null) return device
    throw new WebgpuUnavailable(`onnxruntime's WebGPU provider does not work on ${options.adapter.name}: ${problem}`)
  }

  /** Tensors of a session must be disposed of before it is released: their memory is in its care. */
  async open(model: Uint8Array, place: OutputPlace): Promise<InferenceSession> {
    return InferenceSession.create(model, {
      executionProviders: ['webgpu'],
      // For the arithmetic of shapes, which the provider leaves to the CPU.
      intraOpNumThreads: 1,
      interOpNumThreads: 1,
      executionMode: 'sequential',
      graphOptimizationLevel: 'all',
      logSeverityLevel: 3,
      ...(place === 'device' && { preferredOutputLocation: 'gpu-buffer' as const }),
    })
  }

  /** A session that is opened once and stays. */
  kept(name: string, place: OutputPlace, make: () => Uint8Array): Promise<InferenceSession> {
    const known = this.#kept.get(name)
    if (known !== undefined) return known
    const opened = this.open(make(), place)
    this.#kept.set(name, opened)
    return opened
  }

  /**
   * Runs on the device; `given` has the memory for outputs of a session whose outputs are given. Where the device no longer
   * answers after an error, it is lost.
   */
  async run(
    session: InferenceSession,
    feeds: OnnxFeeds,
    given?: Readonly<Record<string, DeviceTensor>>,
  ): Promise<Readonly<Record<string, OnnxTensor>>> {
    try {
      return await (given === undefined ? session.run(feeds) : session.run(feeds, given))
    } catch (error) {
      const problem = this.#isLost ? (error as Error).message : await this.#problem()
      if (problem === null) throw error
      const lost = new Error(`the GPU ${this.adapter.name} is lost: ${problem}`, { cause: error })
      if (!this.#isLost) this.#onLost(lost)
      this.#isLost = true
      throw lost
    }
  }

  /** A copy of `data` on the device. `what` names it where there is no room. */
  async upload(data: Float32Array, dims: readonly number[], what: string): Promise<DeviceTensor> {
    assert.equal(data.length, sizeOf(dims))
    const session = await this.kept('upload', 'device', () => {
      const m = new ModelBuilder()
      m.output('y', m.input('x', 'float32', ['N']), ['N'])
      return m.encode()
    })
    const { y } = await this.run(session, { x: new OnnxTensor('float32', data, [data.length]) })
    const tensor = viewOf(y as DeviceTensor, dims)
    await this.checkRoom(tensor, data.at(-1) as number, what)
    return tensor
  }

  /** Ones on the device. `what` names them where there is no room. */
  async ones(dims: readonly number[], what: string): Promise<DeviceTensor> {
    const session = await this.kept('ones', 'device', () => {
      const m = new ModelBuilder()
      m.output('y', m.emit('Expand', [m.float(1), m.input('shape', 'int64', [1])]), ['N'])
      return m.encode()
    })
    const { y } = await this.run(session, { shape: longs([sizeOf(dims)]) })
    const tensor = viewOf(y as DeviceTensor, dims)
    await this.checkRoom(tensor, 1, what)
    return tensor
  }

  /** The numbers of a tensor on the device. */
  async fetch(tensor: DeviceTensor): Promise<Float32Array> {
    const session = await this.kept('fetch', 'host', () => {
      const m = new ModelBuilder()
      m.output('y', m.input('x', 'float32', ['N']), ['N'])
      return m.encode()
    })
    const { y } = await this.run(session, { x: viewOf(tensor, [sizeOf(tensor.dims)]) })
    return (y as OnnxTensor).data as Float32Array
  }

  /** Ends all that stays open. Nothing may be on the device any more. */
  async dispose(): Promise<void> {
    for (const session of this.#kept.values()) await (await session).release()
    this.#kept.clear()
  }

  /** The provider tells nobody that an allocation failed: what is read back is not the `last` number that was written. */
  async checkRoom(tensor: DeviceTensor, last: number, what: string): Promise<void> {
    const size = sizeOf(tensor.dims)
    const found = await this.numberAt(tensor, size - 1)
    if (Object.is(found, last) || found === last) return
    throw new WebgpuUnavailable(
      `there is no room for ${what}, ${mebibytes(4 * size)}, on ${describeAdapter(this.adapter)}`,
    )
  }

  /** One number of a tensor, all of its numbers in a row. */
  async numberAt(tensor: DeviceTensor, index: number): Promise<number> {
    const session = await this.kept('number', 'host', () => {
      const m = new ModelBuilder()
      const [x, at] = [m.input('x', 'float32', ['N']), m.input('at', 'int32', [1])]
      m.output('y', m.emit('Gather', [x, at], { axis: 0 }), [1])
      return m.encode()
    })
    const { y } = await this.run(session, { x: viewOf(tensor, [sizeOf(tensor.dims)]), at: ints([index], [1]) })
    return (y as OnnxTensor).data[0] as number
  }

  /** null: the device computes. Otherwise why it does not. */
  async #problem(): Promise<string | null> {
    try {
      const session = await this.kept('probe', 'host', () => {
        const m = new ModelBuilder()
        m.output('y', m.emit('Add', [m.input('x', 'float32', ['N']), m.float(1)]), ['N'])
        return m.encode()
      })
      const { y } = await session.run({ x: new OnnxTensor('float32', Float32Array.of(1, 2), [2]) })
      const sums = [...((y as OnnxTensor).data as Float32Array)]
      return sums.join() === '2,3' ? null : `it adds 1 to 1 and 2 and gets ${sums.join(' and ')}`
    } catch (error) {
      return (error as Error).message
    }
  }
}

/** The first numbers of a tensor in another shape; the memory is the same, and stays in the care of the tensor. */
export function viewOf(tensor: DeviceTensor, dims: readonly number[]): DeviceTensor {
  assert.ok(sizeOf(dims) <= sizeOf(tensor.dims) || tensor.dims.length === 0)
  return OnnxTensor.fromGpuBuffer(tensor.gpuBuffer, {
    dataType: 'float32',
    dims,
    dispose: () => tensor.dispose(),
  })
}

export const ints = (values: ArrayLike<number>, dims: readonly number[]): OnnxTensor =>
  new OnnxTensor('int32', Int32Array.from(values), dims)
export const longs = (values: readonly number[]): OnnxTensor =>
  new OnnxTensor('int64', BigInt64Array.from(values, BigInt), [values.length])
