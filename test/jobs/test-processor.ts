// The processor of the job tests: it trains nothing and does what the job's template, or its dataset, tells it to.
import { once } from 'node:events'
import { setTimeout as sleep } from 'node:timers/promises'
import { ServiceError, type ErrorCode } from '../../src/errors/errors.ts'
import type { ChildJob } from '../../src/jobs/child-messages.ts'
import type { StopReason } from '../../src/jobs/job.ts'
import { stopError } from '../../src/jobs/stopping.ts'

const stepMs = 10

/**
 * `steps N` reports N steps; `fail CODE` and `throw TEXT` fail; `die N` is killed at its first N starts; `abort` ends as a
 * process without memory does; `hold` waits to be told to stop; `hold-first` does so at its first start only.
 */
export default async function run(job: ChildJob, signal: AbortSignal): Promise<object> {
  const { data } = job
  const progress = data.type === 'evaluate' ? evaluationProgress : trainingProgress
  const [command = '', word = ''] = (data.type === 'evaluate' ? data.datasetId : data.template).split(' ')
  if (command === 'fail') throw new ServiceError(word as ErrorCode, `failed with ${word}`)
  if (command === 'throw') throw new Error(`thrown: ${word}`)
  if (command === 'die' && job.attemptsStarted <= Number(word)) process.kill(process.pid, 'SIGKILL')
  if (command === 'abort') process.abort()
  if (command === 'steps') {
    for (let step = 1; step <= Number(word); step++) {
      await job.updateProgress(progress(step, Number(word)))
      await sleep(stepMs)
    }
  }
  if (command === 'hold' || (command === 'hold-first' && job.attemptsStarted === 1)) {
    await job.updateProgress(progress(1, 2))
    const alive = setInterval(() => undefined, 1_000)
    if (!signal.aborted) await once(signal, 'abort')
    clearInterval(alive)
    throw stopError(signal.reason as StopReason)
  }
  return { pid: process.pid }
}

function evaluationProgress(example: number, examples: number): object {
  return { example, examples, etaMs: 0 }
}

function trainingProgress(step: number, steps: number): object {
  // The tests that kill want to know whom: the process id stands where the speed would.
  return {
    step,
    steps,
    loss: 1 / step,
    validationLoss: null,
    tokensPerSecond: process.pid,
    examplesPerSecond: 1,
    etaMs: 0,
  }
}
