// Examples to a prefix: the training loop.
import { createHash } from 'node:crypto'
import { ServiceError } from '../errors/errors.ts'
import type { Model } from '../model/model.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { Program, Runtime } from '../runtime/runtime.ts'
import { float32 } from '../tensor/tensor.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { AdamW } from './adamw.ts'
import { BatchSequence } from './batches.ts'
import { decodeCheckpoint, encodeCheckpoint, formOfCheckpoint, type BestPrefix } from './checkpoint.ts'
import { encodeExamples, type EncodedExample } from './encode.ts'
import { Evaluator } from './evaluator.ts'
import { batchFeeds } from './feeds.ts'
import { foldGraph, gradientOf, trainingGraph } from './graphs.ts'
import { initialParameters } from './initialize.ts'
import type { TrainingData, TrainingOptions, TrainingProgress, TrainingRun } from './options.ts'
import { parameterShapes, prefixShape, type Parameters, type PrefixShape } from './parameters.ts'
import { learningRateAt, planTraining, type TrainingPlan } from './plan.ts'

export interface TrainerParts {
  readonly runtime: Runtime
  readonly model: Model
  readonly tokenizer: Tokenizer
}

/** Evaluations without a better held-out loss before a training ends early. */
const patience = 4

/**
 * Opens a training, from its beginning or from a checkpoint of the same training.
 * Throws `examples_invalid`, `input_too_long`, `invalid_request`, or `prefix_invalid` for an unusable checkpoint.
 */
export async function openTraining(
  parts: TrainerParts,
  data: TrainingData,
  options: TrainingOptions,
  checkpoint: Uint8Array | null,
): Promise<TrainingRun> {
  const { runtime, model, tokenizer } = parts
  if (data.examples.length === 0) throw new ServiceError('examples_invalid', 'there is no example to train on')
  const room = model.config.positionsMax - options.prefixLength
  const encoded = encodeExamples(tokenizer, data.template, data.examples, room)
  const heldOut = encodeExamples(tokenizer, data.template, data.heldOut, room)
  const plan = planTraining(options, model, encoded)
  const shape = prefixShape(model.config, plan.prefixLength, plan.reparametrization)
  const graph = trainingGraph(model, shape)
  // A run goes on in the form it began with; where this machine cannot, its checkpoint is refused as that of another task.
  const began = checkpoint === null ? undefined : formOfCheckpoint(checkpoint)
  const form = plan.precision === 'fast' ? await runtime.fastForm(graph, model.weights, began) : 'float32'
  const [program, fold, evaluator] = await Promise.all([
    runtime.compile(graph, model.weights, form),
    runtime.compile(foldGraph(shape), model.weights),
    Evaluator.open(runtime, model, shape, heldOut),
  ])
  const trainer = new Trainer({ parts, data, plan, shape, form, encoded, program, fold, evaluator })
  if (checkpoint === null) trainer.start(await initialParameters(parts, shape, plan.initialization, plan.seed))
  else trainer.resume(checkpoint)
  return trainer
}

interface TrainerState {
  readonly parts: TrainerParts
  readonly data: TrainingData
  readonly plan: TrainingPlan
  readonly shape: PrefixShape
  /** The runtime's, of products with frozen weights in training steps. Held-out loss is measured in float32 always. */
  readonly form: string
  readonly encoded: readonly EncodedExample[]
  readonly program: Program
  readonly fold: Program
  readonly evaluator: Evaluator
}

class Trainer implements TrainingRun {
  readonly used: Readonly<Record<string, unknown>>
  readonly #s: TrainerState
  readonly #task: string
  readonly #batches: BatchSequence
  #parameters: Parameters = new Map()
  #optimizer = new AdamW(new Map())
  #step = 0
  #best: BestPrefix | null = null
  #stale = 0
  #validationLoss: number | null = null
  #isStopped = false

