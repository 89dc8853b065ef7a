// Chooses what runs the model: a GPU where it is asked for or there, the CPU otherwise.
import path from 'node:path'
import { ServiceError } from '../errors/errors.ts'
import { createOnnxRuntime, type OnnxOptions } from './onnx/onnx.ts'
import { isCudaTried, isDeviceThere } from './nvidia.ts'
import { mebibytes, type Room, takesMore } from './room.ts'
import type { Runtime } from './runtime.ts'
import type { FoundAdapters } from './webgpu/adapters.ts'

export interface DeviceInfo {
  readonly name: string
  readonly device: string
}

/** What computes, as the log and GET /readyz name it. */
export interface RuntimeInfo extends DeviceInfo {
  /** Of generation; trainings choose theirs. */
  readonly precision: string
}

export interface OpenedRuntime {
  readonly runtime: Runtime
  readonly info: DeviceInfo
}

export interface RuntimeOptions {
  /** `auto`: cuda where there is a device that works, else webgpu where there is another GPU that works, else onnx. */
  readonly choice: 'auto' | 'onnx' | 'cuda' | 'webgpu'
  readonly onnx: OnnxOptions
  /** Compiled kernels are kept below it. */
  readonly data: string
  /** Folders that are looked through for NVIDIA's libraries first. */
  readonly cudaLibraries: readonly string[]
  /** Whether this process lends its weights on a device to others with the same `data`, or borrows; neither unless said. */
  readonly weights?: 'lends' | 'borrows'
  /** What a GPU must have room for, where it is known: a model's weights, and the cache of those who decode with it. */
  readonly room?: Room
  /** The GPUs that webgpu may take: what the machine shows, unless said. */
  readonly gpus?: () => FoundAdapters
  /** Hears why a device that is there is not used, or weights on it are not shared. */
  readonly warn: (message: string) => void
  /** Hears of an error after which the device is lost to this process: whoever hears it ends the thread or process. */
  readonly onLost: (error: Error) => void
}

/** Throws `config_invalid` where a GPU is asked for and cannot be had, with what to install or lower. */
export async function openRuntime(options: RuntimeOptions): Promise<OpenedRuntime> {
  const { choice, onnx, warn } = options
  if (isCudaTried(options)) {
    const opened = await tried(
      () => openCuda(options),
      'cuda',
      choice,
      (reason) => {
        const though = isDeviceThere() ? 'there is an NVIDIA device' : 'CUDA_LIBRARIES names folders'
        warn(`cuda is not used, though ${though}: ${reason}`)
      },
    )
    if (opened !== null) return opened
  }
  if (choice === 'webgpu' || choice === 'auto') {
    const opened = await tried(
      () => openWebgpu(options),
      'webgpu',
      choice,
      (reason) => warn(`there is a GPU, but the CPU is used: ${reason}`),
    )
    if (opened !== null) return opened
  }
  return {
    runtime: createOnnxRuntime(onnx),
    info: { name: 'onnx', device: `cpu, ${onnx.threads} threads` },
  }
}

/** null where it cannot be had and was not insisted on, or was not looked for. */
async function tried(
  open: () => Promise<OpenedRuntime | null>,
  name: 'cuda' | 'webgpu',
  choice: RuntimeOptions['choice'],
  tell: (reason: string) => void,
): Promise<OpenedRuntime | null> {
  try {
    return await open()
  } catch (error) {
    const { message } = error as Error
    if (choice === name)
      throw new ServiceError('config_invalid', `RUNTIME=${name} cannot be had: ${message}`, {}, { cause: error })
    tell(message)
    return null
  }
}

/** Loaded only here: a machine without a device never sees it. */
async function openCuda({ data, cudaLibraries, weights, room, warn, onLost }: RuntimeOptions): Promise<OpenedRuntime> {
  const { openCudaRuntime } = await import('./cuda/cuda.ts')
  const { wrongResults } = await import('./self-check.ts')
  const trust = new Trust(onLost)
  const folder = path.join(data, 'kernels')
  const exchange = weights && { exchange: { folder: path.join(data, 'lent'), role: weights, warn } }
  const runtime = openCudaRuntime({ folder, libraries: cudaLibraries, onLost: trust.heard, ...exchange })
  try {
    const wrong = await wrongResults(runtime)
    if (wrong !== null) throw new Error(`${runtime.description} computes wrong results: ${wrong}`)
    // Who borrows the weights needs no room for them, and has no cache.
    const { free, total } = runtime.memory()
    const takes = room === undefined || room.layout === null ? null : takesMore(room, free)
    if (takes !== null) throw new Error(`${takes}, the device has ${mebibytes(free)} free of ${mebibytes(total)}`)
  } catch (error) {
    runtime.release()
    throw error
  }
  trust.isGiven = true
  return { runtime, info: { name: 'cuda', device: runtime.description } }
}

/** null where `auto` finds no GPU, or one that is none: a driver that computes on the CPU is slower than our own way to do it. */
async function openWebgpu({ choice, room, gpus, warn, onLost }: RuntimeOptions): Promise<OpenedRuntime | null> {
  const { describeAdapter, findAdapters, isGpuThere } = await import('./webgpu/adapters.ts')
  // Where the system shows no GPU, auto does not even load what would list them.
  if (choice === 'auto' && gpus === undefined && !isGpuThere()) return null
  const { adapters, problem } = (gpus ?? findAdapters)()
  const [adapter] = adapters
  if (choice === 'auto' && (adapter === undefined || adapter.kind === 'software')) return null
  if (adapter === undefined) throw new Error(problem ?? 'there is no GPU')
  const { lacking } = await import('./webgpu/room.ts')
  const lacks = room === undefined ? null : lacking(room, adapter)
  if (lacks !== null) throw new Error(lacks)
  const { openWebgpuRuntime } = await import('./webgpu/webgpu.ts')
  const { wrongResults } = await import('./self-check.ts')
  const trust = new Trust(onLost)
  const runtime = await openWebgpuRuntime({ adapter, onLost: trust.heard, warn })
  const wrong = await wrongResults(runtime)
  if (wrong !== null) throw new Error(`${describeAdapter(adapter)} computes wrong results: ${wrong}`)
  trust.isGiven = true
  return { runtime, info: { name: 'webgpu', device: runtime.description } }
}

/** Until a device has shown that it works, whatever happens is a reason not to use it, and no more. */
class Trust {
  isGiven = false
  readonly #onLost: (error: Error) => void

  constructor(onLost: (error: Error) => void) {
    this.#onLost = onLost
  }

  readonly heard = (error: Error): void => {
    if (this.isGiven) this.#onLost(error)
  }
}
