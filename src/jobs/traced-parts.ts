// The parts of a job as a span sees them: each stage of the job becomes a child of it, and the job itself knows nothing of it.
import type { PrefixLoader } from '../engine/request.ts'
import { type Attributes, nowMs, type Span, type Tracing } from '../tracing/tracing.ts'
import type { TrainingProgress, TrainingRun } from '../train/options.ts'
import type { ChildJob } from './child-messages.ts'
import type { EvaluationParts } from './evaluation.ts'
import { typeOf } from './job.ts'
import { problemOf } from './problem.ts'
import { handedBack } from './stopping.ts'
import type { TrainingParts } from './training.ts'

type Parts = TrainingParts & EvaluationParts

/** Runs a job within a span of its own, a child of what asked for it; when it has ended, what was traced is sent. */
export async function traceJob<T>(
  { id, data, attemptsStarted }: Pick<ChildJob, 'id' | 'data' | 'attemptsStarted'>,
  parts: Parts,
  tracing: Tracing,
  work: (parts: Parts) => Promise<T>,
): Promise<T> {
  const type = typeOf(data)
  const span = tracing.start(`job ${type}`, data, {
    kind: 'consumer',
    attributes: {
      'preamble.job.id': id,
      'preamble.job.type': type,
      'preamble.job.attempt': attemptsStarted,
      'preamble.prefix.id': data.prefixId,
    },
  })
  try {
    const result = await work(span.traceparent === null ? parts : tracedParts(parts, span))
    span.end()
    return result
  } catch (error) {
    span.end({ error: codeOf(error) })
    throw error
  } finally {
    await tracing.flush()
  }
}

/** Runs `work` within a child of `span`; what it throws ends the child with its code. */
async function traced<T>(span: Span, name: string, work: () => Promise<T>, attributes: Attributes = {}): Promise<T> {
  const child = span.child(name, { attributes })
  try {
    const result = await work()
    child.end()
    return result
  } catch (error) {
    child.end({ error: codeOf(error) })
    throw error
  }
}

/** What a span may say of an error: its message could quote an example. */
function codeOf(error: unknown): string {
  return error instanceof Error && error.name === handedBack ? 'handed_back' : problemOf(error).code
}

/** Spans `choose`, `steps`, `evaluate` and `publish` of a training; `generate` for each system and `loss` of an evaluation. */
function tracedParts(parts: Parts, span: Span): Parts {
  const { registry } = parts
  return {
    ...parts,
    registry: {
      find: (id) => registry.find(id),
      load: (id) => registry.load(id),
      update: (id, changes) => registry.update(id, changes),
      publish: (...asked) => traced(span, 'publish', () => registry.publish(...asked)),
    },
    openTraining: async (...asked) => tracedRun(await parts.openTraining(...asked), span),
    evaluate: (prefix, heldOut, signal) =>
      traced(span, 'evaluate', () => parts.evaluate(prefix, heldOut, signal), {
        'preamble.examples': heldOut.length,
      }),
    openEngine: (loadPrefix: PrefixLoader, positions: number) => openTracedEngine(parts, span, loadPrefix, positions),
    measureLoss: (prefix, examples) => traced(span, 'loss', () => parts.measureLoss(prefix, examples)),
  }
}

/** From its opening to its end: an engine generates for one system. */
async function openTracedEngine({ openEngine }: Parts, span: Span, ...asked: [PrefixLoader, number]) {
  const startMs = nowMs()
  const engine = await openEngine(...asked)
  const child = span.child('generate', { startMs })
  return {
    generate: engine.generate.bind(engine),
    dispose: async () => {
      child.end()
      await engine.dispose()
    },
  }
}

function tracedRun(run: TrainingRun, span: Span): TrainingRun {
  return {
    get used() {
      return run.used
    },
    get step() {
      return run.step
    },
    steps: (signal) => tracedSteps(run, span, signal),
    checkpoint: () => run.checkpoint(),
    prefix: () => run.prefix(),
    dispose: () => run.dispose(),
  }
}

/** While progress tells of choosing it is the stage `choose`, afterwards `steps`. */
async function* tracedSteps(run: TrainingRun, span: Span, signal: AbortSignal): AsyncGenerator<TrainingProgress, void> {
  let startMs = nowMs()
  let stage = null as { readonly name: string; readonly span: Span } | null
  try {
    for await (const progress of run.steps(signal)) {
      const name = progress.choosing === undefined ? 'steps' : 'choose'
      if (stage?.name !== name) {
        stage?.span.end({ endMs: startMs })
        stage = { name, span: span.child(name, { startMs, attributes: stepsBefore(name, progress) }) }
      }
      stage.span.set(stepsDone(name, progress))
      startMs = nowMs()
      yield progress
    }
  } catch (error) {
    stage?.span.end({ error: codeOf(error) })
    stage = null
    throw error
  } finally {
    stage?.span.end()
  }
}

function stepsBefore(name: string, { step, steps }: TrainingProgress): Attributes {
  return name === 'steps' ? { 'preamble.training.first_step': step, 'preamble.training.steps': steps } : {}
}

function stepsDone(name: string, { step, loss, choosing }: TrainingProgress): Attributes {
  if (name === 'choose') return { 'preamble.training.probe_steps': choosing?.done ?? 0 }
  return { 'preamble.training.step': step, 'preamble.training.loss': loss }
}
