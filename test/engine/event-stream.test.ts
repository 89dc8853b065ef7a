// The queue between one writer and one reader: nothing is lost, whichever of them is ahead.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { abortable } from '../../src/engine/cancellation.ts'
import { EventStream } from '../../src/engine/event-stream.ts'
import { deferred, serviceError } from './requests.ts'

test('what is pushed while the reader looks at an event is read, though the end came with it', async () => {
  const stream = new EventStream<string>()
  stream.push('a')
  const reader = stream.read()
  assert.deepEqual(await reader.next(), { value: 'a', done: false })
  stream.push('b')
  stream.end()
  stream.push('too late')
  assert.deepEqual(await reader.next(), { value: 'b', done: false })
  assert.equal((await reader.next()).done, true)
})

test('a reader that waits is woken by an event, by the end and by a failure', async () => {
  const stream = new EventStream<string>()
  const reader = stream.read()
  const first = reader.next()
  stream.push('a')
  assert.deepEqual(await first, { value: 'a', done: false })
  const second = reader.next()
  stream.end()
  assert.equal((await second).done, true)

  const failing = new EventStream<string>()
  const waiting = failing.read().next()
  failing.fail(new Error('no more'))
  await assert.rejects(waiting, /no more/)
})

test('a failure drops what was not read, and the first end counts', async () => {
  const stream = new EventStream<string>()
  stream.push('a')
  stream.fail(new Error('first'))
  stream.fail(new Error('second'))
  stream.end()
  await assert.rejects(stream.read().next(), /first/)
})

test('waiting ends with the signal, and what was waited for may fail later without harm', async () => {
  const abort = new AbortController()
  const waiting = abortable(new Promise(() => {}), abort.signal)
  abort.abort()
  await assert.rejects(waiting, serviceError('cancelled'))
  await assert.rejects(abortable(Promise.reject(new Error('late')), abort.signal), serviceError('cancelled'))
  const { promise, resolve } = deferred()
  const done = abortable(promise, new AbortController().signal)
  resolve()
  await done
})
