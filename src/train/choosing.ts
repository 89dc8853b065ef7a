// A training whose options are chosen first: candidates are trained side by side, and the best one goes on.
import { ServiceError } from '../errors/errors.ts'
import type { Prefix } from '../prefix/prefix.ts'
import { variantsOf } from './candidates.ts'
import type { Choice, ChosenOptions, TrainingOptions, TrainingProgress, TrainingRun } from './options.ts'
import type { TrainingPlan } from './plan.ts'
import { openTrainer, type PreparedData, type Trainer, type TrainerParts } from './run.ts'

/** Of the training's steps, what a candidate gets before it is first looked at, and before the last choice. */
const rounds = [
  { share: 0.08, stepsMin: 12, stepsMax: 60 },
  { share: 0.2, stepsMin: 30, stepsMax: 150 },
] as const
/** Candidates that are left after the first look. */
const survivorsMax = 3
/** Held-out examples a look is taken with. */
const looksMax = 96
/** A variant must be better by so much to be taken: smaller differences are noise of few examples. */
const margin = 0.005
/** Without held-out examples, the loss of so many of the last steps is compared. */
const lastLossesMax = 10

interface Candidate {
  readonly options: ChosenOptions
  readonly run: Trainer
  /** Of the last steps. */
  readonly losses: number[]
  latest: TrainingProgress | null
  /** At the last look; infinite where it went wrong. */
  loss: number
  /** Where it went wrong. */
  error: Error | null
}

/**
 * Successive halving (Jamieson & Talwalkar 2016) over whole trainings: every candidate follows the schedule that it would
 * follow to the end, so that the winner is the training that its options alone would have given, bit for bit, and none of its
 * steps is lost. The same data and options choose the same.
 */
export class ChoosingRun implements TrainingRun {
  readonly #parts: TrainerParts
  readonly #data: PreparedData
  readonly #asked: TrainingOptions
  readonly #plan: TrainingPlan
  readonly #candidates: readonly ChosenOptions[]
  #pool: Candidate[] = []
  #winner: Trainer | null = null

  constructor(
    parts: TrainerParts,
    data: PreparedData,
    asked: TrainingOptions,
    plan: TrainingPlan,
    candidates: readonly ChosenOptions[],
  ) {
    this.#parts = parts
    this.#data = data
    this.#asked = asked
    this.#plan = plan
    this.#candidates = candidates
  }

  get used(): Readonly<Record<string, unknown>> {
    return this.#winner?.used ?? { ...this.#plan }
  }
  get step(): number {
    return this.#winner?.step ?? 0
  }
  checkpoint(): Uint8Array | null {
    return this.#winner?.checkpoint() ?? null
  }
  prefix(): Promise<Prefix> {
    return this.#chosen().prefix()
  }
  async dispose(): Promise<void> {
    const open = this.#pool.splice(0)
    await Promise.all(open.map(({ run }) => run.dispose()))
    await this.#winner?.dispose()
  }

