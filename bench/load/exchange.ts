// One request and its answer over HTTP, with the times that its client sees.
import { type Agent, type ClientRequest, type IncomingMessage, request as startRequest } from 'node:http'
import type { LoadBody, LoadRequest } from './requests.ts'

export interface Answer {
  readonly outputs: readonly { readonly text: string; readonly tokens: number }[]
  readonly usage: { readonly outputTokens: number }
}

/**
 * answered: whole. left: the client went away, as it meant to. overloaded: 503 with a time to wait. failed: anything else,
 * and why.
 */
export type Exchange =
  | { readonly end: 'answered'; readonly answer: Answer; readonly times: ExchangeTimes }
  | { readonly end: 'left' }
  | { readonly end: 'overloaded'; readonly retryAfterMs: number }
  | { readonly end: 'failed'; readonly why: string }

/** Since the request was sent, in ms. */
export interface ExchangeTimes {
  readonly wholeMs: number
  /** When each piece of text came; empty without streaming. */
  readonly piecesMs: readonly number[]
}

/** An answer that takes longer has gone astray. */
const answerMsMax = 120_000

/** Never throws. */
export async function exchange(url: URL, agent: Agent, { body, leavesAfter }: LoadRequest): Promise<Exchange> {
  const bytes = Buffer.from(JSON.stringify(body))
  const headers = { 'content-type': 'application/json', 'content-length': bytes.length }
  const startMs = performance.now()
  const sent = startRequest(url, { method: 'POST', agent, headers, timeout: answerMsMax })
  sent.once('timeout', () => sent.destroy(new Error(`nothing came for ${answerMsMax} ms`)))
  const leaving = { left: false }
  const leave = (): void => {
    leaving.left = true
    sent.destroy()
  }
  const timer = leavesAfter !== null && !body.stream ? setTimeout(leave, leavesAfter) : undefined
  try {
    const response = await answered(sent, bytes)
    if (response.statusCode === 503 && response.headers['retry-after'] !== undefined) {
      await textOf(response)
      return { end: 'overloaded', retryAfterMs: 1_000 * Number(response.headers['retry-after']) }
    }
    if (response.statusCode !== 200) {
      return { end: 'failed', why: `status ${response.statusCode}: ${await textOf(response)}` }
    }
    const { answer, piecesMs } = body.stream
      ? await readStream(response, startMs, leavesAfter === null ? null : { after: leavesAfter, leave })
      : { answer: JSON.parse(await textOf(response)) as Answer, piecesMs: [] }
    const why = wrongWith(answer, body)
    if (why !== null) return { end: 'failed', why }
    return { end: 'answered', answer, times: { wholeMs: performance.now() - startMs, piecesMs } }
  } catch (error) {
    return leaving.left ? { end: 'left' } : { end: 'failed', why: String(error) }
  } finally {
    clearTimeout(timer)
  }
}

function answered(sent: ClientRequest, bytes: Buffer): Promise<IncomingMessage> {
  return new Promise((resolve, reject) => {
    sent.once('response', resolve)
    sent.on('error', reject)
    sent.end(bytes)
  })
}

async function textOf(response: IncomingMessage): Promise<string> {
  let text = ''
  response.setEncoding('utf8')
  for await (const chunk of response) text += chunk as string
  return text
}

interface Leaving {
  /** Events. */
  readonly after: number
  leave(): void
}

/** Reads to the `done` event. Throws where another end comes, or the pieces do not make up the texts. */
async function readStream(
  response: IncomingMessage,
  startMs: number,
  leaving: Leaving | null,
): Promise<{ answer: Answer; piecesMs: number[] }> {
  const piecesMs: number[] = []
  const texts: string[] = []
  let answer: Answer | null = null
  let rest = ''
  response.setEncoding('utf8')
  for await (const chunk of response) {
    const blocks = (rest + (chunk as string)).split('\n\n')
    rest = blocks.pop() as string
    for (const block of blocks) {
      const event = /^event: (\w+)\ndata: (.*)$/.exec(block)
      if (event === null) continue // A comment, or the time to wait before coming again.
      const data = JSON.parse(event[2] as string) as unknown
      if (event[1] === 'done') answer = data as Answer
      else if (event[1] !== 'token') throw new Error(`the stream ended with ${block}`)
      else {
        const { index, text } = data as { index: number; text: string }
        texts[index] = (texts[index] ?? '') + text
        piecesMs.push(performance.now() - startMs)
        if (leaving !== null && piecesMs.length >= leaving.after) leaving.leave()
      }
    }
  }
  if (answer === null) throw new Error('the stream ended without done')
  if (answer.outputs.some(({ text }, i) => text !== (texts[i] ?? '')))
    throw new Error('pieces do not make up the texts')
  return { answer, piecesMs }
}

/** What no answer may be: too few texts, too many tokens, or others than were counted. */
function wrongWith({ outputs, usage }: Answer, { input, decoding, maxNewTokens }: LoadBody): string | null {
  const expected = (typeof input === 'string' ? 1 : input.length) * Number(decoding?.['n'] ?? 1)
  if (outputs.length !== expected) return `${outputs.length} texts came, asked for were ${expected}`
  const tokens = outputs.reduce((sum, each) => sum + each.tokens, 0)
  if (tokens !== usage.outputTokens) return `${usage.outputTokens} tokens were counted, the outputs have ${tokens}`
  const long = outputs.find((each) => each.tokens > maxNewTokens)
  return long === undefined ? null : `an output has ${long.tokens} tokens, at most ${maxNewTokens} were asked for`
}
