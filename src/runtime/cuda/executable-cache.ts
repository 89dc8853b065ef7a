// Captured runs of one graph, by shape: the last few are kept, and those on memory that has moved are made anew.
import type { Graph } from '../../graph/graph.ts'
import type { Device } from './device.ts'
import { Executable } from './executable.ts'
import { lower, type LowerOptions } from './lower.ts'
import type { Lowering } from './lowering.ts'
import type { Form } from './steps.ts'
import type { DeviceWeights, LoadedWeights } from './weights.ts'

export interface ProgramParts {
  readonly device: Device
  readonly weights: DeviceWeights
  /** Every run looks for writes beyond a buffer; slow. */
  readonly checked: boolean
}

/** How a graph is to run. */
export interface Prepared {
  readonly graph: Graph
  readonly form: Form
  /** Acquired for it; given back with `dispose`. */
  readonly weights: LoadedWeights
}

/** What changes from shape to shape, and what follows the steps of the graph. */
export interface ShapeOptions extends Omit<LowerOptions, 'form' | 'weights'> {
  readonly finish?: (l: Lowering) => void
}

export class ExecutableCache {
  readonly prepared: Prepared
  readonly #parts: ProgramParts
  readonly #max: number
  /** The least recently used first: a Map keeps the order in which keys were set. */
  readonly #kept = new Map<string, Executable>()
  #isDisposed = false

  /** `max`: shapes whose captured graphs are kept. */
  constructor(parts: ProgramParts, prepared: Prepared, max: number) {
    this.#parts = parts
    this.prepared = prepared
    this.#max = max
  }

  get isDisposed(): boolean {
    return this.#isDisposed
  }

  /** The one of `key`; where there is none, `shapeOf` says how to make it. */
  get(key: string, shapeOf: () => ShapeOptions): Executable {
    const kept = this.#kept.get(key)
    this.#kept.delete(key)
    const isUsable = kept?.generation === this.#parts.device.generation
    if (!isUsable) kept?.dispose()
    const executable = isUsable && kept !== undefined ? kept : this.#make(shapeOf())
    this.#kept.set(key, executable)
    if (this.#kept.size > this.#max) {
      const [oldest, dropped] = this.#kept.entries().next().value as [string, Executable]
      this.#kept.delete(oldest)
      dropped.dispose()
    }
    return executable
  }

  dispose(): void {
    if (this.#isDisposed) return
    this.#isDisposed = true
    for (const executable of this.#kept.values()) executable.dispose()
    this.#kept.clear()
    this.#parts.weights.release(this.prepared.weights)
  }

  #make({ finish, ...options }: ShapeOptions): Executable {
    const { graph, form, weights } = this.prepared
    const lowered = lower(graph, { form, weights, ...options }, finish)
    return new Executable(this.#parts.device, lowered, this.#parts.checked)
  }
}
