// Why a job ended badly, in a form that survives a process boundary and a queue that keeps text alone.
import type { ErrorCode } from '../errors/errors.ts'
import type { JobProblem } from './job.ts'

/** Only the caller can mend these, so that another attempt would end the same way. */
const finalCodes: ReadonlySet<string> = new Set<ErrorCode>([
  'cancelled',
  'dataset_not_found',
  'examples_invalid',
  'input_too_long',
  'invalid_request',
  'model_invalid',
  'not_supported',
  'prefix_model_mismatch',
  'prefix_not_found',
  'training_diverged',
])

/** A longer detail is cut: the queue keeps it with every job. */
const detailCharactersMax = 2_000

const exitText = /^Unexpected exit code: (\S+) signal: (\S+)$/
const memoryAdvice =
  'take a smaller batchSize (with more accumulation the steps stay the same) or prefixLength, shorter examples or no reparametrization, or give the worker more memory'
/** An abort is how V8 ends without memory, and how C++ does without a handler; 134 is the same through a shell. */
const memorySignals: ReadonlySet<string | undefined> = new Set(['SIGKILL', 'SIGABRT'])
const abortExitCode = '134'
const memoryText = /ERR_OUT_OF_MEMORY|ENOMEM|bad_alloc|out of memory|failed to allocate memory|allocation failed/i
const stalledText = 'job stalled more than allowable limit'

export function isFinal(problem: JobProblem): boolean {
  return finalCodes.has(problem.code)
}

/** Whether `error` says that the training process went away, instead of what went wrong in it. */
export function isExit(error: unknown): boolean {
  return exitText.test(textOf(error))
}

/** Errors of the training process arrive as plain errors that carry the properties of the original. */
export function problemOf(error: unknown): JobProblem {
  const { code, name } = (error ?? {}) as { code?: unknown; name?: unknown }
  if (name === 'ServiceError' && typeof code === 'string') return { code, detail: textOf(error) }
  return { code: 'engine_failed', detail: adviceFor(textOf(error)) }
}

export function encodeProblem({ code, detail }: JobProblem): string {
  return JSON.stringify({ code, detail: detail.slice(0, detailCharactersMax) })
}

/** Reads what `encodeProblem` wrote, and the plain texts that the queue itself gives as reasons. */
export function decodeProblem(text: string): JobProblem {
  try {
    const { code, detail } = JSON.parse(text) as Partial<Record<keyof JobProblem, unknown>>
    if (typeof code === 'string' && typeof detail === 'string') return { code, detail }
  } catch {
    // Not ours: a reason of the queue, in words.
  }
  return { code: 'engine_failed', detail: adviceFor(text) }
}

function adviceFor(text: string): string {
  if (text === stalledText) {
    return 'the worker died under this job again and again: look at its log and at its memory, then train anew'
  }
  const [, exitCode, signal] = exitText.exec(text) ?? []
  if (memorySignals.has(signal) || exitCode === abortExitCode) {
    const how = signal === 'SIGKILL' ? 'was killed' : 'aborted'
    const by = signal === 'null' ? `exit code ${exitCode}` : signal
    return `the training process ${how} (${by}), most likely for want of memory: ${memoryAdvice}`
  }
  if (exitCode !== undefined) return `the training process ended by itself (exit code ${exitCode}, signal ${signal})`
  if (memoryText.test(text)) return `the training ran out of memory: ${memoryAdvice} (${text})`
  return text
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error)
}
