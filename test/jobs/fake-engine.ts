// An engine that answers each prompt in capitals, for tests of what is asked of it and what becomes of the answers.
import { setTimeout as sleep } from 'node:timers/promises'
import { cancelledError } from '../../src/engine/cancellation.ts'
import type { GenerateEvent, GenerateRequest } from '../../src/engine/request.ts'
import type { SamplingParts } from '../../src/jobs/generations.ts'
import { promptOf } from '../../src/prefix/template.ts'

export interface FakeSampling extends SamplingParts {
  readonly requests: GenerateRequest[]
  /** Of each engine that was opened. */
  readonly positions: number[]
  /** Engines that are open. */
  open: number
  /** Requests under way at once, at most. */
  underWayMax: number
  /** Called before each answer. */
  onRequest: (request: GenerateRequest, count: number) => void
}

/** A token is a character. `broken` in an input fails, `endless` is never answered. */
export function fakeSampling(positionsMax = 200): FakeSampling {
  let underWay = 0
  const sampling: FakeSampling = {
    requests: [],
    positions: [],
    open: 0,
    underWayMax: 0,
    onRequest: () => undefined,
    positionsMax,
    countTokens: (text) => text.length,
    promptPositions: (prompt) => prompt.length,
    endMark: '<|endoftext|>',
    openEngine: async (loadPrefix, positions) => {
      sampling.open += 1
      sampling.positions.push(positions)
      async function* generate(request: GenerateRequest, signal: AbortSignal): AsyncGenerator<GenerateEvent> {
        sampling.underWayMax = Math.max(sampling.underWayMax, ++underWay)
        const count = sampling.requests.push(request)
        try {
          const { header } = await loadPrefix(request.prefixId ?? '')
          sampling.onRequest(request, count)
          await sleep(0)
          const text = promptOf(request.template ?? header.template, request.inputs.join())
          while (text.includes('endless') && !signal.aborted) await sleep(1)
          if (signal.aborted) throw cancelledError()
          if (text.includes('broken')) throw new Error(text)
          const output = { text: text.toUpperCase(), finishReason: 'stop' as const, tokens: 1 }
          yield { type: 'token', index: 0, text: output.text }
          yield { type: 'done', outputs: [output], usage: { prefixTokens: 1, inputTokens: 1, outputTokens: 1 } }
        } finally {
          underWay -= 1
        }
      }
      return { generate, dispose: async () => void (sampling.open -= underWay === 0 ? 1 : 0) }
    },
  }
  return sampling
}
