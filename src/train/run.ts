// One training in progress: its steps, its state, and what it came to.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { version } from '../config/version.ts'
import { ServiceError } from '../errors/errors.ts'
import { playing, type Model, type PrefixPlace } from '../model/model.ts'
import { checkPrefixFits } from '../prefix/artifact.ts'
import { placesOf, type Prefix } from '../prefix/prefix.ts'
import type { Program, Runtime } from '../runtime/runtime.ts'
import type { TrainedState } from '../runtime/training.ts'
import type { Tokenizer } from '../tokenizer/tokenizer.ts'
import { adamWDefaults, untrained } from './adamw.ts'
import { BatchSequence } from './batches.ts'
import { decodeCheckpoint, encodeCheckpoint, formOfCheckpoint, type BestPrefix, type Task } from './checkpoint.ts'
import { DivergenceWatch } from './divergence.ts'
import { encodeExamples, lengthOf, type EncodedExample } from './encode.ts'
import { Evaluator } from './evaluator.ts'
import { parameterFeeds } from './feeds.ts'
import { GradientSteps } from './gradients.ts'
import { foldGraph, trainingGraph } from './graphs.ts'
import { continuedParameters, initialParameters } from './initialize.ts'
import { Meter } from './meter.ts'
import type { Choice, Example, TrainingData, TrainingProgress, TrainingRun } from './options.ts'
import { parameterShapes, shapeOn, type Parameters, type PrefixShape } from './parameters.ts'
import type { TrainingPlan } from './plan.ts'
import { learningRateAt } from './schedule.ts'
import { SharedSteps } from './shared-steps.ts'
import { holdTrainables, type Trainables } from './trainables.ts'

export interface TrainerParts {
  readonly runtime: Runtime
  readonly model: Model
  readonly tokenizer: Tokenizer
  /** Of the same runtime and model; without it a training shares its steps with no other. */
  readonly steps?: SharedSteps
}

/** Evaluations without a better held-out loss before a training ends early. */
const patience = 4

/** Examples as tokens, for all trainings that are to be opened on them. */
export interface PreparedData extends TrainingData {
  readonly encoded: readonly EncodedExample[]
  readonly encodedHeldOut: readonly EncodedExample[]
}

/** Throws `examples_invalid`, or `input_too_long` where an example has no room beside a prefix of `prefixLength`. */
export function prepareData(
  { model, tokenizer }: TrainerParts,
  data: TrainingData,
  prefixLength: number,
): PreparedData {
  const { positionsMax } = model.config
  if (data.examples.length === 0) throw new ServiceError('examples_invalid', 'there is no example to train on')
  const room = { tokensMax: positionsMax - prefixLength, sourceMax: model.sourceMax }
  const encode = (examples: readonly Example[]): EncodedExample[] =>
    encodeExamples(tokenizer, data.template, examples, room, model.framing)
  return { ...data, encoded: encode(data.examples), encodedHeldOut: encode(data.heldOut) }
}

/** Opens a training with every option decided. Throws as `openTraining` does. */
export async function openTrainer(
  parts: TrainerParts,
  data: PreparedData,
  plan: TrainingPlan,
  checkpoint: Uint8Array | null,
): Promise<Trainer> {
  const { runtime, model } = parts
  const shape = shapeOn(model, plan, plan.attachments)
  // A run goes on in the form it began with; where this machine cannot, its checkpoint is refused as that of another task.
  const began = checkpoint === null ? undefined : formOfCheckpoint(checkpoint)
  const isFast = plan.precision === 'fast'
  const form = isFast ? await runtime.fastForm(trainingGraph(model, shape), model.weights, began) : 'float32'
  const steps = parts.steps ?? new SharedSteps(runtime, model)
  const [fold, evaluator] = await Promise.all([
    runtime.compile(foldGraph(model, shape), model.weights),
    Evaluator.open(runtime, model, shape, data.encodedHeldOut, steps.sourcesOf(shape, 'float32')),
  ])
  const gradients = new GradientSteps(steps, shape, plan, form)
  const trainer = new Trainer({ parts, data, plan, shape, form, gradients, fold, evaluator })
  try {
    if (checkpoint !== null) trainer.resume(checkpoint)
    else trainer.start(untrained(await startingParameters(parts, data, plan, shape)))
    return trainer
  } catch (error) {
    await trainer.dispose()
    throw error
  }
}

