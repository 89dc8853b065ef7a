// A training that costs nothing, with all that a training job needs around it, for tests of what the job does.
import { ServiceError } from '../../src/errors/errors.ts'
import { createCheckpoints } from '../../src/jobs/checkpoints.ts'
import type { TrainingJob, TrainingParts } from '../../src/jobs/training.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import type { PrefixRecord } from '../../src/prefix/record.ts'
import { MemoryStore } from '../../src/store/memory.ts'
import type { Example, TrainingData, TrainingProgress, TrainingRun } from '../../src/train/options.ts'
import { jobData } from './fixtures.ts'

export const examples: readonly Example[] = Array.from({ length: 10 }, (_, i) => ({ input: `${i}`, output: `${i}!` }))

/** Its only state is a number that each step changes; the prefix is made of it, so that a lost step would show. */
export class FakeRun implements TrainingRun {
  readonly used = { fake: true }
  readonly stepsMax: number
  step: number
  value: number
  isDisposed = false
  /** Called after each step. */
  onStep: (step: number) => void = () => undefined

  constructor(stepsMax: number, checkpoint: Uint8Array | null) {
    this.stepsMax = stepsMax
    const [step = 0, value = 1] = checkpoint === null ? [] : [...checkpoint]
    this.step = step
    this.value = value
  }

  async *steps(signal: AbortSignal): AsyncGenerator<TrainingProgress, void> {
    while (this.step < this.stepsMax && !signal.aborted) {
      this.step += 1
      this.value = (this.value * 7 + this.step) % 251
      this.onStep(this.step)
      yield { ...speeds, step: this.step, steps: this.stepsMax, loss: 1 / this.step, validationLoss: 2 / this.step }
    }
  }

  checkpoint(): Uint8Array {
    return Uint8Array.of(this.step, this.value)
  }

  prefix(): Promise<Prefix> {
    const keys = Float32Array.of(this.value)
    return Promise.resolve({ header: { ...header, training: { validationLoss: 0.5 } }, keys, values: keys })
  }

  dispose(): Promise<void> {
    this.isDisposed = true
    return Promise.resolve()
  }
}

const speeds = { tokensPerSecond: 1, examplesPerSecond: 1, etaMs: 0 }

const header = {
  attachment: 'decoder_self',
  textPositionStart: 1,
  prefixLength: 1,
  layers: 1,
  heads: 1,
  headDim: 1,
  modelSha256: 'm',
  tokenizerSha256: 't',
  template: '{input}',
} as const

export interface FakeService extends TrainingParts {
  readonly store: MemoryStore
  readonly job: TrainingJob
  readonly progress: TrainingProgress[]
  readonly warnings: string[]
  readonly runs: FakeRun[]
  readonly opened: TrainingData[]
  readonly published: Prefix[]
  /** null: deleted. */
  record: Partial<PrefixRecord> | null
  onStep: (step: number) => void
}

export function fakeService(steps: number): FakeService {
  const store = new MemoryStore()
  const progress: TrainingProgress[] = []
  const find = (): Promise<PrefixRecord> => {
    if (service.record === null) return Promise.reject(new ServiceError('prefix_not_found', 'there is no such prefix'))
    return Promise.resolve(service.record as PrefixRecord)
  }
  const update = async (_id: string, changes: Partial<PrefixRecord>): Promise<void> => {
    service.record = { ...(await find()), ...changes }
  }
  const service: FakeService = {
    store,
    progress,
    warnings: [],
    runs: [],
    opened: [],
    published: [],
    onStep: () => undefined,
    record: { id: 'pfx_1', status: 'queued', step: 0, loss: null, validationLoss: null },
    job: { id: 'job_1', data: jobData('{input}'), updateProgress: async (report) => void progress.push(report) },
    registry: {
      find,
      load: () => Promise.reject(new ServiceError('prefix_not_found', 'there is no such prefix')),
      update,
      publish: async (id, prefix, changes) => {
        await update(id, { ...changes, status: 'ready' })
        service.published.push(prefix)
      },
    },
    datasets: { get: () => Promise.resolve(examples) },
    checkpoints: createCheckpoints(store),
    openTraining: (data, _options, checkpoint) => {
      if (checkpoint?.length === 0) throw new ServiceError('prefix_invalid', 'an empty checkpoint')
      const run = new FakeRun(steps, checkpoint)
      run.onStep = (step) => service.onStep(step)
      service.runs.push(run)
      service.opened.push(data)
      return Promise.resolve(run)
    },
    environment: { codeVersion: '0.0.0' },
    evaluate: (_prefix, heldOut) => {
      const samples = heldOut.map(({ input, output }) => ({ input, reference: output, output: 'sampled' }))
      return Promise.resolve({ samples, metrics: { bleu: 12.5, examples: samples.length } })
    },
    warn: (message) => void service.warnings.push(message),
  }
  return service
}
