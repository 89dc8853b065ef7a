// What the REST interface stands on: every part is handed in, so that tests can hand in others.
import type { FastifyBaseLogger } from 'fastify'
import type { GenerateEvent, GenerateRequest } from '../engine/request.ts'
import type { Account } from '../engine/stopwatch.ts'
import type { JobQueue } from '../jobs/job.ts'
import type { PlayingModel } from '../prefix/artifact.ts'
import type { Datasets } from '../prefix/datasets.ts'
import type { Evaluations } from '../prefix/evaluations.ts'
import type { PrefixRegistry } from '../prefix/registry.ts'
import type { TrainingFiles } from '../prefix/training-files.ts'
import type { RuntimeInfo } from '../runtime/open.ts'
import type { ObjectStore } from '../store/store.ts'
import type { Tracing } from '../tracing/tracing.ts'

export interface EngineFront {
  /** `onEnd` is called once, with null where there is no account; where the request is left, it may be after the end. */
  generate(
    request: GenerateRequest,
    signal: AbortSignal,
    onEnd?: (account: Account | null) => void,
  ): AsyncIterable<GenerateEvent>
  /** What runs the model, once it is loaded; throws what keeps it from loading. */
  ready(): Promise<{ readonly runtime: RuntimeInfo }>
  /** Of its steps, for Prometheus. */
  figures?(): Promise<string>
}

export interface HttpLimits {
  /** Of a JSON body. */
  readonly bodyBytesMax: number
  /** Of the JSON Lines of POST /datasets. */
  readonly datasetBytesMax: number
  /** Of a prefix file that is uploaded. */
  readonly artifactBytesMax: number
  /** Of a checkpoint of the paper's code: it holds a network, not what the network makes. */
  readonly paperBytesMax: number
  /** Server-sent event streams open at once. */
  readonly streamsMax: number
  readonly connectionsMax: number
  /** For a request to arrive whole. */
  readonly receiveMsMax: number
  /** A stream that has nothing to say says so after this time, lest something on the way cuts it. */
  readonly keepAliveMs: number
  /** A client that takes nothing of its stream for so long has left. */
  readonly stalledMsMax: number
  /** For each part that GET /readyz asks. */
  readonly readyMsMax: number
}

export const defaultHttpLimits: HttpLimits = {
  bodyBytesMax: 32 * 2 ** 20,
  datasetBytesMax: 64 * 2 ** 20,
  artifactBytesMax: 64 * 2 ** 20,
  paperBytesMax: 256 * 2 ** 20,
  streamsMax: 1_000,
  connectionsMax: 4_096,
  receiveMsMax: 300_000,
  keepAliveMs: 15_000,
  stalledMsMax: 60_000,
  readyMsMax: 2_000,
}

export interface HttpParts {
  readonly engine: EngineFront
  readonly queue: Omit<JobQueue, 'close'> & { prometheus?(): Promise<string> }
  readonly registry: Pick<
    PrefixRegistry,
    'create' | 'find' | 'findReady' | 'update' | 'list' | 'publish' | 'artifact' | 'delete'
  >
  readonly datasets: Pick<Datasets, 'put' | 'get'>
  readonly files: Pick<TrainingFiles, 'put' | 'get' | 'content' | 'list' | 'delete'>
  readonly evaluations: Pick<Evaluations, 'list'>
  readonly store: Pick<ObjectStore, 'ping'>
  readonly model: PlayingModel
  readonly limits: HttpLimits
  /** null: nobody is asked for a key. */
  readonly apiKeys: readonly string[] | null
  readonly logger: FastifyBaseLogger
  /** Where spans go; nowhere where it is left out. */
  readonly tracing?: Tracing
  /** Of the service, as its package names it. */
  readonly version: string
}