async function startingParameters(
  parts: TrainerParts,
  { from }: TrainingData,
  { initialization, seed }: TrainingPlan,
  shape: PrefixShape,
): Promise<Parameters> {
  if (from === null) return initialParameters(parts, shape, initialization, seed)
  const { model, tokenizer } = parts
  const prefix = await from.load()
  checkPrefixFits(prefix.header, playing(model, tokenizer))
  if (prefix.header.prefixLength !== shape.prefixLength) {
    const message = `prefixLength is ${shape.prefixLength}, the prefix ${from.label} to start from has ${prefix.header.prefixLength}`
    throw new ServiceError('invalid_request', message)
  }
  checkPlaces(prefix.header, shape)
  return continuedParameters(shape, prefix, seed)
}

/** A prefix goes on where it is: parameters for other places would have nothing to start from. */
function checkPlaces(header: Prefix['header'], { places, textStart }: PrefixShape): void {
  const [there, asked] = [placesOf(header), places].map((each) => each.map(({ attachment }) => attachment).join(', '))
  if (there !== asked) {
    const message = `the training option attachments comes to ${asked}, the prefix to start from is attached to ${there}`
    throw new ServiceError('invalid_request', message)
  }
  if (header.textPositionStart === textStart) return
  const message = `text starts at position ${header.textPositionStart} behind the prefix to start from, at ${textStart} in a training`
  throw new ServiceError('not_supported', message)
}

interface TrainerState {
  readonly parts: TrainerParts
  readonly data: PreparedData
  readonly plan: TrainingPlan
  readonly shape: PrefixShape
  /** The runtime's, of products with frozen weights in training steps. Held-out loss is measured in float32 always. */
  readonly form: string
  readonly gradients: GradientSteps
  readonly fold: Program
  readonly evaluator: Evaluator
}

export class Trainer implements TrainingRun {
  /** How its options were found, where they were not all given; kept with it from then on. */
  choice: Choice | null = null
  readonly #used: Readonly<Record<string, unknown>>
  readonly #s: TrainerState
  readonly #task: Task
  readonly #batches: BatchSequence
  readonly #watch: DivergenceWatch
  /** null before the start. */
  #trainables: Trainables | null = null
  #step = 0
  #best: BestPrefix | null = null
  #stale = 0
  #validationLoss: number | null = null
  #isStopped = false

