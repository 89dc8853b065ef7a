// A whole training step on the device: forward, backward, gradient norm, clipping and AdamW as one CUDA graph.
import assert from 'node:assert/strict'
import type { Graph } from '../../graph/graph.ts'
import { bindShape } from '../../graph/shape.ts'
import { float32, sizeOf, type Tensor } from '../../tensor/tensor.ts'
import { bindDimensions } from '../dimensions.ts'
import type { Feeds } from '../runtime.ts'
import { stepFactors, type TrainingOutputs, type TrainingProgram, type TrainingUpdate } from '../training.ts'
import { Executable, type StepTime } from './executable.ts'
import { lower } from './lower.ts'
import { appendUpdate, factorsOf, gradientGoals, normOf, residentInputs, type DeviceUpdate } from './lower-update.ts'
import type { Form } from './lowering.ts'
import { ExecutableCache, executablesMax, type ProgramParts } from './program.ts'
import { DeviceTrainables } from './trainables.ts'
import type { LoadedWeights } from './weights.ts'

export class CudaTrainingProgram implements TrainingProgram {
  readonly #parts: ProgramParts
  readonly #graph: Graph
  readonly #form: Form
  readonly #weights: LoadedWeights
  /** By shape, and by the trainables: where those lie is part of a captured graph. */
  readonly #executables: ExecutableCache
  #isDisposed = false

  constructor(parts: ProgramParts, graph: Graph, form: Form, weights: LoadedWeights) {
    this.#parts = parts
    this.#graph = graph
    this.#form = form
    this.#weights = weights
    this.#executables = new ExecutableCache(parts.device, executablesMax)
  }

  async run(feeds: Feeds, updates: readonly TrainingUpdate[]): Promise<TrainingOutputs> {
    const own = updates.map(ownUpdate)
    const fetched = this.#executable(feeds, own).run({ ...feeds, ...factorsFor(own) })
    const outputs = Object.fromEntries(Object.entries(fetched).filter(([name]) => name in this.#graph.outputs))
    return { outputs, gradientNorms: own.map((_, m) => fetched[normOf(m)]?.data[0] ?? null) }
  }

  /** The time of every step of such a run, on the device; trainables are of no use afterwards. */
  time(feeds: Feeds, updates: readonly TrainingUpdate[]): StepTime[] {
    const own = updates.map(ownUpdate)
    const executable = this.#executable(feeds, own)
    executable.run({ ...feeds, ...factorsFor(own) })
    return executable.time()
  }

  async dispose(): Promise<void> {
    if (this.#isDisposed) return
    this.#isDisposed = true
    this.#executables.clear()
    this.#parts.weights.release(this.#weights)
  }

  #executable(feeds: Feeds, updates: readonly DeviceUpdate[]): Executable {
    const resident = residentInputs(updates)
    const bindings = bindDimensions(this.#graph, feeds, resident)
    const kinds = updates.map(({ trainables, adds, step }) => [trainables.id, adds, step !== null])
    return this.#executables.get(JSON.stringify([[...bindings], kinds]), () => {
      const { outputs } = this.#graph
      const bytesOf = (name: string): number => 4 * sizeOf(bindShape(outputs[name]?.shape ?? [], bindings))
      const kept = gradientGoals(updates, bytesOf)
      const options = { form: this.#form, bindings, weights: this.#weights, resident, kept }
      const lowered = lower(this.#graph, options, (l) => updates.forEach((update, m) => appendUpdate(l, m, update)))
      return new Executable(this.#parts.device, lowered, this.#parts.checked)
    })
  }
}

/** What of AdamW changes from step to step, for each update that takes one. */
function factorsFor(updates: readonly DeviceUpdate[]): Record<string, Tensor> {
  const factors = updates.flatMap(({ trainables, step }, m): [string, Tensor][] => {
    if (step === null) return []
    const { rate, secondCorrection, decay } = stepFactors(trainables.options, step.number, step.learningRate)
    return [[factorsOf(m), float32(Float32Array.of(rate, secondCorrection, decay), [3])]]
  })
  return Object.fromEntries(factors)
}

function ownUpdate(update: TrainingUpdate): DeviceUpdate {
  const { trainables } = update
  assert.ok(trainables instanceof DeviceTrainables, 'trainables of another runtime')
  return { ...update, trainables }
}
