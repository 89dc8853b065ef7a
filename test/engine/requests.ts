// Requests and prefixes for the engine's tests, and a way to collect what comes back.
import assert from 'node:assert/strict'
import {
  type Decoding,
  type DoneEvent,
  type GenerateEvent,
  type GenerateRequest,
  greedy,
  type Output,
  type Usage,
} from '../../src/engine/request.ts'
import type { ErrorCode } from '../../src/errors/errors.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import type { Prefix, PrefixHeader } from '../../src/prefix/prefix.ts'

export const sampling: Decoding = { ...greedy, strategy: 'sample', topP: 0.9 }

export function request(changes: Partial<GenerateRequest> = {}): GenerateRequest {
  const base = { prefixId: null, inputs: ['ab'], maxNewTokens: 8, stop: [], seed: 1, decoding: greedy, logprobs: false }
  return { ...base, ...changes }
}

/** A prefix for `fakeLayout`, its numbers made from `value`. */
export function testPrefix(value: number, header: Partial<PrefixHeader> = {}): Prefix {
  const prefixLength = header.prefixLength ?? 3
  const keys = Float32Array.from({ length: prefixLength * 2 }, (_, i) => value + i)
  return {
    header: {
      attachment: 'decoder_self',
      textPositionStart: prefixLength,
      prefixLength,
      layers: 1,
      heads: 1,
      headDim: 2,
      modelSha256: 'model',
      tokenizerSha256: 'bytes',
      template: '{input}>',
      training: {},
      ...header,
    },
    keys,
    values: keys.slice(),
  }
}

export interface Collected {
  readonly outputs: readonly Output[]
  readonly usage: Usage
  /** Streamed pieces of each output, joined. */
  readonly streamed: readonly string[]
}

/** Reads to the end and checks what holds for every stream: one `done`, last, and texts that are the sum of their pieces. */
export async function collect(events: AsyncIterable<GenerateEvent>): Promise<Collected> {
  const streamed: string[] = []
  let done: DoneEvent | null = null
  for await (const event of events) {
    assert.equal(done, null, 'nothing comes behind done')
    if (event.type === 'done') done = event
    else streamed[event.index] = (streamed[event.index] ?? '') + event.text
  }
  assert.ok(done !== null)
  const { outputs, usage } = done
  assert.deepEqual(
    outputs.map((_, i) => streamed[i] ?? ''),
    outputs.map(({ text }) => text),
  )
  assert.equal(
    usage.outputTokens,
    outputs.reduce((sum, { tokens }) => sum + tokens, 0),
  )
  return { outputs, usage, streamed }
}

/** For assert.rejects: a ServiceError of this code whose message has all of `words`. */
export function serviceError(code: ErrorCode, ...words: readonly string[]): (error: unknown) => true {
  return (error) => {
    assert.ok(error instanceof ServiceError, String(error))
    assert.equal(error.code, code)
    for (const word of words) assert.ok(error.message.includes(word), `"${error.message}" names ${word}`)
    return true
  }
}

/** A promise and the function that fulfils it. */
export function deferred(): { readonly promise: Promise<void>; readonly resolve: () => void } {
  let fulfil!: () => void
  const promise = new Promise<void>((resolve) => {
    fulfil = resolve
  })
  return { promise, resolve: fulfil }
}
