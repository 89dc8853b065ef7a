// A job as spans: its stages under it, itself under whatever asked for it, and an error as no more than its code.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { ServiceError } from '../../src/errors/errors.ts'
import { traceJob } from '../../src/jobs/traced-parts.ts'
import { trainJob } from '../../src/jobs/training.ts'
import { noTracing, openTracing, type Tracing } from '../../src/tracing/tracing.ts'
import type { TrainingProgress, TrainingRun } from '../../src/train/options.ts'
import { type Collector, startCollector } from '../tracing/collector.ts'
import { fakeService, type FakeService } from './fake-training.ts'

const never = new AbortController().signal
const parent = 'b7ad6b7169203331'

let collector: Collector
let tracing: Tracing
before(async () => {
  collector = await startCollector()
  process.env['OTEL_EXPORTER_OTLP_ENDPOINT'] = collector.address
  tracing = await openTracing(process.env, assert.fail)
})
after(async () => {
  await tracing.close()
  collector.close()
})

/** Runs the fake training as the training process does, under a trace of its own; answers the spans by name. */
async function traced(service: FakeService, traceId: string, signal = never) {
  const traceparent = `00-${traceId}-${parent}-01`
  const job = { ...service.job, id: 'job_1', data: { ...service.job.data, traceparent }, attemptsStarted: 2 }
  const parts = service as unknown as Parameters<typeof traceJob>[1]
  const run = traceJob(job, parts, tracing, (own) => trainJob(job, signal, own))
  const error = await run.then(
    () => null,
    (thrown: unknown) => thrown,
  )
  const spans = collector.spans.filter((span) => span.traceId === traceId)
  return { error, spans, of: (name: string) => spans.find((span) => span.name === name) ?? assert.fail(name) }
}

test('choosing, steps, evaluating and publishing are spans under the job, one after the other', async () => {
  const plain = fakeService(3)
  const openTraining: FakeService['openTraining'] = async (...asked) =>
    choosingFirst(await plain.openTraining(...asked))
  const service = { ...plain, openTraining }
  const { error, spans, of } = await traced(service, '3af7651916cd43dd8448eb211c80319c')
  assert.equal(error, null)
  const job = of('job train')
  assert.deepEqual([job.parentSpanId, job.kind, job.attributes['preamble.job.attempt']], [parent, 5, 2])
  const stages = ['choose', 'steps', 'evaluate', 'publish'].map(of)
  assert.deepEqual(spans.map(({ name }) => name).toSorted(), ['choose', 'evaluate', 'job train', 'publish', 'steps'])
  for (const [i, stage] of stages.entries()) {
    assert.equal(stage.parentSpanId, job.spanId)
    assert.ok(stage.startNs <= stage.endNs && stage.startNs >= (stages[i - 1]?.endNs ?? 0n), stage.name)
  }
  assert.equal(of('steps').attributes['preamble.training.step'], 3)
})

test('a training that is told to stop, and one that fails, end their spans with a code and no message', async () => {
  const stopped = fakeService(9)
  const stop = new AbortController()
  stopped.onStep = (done) => {
    if (done === 2) stop.abort('shutdown')
  }
  const handed = await traced(stopped, '4af7651916cd43dd8448eb211c80319c', stop.signal)
  assert.equal((handed.error as Error).name, 'HandedBack')
  assert.equal(handed.of('job train').attributes['error.type'], 'handed_back')
  assert.equal(handed.of('steps').attributes['preamble.training.step'], 2)

  const failing = fakeService(9)
  failing.onStep = (done) => {
    if (done < 2) return
    throw new ServiceError('training_diverged', 'a text of somebody')
  }
  const failed = await traced(failing, '5af7651916cd43dd8448eb211c80319c')
  assert.equal((failed.error as ServiceError).code, 'training_diverged')
  for (const name of ['job train', 'steps']) assert.equal(failed.of(name).attributes['error.type'], 'training_diverged')
  assert.ok(!collector.texts.join('').includes('a text of somebody'))
})

test('where nobody traces, a job gets its parts as they are', async () => {
  const service = fakeService(1)
  const parts = service as unknown as Parameters<typeof traceJob>[1]
  const job = { ...service.job, id: 'job_1', attemptsStarted: 1 }
  await traceJob(job, parts, noTracing, (own) => {
    assert.equal(own, parts)
    return Promise.resolve()
  })
})

/** Two probe steps before the steps of the run. */
function choosingFirst(run: TrainingRun): TrainingRun {
  const steps = async function* (signal: AbortSignal): AsyncGenerator<TrainingProgress, void> {
    const none = {
      step: 0,
      steps: 3,
      loss: 1,
      validationLoss: null,
      tokensPerSecond: 1,
      examplesPerSecond: 1,
      etaMs: 1,
    }
    for (const done of [1, 2]) yield { ...none, choosing: { done, total: 2 } }
    yield* run.steps(signal)
  }
  return {
    get used() {
      return run.used
    },
    get step() {
      return run.step
    },
    steps,
    checkpoint: () => run.checkpoint(),
    prefix: () => run.prefix(),
    dispose: () => run.dispose(),
  }
}
