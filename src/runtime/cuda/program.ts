// A graph on the device: one captured CUDA graph for each binding of its dimensions, the last few of them kept.
import type { Graph } from '../../graph/graph.ts'
import type { Tensor } from '../../tensor/tensor.ts'
import { bindDimensions } from '../dimensions.ts'
import type { Feeds, Program } from '../runtime.ts'
import type { Device } from './device.ts'
import { Executable, type StepTime } from './executable.ts'
import type { Form } from './lowering.ts'
import { lower } from './lower.ts'
import type { DeviceWeights, LoadedWeights } from './weights.ts'

/** Shapes whose captured graphs are kept; a bucketed training has a few dozen. */
export const executablesMax = 64

export interface ProgramParts {
  readonly device: Device
  readonly weights: DeviceWeights
  /** Every run looks for writes beyond a buffer; slow. */
  readonly checked: boolean
}

export class CudaProgram implements Program {
  readonly #parts: ProgramParts
  readonly #graph: Graph
  readonly #form: Form
  readonly #weights: LoadedWeights
  readonly #executables: ExecutableCache
  #isDisposed = false

  constructor(parts: ProgramParts, graph: Graph, form: Form, weights: LoadedWeights) {
    this.#parts = parts
    this.#graph = graph
    this.#form = form
    this.#weights = weights
    this.#executables = new ExecutableCache(parts.device, executablesMax)
  }

  async run(feeds: Feeds): Promise<Record<string, Tensor>> {
    return this.#executable(feeds).run(feeds)
  }

  /** The time of every step of a run with these feeds, on the device. */
  time(feeds: Feeds): StepTime[] {
    const executable = this.#executable(feeds)
    executable.run(feeds)
    return executable.time()
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return
    this.#isDisposed = true
    this.#executables.clear()
    this.#parts.weights.release(this.#weights)
  }

  #executable(feeds: Feeds): Executable {
    const bindings = bindDimensions(this.#graph, feeds)
    const key = [...bindings].join()
    return this.#executables.get(key, () => {
      const lowered = lower(this.#graph, { form: this.#form, bindings, weights: this.#weights })
      return new Executable(this.#parts.device, lowered, this.#parts.checked)
    })
  }
}

/** By shape, the least recently used first: a Map keeps the order in which keys were set. */
export class ExecutableCache {
  readonly #device: Device
  readonly #max: number
  readonly #kept = new Map<string, Executable>()

  constructor(device: Device, max: number) {
    this.#device = device
    this.#max = max
  }

  get(key: string, make: () => Executable): Executable {
    const kept = this.#kept.get(key)
    this.#kept.delete(key)
    const isUsable = kept?.generation === this.#device.generation
    if (!isUsable) kept?.dispose()
    const executable = isUsable && kept !== undefined ? kept : make()
    this.#kept.set(key, executable)
    if (this.#kept.size > this.#max) {
      const [oldest, dropped] = this.#kept.entries().next().value as [string, Executable]
      this.#kept.delete(oldest)
      dropped.dispose()
    }
    return executable
  }

  clear(): void {
    for (const executable of this.#kept.values()) executable.dispose()
    this.#kept.clear()
  }
}
