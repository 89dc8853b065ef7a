// Forward and backward over the batches of one optimizer step.
import assert from 'node:assert/strict'
import type { Feeds } from '../runtime/runtime.ts'
import type { ResidentTrainables } from '../runtime/training.ts'
import { dropoutFeeds } from './dropout.ts'
import type { EncodedExample } from './encode.ts'
import { batchFeeds, fixedFeeds, lossWeight, parameterFeeds } from './feeds.ts'
import { gradientOf } from './graphs.ts'
import type { Parameters, PrefixShape } from './parameters.ts'
import type { TrainingPlan } from './plan.ts'
import type { SharedSteps, StepMember } from './shared-steps.ts'
import { feedsOfSources, type SourceMemory } from './source-memory.ts'

export interface StepGradients {
  /** Mean loss per target token. */
  readonly loss: number
  readonly gradients: ReadonlyMap<string, Float32Array>
}

export interface StepResult {
  /** Mean loss per target token. */
  readonly loss: number
  /** Before clipping. */
  readonly gradientNorm: number
}

/** What of a plan a step's gradients follow from. */
export type GradientPlan = Pick<TrainingPlan, 'dropout' | 'labelSmoothing' | 'lossReduction' | 'seed'>

type Batches = readonly (readonly EncodedExample[])[]

/** The batches of a step together give what one batch of all their rows would. Steps count from 0. */
export class GradientSteps {
  readonly #member: StepMember
  readonly #shape: PrefixShape
  readonly #plan: GradientPlan
  /** null: the encoder is in the graph, or there is none. */
  readonly #sources: SourceMemory | null

  /** Takes a place in `steps` until `leave`. `form`: the runtime's, of products with frozen weights. */
  constructor(steps: SharedSteps, shape: PrefixShape, plan: GradientPlan, form = 'float32') {
    this.#sources = steps.sourcesOf(shape, form)
    const encoded = this.#sources !== null
    this.#member = steps.join({ shape, dropout: plan.dropout > 0, encoded, smoothing: plan.labelSmoothing, form })
    this.#shape = shape
    this.#plan = plan
  }

  async of(batches: Batches, parameters: Parameters, step: number): Promise<StepGradients> {
    const sums = new Map<string, Float32Array>()
    const given = parameterFeeds(parameters, this.#shape)
    const loss = await this.#meanLoss(batches, given, step, async (feeds) => {
      const { tokenLosses, gradients } = await this.#member.run(feeds)
      for (const name of parameters.keys()) {
        const gradient = gradients[gradientOf(name)]?.data as Float32Array
        const sum = sums.get(name)
        if (sum === undefined) sums.set(name, gradient)
        else for (let i = 0; i < sum.length; i++) sum[i]! += gradient[i] as number
      }
      return tokenLosses
    })
    return { loss, gradients: sums }
  }

  /** The optimizer step too, of trainables that the runtime holds. */
  async update(
    batches: Batches,
    trainables: ResidentTrainables,
    step: number,
    learningRate: number,
  ): Promise<StepResult> {
    let norm: number | null = null
    const loss = await this.#meanLoss(batches, fixedFeeds(this.#shape), step, async (feeds, i) => {
      const isLast = i === batches.length - 1
      const update = { trainables, adds: i > 0, step: isLast ? { number: step + 1, learningRate } : null }
      const { tokenLosses, gradientNorm } = await this.#member.run(feeds, update)
      norm = gradientNorm
      return tokenLosses
    })
    assert.ok(norm !== null, 'a step without batches')
    return { loss, gradientNorm: norm }
  }

  leave(): void {
    this.#member.leave()
  }

  /** `run` is given the feeds of one batch after the other and answers the losses of its target tokens. */
  async #meanLoss(
    batches: Batches,
    given: Feeds,
    step: number,
    run: (feeds: Feeds, i: number) => Promise<Float32Array>,
  ): Promise<number> {
    const { lossReduction, dropout, seed } = this.#plan
    const weight = lossWeight(batches.flat(), lossReduction)
    const shared = { ...given, ...(dropout > 0 && dropoutFeeds(this.#shape, dropout, seed, step)) }
    let [loss, count] = [0, 0]
    for (const [i, batch] of batches.entries()) {
      const sources = await feedsOfSources(this.#sources, batch)
      const tokenLosses = await run({ ...batchFeeds(batch, this.#shape, weight), ...sources, ...shared }, i)
      for (const value of tokenLosses) loss += value
      count += tokenLosses.length
    }
    return loss / count
  }
}
