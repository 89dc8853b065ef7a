// One process at a time may open a directory: whoever listens on the socket that belongs to it.
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, realpath, rm } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'

/** Linux takes 107 bytes for the path of a socket, macOS 103. */
const socketPathBytesMax = 100
/** Two that clear away one dead socket settle within this time who of them holds the lock. */
const takeoverMs = 100
const attemptsMax = 5

export class DirectoryInUseError extends Error {
  constructor(directory: string) {
    super(`${directory} is open in another process`)
    this.name = 'DirectoryInUseError'
  }
}

/**
 * The operating system closes the socket with its process, however that ends, so nothing is left that a reused
 * process id could make look alive. Answers a function that gives the lock back.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  const address = await socketOf(directory)
  for (let attempt = 1; attempt <= attemptsMax; attempt++) {
    const name = randomUUID()
    const server = await listen(address, name)
    if (server !== null) {
      if (attempt > 1) await sleep(takeoverMs)
      // Another process may have cleared the dead socket away a moment later, and ours with it.
      const holder = attempt === 1 ? name : await ask(address)
      if (holder === name) return () => close(server)
      await close(server)
      if (holder !== null) throw new DirectoryInUseError(directory)
      // Whoever gives up removes the socket at the address, whosever it is: then nobody holds the lock, and it is tried again.
      continue
    }
    if ((await ask(address)) !== null) throw new DirectoryInUseError(directory)
    await rm(address, { force: true })
  }
  throw new DirectoryInUseError(directory)
}

/** Beside the directory where the path is short enough, else in the system's temporary folder under its hash. */
async function socketOf(directory: string): Promise<string> {
  await mkdir(path.dirname(directory), { recursive: true })
  const real = path.join(await realpath(path.dirname(directory)), path.basename(directory))
  const hash = createHash('sha256').update(real).digest('hex').slice(0, 16)
  if (process.platform === 'win32') return `\\\\.\\pipe\\preamble-${hash}`
  const beside = `${real}.lock`
  return Buffer.byteLength(beside) <= socketPathBytesMax ? beside : path.join(tmpdir(), `preamble-${hash}.lock`)
}

/** null: the address is taken, by the living or by the dead. */
function listen(address: string, name: string): Promise<Server | null> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.on('error', () => undefined).end(name))
    server.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'EADDRINUSE') resolve(null)
      else reject(error)
    })
    server.listen(address, () => {
      server.unref()
      resolve(server)
    })
  })
}

/** The name of whoever listens there; null: nobody. */
function ask(address: string): Promise<string | null> {
  return new Promise((resolve, reject) => {
    let name = ''
    const socket = connect(address)
    socket.setEncoding('utf8').on('data', (text: string) => (name += text))
    socket.once('end', () => resolve(name))
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') resolve(null)
      // Cut off while answering: it was alive a moment ago, which is reason enough to keep away.
      else if (error.code === 'ECONNRESET' || error.code === 'EPIPE') resolve(name)
      else reject(error)
    })
  })
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
