// Drives the whole service over HTTP with many clients at once, and says whether anything failed, leaked or stayed open.
import { mkdtemp, rm } from 'node:fs/promises'
import { Agent } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { setTimeout } from 'node:timers/promises'
import { openModel } from '../../src/model/model.ts'
import { PrefixRegistry } from '../../src/prefix/registry.ts'
import { forkSeed, Random } from '../../src/random/random.ts'
import { openStore } from '../../src/store/open.ts'
import { openTokenizer } from '../../src/tokenizer/tokenizer.ts'
import type { Figures } from '../machine.ts'
import { storePrefixes } from '../stored-prefixes.ts'
import { type Answer, exchange } from './exchange.ts'
import type { Holdings } from './probe.ts'
import { controlBodies, drawRequest, type LoadBody, requestOptions, type RequestOptions } from './requests.ts'
import { type LoadedService, startLoadedService } from './service.ts'
import { Tally } from './tally.ts'

export interface LoadOptions {
  readonly model: string
  /** Of the service: `float32` or `fast`. */
  readonly precision: string
  readonly threads: number
  readonly clients: number
  readonly prefixes: number
  readonly prefixLength: number
  readonly seconds: number
  readonly seed: number
  /** Told how it goes. */
  readonly say: (line: string) => void
}

export interface LoadReport {
  readonly figures: Figures
  /** What does not hold; empty when all is well. */
  readonly broken: readonly string[]
}

/** Of the time of the load: caches fill, and the heap finds its size. */
const warmUpShare = 0.25
const warmUpSecondsMin = 20
/** Memory after the load is at most so many times that before. */
const growthMax = 1.05
/** Of the longest requests, before the load. */
const longestPerClient = 2
const progressEveryMs = 10_000
/** Connections that were closed take a moment to be gone. */
const settleMs = 500

