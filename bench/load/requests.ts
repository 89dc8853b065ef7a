// Draws what the clients of the load bench ask for: lengths, prefixes and options mixed, some who leave before the end.
import type { Random } from '../../src/random/random.ts'
import { readHeldOut } from '../records.ts'

/** As POST /generate takes it. */
export interface LoadBody {
  readonly prefix: string
  readonly input: string | readonly string[]
  readonly maxNewTokens: number
  readonly stream: boolean
  readonly seed?: number
  readonly decoding?: Readonly<Record<string, number | string>>
  readonly stop?: readonly string[]
  readonly logprobs?: boolean
}

export interface LoadRequest {
  readonly body: LoadBody
  /** The client leaves after so many events, or so many milliseconds where it does not stream; null: it stays. */
  readonly leavesAfter: number | null
  /** Number of the control whose answer is known; null: any other. */
  readonly control: number | null
}

export interface RequestOptions {
  readonly prefixes: readonly string[]
  readonly texts: readonly string[]
  /** Longest input. A token has at least one character of these texts, so tokens are never more. */
  readonly charactersMax: number
  readonly newTokensMax: number
  /** Of the requests whose client leaves before the end. */
  readonly leaveShare: number
}

const streamShare = 0.5
const leaveShare = 0.05
const controlShare = 0.02
const controls = 8
const sampleShare = 0.4
const listShare = 0.1

/** Positions of the template around an input, and some to spare. */
const templatePositions = 8
const newTokensMax = 64

export async function requestOptions(
  prefixes: readonly string[],
  { positionsMax, prefixLength }: { readonly positionsMax: number; readonly prefixLength: number },
): Promise<RequestOptions> {
  const texts = (await readHeldOut()).map(({ input }) => input)
  const charactersMax = positionsMax - prefixLength - newTokensMax - templatePositions
  return { prefixes, texts, charactersMax, newTokensMax, leaveShare }
}

/** Greedy requests that are asked alone first, and now and then under load. */
export function controlBodies(options: RequestOptions): LoadBody[] {
  const { prefixes, texts, charactersMax } = options
  return Array.from({ length: controls }, (_, i) => ({
    prefix: prefixes[i % prefixes.length] as string,
    input: (texts[i % texts.length] as string).slice(0, charactersMax),
    maxNewTokens: 16 + 4 * i,
    stream: i % 2 === 0,
  }))
}

export function drawRequest(random: Random, options: RequestOptions, known: readonly LoadBody[]): LoadRequest {
  if (known.length > 0 && random.next() < controlShare) {
    const control = random.below(known.length)
    return { body: known[control] as LoadBody, leavesAfter: null, control }
  }
  const stream = random.next() < streamShare
  const inputs = random.next() < listShare ? 2 + random.below(3) : 1
  const drawn = Array.from({ length: inputs }, () => drawInput(random, options))
  const body = {
    prefix: options.prefixes[random.below(options.prefixes.length)] as string,
    input: inputs === 1 ? (drawn[0] as string) : drawn,
    maxNewTokens: 1 + random.below(options.newTokensMax),
    stream,
    ...(random.next() < sampleShare ? drawSampling(random) : {}),
  }
  const leaves = random.next() < options.leaveShare
  const leavesAfter = leaves ? (stream ? 1 + random.below(8) : 1 + random.below(200)) : null
  return { body, leavesAfter, control: null }
}

function drawInput(random: Random, { texts, charactersMax }: RequestOptions): string {
  const length = 8 + random.below(charactersMax - 8)
  let text = ''
  while (text.length < length) text += `${text === '' ? '' : ' '}${texts[random.below(texts.length)] as string}`
  return text.slice(0, length)
}

function drawSampling(random: Random): Pick<LoadBody, 'decoding' | 'seed' | 'stop' | 'logprobs'> {
  const decoding: Record<string, number | string> = { strategy: 'sample', temperature: 0.5 + random.next() }
  if (random.next() < 0.5) decoding['topK'] = 1 + random.below(100)
  if (random.next() < 0.5) decoding['topP'] = 0.5 + 0.5 * random.next()
  if (random.next() < 0.3) decoding['repetitionPenalty'] = 1 + random.next()
  if (random.next() < 0.2) decoding['n'] = 2
  return {
    decoding,
    ...(random.next() < 0.5 ? { seed: random.below(2 ** 31) } : {}),
    ...(random.next() < 0.2 ? { stop: ['.', ' and'] } : {}),
    ...(random.next() < 0.2 ? { logprobs: true } : {}),
  }
}
