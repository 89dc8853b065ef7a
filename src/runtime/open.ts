// Chooses what runs the model: the GPU where it is asked for or there, the CPU otherwise.
import { existsSync } from 'node:fs'
import path from 'node:path'
import { ServiceError } from '../errors/errors.ts'
import { createOnnxRuntime, type OnnxOptions } from './onnx/onnx.ts'
import type { Runtime } from './runtime.ts'

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
  /** `auto`: cuda where there is a device that works, else onnx. */
  readonly choice: 'auto' | 'onnx' | 'cuda'
  readonly onnx: OnnxOptions
  /** Compiled kernels are kept below it. */
  readonly data: string
  /** Folders that are looked through for NVIDIA's libraries first. */
  readonly cudaLibraries: readonly string[]
  /** Whether this process lends its weights on a device to others with the same `data`, or borrows; neither unless said. */
  readonly weights?: 'lends' | 'borrows'
  /** Hears why a device that is there is not used, or weights on it are not shared. */
  readonly warn: (message: string) => void
  /** Hears of an error after which the device is lost to this process: whoever hears it ends the thread or process. */
  readonly onLost: (error: Error) => void
}

/** Throws `config_invalid` where cuda is asked for and cannot be had, with what to install or lower. */
export async function openRuntime(options: RuntimeOptions): Promise<OpenedRuntime> {
  const { choice, onnx, cudaLibraries, warn } = options
  if (choice === 'cuda' || (choice === 'auto' && (cudaLibraries.length > 0 || isDeviceThere()))) {
    try {
      return await openCuda(options)
    } catch (error) {
      const { message } = error as Error
      if (choice === 'cuda')
        throw new ServiceError('config_invalid', `RUNTIME=cuda cannot be had: ${message}`, {}, { cause: error })
      warn(`there is an NVIDIA device, but the CPU is used: ${message}`)
    }
  }
  return {
    runtime: createOnnxRuntime(onnx),
    info: { name: 'onnx', device: `cpu, ${onnx.threads} threads` },
  }
}

/** Whether the system shows an NVIDIA device or driver. Nothing is loaded for the answer. */
function isDeviceThere(): boolean {
  if (process.platform === 'linux') return existsSync('/proc/driver/nvidia/version') || existsSync('/dev/dxg')
  if (process.platform !== 'win32') return false
  return existsSync(path.join(process.env['SystemRoot'] ?? 'C:\\Windows', 'System32', 'nvcuda.dll'))
}

/** Loaded only here: a machine without a device never sees it. */
async function openCuda({ data, cudaLibraries, weights, warn, onLost }: RuntimeOptions): Promise<OpenedRuntime> {
  const { openCudaRuntime } = await import('./cuda/cuda.ts')
  const { wrongResults } = await import('./cuda/self-check.ts')
  // Until it has shown that it works, whatever happens is a reason not to use it, and no more.
  let isTrusted = false
  const heard = (error: Error): void => {
    if (isTrusted) onLost(error)
  }
  const folder = path.join(data, 'kernels')
  const exchange = weights && { exchange: { folder: path.join(data, 'lent'), role: weights, warn } }
  const runtime = openCudaRuntime({ folder, libraries: cudaLibraries, onLost: heard, ...exchange })
  const wrong = await wrongResults(runtime)
  if (wrong !== null) throw new Error(`${runtime.description} computes wrong results: ${wrong}`)
  isTrusted = true
  return { runtime, info: { name: 'cuda', device: runtime.description } }
}
