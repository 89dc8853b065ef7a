#!/usr/bin/env node
// The service on the command line: configuration from the environment, a clean end on SIGTERM and SIGINT.
import closeWithGrace from 'close-with-grace'
import { readConfig } from '../config/config.ts'
import { ServiceError } from '../errors/errors.ts'
import { createLogger, startService } from '../main/main.ts'

/** A stop that takes longer is cut off. */
const stopMsMax = 20_000

try {
  const config = readConfig(process.env)
  const log = createLogger(config.logLevel)
  const service = await startService(config, log)
  log.info({ role: config.role, address: service.address }, 'ready')
  closeWithGrace({ delay: stopMsMax, logger: false }, async ({ err, signal }) => {
    if (err !== undefined) log.fatal({ error: err.stack }, 'unexpected error')
    else log.info({ signal }, 'stopping')
    await service.close()
  })
} catch (error) {
  const known = error instanceof ServiceError
  process.stderr.write(`${known ? `${error.code}: ${error.message}` : String((error as Error).stack)}\n`)
  process.exit(1)
}
