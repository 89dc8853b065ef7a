// What can be asked of a training, and what it reports.
import type { Example } from '../prefix/example.ts'
import type { Prefix } from '../prefix/prefix.ts'

export type { Example } from '../prefix/example.ts'

/** Every field has a default that works; null means chosen for you. */
export interface TrainingOptions {
  /** P, in virtual tokens. */
  readonly prefixLength: number
  /** Passes over the examples; used when `steps` is null. */
  readonly epochs: number
  /** Optimizer steps in all. */
  readonly steps: number | null
  readonly batchSize: number
  readonly learningRate: number | null
  /** Width of the hidden layer of the reparametrization network; 0 trains keys and values directly. null: chosen. */
  readonly reparametrization: number | null
  /** `text:WORDS` starts from the keys and values that the words give in the frozen model; `random` does not. */
  readonly initialization: string
  readonly seed: number
  /** `sum` over the target tokens of an example, or `mean`; the mean over the batch is taken of either. */
  readonly lossReduction: 'sum' | 'mean'
  /** Of products with frozen weights in training steps: `fast` is in 8 bits where that is faster. Float32 where not said. */
  readonly precision?: 'float32' | 'fast'
}

export interface TrainingData {
  readonly examples: readonly Example[]
  /** Examples never trained on. Empty: no held-out loss, the last step is kept. */
  readonly heldOut: readonly Example[]
  readonly template: string
}

export interface TrainingProgress {
  /** Steps done. */
  readonly step: number
  readonly steps: number
  /** Mean loss per target token of this step's batch in nats, whatever `lossReduction` is. */
  readonly loss: number
  /** Mean held-out loss per target token in nats, at the last time it was measured. */
  readonly validationLoss: number | null
  readonly tokensPerSecond: number
  readonly examplesPerSecond: number
  readonly etaMs: number
}

/** One training in progress. `checkpoint` and `prefix` may be called between two turns of `steps`. */
export interface TrainingRun {
  /** Options as used, with what was chosen filled in, and what the data came to. Plain JSON. */
  readonly used: Readonly<Record<string, unknown>>
  /** Steps done, those before the checkpoint included. */
  readonly step: number
  /** One optimizer step a turn; ends early once `signal` aborts (at a step's end) or when held-out loss stops falling. */
  steps(signal: AbortSignal): AsyncGenerator<TrainingProgress, void>
  /** Everything needed to go on, bit for bit: trainables, optimizer, best so far, data cursor. */
  checkpoint(): Uint8Array
  /** The best prefix so far, reparametrization folded away. */
  prefix(): Promise<Prefix>
  dispose(): Promise<void>
}