  constructor(state: TrainerState) {
    const { data, plan, form, parts } = state
    const { examples, heldOut, template } = data
    this.#s = state
    this.#batches = new BatchSequence(data.encoded.map(lengthOf), plan.batchSize, plan.seed)
    this.#watch = new DivergenceWatch(parts.model.config.vocabulary)
    const from = data.from?.label ?? null
    this.#used = {
      ...plan,
      attachments: state.shape.places.map(({ attachment }) => attachment),
      // Words give no start where a stored prefix does.
      ...(from !== null && { from, initialization: null }),
      optimizer: 'adamw',
      version,
      runtime: parts.runtime.name,
      form,
      examples: examples.length,
      heldOut: heldOut.length,
      targetTokens: data.encoded.reduce((sum, { targets }) => sum + targets.length, 0),
    }
    // The same data, options and model make the same training: a checkpoint belongs to one of them.
    const identity = JSON.stringify([
      { examples, heldOut, template, from },
      plan,
      parts.model.sha256,
      parts.tokenizer.sha256,
      form,
    ])
    this.#task = { sha256: createHash('sha256').update(identity).digest('hex'), version }
  }

  get used(): Readonly<Record<string, unknown>> {
    const used = { ...this.#used, trainedTokens: this.#trainedTokens() }
    return this.choice === null ? used : { ...used, choice: this.choice }
  }

  get step(): number {
    return this.#step
  }

  /** The state is the trainer's from then on. */
  start(state: TrainedState): void {
    const { parts, plan, gradients } = this.#s
    const { weightDecay, clipNorm } = plan
    this.#trainables = holdTrainables(parts.runtime, gradients, state, { ...adamWDefaults, weightDecay, clipNorm })
  }

  resume(bytes: Uint8Array): void {
    const checkpoint = decodeCheckpoint(bytes, this.#task, [...parameterShapes(this.#s.shape).keys()])
    this.start(checkpoint)
    this.#step = checkpoint.step
    this.#best = checkpoint.best
    this.#stale = checkpoint.stale
    this.#validationLoss = checkpoint.validationLoss
    this.#isStopped = checkpoint.isStopped
    this.choice = checkpoint.choice
  }

  checkpoint(): Uint8Array {
    return encodeCheckpoint(
      {
        step: this.#step,
        parameters: this.#held.read('parameters'),
        first: this.#held.read('first'),
        second: this.#held.read('second'),
        best: this.#best,
        stale: this.#stale,
        validationLoss: this.#validationLoss,
        isStopped: this.#isStopped,
        choice: this.choice,
      },
      this.#task,
      this.#s.form,
    )
  }

  async *steps(signal: AbortSignal): AsyncGenerator<TrainingProgress, void> {
    const { plan } = this.#s
    const { encoded } = this.#s.data
    const meter = new Meter()
    while (this.#step < plan.steps && !this.#isStopped && !signal.aborted) {
      const batches = Array.from({ length: plan.accumulation }, (_, i) =>
        this.#batches.at(this.#step * plan.accumulation + i),
      )
      const loss = await this.#update(batches)
      this.#step += 1
      if (this.#step % plan.evaluateEvery === 0 || this.#step === plan.steps) await this.#evaluate()
      meter.add(batches.flat().map((index) => encoded[index] as EncodedExample))
      const left = this.#isStopped ? 0 : plan.steps - this.#step
      yield { step: this.#step, steps: plan.steps, loss, validationLoss: this.#validationLoss, ...meter.rates(left) }
    }
  }

  /** Mean loss per target token on the first `examplesMax` held-out examples, in nats; leaves no trace in the training. */
  async measure(examplesMax: number): Promise<number> {
    const { keys, values } = await this.#folded()
    return this.#s.evaluator.loss(keys, values, examplesMax)
  }

  async prefix(): Promise<Prefix> {
    const { parts, plan, data } = this.#s
    const { model, tokenizer } = parts
    const { keys, values } = this.#best ?? (await this.#folded())
    return {
      header: {
        ...attachedTo(this.#s.shape),
        prefixLength: plan.prefixLength,
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
    const { gradients, fold, evaluator } = this.#s
    gradients.leave()
    this.#trainables?.dispose()
    await Promise.all([fold.dispose(), evaluator.dispose()])
  }

  /** Forward, backward and AdamW on the batches of a step, given as indices; answers the mean loss per target token. */
  async #update(batches: readonly (readonly number[])[]): Promise<number> {
    const { plan } = this.#s
    const { encoded } = this.#s.data
    const rows = batches.map((batch) => batch.map((index) => encoded[index] as EncodedExample))
    const { loss, gradientNorm } = await this.#held.update(rows, this.#step, learningRateAt(plan, this.#step))
    const examples = batches.flat().map((index) => index + 1)
    this.#watch.check({ step: this.#step + 1, examples, loss, gradientNorm, learningRate: plan.learningRate })
    return loss
  }

  get #held(): Trainables {
    assert.ok(this.#trainables !== null, 'a training that was not started')
    return this.#trainables
  }

  /** Tokens of all examples that the steps so far went through, counted from the first, since a run may have been resumed. */
  #trainedTokens(): number {
    const { encoded } = this.#s.data
    const { batchSize, accumulation, seed } = this.#s.plan
    const lengths = encoded.map(lengthOf)
    const batches = new BatchSequence(lengths, batchSize, seed)
    let tokens = 0
    for (let i = 0; i < this.#step * accumulation; i++) {
      for (const index of batches.at(i)) tokens += lengths[index] as number
    }
    return tokens
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
    const folded = await this.#s.fold.run(parameterFeeds(this.#held.read('parameters'), this.#s.shape))
    return { keys: folded['folded.keys']?.data as Float32Array, values: folded['folded.values']?.data as Float32Array }
  }
}

/** What a stored prefix says of where it is put in. */
function attachedTo({
  variant,
  places,
  layers,
  textStart,
}: PrefixShape): Pick<Prefix['header'], 'attachment' | 'places' | 'layers' | 'textPositionStart'> {
  if (variant === 'infix') return { attachment: 'infix', layers, textPositionStart: 0 }
  const { attachment } = places[0] as PrefixPlace
  return { attachment, layers, textPositionStart: textStart, ...(places.length > 1 && { places }) }
}
