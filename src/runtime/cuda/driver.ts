// The CUDA driver: the few of its functions that we use. All of them are asynchronous to the stream but those that say otherwise.
import { mebibytes } from '../room.ts'
import { addressOf, bind, ipcHandleBytes, pointerOut, textAt, type Bound, type IpcHandle } from './bindings.ts'
import { driverNumbers, driverSignatures, lostNumbers, lostNumbersLater } from './driver-api.ts'
import { CudaUnavailable, loadLibrary } from './library.ts'

type Call = keyof typeof driverSignatures

const {
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR: major,
  CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR: minor,
  CU_DEVICE_ATTRIBUTE_GLOBAL_MEMORY_BUS_WIDTH: busBits,
  CU_DEVICE_ATTRIBUTE_MEMORY_CLOCK_RATE: clockKHz,
  CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT: multiprocessors,
} = driverNumbers

const lost: ReadonlySet<number> = new Set([...Object.values(lostNumbers), ...Object.values(lostNumbersLater)])

/** CUDA 12.0: the oldest whose driver runs what NVRTC 12 compiles. */
const driverMin = 12_000

/** What a call to the driver answered. */
export class CudaError extends Error {
  override readonly name = 'CudaError'
  readonly code: number

  constructor(call: string, code: number, what: string) {
    super(`${call}: ${what}`)
    this.code = code
  }
}

export interface DeviceFacts {
  readonly name: string
  /** Of this device among all there are, in hexadecimal digits. */
  readonly uuid: string
  readonly memoryBytes: number
  /** Compute capability, 90 for 9.0. */
  readonly architecture: number
  readonly multiprocessors: number
  /** Of its memory, at most; 0 where the driver does not say. */
  readonly bytesPerSecond: number
}

export class Driver {
  readonly #api: Bound<typeof driverSignatures>
  readonly #onLost: (error: CudaError) => void
  /** Of CUDA, that the driver is for: 12 or later. */
  readonly cudaVersion: number
  #context = 0n
  #stream = 0n
  #release: () => void = () => undefined

  private constructor(api: Bound<typeof driverSignatures>, onLost: (error: CudaError) => void) {
    this.#api = api
    this.#onLost = onLost
    const version = new Int32Array(1)
    this.#call('cuDriverGetVersion', version)
    const found = version[0] as number
    if (found < driverMin)
      throw new CudaUnavailable(
        `the NVIDIA driver is for CUDA ${shown(found)}, needed is ${shown(driverMin)} or later; update the driver`,
      )
    this.cudaVersion = Math.floor(found / 1000)
  }

  /** Throws `CudaUnavailable`: no driver, one that is too old, or no device. `onLost` hears of errors that end the context. */
  static open(folders: readonly string[], onLost: (error: CudaError) => void = () => undefined): Driver {
    const driver = new Driver(bind(loadLibrary('driver', folders), 'the NVIDIA driver', driverSignatures), onLost)
    const status = driver.#api.cuInit(0)
    const count = new Int32Array(1)
    if (status === 0) driver.#call('cuDeviceGetCount', count)
    if (status === driverNumbers.CUDA_ERROR_NO_DEVICE || (status === 0 && count[0] === 0))
      throw new CudaUnavailable('the NVIDIA driver finds no device; give the container the GPU, or see nvidia-smi')
    if (status !== 0) throw new CudaUnavailable(`the NVIDIA driver does not start: ${driver.#describe(status)}`)
    return driver
  }

  /** Of the device with this number. */
  facts(ordinal: number): DeviceFacts {
    const device = this.#handleOf(ordinal)
    const attribute = (number: number): number => {
      const value = new Int32Array(1)
      this.#call('cuDeviceGetAttribute', value, number, device)
      return value[0] as number
    }
    const name = Buffer.alloc(256)
    this.#call('cuDeviceGetName', name, name.length, device)
    const memory = pointerOut()
    this.#call('cuDeviceTotalMem_v2', memory, device)
    const uuid = Buffer.alloc(16)
    this.#call('cuDeviceGetUuid_v2', uuid, device)
    return {
      uuid: uuid.toString('hex'),
      name: name.toString('utf8', 0, name.indexOf(0)),
      memoryBytes: Number(memory[0]),
      architecture: 10 * attribute(major) + attribute(minor),
      multiprocessors: attribute(multiprocessors),
      // Two transfers a clock.
      bytesPerSecond: (2 * attribute(clockKHz) * 1000 * attribute(busBits)) / 8,
    }
  }

