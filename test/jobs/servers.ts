// Real Redis and PostgreSQL servers for the tests, started here and ended with them.
import { execFile, spawn, type ChildProcess, type SpawnOptions } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { chown, mkdtemp, readdir, rm } from 'node:fs/promises'
import { createServer, type AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { promisify } from 'node:util'

export interface TestServer {
  readonly url: string
  close(): Promise<void>
}

const run = promisify(execFile)

/** Path of the first of `names` that is installed; null: none is. */
export function findProgram(names: readonly string[], folders: readonly string[] = []): string | null {
  const everywhere = [...(process.env.PATH ?? '').split(path.delimiter), ...folders]
  for (const name of names) {
    for (const folder of everywhere) {
      const file = path.join(folder, name)
      if (existsSync(file)) return file
    }
  }
  return null
}

/** Debian keeps PostgreSQL's programs out of the path, a folder a version. */
export async function postgresFolders(): Promise<string[]> {
  const versions = await readdir('/usr/lib/postgresql').catch(() => [])
  return versions.map((version) => `/usr/lib/postgresql/${version}/bin`)
}

export async function startRedis(program: string): Promise<TestServer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-redis-'))
  const port = await freePort()
  const settings = ['--port', `${port}`, '--bind', '127.0.0.1', '--dir', folder, '--save', '', '--appendonly', 'no']
  const server = spawn(program, settings, { stdio: 'pipe' })
  await said(server, /Ready to accept connections/)
  return { url: `redis://127.0.0.1:${port}`, close: () => end(server, 'SIGTERM', folder) }
}

export async function startPostgres(initdb: string, postgres: string): Promise<TestServer> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-postgres-'))
  const user = await unprivilegedUser()
  if (user !== null) await chown(folder, user.uid, user.gid)
  const options: SpawnOptions = { stdio: 'pipe', cwd: folder, env: { ...process.env, LC_ALL: 'C' }, ...user }
  const data = path.join(folder, 'data')
  const init = spawn(initdb, ['-D', data, '-U', 'postgres', '-A', 'trust', '-E', 'UTF8', '--no-sync'], options)
  init.stdout?.resume()
  const [code] = (await once(init, 'exit')) as [number | null]
  if (code !== 0) throw new Error(`initdb ended with ${code}`)
  const port = await freePort()
  const settings = ['listen_addresses=127.0.0.1', 'unix_socket_directories=', 'fsync=off'].flatMap((text) => [
    '-c',
    text,
  ])
  const server = spawn(postgres, ['-D', data, '-p', `${port}`, ...settings], options)
  await said(server, /ready to accept connections/)
  return { url: `postgres://postgres@127.0.0.1:${port}/postgres`, close: () => end(server, 'SIGINT', folder) }
}

/** PostgreSQL does not run as root; null: this process is not. */
async function unprivilegedUser(): Promise<{ uid: number; gid: number } | null> {
  if (process.getuid?.() !== 0) return null
  const ids = await Promise.all(['-u', '-g'].map((flag) => run('id', [flag, 'postgres'])))
  const [uid = 0, gid = 0] = ids.map(({ stdout }) => Number(stdout))
  return { uid, gid }
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  return port
}

function said(server: ChildProcess, words: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = ''
    const hear = (chunk: Buffer): void => {
      text += chunk.toString()
      if (words.test(text)) resolve()
    }
    server.stdout?.on('data', hear)
    server.stderr?.on('data', hear)
    server.once('exit', (code) => reject(new Error(`${server.spawnfile} ended with ${code}: ${text}`)))
  })
}

async function end(server: ChildProcess, signal: NodeJS.Signals, folder: string): Promise<void> {
  const ended = once(server, 'exit')
  server.kill(signal)
  await ended
  await rm(folder, { recursive: true, force: true })
}