  constructor(state: TrainerState) {
    const { data, plan, form, encoded, parts } = state
    this.#s = state
    this.#batches = new BatchSequence(
      encoded.map(({ tokens }) => tokens.length),
      plan.batchSize,
      plan.seed,
    )
    this.used = {
      ...plan,
      optimizer: 'adamw',
      schedule: 'linear',
      runtime: parts.runtime.name,
      form,
      examples: data.examples.length,
      heldOut: data.heldOut.length,
      targetTokens: encoded.reduce((sum, { targets }) => sum + targets.length, 0),
    }
    // The same data, options and model make the same training: a checkpoint belongs to one of them.
    const identity = JSON.stringify([data, plan, parts.model.sha256, parts.tokenizer.sha256, form])
    this.#task = createHash('sha256').update(identity).digest('hex')
  }

  get step(): number {
    return this.#step
  }

  start(parameters: Parameters): void {
    this.#parameters = parameters
    this.#optimizer = new AdamW(parameters)
  }

  resume(bytes: Uint8Array): void {
    const checkpoint = decodeCheckpoint(bytes, this.#task, [...parameterShapes(this.#s.shape).keys()])
    this.start(checkpoint.parameters)
    for (const [name, moment] of checkpoint.first) this.#optimizer.first.set(name, moment)
    for (const [name, moment] of checkpoint.second) this.#optimizer.second.set(name, moment)
    this.#step = checkpoint.step
    this.#best = checkpoint.best
    this.#stale = checkpoint.stale
    this.#validationLoss = checkpoint.validationLoss
    this.#isStopped = checkpoint.isStopped
  }

  checkpoint(): Uint8Array {
    return encodeCheckpoint(
      {
        step: this.#step,
        parameters: this.#parameters,
        first: this.#optimizer.first,
        second: this.#optimizer.second,
        best: this.#best,
        stale: this.#stale,
        validationLoss: this.#validationLoss,
        isStopped: this.#isStopped,
      },
      this.#task,
      this.#s.form,
    )
  }

  async *steps(signal: AbortSignal): AsyncGenerator<TrainingProgress, void> {
    const { plan, encoded } = this.#s
    const meter = new Meter()
    while (this.#step < plan.steps && !this.#isStopped && !signal.aborted) {
      const batch = this.#batches.at(this.#step).map((index) => encoded[index] as EncodedExample)
      const loss = await this.#update(batch)
      this.#step += 1
      if (this.#step % plan.evaluateEvery === 0 || this.#step === plan.steps) await this.#evaluate()
      meter.add(batch)
      const left = this.#isStopped ? 0 : plan.steps - this.#step
      yield { step: this.#step, steps: plan.steps, loss, validationLoss: this.#validationLoss, ...meter.rates(left) }
    }
  }

  async prefix(): Promise<Prefix> {
    const { parts, plan, data } = this.#s
    const { model, tokenizer } = parts
    const { keys, values } = this.#best ?? (await this.#folded())
    return {
      header: {
        attachment: 'decoder_self',
        textPositionStart: plan.prefixLength,
        prefixLength: plan.prefixLength,
        layers: model.config.layers,
        heads: model.config.heads,
        headDim: model.config.headDim,
        modelSha256: model.sha256,
        tokenizerSha256: tokenizer.sha256,
        template: data.template,
        training: {
          ...this.used,
          step: this.#best?.step ?? this.#step,
          validationLoss: this.#best?.validationLoss ?? null,
        },
      },
      keys,
      values,
    }
  }

  async dispose(): Promise<void> {
    const { program, fold, evaluator } = this.#s
    await Promise.all([program.dispose(), fold.dispose(), evaluator.dispose()])
  }

  /** Forward, backward and AdamW on one batch; answers the mean loss per target token. */
  async #update(batch: readonly EncodedExample[]): Promise<number> {
    const { plan, shape, program } = this.#s
    const outputs = await program.run({
      ...batchFeeds(batch, plan.prefixLength, plan.lossReduction),
      ...parameterFeeds(this.#parameters, shape),
    })
    const gradients = new Map(
      [...this.#parameters.keys()].map((name) => [name, outputs[gradientOf(name)]?.data as Float32Array]),
    )
    const losses = outputs['tokenLosses']?.data as Float32Array
    const loss = losses.reduce((sum, value) => sum + value, 0) / losses.length
    const norm = this.#optimizer.update(gradients, this.#step + 1, learningRateAt(plan, this.#step))
    if (!Number.isFinite(loss) || !Number.isFinite(norm)) {
      const examples = this.#batches.at(this.#step).map((index) => index + 1)
      throw new ServiceError(
        'training_diverged',
        `step ${this.#step + 1} gave a loss of ${loss} and a gradient norm of ${norm} on examples ${examples.join(', ')}; a lower learningRate than ${plan.learningRate} may help`,
        { step: this.#step + 1, examples },
      )
    }
    return loss
  }

  /** Measures held-out loss, keeps the best prefix, and stops the training when it has not become better for long. */
  async #evaluate(): Promise<void> {
    const { evaluator } = this.#s
    if (evaluator.isEmpty) return
    const { keys, values } = await this.#folded()
    const validationLoss = await evaluator.loss(keys, values)
    this.#validationLoss = validationLoss
    if (this.#best === null || validationLoss < this.#best.validationLoss) {
      this.#best = { step: this.#step, validationLoss, keys: keys.slice(), values: values.slice() }
      this.#stale = 0
    } else this.#stale += 1
    this.#isStopped = this.#stale >= patience
  }

  async #folded(): Promise<{ readonly keys: Float32Array; readonly values: Float32Array }> {
    const folded = await this.#s.fold.run(parameterFeeds(this.#parameters, this.#s.shape))
    return { keys: folded['folded.keys']?.data as Float32Array, values: folded['folded.values']?.data as Float32Array }
  }
}

function parameterFeeds(parameters: Parameters, shape: PrefixShape): Record<string, ReturnType<typeof float32>> {
  const shapes = parameterShapes(shape)
  return Object.fromEntries(
    [...parameters].map(([name, data]) => [name, float32(data, shapes.get(name) as readonly number[])]),
  )
}

/** Speeds since a run began, in this process. */
class Meter {
  readonly #startMs = performance.now()
  #steps = 0
  #tokens = 0
  #examples = 0

  add(batch: readonly EncodedExample[]): void {
    this.#steps += 1
    this.#examples += batch.length
    for (const { tokens } of batch) this.#tokens += tokens.length
  }

  rates(stepsLeft: number): Pick<TrainingProgress, 'tokensPerSecond' | 'examplesPerSecond' | 'etaMs'> {
    const elapsedMs = performance.now() - this.#startMs
    const perSecond = (count: number): number => (1000 * count) / elapsedMs
    return {
      tokensPerSecond: perSecond(this.#tokens),
      examplesPerSecond: perSecond(this.#examples),
      etaMs: (elapsedMs / this.#steps) * stepsLeft,
    }
  }
}
