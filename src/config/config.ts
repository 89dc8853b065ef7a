// Reads the configuration from environment variables, all of it at once, and says everything that is wrong with it.
import { isIP } from 'node:net'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { ServiceError } from '../errors/errors.ts'
import { physicalCores } from './cores.ts'
import { meantName } from './misspelt.ts'
import {
  apiKeyCharactersMin,
  logLevels,
  type NumberVariable,
  precisions,
  roles,
  runtimes,
  type VariableName,
  variables,
} from './variables.ts'

export type Environment = Readonly<Record<string, string | undefined>>

export interface Config {
  /** Folder of the frozen model. */
  readonly model: string
  readonly data: string
  readonly queueUrl: string
  readonly storeUrl: string
  readonly runtime: (typeof runtimes)[number]
  /** In which requests are answered: `fast` has weights in fewer bits, where this machine decodes faster so. */
  readonly precision: (typeof precisions)[number]
  /** Folders that are looked through for NVIDIA's libraries before the system's own. */
  readonly cudaLibraries: readonly string[]
  readonly role: (typeof roles)[number]
  readonly host: string
  /** 0: given by the system. */
  readonly port: number
  /** null: anyone may ask. */
  readonly apiKeys: readonly string[] | null
  readonly logLevel: (typeof logLevels)[number]
  /** Of one run of the model. */
  readonly threads: number
  /** Sequences generated side by side. */
  readonly rowsMax: number
  /** Requests waiting for a row. */
  readonly waitingMax: number
  /** Tokens that a row tries in a step beside its last one. */
  readonly draftTokensMax: number
  /** Keys and values of stored prefixes that stay in memory. */
  readonly prefixBytesMax: number
  readonly bodyBytesMax: number
  /** Processes that train. */
  readonly workers: number
  /** Trainings that share the steps of one such process. */
  readonly trainingsTogether: number
  readonly jobLockMs: number
}

interface ConfigProblem {
  readonly variable: string
  readonly value: string | null
  readonly allowed: string
}

const threadsDefaultMax = 16
/** From the compiled file, dist/src/config/config.js, to the top of the package. */
const packagedModel = fileURLToPath(new URL('../../../model', import.meta.url))

/** Throws one `config_invalid` that lists every problem. An empty variable counts as one that is not set. */
export function readConfig(env: Environment, modelDefault: string = packagedModel): Config {
  const reader = new Reader(env)
  reader.checkNames()
  const data = reader.text('DATA') ?? variables.DATA.default
  const role = reader.choice('ROLE', roles, 'all')
  const host = readHost(reader)
  const config: Config = {
    model: reader.text('MODEL') ?? modelDefault,
    data,
    queueUrl: readQueueUrl(reader, role) ?? `pglite:${path.join(data, 'queue')}`,
    storeUrl: readStoreUrl(reader) ?? path.join(data, 'store'),
    runtime: reader.choice('RUNTIME', runtimes, 'auto'),
    precision: reader.choice('PRECISION', precisions, 'float32'),
    cudaLibraries: (reader.text('CUDA_LIBRARIES') ?? '').split(path.delimiter).filter((folder) => folder !== ''),
    role,
    host,
    port: reader.number('PORT'),
    apiKeys: readApiKeys(reader, host),
    logLevel: reader.choice('LOG_LEVEL', logLevels, 'info'),
    threads: reader.number('THREADS', Math.min(physicalCores(), threadsDefaultMax)),
    rowsMax: reader.number('ROWS_MAX'),
    waitingMax: reader.number('WAITING_MAX'),
    draftTokensMax: reader.number('DRAFT_TOKENS_MAX'),
    prefixBytesMax: reader.number('PREFIX_BYTES_MAX'),
    bodyBytesMax: reader.number('BODY_BYTES_MAX'),
    workers: reader.number('WORKERS'),
    trainingsTogether: reader.number('TRAININGS_TOGETHER'),
    jobLockMs: reader.number('JOB_LOCK_MS'),
  }
  reader.finish()
  return Object.freeze(config)
}

/** Collects problems while values are read; where one is bad, what is answered is never used. */
class Reader {
  readonly #env: Environment
  readonly #problems: ConfigProblem[] = []

  constructor(env: Environment) {
    this.#env = env
  }

