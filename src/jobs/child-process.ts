// A child process that runs jobs: it imports the processor it is told to, and runs as many jobs at once as it is given.
import { ServiceError } from '../errors/errors.ts'
import type { ChildError, FromChild, Processor, ToChild } from './child-messages.ts'

// Without its parent nobody would hear what comes of a job, and another worker takes it up.
process.on('disconnect', () => process.exit(1))

const [file = ''] = process.argv.slice(2)
const processor = (import(file) as Promise<{ readonly default: Processor }>).then((module) => module.default)
const running = new Map<string, AbortController>()

process.on('message', (message: ToChild) => {
  if (message.type === 'stop') running.get(message.jobId)?.abort(message.reason)
  else void run(message.job)
})

async function run(job: Extract<ToChild, { type: 'run' }>['job']): Promise<void> {
  const { id: jobId } = job
  const aborting = new AbortController()
  running.set(jobId, aborting)
  const updateProgress = (progress: Parameters<Parameters<Processor>[0]['updateProgress']>[0]): Promise<void> => {
    say({ type: 'progress', jobId, progress })
    return Promise.resolve()
  }
  let end: FromChild
  try {
    const result = await (await processor)({ ...job, updateProgress }, aborting.signal)
    end = { type: 'done', jobId, result }
  } catch (error) {
    end = { type: 'failed', jobId, error: toPlain(error) }
  }
  running.delete(jobId)
  say(end)
}

function say(message: FromChild): void {
  process.send?.(message)
}

function toPlain(error: unknown): ChildError {
  if (!(error instanceof Error)) return { name: 'Error', message: String(error), code: null, stack: null }
  const code = error instanceof ServiceError ? error.code : null
  return { name: error.name, message: error.message, code, stack: error.stack ?? null }
}
