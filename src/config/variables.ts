// Every environment variable that the service reads: its default, and what it may be.
import path from 'node:path'

export interface Variable {
  readonly name: string
  /** As `docs/configuration.md` says it. */
  readonly default: string
  readonly allowed: string
}

export interface NumberVariable extends Variable {
  readonly min: number
  readonly max: number
}

export const runtimes = ['auto', 'onnx', 'cuda', 'webgpu'] as const
export const precisions = ['float32', 'fast'] as const
export const roles = ['all', 'serve', 'work'] as const
export const logLevels = ['trace', 'debug', 'info', 'warn', 'error', 'fatal', 'silent'] as const
export const apiKeyCharactersMin = 16

export const variables = {
  MODEL: text('MODEL', 'the model that comes with the service', 'a folder'),
  DATA: text('DATA', './data', 'a folder'),
  QUEUE_URL: text('QUEUE_URL', 'pglite:DATA/queue', 'pglite:folder, redis://, rediss:// or postgres://'),
  STORE_URL: text('STORE_URL', 'DATA/store', 'a folder, file:folder or s3://bucket/path'),
  RUNTIME: text('RUNTIME', 'auto', runtimes.join(', ')),
  PRECISION: text('PRECISION', 'float32', precisions.join(', ')),
  CUDA_LIBRARIES: text('CUDA_LIBRARIES', 'none', `folders, joined by ${path.delimiter}`),
  ROLE: text('ROLE', 'all', roles.join(', ')),
  HOST: text('HOST', '127.0.0.1', 'an address or a host name'),
  PORT: number('PORT', 8080, 0, 65_535),
  API_KEYS: text('API_KEYS', 'none', `keys of at least ${apiKeyCharactersMin} characters, joined by commas, or off`),
  LOG_LEVEL: text('LOG_LEVEL', 'info', logLevels.join(', ')),
  THREADS: number('THREADS', 'physical cores, at most 16', 1, 1_024),
  ROWS_MAX: number('ROWS_MAX', 32, 1, 1_024),
  WAITING_MAX: number('WAITING_MAX', 256, 0, 1_000_000),
  DRAFT_TOKENS_MAX: number('DRAFT_TOKENS_MAX', 7, 0, 15),
  PREFIX_BYTES_MAX: number('PREFIX_BYTES_MAX', 512 * 1024 * 1024, 1024 * 1024, 8 * 1024 * 1024 * 1024),
  BODY_BYTES_MAX: number('BODY_BYTES_MAX', 32 * 1024 * 1024, 1_024, 1024 * 1024 * 1024),
  WORKERS: number('WORKERS', 1, 1, 64),
  TRAININGS_TOGETHER: number('TRAININGS_TOGETHER', 4, 1, 32),
  JOB_LOCK_MS: number('JOB_LOCK_MS', 15_000, 1_000, 3_600_000),
} as const

export type VariableName = keyof typeof variables

function text(name: string, fallback: string, allowed: string): Variable {
  return { name, default: fallback, allowed }
}

function number(name: string, fallback: number | string, min: number, max: number): NumberVariable {
  return { name, default: String(fallback), allowed: `a whole number from ${min} to ${max}`, min, max }
}
