// What the REST interface stands on: every part is handed in, so that tests can hand in others.
import type { FastifyBaseLogger } from 'fastify'
import type { GenerateEvent, GenerateRequest } from '../engine/request.ts'
import type { JobQueue } from '../jobs/job.ts'
import type { PlayingModel } from '../prefix/artifact.ts'
import type { Datasets } from '../prefix/datasets.ts'
import type { Evaluations } from '../prefix/evaluations.ts'
import type { PrefixRegistry } from '../prefix/registry.ts'
import type { ObjectStore } from '../store/store.ts'

export interface EngineFront {
  generate(request: GenerateRequest, signal: AbortSignal): AsyncIterable<GenerateEvent>
  /** Settles once the model is loaded; throws what keeps it from loading. */
  ready(): Promise<unknown>
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
  readonly evaluations: Pick<Evaluations, 'list'>
  readonly store: Pick<ObjectStore, 'ping'>
  readonly model: PlayingModel
  /** In which the model answers: float32, or one in 8 bits. */
  readonly form: string
  readonly limits: HttpLimits
  /** null: nobody is asked for a key. */
  readonly apiKeys: readonly string[] | null
  readonly logger: FastifyBaseLogger
  /** Of the service, as its package names it. */
  readonly version: string
}
