// The environment of the processes that train: the service's own, with what it has settled, and threads enough in libuv.
import type { Config, Environment } from '../config/config.ts'

/** Beside those of a run of the model, which holds them for a whole step: files and names of hosts are looked for meanwhile. */
const poolThreadsBeside = 4
/** libuv's limit. */
const poolThreadsMax = 1024

export function childEnvironment(
  env: Environment,
  { model, storeUrl, threads }: Pick<Config, 'model' | 'storeUrl' | 'threads'>,
): NodeJS.ProcessEnv {
  return {
    ...env,
    MODEL: model,
    STORE_URL: storeUrl,
    THREADS: String(threads),
    // Empty counts as not set, as everywhere.
    UV_THREADPOOL_SIZE: env['UV_THREADPOOL_SIZE'] || String(Math.min(poolThreadsMax, threads + poolThreadsBeside)),
  }
}
