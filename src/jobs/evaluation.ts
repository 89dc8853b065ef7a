// One evaluation job: texts of a prefix and of the bare model beside it, generated as they are served, and scored.
import { ServiceError } from '../errors/errors.ts'
import { scoreTexts } from '../evaluate/evaluate.ts'
import type { Evaluation } from '../prefix/evaluations.ts'
import type { Prefix } from '../prefix/prefix.ts'
import type { PrefixRecord } from '../prefix/record.ts'
import { groupByInput, type ReferencedInput } from '../prefix/references.ts'
import type { Example } from '../train/options.ts'
import { askFewShot, askPlainly, fittingInputs, type Asked, type AskedFewShot } from './evaluation-plan.ts'
import { drawExamples } from './few-shot.ts'
import { generateTexts, type SamplingParts } from './generations.ts'
import type { EvaluateJobData, EvaluationProgress } from './job.ts'
import { samplesMax } from './samples.ts'
import { defaultRhythm, stop, type TrainingRhythm } from './training.ts'

export interface EvaluationJob {
  readonly id?: string | undefined
  readonly data: EvaluateJobData
  updateProgress(progress: EvaluationProgress): Promise<void>
}

/** What an evaluation needs of the rest of the service. */
export interface EvaluationParts extends SamplingParts {
  readonly registry: {
    /** Throws `prefix_not_found`. */
    find(id: string): Promise<PrefixRecord>
    update(id: string, changes: Partial<PrefixRecord>): Promise<unknown>
  }
  readonly datasets: { get(id: string): Promise<readonly Example[]> }
  readonly evaluations: { put(evaluation: Evaluation): Promise<void>; deleteAll(prefixId: string): Promise<void> }
  /** Throws `prefix_not_found` or `prefix_model_mismatch`. */
  loadPrefix(id: string): Promise<Prefix>
  /** Mean loss per target token in nats; null where no example has room in the model. */
  measureLoss(prefix: Prefix, examples: readonly Example[]): Promise<number | null>
}

export interface EvaluationResult {
  readonly prefixId: string
  readonly examples: number
  readonly metrics: Readonly<Record<string, number>>
}

/**
 * Harmless if done again: an evaluation has the name of its job, and one that was broken off begins anew. A deleted prefix
 * needs none, and its job is cancelled. Throws an error named `handedBack` when stopped for a shutdown.
 */
export async function evaluateJob(
  job: EvaluationJob,
  signal: AbortSignal,
  parts: EvaluationParts,
  rhythm: Pick<TrainingRhythm, 'progressEveryMs'> = defaultRhythm,
): Promise<EvaluationResult> {
  const { prefixId } = job.data
  try {
    const prefix = await parts.loadPrefix(prefixId)
    const plan = await makePlan(job.data, prefix, parts)
    const texts = await generateAll(plan, prefix, signal, parts, reporter(job, plan, rhythm.progressEveryMs))
    const loss = await parts.measureLoss(prefix, examplesOf(plan.inputs))
    const evaluation = report(job, plan, texts, loss)
    await parts.evaluations.put(evaluation)
    const { examples } = evaluation
    const metrics = { ...evaluation.prefix.metrics, examples }
    await parts.registry.update(prefixId, { metrics })
    return { prefixId, examples, metrics }
  } catch (error) {
    if (!(error instanceof ServiceError) || error.code !== 'prefix_not_found') throw error
    await parts.evaluations.deleteAll(prefixId)
    const message = `prefix ${prefixId} was deleted before its evaluation ended`
    throw new ServiceError('cancelled', message, {}, { cause: error })
  }
}

/** One value for each system that is measured; null for one that is not. */
interface BySystem<T, F = T> {
  readonly prefix: T
  readonly bare: T | null
  readonly fewShot: F | null
}

interface Plan {
  readonly inputs: readonly ReferencedInput[]
  readonly skipped: number
  readonly asked: BySystem<Asked, AskedFewShot>
}

