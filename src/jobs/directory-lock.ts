// One process at a time may open a directory: whoever listens on the socket in the place that belongs to it.
import { createHash, randomBytes } from 'node:crypto'
import { mkdir, readdir, realpath, rename, rm, rmdir, stat } from 'node:fs/promises'
import { connect, createServer, type Server } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'

/** Linux takes 107 bytes for the path of a socket, macOS 103. */
const socketPathBytesMax = 100
/** Of a socket's name: nobody takes one that was taken before. */
const nameBytes = 6
const attemptsMax = 5
/** Nobody takes so long from making a folder to renaming it. */
const leftoverAgeMs = 60_000

export class DirectoryInUseError extends Error {
  constructor(directory: string) {
    super(`${directory} is open in another process`)
    this.name = 'DirectoryInUseError'
  }
}

/**
 * The operating system closes the socket with its process, however that ends, so nothing is left that a reused
 * process id could make look alive. Answers a function that gives the lock back.
 *
 * The place is a folder with the holder's socket in it. Whoever comes listens in a folder of its own and renames that to
 * the place, which the file system does only where the place is absent or empty. What the dead left is removed by its name,
 * that no other has: who saw it long ago takes nothing from the one who has come since.
 */
export async function lockDirectory(directory: string): Promise<() => Promise<void>> {
  await mkdir(path.dirname(directory), { recursive: true })
  const real = path.join(await realpath(path.dirname(directory)), path.basename(directory))
  if (process.platform === 'win32') return lockPipe(directory, `\\\\.\\pipe\\preamble-${hashOf(real)}`)
  const place = placeOf(real)
  for (let attempt = 1; attempt <= attemptsMax; attempt++) {
    for (const name of await namesIn(place)) {
      const socket = path.join(place, name)
      if (await isAlive(socket)) throw new DirectoryInUseError(directory)
      await rm(socket, { force: true })
    }
    const unlock = await enter(place)
    if (unlock === null) continue
    // What cannot be removed is in nobody's way.
    await removeLeftovers(place).catch(() => undefined)
    return unlock
  }
  throw new DirectoryInUseError(directory)
}

/** A pipe goes with its process, its name too. */
async function lockPipe(directory: string, address: string): Promise<() => Promise<void>> {
  const server = await listen(address).catch((error: NodeJS.ErrnoException) => {
    throw error.code === 'EADDRINUSE' ? new DirectoryInUseError(directory) : error
  })
  return () => close(server)
}

const hashOf = (real: string): string => createHash('sha256').update(real).digest('hex').slice(0, 16)

/** Beside the directory where the path is short enough, else in the system's temporary folder under its hash. */
function placeOf(real: string): string {
  const beside = `${real}.held`
  // A socket is made in a folder whose name is longer by its own.
  const bytes = Buffer.byteLength(beside) + 2 * (1 + newName().length)
  return bytes <= socketPathBytesMax ? beside : path.join(tmpdir(), `preamble-${hashOf(real)}.held`)
}

const newName = (): string => randomBytes(nameBytes).toString('hex')
const isName = (text: string): boolean => text.length === 2 * nameBytes && /^[0-9a-f]*$/.test(text)

async function namesIn(place: string): Promise<readonly string[]> {
  try {
    return await readdir(place)
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return []
    throw error
  }
}

/** Null: another was there first. */
async function enter(place: string): Promise<(() => Promise<void>) | null> {
  const name = newName()
  const own = `${place}-${name}`
  await mkdir(own)
  const server = await listen(path.join(own, name))
  try {
    await rename(own, place)
  } catch (error) {
    await close(server)
    await rm(own, { recursive: true, force: true })
    const { code } = error as NodeJS.ErrnoException
    // Who was stopped for long may find its folder cleared away by another.
    if (code === 'ENOTEMPTY' || code === 'EEXIST' || code === 'ENOENT') return null
    throw error
  }
  return async () => {
    await close(server)
    await rm(path.join(place, name), { force: true })
    // It stays where another has come already.
    await rmdir(place).catch(() => undefined)
  }
}

/**
 * Removes the folders of those that died before they could rename them. Each gets another name first: so the folder of one that
 * was only stopped is whole or gone when it goes on, and never becomes the place without a socket.
 */
async function removeLeftovers(place: string): Promise<void> {
  const folder = path.dirname(place)
  const prefix = `${path.basename(place)}-`
  // By the clock of the file system, as the place was made just now.
  const { mtimeMs: nowMs } = await stat(place)
  const remove = async (entry: string): Promise<void> => {
    const leftover = path.join(folder, entry)
    if (nowMs - (await stat(leftover)).mtimeMs < leftoverAgeMs) return
    const doomed = `${place}-${newName()}`
    await rename(leftover, doomed)
    await rm(doomed, { recursive: true })
  }
  const entries = await readdir(folder)
  const others = entries.filter((entry) => entry.startsWith(prefix) && isName(entry.slice(prefix.length)))
  await Promise.allSettled(others.map(remove))
}

function listen(address: string): Promise<Server> {
  return new Promise((resolve, reject) => {
    const server = createServer((socket) => socket.on('error', () => undefined).destroy())
    server.once('error', reject)
    server.listen(address, () => resolve(server.unref()))
  })
}

/** Whether somebody listens there, be it that nobody has time to answer. */
function isAlive(address: string): Promise<boolean> {
  return new Promise((resolve, reject) => {
    const socket = connect(address)
    const settle = (alive: boolean): void => {
      socket.destroy()
      resolve(alive)
    }
    socket.once('connect', () => settle(true))
    socket.once('error', (error: NodeJS.ErrnoException) => {
      if (error.code === 'ECONNREFUSED' || error.code === 'ENOENT') settle(false)
      // Its line is full.
      else if (error.code === 'EAGAIN') settle(true)
      else reject(error)
    })
  })
}

function close(server: Server): Promise<void> {
  return new Promise((resolve) => server.close(() => resolve()))
}
