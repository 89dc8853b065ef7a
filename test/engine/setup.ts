// An engine over a made-up session, for the engine's tests.
import { setImmediate as nextTurn } from 'node:timers/promises'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits, type EngineLimits } from '../../src/engine/limits.ts'
import { decoderAlone } from '../../src/engine/played.ts'
import { ServiceError } from '../../src/errors/errors.ts'
import type { Framing } from '../../src/model/framing.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { FakeSession } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { deferred, testPrefix } from './requests.ts'

export const prefixes: Record<string, Prefix> = {
  p1: testPrefix(1),
  p2: testPrefix(2, { prefixLength: 5 }),
  slow: testPrefix(3),
  wide: testPrefix(1, { headDim: 3 }),
  unshifted: testPrefix(1, { textPositionStart: 0 }),
}

export interface TestEngine {
  readonly engine: Engine
  readonly session: FakeSession
  /** Of the prefix `slow`. */
  readonly loading: { resolve: () => void }
}

export function makeEngine(
  limits: Partial<EngineLimits> = {},
  session = new FakeSession(257),
  framing: Partial<Framing> = {},
): TestEngine {
  const slow = deferred()
  const loadPrefix = async (id: string): Promise<Prefix> => {
    if (id === 'slow') await slow.promise
    const prefix = prefixes[id]
    if (prefix === undefined) throw new ServiceError('prefix_not_found', `no prefix ${id}`)
    return prefix
  }
  const alone = decoderAlone(session.layout)
  const model = { ...alone, framing: { ...alone.framing, ...framing } }
  const all = { ...defaultLimits, ...limits }
  const engine = new Engine({ session, tokenizer: byteTokenizer, loadPrefix, limits: all, model })
  return { engine, session, loading: slow }
}

/** The engine's load once it has come to rest: whoever leaves does so when a turn begins. */
export async function settled(engine: Engine): Promise<Engine['load']> {
  for (let turn = 0; turn < 100 && engine.load.waiting + engine.load.running > 0; turn++) await nextTurn()
  return engine.load
}

/** Stops the session before its next call until `open` is called. */
export function hold(session: FakeSession): { reached: Promise<void>; open: () => void } {
  const gate = deferred()
  const reached = deferred()
  session.beforeExtend = async () => {
    reached.resolve()
    await gate.promise
  }
  return { reached: reached.promise, open: gate.resolve }
}