export async function measureLoad(options: LoadOptions): Promise<LoadReport> {
  const folder = await mkdtemp(path.join(tmpdir(), 'preamble-bench-serve-'))
  try {
    options.say(`seed ${options.seed}: storing ${options.prefixes} prefixes`)
    const drawn = await store(path.join(folder, 'store'), options)
    const { model, precision, threads } = options
    const env = { DATA: folder, MODEL: model, PRECISION: precision, THREADS: String(threads) }
    const service = await startLoadedService(env)
    try {
      return await drive(service, drawn, options)
    } finally {
      await service.stop()
    }
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

async function store(folder: string, options: LoadOptions): Promise<RequestOptions> {
  const { prefixes: count, prefixLength, seed } = options
  const [model, tokenizer] = [await openModel(options.model), await openTokenizer(options.model)]
  const registry = new PrefixRegistry(await openStore(folder))
  const prefixes = await storePrefixes(registry, model, tokenizer, { count, prefixLength, seed })
  return requestOptions(prefixes, { positionsMax: model.config.positionsMax, prefixLength })
}

async function drive(service: LoadedService, drawn: RequestOptions, options: LoadOptions): Promise<LoadReport> {
  const { seconds, seed, say } = options
  const url = new URL('/generate', service.address)
  // Every prefix once: what the pool keeps of them is no leak.
  await askAll(url, eachPrefix(drawn), options.clients)
  // And the largest steps there are: the runtime keeps the memory of those, whenever they come.
  await askAll(url, longest(drawn, options.clients), options.clients)
  const known = await askAlone(url, drawn)
  const warmUpSeconds = Math.max(warmUpSecondsMin, warmUpShare * seconds)
  say(`warming up for ${warmUpSeconds} s`)
  const warmUp = await load(url, drawn, known, { ...options, seconds: warmUpSeconds, seed: forkSeed(seed, 1) })
  const before = await settled(service)
  const startMs = performance.now()
  const tally = await load(url, drawn, known, { ...options, seed: forkSeed(seed, 2) })
  const figures = tally.figures((performance.now() - startMs) / 1_000)
  const after = await settled(service)
  const failures = [...warmUp.failures, ...tally.failures, ...service.complaints]
  const broken = [...failures, ...leftOver(before, after), ...(await stillOpen(service))]
  return { figures: { ...about(options), ...figures, ...memory(before, after) }, broken }
}

interface Known {
  readonly bodies: readonly LoadBody[]
  readonly texts: readonly string[]
}

const textsOf = ({ outputs }: Answer): string => JSON.stringify(outputs.map(({ text }) => text))

/** The answers to the controls, each asked with nobody beside it. */
async function askAlone(url: URL, drawn: RequestOptions): Promise<Known> {
  const bodies = controlBodies(drawn)
  const texts: string[] = []
  const agent = new Agent()
  for (const body of bodies) {
    const came = await exchange(url, agent, { body, leavesAfter: null, control: null })
    if (came.end !== 'answered') throw new Error(`a request alone: ${JSON.stringify(came)}`)
    texts.push(textsOf(came.answer))
  }
  return { bodies, texts }
}

function eachPrefix({ prefixes, texts }: RequestOptions): LoadBody[] {
  const input = (texts[0] as string).slice(0, 8)
  return prefixes.map((prefix) => ({ prefix, input, maxNewTokens: 1, stream: false }))
}

/** Hot, so that next to none ends before its last token. */
function longest({ prefixes, texts, charactersMax, newTokensMax }: RequestOptions, clients: number): LoadBody[] {
  const input = texts.join(' ').slice(0, charactersMax)
  const decoding = { strategy: 'sample', temperature: 10 }
  return Array.from({ length: longestPerClient * clients }, (_, i) => ({
    prefix: prefixes[i % prefixes.length] as string,
    input,
    maxNewTokens: newTokensMax,
    stream: false,
    decoding,
    seed: i,
  }))
}

async function askAll(url: URL, bodies: LoadBody[], clients: number): Promise<void> {
  const agent = new Agent({ keepAlive: true })
  const client = async (): Promise<void> => {
    for (let body = bodies.pop(); body !== undefined; body = bodies.pop()) {
      const came = await exchange(url, agent, { body, leavesAfter: null, control: null })
      if (came.end !== 'answered') throw new Error(`a request before the load: ${JSON.stringify(came)}`)
    }
  }
  await Promise.all(Array.from({ length: clients }, client))
  agent.destroy()
}

/** All clients until the time is over, and then until the last one has its answer. */
async function load(url: URL, drawn: RequestOptions, known: Known, options: LoadOptions): Promise<Tally> {
  const { clients, seconds, seed, say } = options
  const tally = new Tally()
  const agent = new Agent({ keepAlive: true, maxSockets: clients })
  const startMs = performance.now()
  const endMs = startMs + seconds * 1_000
  const client = async (number: number): Promise<void> => {
    const random = new Random(forkSeed(seed, number))
    while (performance.now() < endMs) {
      const request = drawRequest(random, drawn, known.bodies)
      let came = await exchange(url, agent, request)
      for (; came.end === 'overloaded'; came = await exchange(url, agent, request)) {
        tally.count(came)
        await setTimeout(came.retryAfterMs)
      }
      tally.count(came)
      if (came.end !== 'answered' || request.control === null) continue
      if (textsOf(came.answer) !== known.texts[request.control])
        tally.fail(`control ${request.control} said ${textsOf(came.answer)}, alone ${known.texts[request.control]}`)
    }
  }
  const progress = setInterval(() => {
    const { answered, left, overloaded, failed, tokens } = tally
    const passed = Math.round((performance.now() - startMs) / 1_000)
    say(`${passed} s: answered ${answered}, left ${left}, overloaded ${overloaded}, failed ${failed}, tokens ${tokens}`)
  }, progressEveryMs)
  await Promise.all(Array.from({ length: clients }, (_, number) => client(number)))
  clearInterval(progress)
  agent.destroy()
  return tally
}

async function settled(service: LoadedService): Promise<Holdings> {
  await setTimeout(settleMs)
  return service.holdings()
}

function leftOver(before: Holdings, after: Holdings): string[] {
  const broken: string[] = []
  for (const kind of ['rssBytes', 'heapBytes'] as const) {
    const ratio = after[kind] / before[kind]
    if (ratio > growthMax) broken.push(`${kind} grew from ${before[kind]} to ${after[kind]}, ${ratio.toFixed(3)} times`)
  }
  if (before.files !== null && after.files !== null && after.files > before.files)
    broken.push(`${before.files} files and sockets were open before the load, ${after.files} after it`)
  const sockets = ({ resources }: Holdings): number => resources['TCPSocketWrap'] ?? 0
  if (sockets(after) > sockets(before))
    broken.push(`${sockets(before)} connections before the load, ${sockets(after)} after it`)
  return broken
}

/** Event streams that the service still counts. */
async function stillOpen({ address }: LoadedService): Promise<string[]> {
  const metrics = await (await fetch(`${address}/metrics`)).text()
  const open = Number(/^preamble_streams_active (\d+)$/m.exec(metrics)?.[1])
  return open === 0 ? [] : [`the service counts ${open} open streams after the load`]
}

const MiB = 2 ** 20
const timers = ({ resources }: Holdings): number => resources['Timeout'] ?? 0

function memory(before: Holdings, after: Holdings): Figures {
  return {
    rssBeforeMiB: before.rssBytes / MiB,
    rssAfterMiB: after.rssBytes / MiB,
    heapBeforeMiB: before.heapBytes / MiB,
    heapAfterMiB: after.heapBytes / MiB,
    filesBefore: before.files ?? 'unknown',
    filesAfter: after.files ?? 'unknown',
    timersBefore: timers(before),
    timersAfter: timers(after),
  }
}

function about({ model, precision, clients, prefixes, prefixLength, seed }: LoadOptions): Figures {
  return { model: path.basename(model), precision, clients, prefixes, prefixLength, seed }
}
