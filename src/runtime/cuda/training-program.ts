// A whole training step on the device: forward, backward, gradient norm, clipping and AdamW as one CUDA graph.
import assert from 'node:assert/strict'
import { bindShape } from '../../graph/shape.ts'
import { float32, sizeOf, type Tensor } from '../../tensor/tensor.ts'
import { bindDimensions } from '../dimensions.ts'
import type { Feeds } from '../runtime.ts'
import { stepFactors, type TrainingOutputs, type TrainingProgram, type TrainingUpdate } from '../training.ts'
import { ExecutableCache, type Prepared, type ProgramParts } from './executable-cache.ts'
import type { Executable, StepTime } from './executable.ts'
import { appendUpdate, factorsOf, gradientGoals, normOf, residentInputs, type DeviceUpdate } from './lower-update.ts'
import type { Lowering } from './lowering.ts'
import { executablesMax } from './program.ts'
import { DeviceTrainables } from './trainables.ts'

export class CudaTrainingProgram implements TrainingProgram {
  /** By shape, and by the trainables: where those lie is part of a captured graph. */
  readonly #executables: ExecutableCache

  constructor(parts: ProgramParts, prepared: Prepared) {
    this.#executables = new ExecutableCache(parts, prepared, executablesMax)
  }

  async run(feeds: Feeds, updates: readonly TrainingUpdate[]): Promise<TrainingOutputs> {
    const own = updates.map(ownUpdate)
    const fetched = this.#executable(feeds, own).run({ ...feeds, ...factorsFor(own) })
    const outputs = Object.fromEntries(
      Object.entries(fetched).filter(([name]) => name in this.#executables.prepared.graph.outputs),
    )
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
    this.#executables.dispose()
  }

  #executable(feeds: Feeds, updates: readonly DeviceUpdate[]): Executable {
    const { graph } = this.#executables.prepared
    const resident = residentInputs(updates)
    const bindings = bindDimensions(graph, feeds, resident)
    const kinds = updates.map(({ trainables, adds, step }) => [trainables.id, adds, step !== null])
    return this.#executables.get(JSON.stringify([[...bindings], kinds]), () => {
      const bytesOf = (name: string): number => 4 * sizeOf(bindShape(graph.outputs[name]?.shape ?? [], bindings))
      const finish = (l: Lowering): void => updates.forEach((update, m) => appendUpdate(l, m, update))
      return { bindings, resident, kept: gradientGoals(updates, bytesOf), finish }
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