  /** Takes the device for this thread and makes the stream that everything runs on. */
  use(ordinal: number): void {
    const [device, out] = [this.#handleOf(ordinal), pointerOut()]
    this.#call('cuDevicePrimaryCtxRetain', out, device)
    let isHeld = true
    this.#release = () => {
      if (isHeld) this.#api.cuDevicePrimaryCtxRelease_v2(device)
      isHeld = false
    }
    atThreadEnd(this.#release)
    this.#context = out[0] as bigint
    this.#call('cuCtxSetCurrent', this.#context)
    this.#call('cuStreamCreate', out, driverNumbers.CU_STREAM_NON_BLOCKING)
    this.#stream = out[0] as bigint
  }

  /** Gives the device back before the thread ends, with all memory where nothing else of the process has it. The last call. */
  release(): void {
    this.#release()
  }

  #handleOf(ordinal: number): number {
    const device = new Int32Array(1)
    this.#call('cuDeviceGet', device, ordinal)
    return device[0] as number
  }

  get stream(): bigint {
    return this.#stream
  }

  /** Free and all, in bytes. */
  memory(): { readonly free: number; readonly total: number } {
    const [free, total] = [pointerOut(), pointerOut()]
    this.#call('cuMemGetInfo_v2', free, total)
    return { free: Number(free[0]), total: Number(total[0]) }
  }

  /** Synchronous. Throws `CudaError` that says how much there is, where there is too little. */
  allocate(bytes: number, what: string): bigint {
    const out = pointerOut()
    const status = this.#api.cuMemAlloc_v2(out, bytes)
    if (status === driverNumbers.CUDA_ERROR_OUT_OF_MEMORY) {
      const { free, total } = this.memory()
      throw new CudaError(
        'cuMemAlloc',
        status,
        `${what} needs ${mebibytes(bytes)}, the device has ${mebibytes(free)} free of ${mebibytes(total)}`,
      )
    }
    this.#check('cuMemAlloc_v2', status)
    return out[0] as bigint
  }

  /** Synchronous; waits for the device. */
  free(address: bigint): void {
    this.#call('cuMemFree_v2', address)
  }

  /** By which another process on the same device opens the memory. Throws `CudaError` where that is not allowed. */
  share(address: bigint): Uint8Array {
    const handle = new Uint8Array(ipcHandleBytes)
    this.#call('cuIpcGetMemHandle', handle, address)
    return handle
  }

  /** Memory of another process, until `closeShared`. Throws `CudaError`. */
  openShared(handle: Uint8Array): bigint {
    const out = pointerOut()
    this.#call('cuIpcOpenMemHandle_v2', out, { reserved: handle }, driverNumbers.CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS)
    return out[0] as bigint
  }

  closeShared(address: bigint): void {
    this.#call('cuIpcCloseMemHandle', address)
  }

  /** The array may be changed as soon as this returns. */
  upload(to: bigint, from: NodeJS.ArrayBufferView): void {
    if (from.byteLength > 0) this.#call('cuMemcpyHtoDAsync_v2', to, from, from.byteLength, this.#stream)
  }

  /** The array is filled once `synchronize` has returned. */
  download(to: NodeJS.ArrayBufferView, from: bigint): void {
    if (to.byteLength > 0) this.#call('cuMemcpyDtoHAsync_v2', to, from, to.byteLength, this.#stream)
  }

  fill(to: bigint, value: number, bytes: number): void {
    this.#call('cuMemsetD8Async', to, value, bytes, this.#stream)
  }

  /** Waits for the stream. An error of anything before it comes out here. */
  synchronize(): void {
    this.#call('cuStreamSynchronize', this.#stream)
  }

  loadModule(image: Uint8Array): bigint {
    const out = pointerOut()
    this.#call('cuModuleLoadData', out, image)
    return out[0] as bigint
  }

  getFunction(module: bigint, name: string): bigint {
    const out = pointerOut()
    const status = this.#api.cuModuleGetFunction(out, module, name)
    if (status !== 0) throw new CudaError('cuModuleGetFunction', status, `${name}: ${this.#describe(status)}`)
    return out[0] as bigint
  }

