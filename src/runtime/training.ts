// Training steps that a runtime computes whole: trainables and moments stay where it computes, and only losses come back.
import type { Graph } from '../graph/graph.ts'
import type { Tensor } from '../tensor/tensor.ts'
import type { Weights } from '../tensor/weights.ts'
import type { Feeds } from './runtime.ts'

/** Of AdamW (Loshchilov & Hutter 2019, algorithm 2) with gradients clipped to a norm. */
export interface AdamWOptions {
  readonly beta1: number
  readonly beta2: number
  readonly epsilon: number
  readonly weightDecay: number
  /** Largest norm of all gradients together (Pascanu et al. 2013). */
  readonly clipNorm: number
}

/** The trainables, and AdamW's first and second moments of them. */
export const trainedGroups = ['parameters', 'first', 'second'] as const
export type TrainedGroup = (typeof trainedGroups)[number]

/** Numbers of each trainable by name, the same names in the same order in each group. */
export type TrainedState = Readonly<Record<TrainedGroup, Map<string, Float32Array>>>

/** The trainables of one training in the memory of a runtime. */
export interface ResidentTrainables {
  /** As the last step left them; a copy. */
  read(group: TrainedGroup): Map<string, Float32Array>
  dispose(): void
}

/** What one call of a program does to the trainables of one training. */
export interface TrainingUpdate {
  readonly trainables: ResidentTrainables
  /** For each of them by name: the input of the graph that it is, and the output that is its gradient. */
  readonly places: ReadonlyMap<string, { readonly input: string; readonly gradient: string }>
  /** Whether gradients are added to those of the calls before; otherwise they begin anew. */
  readonly adds: boolean
  /** The optimizer step to take, counted from 1; null: none yet, gradients wait for the next call. */
  readonly step: { readonly number: number; readonly learningRate: number } | null
}

/** What a call answers. */
export interface TrainingOutputs {
  /** Of the graph, but for the gradients. */
  readonly outputs: Readonly<Record<string, Tensor>>
  /** For each update: the norm of its gradients before clipping; null where no step was taken. */
  readonly gradientNorms: readonly (number | null)[]
}

/** Forward, backward and optimizer step of one graph. */
export interface TrainingProgram {
  /** `feeds` are the inputs that no update brings. A call that fails has changed nothing, unless the runtime is lost with it. */
  run(feeds: Feeds, updates: readonly TrainingUpdate[]): Promise<TrainingOutputs>
  dispose(): Promise<void>
}

export interface ResidentTraining {
  /** Copies the state, which stays the caller's. */
  hold(state: TrainedState, options: AdamWOptions): ResidentTrainables
  /** As `Runtime.compile`. */
  compile(graph: Graph, weights: Weights, form: string): Promise<TrainingProgram>
}

/** What changes from step to step in AdamW; `step` counts from 1. */
export interface StepFactors {
  /** The learning rate divided by the correction of the first moment. */
  readonly rate: number
  /** By which the root of the second moment is divided. */
  readonly secondCorrection: number
  /** By which parameters are multiplied. */
  readonly decay: number
}

export function stepFactors(
  { beta1, beta2, weightDecay }: AdamWOptions,
  step: number,
  learningRate: number,
): StepFactors {
  return {
    rate: learningRate / (1 - beta1 ** step),
    secondCorrection: Math.sqrt(1 - beta2 ** step),
    decay: 1 - learningRate * weightDecay,
  }
}
