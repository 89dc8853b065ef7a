#!/usr/bin/env node
// The service on the command line: configuration from the environment, a clean end on SIGTERM and SIGINT.
import closeWithGrace from 'close-with-grace'
import { readConfig } from '../config/config.ts'
import { ServiceError } from '../errors/errors.ts'
import { createLogger, startService } from '../main/main.ts'
import { reproduceCommand } from './reproduce.ts'

/** A stop that takes longer is cut off. */
const stopMsMax = 20_000

const usage = `usage: preamble                        start the service
       preamble reproduce ID_OR_NAME   train a prefix again from its record and compare
`

const [command, ...args] = process.argv.slice(2)
try {
  if (command === undefined) await serve()
  else if (command === 'reproduce') process.exitCode = await reproduceCommand(args, process.env)
  else {
    process.stderr.write(usage)
    process.exitCode = 2
  }
} catch (error) {
  const known = error instanceof ServiceError
  process.stderr.write(`${known ? `${error.code}: ${error.message}` : String((error as Error).stack)}\n`)
  process.exit(1)
}

async function serve(): Promise<void> {
  const config = readConfig(process.env)
  const log = createLogger(config.logLevel)
  const service = await startService(config, log)
  log.info({ role: config.role, address: service.address }, 'ready')
  closeWithGrace({ delay: stopMsMax, logger: false }, async ({ err, signal }) => {
    if (err !== undefined) log.fatal({ error: err.stack }, 'unexpected error')
    else log.info({ signal }, 'stopping')
    await service.close()
  })
}
