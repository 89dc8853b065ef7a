// The composition root: opens every part of the service, hands each its neighbours, and closes them in order.
import { pino, type Logger } from 'pino'
import type { Config } from '../config/config.ts'
import { version } from '../config/version.ts'
import { defaultLimits } from '../engine/limits.ts'
import { startEngine, type EngineClient } from '../engine/client.ts'
import { ServiceError } from '../errors/errors.ts'
import { createHttp, defaultHttpLimits } from '../http/http.ts'
import { openBroker, type Broker } from '../jobs/broker.ts'
import { createCheckpoints } from '../jobs/checkpoints.ts'
import { childEnvironment } from '../jobs/child-environment.ts'
import { openJobQueue } from '../jobs/queue.ts'
import { startWorker } from '../jobs/worker.ts'
import { Datasets } from '../prefix/datasets.ts'
import { Evaluations } from '../prefix/evaluations.ts'
import { PrefixRegistry } from '../prefix/registry.ts'
import { TrainingFiles } from '../prefix/training-files.ts'
import { openStore } from '../store/open.ts'
import type { ObjectStore } from '../store/store.ts'
import { openTracing, type Tracing } from '../tracing/tracing.ts'
import { failLostTrainings, recordEnd } from './ends.ts'

export interface Service {
  /** Where it listens; null for a worker alone. */
  readonly address: string | null
  /** Ends open streams, hands running trainings back to the queue, and closes everything. */
  close(): Promise<void>
}

export function createLogger(level: Config['logLevel']): Logger {
  return pino({ level, base: null, timestamp: pino.stdTimeFunctions.isoTime })
}

/** Starts what `config.role` asks for. What was opened is closed again when a later part fails. */
export async function startService(config: Config, log: Logger): Promise<Service> {
  const closers: (() => Promise<unknown>)[] = []
  const close = async (): Promise<void> => {
    for (const each of closers.splice(0).reverse()) await each()
  }
  try {
    // A worker's jobs trace in their own processes; what is configured is checked here.
    const tracing = await openTracing(process.env, (problem) => log.warn({ problem }, 'tracing'))
    closers.push(() => tracing.close())
    const store = await openStore(config.storeUrl)
    const registry = new PrefixRegistry(store)
    const broker = await openBroker(config.queueUrl, {
      onError: (error) => log.warn({ error: error.message }, 'queue connection'),
    })
    closers.push(() => broker.close())
    const address =
      config.role === 'work' ? null : await serve(config, log, { store, registry, broker, tracing }, closers)
    if (config.role !== 'serve') work(config, log, { store, registry, broker, tracing }, closers)
    return { address, close }
  } catch (error) {
    await close()
    throw error
  }
}

interface Opened {
  readonly store: ObjectStore
  readonly registry: PrefixRegistry
  readonly broker: Broker
  readonly tracing: Tracing
}

type Closers = (() => Promise<unknown>)[]

/** HTTP on this thread, the engine on its own. Answers the address. */
async function serve(
  config: Config,
  log: Logger,
  { store, registry, broker, tracing }: Opened,
  closers: Closers,
): Promise<string> {
  const engine = startEngine(
    {
      modelFolder: config.model,
      storeUrl: config.storeUrl,
      runtime: config.runtime,
      precision: config.precision,
      data: config.data,
      cudaLibraries: config.cudaLibraries,
      threads: config.threads,
      rowsMax: config.rowsMax,
      limits: {
        ...defaultLimits,
        waitingMax: config.waitingMax,
        draftTokensMax: config.draftTokensMax,
        prefixBytesMax: config.prefixBytesMax,
      },
    },
    {
      onCrash: (error) => log.error({ error: error.stack }, 'the engine died and is started anew'),
      onWarning: (message) => log.warn(message),
      onNote: (message) => log.info(message),
    },
  )
  closers.push(() => engine.close())
  const model = await readyModel(engine, log)
  const onEnd = recordEnd(registry, createCheckpoints(store))
  const onCancelled = (jobId: string, prefixId: string): Promise<void> => onEnd(jobId, prefixId, 'cancelled', null)
  const queue = openJobQueue(broker, { onCancelled })
  closers.push(() => queue.close())
  await failLostTrainings(registry, queue, log)
  const datasets = new Datasets(store)
  const app = createHttp({
    engine,
    queue,
    registry,
    store,
    datasets,
    files: new TrainingFiles(store, datasets),
    evaluations: new Evaluations(store),
    model,
    limits: { ...defaultHttpLimits, bodyBytesMax: config.bodyBytesMax },
    apiKeys: config.apiKeys,
    logger: log,
    tracing,
    version,
  })
  closers.push(() => app.close())
  return listen(app, config)
}

async function listen(app: ReturnType<typeof createHttp>, { host, port }: Config): Promise<string> {
  try {
    return await app.listen({ host, port, listenTextResolver: (address) => `listening at ${address}` })
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE') throw error
    throw new ServiceError(
      'config_invalid',
      `PORT ${port} on ${host} is in use by another program`,
      {},
      { cause: error },
    )
  }
}

async function readyModel(engine: EngineClient, log: Logger): ReturnType<EngineClient['ready']> {
  const startMs = performance.now()
  const model = await engine.ready()
  log.info(
    {
      model: model.name,
      sha256: model.sha256,
      runtime: model.runtime.name,
      device: model.runtime.device,
      precision: model.runtime.precision,
      ms: Math.round(performance.now() - startMs),
    },
    'model loaded',
  )
  return model
}

/** A queue worker whose trainings run in child processes. */
function work(config: Config, log: Logger, { store, registry, broker }: Opened, closers: Closers): void {
  const worker = startWorker({
    broker,
    processorFile: new URL('../jobs/training-process.js', import.meta.url),
    processesMax: config.workers,
    jobsPerProcess: config.trainingsTogether,
    lockMs: config.jobLockMs,
    env: childEnvironment(process.env, config),
    log,
    onEnd: recordEnd(registry, createCheckpoints(store)),
  })
  closers.push(() => worker.stop())
}
