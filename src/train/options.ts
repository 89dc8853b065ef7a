// What can be asked of a training, and what it reports.
import type { Example } from '../prefix/example.ts'
import type { Prefix } from '../prefix/prefix.ts'

export type { Example } from '../prefix/example.ts'

/**
 * `prefix`: keys and values of every layer, before the text. `embedding`: P input embeddings at positions 0 to P − 1, whose
 * keys and values the frozen model makes; served like any other. `infix`: keys and values of every layer between prompt and
 * output, for comparison alone (Li & Liang 2021, sections 7.2 and 7.3).
 */
export type PrefixVariant = 'prefix' | 'embedding' | 'infix'

/** What the learning rate does after the warm-up. */
export type Schedule = 'linear' | 'cosine' | 'constant'

/** Every field has a default that works; null means chosen for you. */
export interface TrainingOptions {
  /** P, in virtual tokens. */
  readonly prefixLength: number | null
  /** Passes over the examples; used when `steps` is null. */
  readonly epochs: number | null
  /** Optimizer steps in all. */
  readonly steps: number | null
  readonly batchSize: number
  /** Batches whose gradients make one optimizer step. */
  readonly accumulation: number
  readonly learningRate: number | null
  /** Optimizer steps in which the rate rises from 0 in a line. */
  readonly warmupSteps: number
  readonly schedule: Schedule
  readonly weightDecay: number
  /** Largest norm of a step's gradients. */
  readonly clipNorm: number
  /** Share of the prefix's keys and values that each step leaves out. */
  readonly dropout: number
  /** ε of the training loss; held-out loss has none. */
  readonly labelSmoothing: number
  readonly variant: PrefixVariant
  /** Where the prefix is put in, of the places that the model has: `decoder_self`, `cross`, `encoder_self`. null: all of them. */
  readonly attachments: readonly string[] | null
  /** Width of the hidden layer of the reparametrization network; 0 trains keys and values directly. null: chosen. */
  readonly reparametrization: number | null
  /** `text:WORDS` starts from the keys and values that the words give in the frozen model; `random` does not. */
  readonly initialization: string | null
  readonly seed: number
  /** `sum` over the target tokens of an example, or `mean`; the mean over the batch is taken of either. */
  readonly lossReduction: 'sum' | 'mean'
  /** Of products with frozen weights in training steps: `fast` is in 8 bits where that is faster. */
  readonly precision: 'float32' | 'fast'
}

/** What is left to be chosen is null; the rest are the paper's settings, or what works where it has none. */
export const trainingDefaults: TrainingOptions = {
  prefixLength: null,
  epochs: null,
  steps: null,
  batchSize: 10,
  accumulation: 1,
  learningRate: null,
  warmupSteps: 0,
  schedule: 'linear',
  weightDecay: 0,
  clipNorm: 1,
  dropout: 0,
  labelSmoothing: 0,
  variant: 'prefix',
  attachments: null,
  reparametrization: null,
  initialization: null,
  seed: 1,
  lossReduction: 'sum',
  precision: 'float32',
}

/** A stored prefix to go on from, in the place of words or random numbers. */
export interface StartingPrefix {
  /** Names it for good: `pfx_…@` and the hash of its artifact. */
  readonly label: string
  /** Asked for at the beginning of a training only. */
  load(): Promise<Prefix>
}

/** Options that are chosen where they are null, besides the number of steps. */
export interface ChosenOptions {
  readonly prefixLength: number
  readonly learningRate: number
  readonly reparametrization: number
  readonly initialization: string
}

/** What a probe tried: each candidate with the steps it was given, and its loss after them (null: it diverged). */
export interface Choice {
  readonly chosen: ChosenOptions
  readonly tried: readonly (ChosenOptions & { readonly steps: number; readonly loss: number | null })[]
}

export interface TrainingData {
  readonly examples: readonly Example[]
  /** Examples never trained on. Empty: no held-out loss, the last step is kept. */
  readonly heldOut: readonly Example[]
  readonly template: string
  readonly from: StartingPrefix | null
}

export interface TrainingProgress {
  /** Optimizer steps done. */
  readonly step: number
  readonly steps: number
  /** Mean loss per target token of this step's batches in nats, whatever `lossReduction` is; smoothed where asked for. */
  readonly loss: number
  /** Mean held-out loss per target token in nats, at the last time it was measured. */
  readonly validationLoss: number | null
  readonly tokensPerSecond: number
  readonly examplesPerSecond: number
  readonly etaMs: number
  /** While options are being chosen, and no step counts yet: steps of all candidates, done and at most to be done. */
  readonly choosing?: { readonly done: number; readonly total: number }
}

/** One training in progress. `checkpoint` and `prefix` may be called between two turns of `steps`. */
export interface TrainingRun {
  /** Options as used, with what was chosen filled in, and what the data came to. Plain JSON. */
  readonly used: Readonly<Record<string, unknown>>
  /** Steps done, those before the checkpoint included. */
  readonly step: number
  /** One optimizer step a turn; ends early once `signal` aborts (at a step's end) or when held-out loss stops falling. */
  steps(signal: AbortSignal): AsyncGenerator<TrainingProgress, void>
  /** Everything needed to go on, bit for bit: trainables, optimizer, best so far, data cursor; null: nothing yet. */
  checkpoint(): Uint8Array | null
  /** The best prefix so far, reparametrization folded away. */
  prefix(): Promise<Prefix>
  dispose(): Promise<void>
}