  /** `parameters`: for each argument of the kernel where its bytes lie; they are read before this returns. */
  launch(kernel: bigint, grid: readonly [number, number, number], threads: number, parameters: BigUint64Array): void {
    this.#call('cuLaunchKernel', kernel, ...grid, threads, 1, 1, 0, this.#stream, parameters, null)
  }

  /** What `record` puts on the stream, as a graph that can be launched again and again. Nothing runs meanwhile. */
  capture(record: () => void): bigint {
    const out = pointerOut()
    this.#call('cuStreamBeginCapture_v2', this.#stream, driverNumbers.CU_STREAM_CAPTURE_MODE_THREAD_LOCAL)
    try {
      record()
    } catch (error) {
      // The stream must not stay in capture, and the first error is the one to tell.
      this.#api.cuStreamEndCapture(this.#stream, out)
      throw error
    }
    this.#call('cuStreamEndCapture', this.#stream, out)
    const graph = out[0] as bigint
    this.#call('cuGraphInstantiateWithFlags', out, graph, 0)
    this.#call('cuGraphDestroy', graph)
    return out[0] as bigint
  }

  launchGraph(graph: bigint): void {
    this.#call('cuGraphLaunch', graph, this.#stream)
  }

  destroyGraph(graph: bigint): void {
    this.#call('cuGraphExecDestroy', graph)
  }

  /** Time that each of `runs` takes on the device, in ms; with that of sending it, unless `ahead` keeps the stream busy so long. */
  time(runs: readonly (() => void)[], ahead: () => void = () => undefined): number[] {
    const events = new BigUint64Array(runs.length + 1)
    events.forEach((_, i) => this.#call('cuEventCreate', events.subarray(i, i + 1), driverNumbers.CU_EVENT_DEFAULT))
    ahead()
    events.forEach((event, i) => {
      if (i > 0) runs[i - 1]?.()
      this.#call('cuEventRecord', event, this.#stream)
    })
    this.#call('cuEventSynchronize', events.at(-1) as bigint)
    const ms = new Float32Array(runs.length)
    ms.forEach((_, i) => {
      this.#call('cuEventElapsedTime', ms.subarray(i), events[i] as bigint, events[i + 1] as bigint)
    })
    for (const event of events) this.#call('cuEventDestroy_v2', event)
    return [...ms]
  }

  #call(
    name: Call,
    ...values: readonly (number | bigint | string | NodeJS.ArrayBufferView | IpcHandle | null)[]
  ): void {
    this.#check(name, this.#api[name](...values))
  }

  #check(name: Call, status: number): void {
    if (status === 0) return
    const error = new CudaError(name, status, this.#describe(status))
    if (lost.has(status)) this.#onLost(error)
    throw error
  }

  #describe(status: number): string {
    const [name, text] = [pointerOut(), pointerOut()]
    this.#api.cuGetErrorName(status, name)
    this.#api.cuGetErrorString(status, text)
    return `${textAt(name[0] as bigint)} (${status}), ${textAt(text[0] as bigint)}`
  }
}

let releases: (() => void)[] | null = null

/** The device's context belongs to the process: a thread that ends gives up its part, and with the last one goes all memory. What was given last is done first. */
export function atThreadEnd(release: () => void): void {
  if (releases === null) {
    const all: (() => void)[] = []
    releases = all
    process.once('exit', () => all.toReversed().forEach((each) => each()))
  }
  releases.push(release)
}

/** 12090 is CUDA 12.9. */
const shown = (version: number): string => `${Math.floor(version / 1000)}.${Math.floor((version % 1000) / 10)}`

/** Arguments of a kernel laid out as the driver wants them; `slots` must stay reachable until the launch. */
export function layOut(values: readonly Uint8Array[]): {
  readonly slots: Uint8Array
  readonly parameters: BigUint64Array
} {
  // Every slot begins at a multiple of 16 bytes, which is enough for whatever type lies there.
  const offsets: number[] = []
  let bytes = 0
  for (const value of values) {
    offsets.push(bytes)
    bytes += Math.ceil(value.length / 16) * 16
  }
  const slots = new Uint8Array(Math.max(16, bytes))
  values.forEach((value, i) => slots.set(value, offsets[i]))
  const base = addressOf(slots)
  return { slots, parameters: BigUint64Array.from(offsets, (offset) => base + BigInt(offset)) }
}
