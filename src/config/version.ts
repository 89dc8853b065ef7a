// The version of the service, as its package names it.
import { readFileSync } from 'node:fs'

/** From the compiled file, dist/src/config/version.js, to the top of the package. */
const packageFile = new URL('../../../package.json', import.meta.url)

export const { version } = JSON.parse(readFileSync(packageFile, 'utf8')) as { version: string }
