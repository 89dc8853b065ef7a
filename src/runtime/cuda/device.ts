// One GPU, ready for work: its driver, compiler and products, the kernels loaded so far, and the memory that runs share.
import { compiledKernels, kernelSource } from './compiled.ts'
import { CublasLt, workspaceBytes } from './cublaslt.ts'
import { Driver, type DeviceFacts, layOut } from './driver.ts'
import { CudaUnavailable } from './library.ts'
import { Nvrtc } from './nvrtc.ts'
import type { Heads, KernelStep, Place } from './steps.ts'

export interface DeviceOptions {
  /** Where compiled kernels are kept. Made when first needed. */
  readonly folder: string
  /** Looked through for NVIDIA's libraries before the system's own places. */
  readonly libraries: readonly string[]
  /** Hears of an error after which nothing works on the device in this process. */
  readonly onLost?: (error: Error) => void
}

/** Grown in steps of so many bytes, so that graphs are not captured anew for every new shape. */
const arenaStep = 64 * 2 ** 20

/** The first with products of bfloat16. */
const architectureMin = 80

export class Device {
  readonly driver: Driver
  readonly facts: DeviceFacts
  readonly blas: CublasLt
  readonly #nvrtc: Nvrtc
  readonly #folder: string
  readonly #modules = new Map<string, bigint>()
  readonly #functions = new Map<string, bigint>()
  #arena = { address: 0n, bytes: 0 }
  /** Counts the arenas: a graph captured on an earlier one is of no use any more. */
  generation = 0
  /** Called once the results of a run are there: throws where they may have been computed of memory that is gone. */
  confirm: () => void = () => undefined

  private constructor(driver: Driver, nvrtc: Nvrtc, blas: CublasLt, folder: string) {
    this.driver = driver
    this.facts = driver.facts(0)
    this.blas = blas
    this.#nvrtc = nvrtc
    this.#folder = folder
  }

  /** Throws `CudaUnavailable` where the machine lacks something. The first device is taken; CUDA_VISIBLE_DEVICES says which that is. */
  static open({ folder, libraries, onLost }: DeviceOptions): Device {
    const driver = Driver.open(libraries, onLost)
    // What may be missing is looked for before the device is touched.
    const nvrtc = Nvrtc.open(libraries, driver.cudaVersion)
    const { name, architecture } = driver.facts(0)
    if (architecture < architectureMin)
      throw new CudaUnavailable(
        `${name} has compute capability ${architecture / 10}, needed is ${architectureMin / 10} or later`,
      )
    driver.use(0)
    const blas = CublasLt.open(libraries, driver.cudaVersion, () =>
      driver.allocate(workspaceBytes, 'the workspace of products'),
    )
    return new Device(driver, nvrtc, blas, folder)
  }

  /** Memory for the intermediates of one run: all runs have the same, one after the other. */
  arena(bytes: number): bigint {
    if (bytes <= this.#arena.bytes) return this.#arena.address
    const wanted = Math.ceil(bytes / arenaStep) * arenaStep
    this.driver.synchronize()
    if (this.#arena.bytes > 0) this.driver.free(this.#arena.address)
    this.#arena = { address: 0n, bytes: 0 }
    this.generation += 1
    this.#arena = { address: this.driver.allocate(wanted, 'the intermediate results of a step'), bytes: wanted }
    return this.#arena.address
  }

  /** Puts a kernel on the stream. */
  launch(step: KernelStep, addressOf: (place: Place) => bigint): void {
    const { slots, parameters } = layOut(
      step.arguments.map((argument) => {
        if ('place' in argument) return new Uint8Array(BigUint64Array.of(addressOf(argument.place)).buffer)
        if ('int' in argument) return new Uint8Array(Int32Array.of(argument.int).buffer)
        if ('float' in argument) return new Uint8Array(Float32Array.of(argument.float).buffer)
        return argument.struct
      }),
    )
    this.driver.launch(this.#function(step.heads, step.name), step.grid, step.threads, parameters)
    // Reachable until here: the driver has copied them.
    void slots.length
  }

  #function(heads: Heads | null, name: string): bigint {
    const key = `${keyOf(heads)} ${name}`
    const known = this.#functions.get(key)
    if (known !== undefined) return known
    const found = this.driver.getFunction(this.#module(heads), name)
    this.#functions.set(key, found)
    return found
  }

  #module(heads: Heads | null): bigint {
    const key = keyOf(heads)
    const known = this.#modules.get(key)
    if (known !== undefined) return known
    const code = compiledKernels(this.#nvrtc, kernelSource(heads), this.facts.architecture, this.#folder)
    const module = this.driver.loadModule(code)
    this.#modules.set(key, module)
    return module
  }
}

const keyOf = (heads: Heads | null): string => (heads === null ? '' : `${heads.headDim} ${heads.form}`)