async function makePlan(data: EvaluateJobData, prefix: Prefix, parts: EvaluationParts): Promise<Plan> {
  const all = groupByInput(await parts.datasets.get(data.datasetId))
  const inputs = fittingInputs(all, prefix, data, parts)
  const skipped = all.length - inputs.length
  const plain = askPlainly(inputs, prefix, data.prefixId, data, parts)
  if (!data.baselines) return { inputs, skipped, asked: { prefix: plain, bare: null, fewShot: null } }
  const record = await parts.registry.find(data.prefixId)
  const asked = new Set(inputs.map(({ input }) => input))
  const examples = await drawExamples(record, asked, data.seed, parts.datasets)
  const bare = askPlainly(inputs, prefix, null, data, parts)
  const fewShot = askFewShot(inputs, examples, prefix, data, parts)
  return { inputs, skipped, asked: { prefix: plain, bare, fewShot } }
}

type OnText = () => Promise<void>

async function generateAll(
  { asked }: Plan,
  prefix: Prefix,
  signal: AbortSignal,
  parts: EvaluationParts,
  onText: OnText,
): Promise<BySystem<readonly string[]>> {
  const make = async ({ requests, positions }: Asked): Promise<readonly string[]> => {
    const engine = await parts.openEngine(() => Promise.resolve(prefix), positions)
    try {
      const texts = await generateTexts(engine, requests, signal, onText)
      if (signal.aborted) await stop(signal, null)
      return texts as readonly string[]
    } finally {
      await engine.dispose()
    }
  }
  return {
    prefix: await make(asked.prefix),
    bare: asked.bare && (await make(asked.bare)),
    fewShot: asked.fewShot && (await make(asked.fewShot)),
  }
}

/** Tells the job of each text, at most so often, the last one always. */
function reporter(job: EvaluationJob, { asked }: Plan, everyMs: number): OnText {
  const examples = [asked.prefix, asked.bare, asked.fewShot].reduce((sum, one) => sum + (one?.requests.length ?? 0), 0)
  const startMs = performance.now()
  let example = 0
  let reportedMs = Number.NEGATIVE_INFINITY
  return async () => {
    example += 1
    const nowMs = performance.now()
    if (nowMs - reportedMs < everyMs && example < examples) return
    reportedMs = nowMs
    const etaMs = ((nowMs - startMs) / example) * (examples - example)
    await job.updateProgress({ example, examples, etaMs })
  }
}

function report(
  { id, data }: EvaluationJob,
  { inputs, skipped, asked }: Plan,
  texts: BySystem<readonly string[]>,
  loss: number | null,
): Evaluation {
  const { prefixId, datasetId, maxNewTokens, seed, decoding } = data
  const references = inputs.map((input) => input.references)
  const scores = (made: readonly string[]) => ({ metrics: { ...scoreTexts(made, references) } })
  const { promptExamples, promptExamplesMean } = asked.fewShot ?? { promptExamples: 0, promptExamplesMean: 0 }
  return {
    jobId: id ?? '',
    prefixId,
    createdAt: new Date().toISOString(),
    datasetId,
    examples: inputs.length,
    references: references.flat().length,
    skipped,
    maxNewTokens,
    seed,
    decoding: { ...decoding },
    loss,
    prefix: scores(texts.prefix),
    bare: texts.bare && scores(texts.bare),
    fewShot: texts.fewShot && { ...scores(texts.fewShot), promptExamples, promptExamplesMean },
    samples: inputs.slice(0, samplesMax).map((input, i) => ({
      ...input,
      prefix: texts.prefix[i] as string,
      bare: texts.bare?.[i] ?? null,
      fewShot: texts.fewShot?.[i] ?? null,
    })),
  }
}

function examplesOf(inputs: readonly ReferencedInput[]): Example[] {
  return inputs.flatMap(({ input, references }) => references.map((output) => ({ input, output })))
}
