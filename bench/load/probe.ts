// Loaded into the service before anything else when it is under load: collects garbage when asked, and tells what is left.
import { readdirSync } from 'node:fs'
import { setFlagsFromString } from 'node:v8'
import { runInNewContext } from 'node:vm'
import { BroadcastChannel, isMainThread, type MessagePort } from 'node:worker_threads'

/** What the service holds after its garbage is gone, over all its threads. */
export interface Holdings {
  /** Resident memory of the process. */
  readonly rssBytes: number
  /** Objects of all threads, and the buffers that they keep. */
  readonly heapBytes: number
  /** Open files, sockets among them; null where the system does not tell. */
  readonly files: number | null
  /** What keeps the main thread's event loop alive, by kind. */
  readonly resources: Readonly<Record<string, number>>
}

const channelName = 'preamble-load-probe'
/** For the other threads to answer: they may be in the middle of a step. */
const answersMs = 2_000

setFlagsFromString('--expose-gc')
const collect = runInNewContext('gc') as () => void

function ownHeap(): number {
  // What finalizers let go of is garbage only then.
  for (let i = 0; i < 3; i++) collect()
  const { heapUsed, external } = process.memoryUsage()
  return heapUsed + external
}

function resources(): Record<string, number> {
  const counts: Record<string, number> = {}
  for (const kind of process.getActiveResourcesInfo()) counts[kind] = (counts[kind] ?? 0) + 1
  return counts
}

function openFiles(): number | null {
  try {
    return readdirSync('/proc/self/fd').length
  } catch {
    return null
  }
}

/** Between the threads of the service; it keeps none of them alive. */
function openChannel(take: (data: unknown) => void): { post(data: unknown): void } {
  const channel = new BroadcastChannel(channelName) as unknown as EventTarget &
    Pick<MessagePort, 'postMessage' | 'unref'>
  channel.addEventListener('message', (event) => take((event as MessageEvent).data))
  channel.unref()
  // The rule is about windows; these are threads.
  // oxlint-disable-next-line unicorn/require-post-message-target-origin
  return { post: (data) => channel.postMessage(data) }
}

if (!isMainThread) {
  const channel = openChannel((data) => {
    if (data === 'collect') channel.post({ heapBytes: ownHeap() })
  })
} else if (process.argv[1]?.endsWith('cli.js') === true && process.send !== undefined) {
  let others = 0
  const channel = openChannel((data) => {
    others += (data as { heapBytes?: number }).heapBytes ?? 0
  })
  process.on('message', (message) => {
    if (message !== 'preamble-load-probe') return
    others = 0
    channel.post('collect')
    setTimeout(() => {
      const heapBytes = ownHeap() + others
      const { rss: rssBytes } = process.memoryUsage()
      process.send?.({ rssBytes, heapBytes, files: openFiles(), resources: resources() } satisfies Holdings)
    }, answersMs)
  })
  // It must not keep the service alive.
  process.channel?.unref()
}
