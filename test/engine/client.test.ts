// The engine behind its thread, and behind its process: errors keep their code, cancelling gets across, a crash is survived.
import assert from 'node:assert/strict'
import { mkdtemp, rm, writeFile } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { describe, test } from 'node:test'
import { setTimeout } from 'node:timers/promises'
import { defaultClientOptions, EngineClient, type EngineClientOptions } from '../../src/engine/client.ts'
import { Engine } from '../../src/engine/engine.ts'
import { defaultLimits } from '../../src/engine/limits.ts'
import type { ServiceError } from '../../src/errors/errors.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { inProcess, inThread } from '../../src/engine/worker-place.ts'
import type { Behaviour } from './client-worker.ts'
import { FakeSession, fakeLayout } from './fake-session.ts'
import { byteTokenizer } from './fake-tokenizer.ts'
import { collect, deferred, request, sampling, serviceError, testPrefix } from './requests.ts'

const never = new AbortController().signal
const endless = request({ maxNewTokens: 900_000, minNewTokens: 900_000 })

const entry = new URL(`./client-worker${path.extname(import.meta.url)}`, import.meta.url)

describeClient('thread', inThread)
describeClient('process', inProcess)

function describeClient(name: string, place: typeof inThread): void {
  describe(`the engine in a ${name} of its own`, () => {
    test('the client answers what the engine answers', async () => {
      await withClient(place, 'works', {}, async (client) => {
        assert.equal((await client.ready()).name, 'fake')
        const one = request({
          prefixId: 'good',
          inputs: ['a', 'b'],
          decoding: { ...sampling, n: 2, bestOf: 2 },
          logprobs: true,
        })
        const layout = { ...fakeLayout, positionsMax: 1_000_000 }
        const session = new FakeSession(257, layout)
        const engine = new Engine({ session, tokenizer: byteTokenizer, loadPrefix: goodPrefix, limits: defaultLimits })
        assert.deepEqual(await collect(client.generate(one, never)), await collect(engine.generate(one, never)))
      })
    })

    test('requests may come before the worker is ready', async () => {
      await withClient(place, 'works', {}, async (client) => {
        assert.equal((await collect(client.generate(request(), never))).outputs.length, 1)
      })
    })

    test('an error keeps its code, message and details on the way, and its stack as the cause', async () => {
      await withClient(place, 'works', {}, async (client) => {
        await assert.rejects(client.generate(request({ prefixId: 'gone' }), never).next(), (error) => {
          serviceError('prefix_not_found', 'no prefix gone')(error)
          assert.deepEqual((error as ServiceError).details, { prefixId: 'gone' })
          assert.match(((error as ServiceError).cause as Error).stack ?? '', /client-worker/)
          return true
        })
        const bug = client.generate(request({ prefixId: 'bug' }), never).next()
        await assert.rejects(bug, serviceError('engine_failed', 'a bug in the loader'))
        assert.equal((await collect(client.generate(request(), never))).outputs.length, 1)
      })
    })

    test('cancelling reaches the worker, even when nobody reads the events', async () => {
      await withClient(place, 'works', {}, async (client) => {
        const abort = new AbortController()
        // One more than there are rows, so that the last one only runs once the others have left.
        const running = Array.from({ length: fakeLayout.rowsMax }, () => client.generate(endless, abort.signal))
        for (const events of running) assert.equal((await events.next()).done, false)
        const last = collect(client.generate(request(), never))
        abort.abort()
        assert.equal((await last).outputs.length, 1)
        for (const events of running)
          await assert.rejects(
            events.next().then(() => events.next()),
            serviceError('cancelled'),
          )
      })
    })

    test('a crash fails what runs with engine_failed, and a new worker takes over', async () => {
      const crashes: string[] = []
      await withClient(place, 'works', { onCrash: (error) => crashes.push(error.message) }, async (client) => {
        for (const prefixId of ['exit', 'throw']) {
          const running = client.generate(endless, never)
          await running.next()
          const killer = client.generate(request({ prefixId }), never)
          await assert.rejects(killer.next(), serviceError('engine_failed', 'died'))
          await assert.rejects(collect(running), serviceError('engine_failed', 'died'))
          assert.equal((await collect(client.generate(request(), never))).outputs.length, 1)
        }
      })
      assert.deepEqual(crashes, [`the engine's ${name} ended with code 3`, 'a bug in the worker'])
    })

    test('a worker that dies too often is left dead for the rest of the minute', async () => {
      let crashes = 0
      const enough = deferred()
      const onCrash = (): void => {
        crashes++
        if (crashes === 3) enough.resolve()
      }
      await withClient(place, 'crashes at the start', { restartsPerMinuteMax: 2, onCrash }, async (client) => {
        await assert.rejects(client.ready(), serviceError('engine_failed', 'it does not start'))
        await enough.promise
        await new Promise(setImmediate)
        await assert.rejects(
          client.ready(),
          serviceError(
            'engine_failed',
            '3 times within a minute and is left alone for the rest of it: it does not start',
          ),
        )
        await assert.rejects(client.generate(request(), never).next(), serviceError('engine_failed', 'within a minute'))
        assert.equal(crashes, 3)
      })
    })

    test('a worker that cannot start says why and is not started again', async () => {
      let crashes = 0
      await withClient(place, 'unable', { onCrash: () => crashes++ }, async (client) => {
        await assert.rejects(client.ready(), serviceError('model_invalid', 'no model here'))
        await assert.rejects(client.generate(request(), never).next(), serviceError('model_invalid'))
      })
      assert.equal(crashes, 0)
    })

    test('one that cannot start again is tried anew: what it lacks may come back', async (t) => {
      const folder = await mkdtemp(path.join(tmpdir(), 'preamble-engine-'))
      t.after(() => rm(folder, { recursive: true }))
      const file = path.join(folder, 'nothing works')
      const crashes: string[] = []
      const onCrash = (error: Error): void => void crashes.push(error.message)
      await withClient(place, `unable beside ${file}`, { onCrash, restartsPerMinuteMax: 1000 }, async (client) => {
        await client.ready()
        await writeFile(file, '')
        await assert.rejects(
          client.generate(request({ prefixId: 'throw' }), never).next(),
          serviceError('engine_failed'),
        )
        await assert.rejects(client.ready(), serviceError('engine_failed', 'no model here'))
        await rm(file)
        const isReady = async (): Promise<boolean> =>
          client.ready().then(
            () => true,
            () => false,
          )
        while (!(await isReady())) await setTimeout(20)
        assert.equal((await collect(client.generate(request(), never))).outputs.length, 1)
      })
      assert.deepEqual(crashes.slice(0, 2), ['a bug in the worker', 'no model here'])
    })

    test('more open requests than allowed are refused', async () => {
      await withClient(place, 'works', { requestsMax: 1 }, async (client) => {
        const abort = new AbortController()
        const first = client.generate(endless, abort.signal)
        await first.next()
        await assert.rejects(client.generate(request(), never).next(), serviceError('overloaded', '1'))
        await first.return()
        assert.equal((await collect(client.generate(request(), never))).outputs.length, 1)
      })
    })

    test('closing ends what runs with cancelled, and the worker', async () => {
      const client = makeClient(place, 'works', {})
      const running = client.generate(endless, never)
      await running.next()
      const stuck = client.generate(request({ prefixId: 'never' }), never).next()
      const both = Promise.all([
        assert.rejects(collect(running), serviceError('cancelled')),
        assert.rejects(stuck, serviceError('cancelled', 'stopping')),
      ])
      await client.close()
      await both
      await client.close()
      await assert.rejects(client.ready(), serviceError('cancelled', 'stopping'))
    })

    test('a worker that hears nothing is ended by force', async () => {
      const client = makeClient(place, 'works', { closeWaitMs: 50 })
      const stuck = client.generate(request({ prefixId: 'block' }), never).next()
      await client.ready()
      const refused = assert.rejects(stuck, serviceError('cancelled', 'stopping'))
      await client.close()
      await refused
    })

    test('it may be closed, and asked for figures, before it is ready', async () => {
      const client = makeClient(place, 'works', { closeWaitMs: 20_000 })
      const figures = client.figures()
      await client.close()
      assert.equal(await figures, '# figures of the worker\n')
    })

    test('what it warns of and finds out while it starts is told before it is ready', async () => {
      const told: string[] = []
      const onWarning = (message: string): void => void told.push(`warning: ${message}`)
      const onNote = (message: string): void => void told.push(`note: ${message}`)
      await withClient(place, 'works', { onWarning, onNote }, async (client) => {
        await client.ready()
        assert.deepEqual(told, ['warning: a warning', 'note: a note'])
      })
    })
  })
}

async function goodPrefix(): Promise<Prefix> {
  return testPrefix(1)
}

function makeClient(place: typeof inThread, behaviour: Behaviour, options: Partial<EngineClientOptions>): EngineClient {
  return new EngineClient(place(entry, behaviour), { ...defaultClientOptions, ...options })
}

async function withClient(
  place: typeof inThread,
  behaviour: Behaviour,
  options: Partial<EngineClientOptions>,
  use: (client: EngineClient) => Promise<void>,
): Promise<void> {
  const client = makeClient(place, behaviour, options)
  try {
    await use(client)
  } finally {
    await client.close()
  }
}
