// Starts a real S3 server for tests: versitygw, or moto where that is not installed.
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { once } from 'node:events'
import { accessSync, constants } from 'node:fs'
import { mkdir, mkdtemp, rm } from 'node:fs/promises'
import { createServer } from 'node:net'
import { homedir, tmpdir } from 'node:os'
import { delimiter, join } from 'node:path'

export const noServer = 'S3 store: no S3 server found (versitygw or moto_server)'
const accessKey = 'preamble-test'
const secretKey = 'preamble-test-secret'
const startsMax = 3

export interface S3Server {
  readonly endpoint: string
  stop(): Promise<void>
}

interface Program {
  readonly path: string
  readonly kind: 'versitygw' | 'moto'
}

/** null where no server is installed. */
export function findS3Server(): Program | null {
  const gateway = findOnPath('versitygw') ?? executable(join(homedir(), 'go', 'bin', 'versitygw'))
  if (gateway !== null) return { path: gateway, kind: 'versitygw' }
  const moto = findOnPath('moto_server')
  return moto !== null && runs(moto) ? { path: moto, kind: 'moto' } : null
}

/** Also puts the server's address and keys into this process's environment, where the S3 client looks for them. */
export async function startS3Server(program: Program): Promise<S3Server> {
  const folder = await mkdtemp(join(tmpdir(), 's3-server-'))
  for (let starts = 1; ; starts++) {
    const port = await freePort()
    const child = await start(program, port, folder)
    if (child === null && starts === startsMax) throw new Error(`${program.path} does not start`)
    if (child === null) continue // Someone took the port in between.
    const endpoint = `http://127.0.0.1:${port}`
    for (const name of Object.keys(process.env)) if (name.startsWith('AWS_')) delete process.env[name]
    process.env['AWS_ENDPOINT_URL'] = endpoint
    process.env['AWS_ACCESS_KEY_ID'] = accessKey
    process.env['AWS_SECRET_ACCESS_KEY'] = secretKey
    const stop = async (): Promise<void> => {
      if (child.exitCode === null && child.kill('SIGKILL')) await once(child, 'exit')
      await rm(folder, { recursive: true, force: true })
    }
    return { endpoint, stop }
  }
}

/** null when it ended before it listened. */
async function start(program: Program, port: number, folder: string): Promise<ChildProcess | null> {
  const data = join(folder, 'data')
  await mkdir(data, { recursive: true })
  const args =
    program.kind === 'moto' ? ['-H', '127.0.0.1', '-p', String(port)] : ['--port', `127.0.0.1:${port}`, 'posix', data]
  const child = spawn(program.path, args, {
    env: { ...process.env, ROOT_ACCESS_KEY_ID: accessKey, ROOT_SECRET_ACCESS_KEY: secretKey },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  let said = ''
  return new Promise((resolve) => {
    const listen = (chunk: Buffer): void => {
      said += chunk.toString()
      if (/listening on|Running on/.test(said)) resolve(child)
    }
    child.stdout.on('data', listen)
    child.stderr.on('data', listen)
    child.once('error', () => resolve(null))
    child.once('exit', () => resolve(null))
  })
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  server.close()
  await once(server, 'close')
  if (address === null || typeof address === 'string') throw new Error('a TCP server has a port')
  return address.port
}

function findOnPath(name: string): string | null {
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    const found = executable(join(folder, name))
    if (found !== null) return found
  }
  return null
}

function executable(path: string): string | null {
  try {
    accessSync(path, constants.X_OK)
    return path
  } catch {
    return null
  }
}

/** A script may be there whose interpreter or package is not. */
function runs(path: string): boolean {
  try {
    execFileSync(path, ['--help'], { stdio: 'ignore' })
    return true
  } catch {
    return false
  }
}