  text(name: VariableName): string | null {
    return this.#env[name] || null
  }

  number(
    name: { [N in VariableName]: (typeof variables)[N] extends NumberVariable ? N : never }[VariableName],
    fallback?: number,
  ) {
    const { min, max, default: written } = variables[name]
    const value = this.text(name)
    if (value === null) return fallback ?? Number(written)
    const parsed = /^[0-9]{1,10}$/.test(value) ? Number(value) : NaN
    if (!(parsed >= min && parsed <= max)) this.refuse(name, value)
    return parsed
  }

  choice<T extends string>(name: VariableName, choices: readonly T[], fallback: T): T {
    const value = this.text(name)
    const chosen = value === null ? fallback : choices.find((choice) => choice === value)
    if (chosen === undefined) this.refuse(name, value)
    return chosen ?? fallback
  }

  /** `value` must not hold a secret: it is shown. */
  refuse(name: VariableName, value: string | null, allowed: string = variables[name].allowed): void {
    this.#problems.push({ variable: name, value: value === null ? null : withoutPassword(value), allowed })
  }

  checkNames(): void {
    const known = Object.keys(variables)
    for (const [name, value] of Object.entries(this.#env)) {
      const meant = value === undefined ? null : meantName(name, known)
      // The value is not shown: it may be that of API_KEYS.
      if (meant !== null) this.#problems.push({ variable: name, value: null, allowed: `${meant}, if that was meant` })
    }
  }

  finish(): void {
    if (this.#problems.length === 0) return
    const lines = this.#problems.map(({ variable, value, allowed }) => {
      return `${variable}${value === null ? '' : `=${JSON.stringify(value)}`} is not allowed; allowed: ${allowed}`
    })
    throw new ServiceError('config_invalid', lines.join('\n'), { problems: this.#problems })
  }
}

function readHost(reader: Reader): string {
  const host = reader.text('HOST') ?? variables.HOST.default
  const isName = host.length <= 253 && /^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(host)
  if (!isName && isIP(host) === 0) reader.refuse('HOST', host)
  return host
}

function readQueueUrl(reader: Reader, role: Config['role']): string | null {
  const url = reader.text('QUEUE_URL')
  const isPGlite = url === null || /^pglite:./.test(url)
  const isServer = url !== null && /^(rediss?|postgres(ql)?):\/\/./.test(url) && URL.canParse(url)
  if (!isPGlite && !isServer) reader.refuse('QUEUE_URL', url)
  if (isPGlite && role !== 'all') {
    const allowed = `redis://, rediss:// or postgres:// with ROLE=${role}: pglite serves one process, ROLE=all`
    reader.refuse('QUEUE_URL', url, allowed)
  }
  return url
}

function readStoreUrl(reader: Reader): string | null {
  const url = reader.text('STORE_URL')
  if (url === null) return null
  const isBucket = /^s3:\/\/[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](\/[A-Za-z0-9._/-]*)?$/.test(url)
  const isFolder = /^file:./.test(url) || !/^[A-Za-z][A-Za-z0-9+.-]+:/.test(url)
  if (!isBucket && !isFolder) reader.refuse('STORE_URL', url)
  return url
}

/** Keys are never shown, whatever is wrong with them. */
function readApiKeys(reader: Reader, host: string): readonly string[] | null {
  const value = reader.text('API_KEYS')
  if (value === 'off') return null
  if (value === null) {
    const needed = `${variables.API_KEYS.allowed}, since HOST=${host} can be reached from other machines`
    if (!isLoopback(host)) reader.refuse('API_KEYS', null, needed)
    return null
  }
  const keys = value.split(',').map((key) => key.trim())
  for (const [i, { length }] of keys.entries()) {
    if (length >= apiKeyCharactersMin) continue
    reader.refuse('API_KEYS', null, `${variables.API_KEYS.allowed}; key ${i + 1} of ${keys.length} has ${length}`)
  }
  return Object.freeze(keys)
}

function isLoopback(host: string): boolean {
  return host === 'localhost' || host === '::1' || (isIP(host) === 4 && host.startsWith('127.'))
}

function withoutPassword(value: string): string {
  return value.replace(/\/\/[^/@]*@/, '//…@')
}