  async *steps(signal: AbortSignal): AsyncGenerator<TrainingProgress, void> {
    if (this.#winner === null) yield* this.#choose(signal)
    if (!signal.aborted) yield* this.#chosen().steps(signal)
  }

  #chosen(): Trainer {
    if (this.#winner === null) throw new Error('the options of this training are not chosen yet')
    return this.#winner
  }

  /** A choice that is broken off begins anew the next time. */
  async *#choose(signal: AbortSignal): AsyncGenerator<TrainingProgress, void> {
    const meter = new ChoiceMeter(this.#plan.steps, this.#candidates.length)
    const tried: Choice['tried'][number][] = []
    const [first, last] = rounds.map(({ share, stepsMin, stepsMax }) =>
      Math.min(this.#plan.steps, Math.max(stepsMin, Math.min(Math.ceil(share * this.#plan.steps), stepsMax))),
    ) as [number, number]
    await this.#open(this.#candidates)
    yield* this.#advance(first, meter, signal)
    if (signal.aborted) {
      await this.#close([])
      return
    }
    const survivors = (await this.#ranked(tried)).slice(0, survivorsMax)
    await this.#close(survivors)
    const best = survivors[0]?.options as ChosenOptions
    const variants = variantsOf(best, this.#asked, this.#parts.model.config, this.#data)
    await this.#open(variants)
    meter.plan(survivors.length * (last - first) + variants.length * last)
    yield* this.#advance(last, meter, signal)
    if (signal.aborted) {
      await this.#close([])
      return
    }
    const ranked = await this.#ranked(tried)
    const winner = winnerOf(ranked, variants)
    await this.#close([winner])
    this.#pool = []
    winner.run.choice = { chosen: winner.options, tried }
    this.#winner = winner.run
  }

  async #open(options: readonly ChosenOptions[]): Promise<void> {
    for (const each of options) {
      const run = await openTrainer(this.#parts, this.#data, { ...this.#plan, ...each }, null)
      this.#pool.push({ options: each, run, losses: [], latest: null, loss: Infinity, error: null })
    }
  }

  async #close(kept: readonly Candidate[]): Promise<void> {
    const leaving = this.#pool.filter((candidate) => !kept.includes(candidate))
    this.#pool = [...kept]
    for (const { run } of leaving) await run.dispose()
  }

  /** Every candidate up to step `until`, step by step together. */
  async *#advance(until: number, meter: ChoiceMeter, signal: AbortSignal): AsyncGenerator<TrainingProgress, void> {
    const walks = this.#pool.map((candidate) => ({ candidate, walk: candidate.run.steps(signal) }))
    for (;;) {
      const going = walks.filter(({ candidate: { run, error } }) => error === null && run.step < until)
      const taken = await Promise.all(going.map(({ candidate, walk }) => takeStep(candidate, walk)))
      if (!taken.includes(true) || signal.aborted) break
      yield meter.add(this.#pool, going.length)
    }
    for (const { walk } of walks) await walk.return()
  }

  /** The best first. Throws the error of a candidate when all went wrong. */
  async #ranked(tried: Choice['tried'][number][]): Promise<Candidate[]> {
    for (const candidate of this.#pool) {
      const loss = candidate.error === null ? await this.#measure(candidate) : Infinity
      const isNumber = Number.isFinite(loss)
      candidate.loss = isNumber ? loss : Infinity
      tried.push({ ...candidate.options, steps: candidate.run.step, loss: isNumber ? loss : null })
    }
    const sound = this.#pool.filter(({ loss }) => loss < Infinity)
    if (sound.length === 0) throw this.#pool[0]?.error ?? new Error('no candidate has a loss')
    return sound.sort((a, b) => a.loss - b.loss)
  }

  #measure({ run, losses }: Candidate): number | Promise<number> {
    if (this.#data.heldOut.length > 0) return run.measure(looksMax)
    return losses.reduce((sum, loss) => sum + loss, 0) / losses.length
  }
}

/** The best, or the best that is no variant where the difference is no more than noise. */
function winnerOf(ranked: readonly Candidate[], variants: readonly ChosenOptions[]): Candidate {
  const [first] = ranked as [Candidate]
  const base = ranked.find(({ options }) => !variants.includes(options)) ?? first
  return first.loss < base.loss * (1 - margin) ? first : base
}

/** False once it has no step left to take. A training that diverges is out, whatever else happens is told. */
async function takeStep(candidate: Candidate, walk: AsyncGenerator<TrainingProgress, void>): Promise<boolean> {
  try {
    const { value, done } = await walk.next()
    if (done === true || value === undefined) return false
    candidate.latest = value
    candidate.losses.push(value.loss)
    if (candidate.losses.length > lastLossesMax) candidate.losses.shift()
  } catch (error) {
    if (!(error instanceof ServiceError) || error.code !== 'training_diverged') throw error
    candidate.error = error
  }
  return true
}

/** Reports while candidates are tried: no step of the training counts yet. */
class ChoiceMeter {
  readonly #startMs = performance.now()
  readonly #steps: number
  #done = 0
  #total: number

  constructor(steps: number, candidates: number) {
    this.#steps = steps
    // What the second round comes to is known after the first; until then, as much again.
    this.#total = 2 * candidates * Math.min(steps, rounds[0].stepsMin)
  }

  plan(further: number): void {
    this.#total = this.#done + further
  }

  add(pool: readonly Candidate[], steps: number): TrainingProgress {
    this.#done += steps
    this.#total = Math.max(this.#total, this.#done)
    const msPerStep = (performance.now() - this.#startMs) / this.#done
    const latest = pool.flatMap(({ latest }) => (latest === null ? [] : [latest]))
    const sum = (name: 'tokensPerSecond' | 'examplesPerSecond'): number =>
      latest.reduce((total, each) => total + each[name], 0)
    return {
      step: 0,
      steps: this.#steps,
      loss: latest.reduce((least, { loss }) => Math.min(least, loss), latest[0]?.loss ?? 0),
      validationLoss: null,
      tokensPerSecond: sum('tokensPerSecond'),
      examplesPerSecond: sum('examplesPerSecond'),
      etaMs: msPerStep * (this.#total - this.#done + this.#steps),
      choosing: { done: this.#done, total: this.#total },
    }
  }
}
