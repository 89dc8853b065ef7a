// Which servers can be named, and what is said when one cannot be reached.
import assert from 'node:assert/strict'
import { createServer, type AddressInfo } from 'node:net'
import { once } from 'node:events'
import { test } from 'node:test'
import { openBroker } from '../../src/jobs/broker.ts'
import { openJobQueue } from '../../src/jobs/queue.ts'
import { findProgram, startRedis } from './servers.ts'

test('an address of another kind is refused by name, its password unsaid', async () => {
  await assert.rejects(openBroker('amqp://guest:secret@host/'), (error: Error & { code: string }) => {
    assert.equal(error.code, 'config_invalid')
    assert.match(error.message, /QUEUE_URL: amqp:\/\/\*\*\*@host\/ is none of redis:\/\//)
    return true
  })
})

test('a PostgreSQL that is not there is named', async () => {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  server.close()
  await once(server, 'close')
  await assert.rejects(openBroker(`postgres://me:secret@127.0.0.1:${port}/jobs`), (error: Error & { code: string }) => {
    assert.equal(error.code, 'queue_unavailable')
    assert.ok(error.message.includes(`127.0.0.1:${port}`) && !error.message.includes('secret'), error.message)
    return true
  })
})

const redis = findProgram(['redis-server', 'valkey-server'])

test('a Redis that goes away is missed at once, not waited for', {
  skip: redis === null ? 'no redis-server or valkey-server found' : false,
}, async () => {
  const server = await startRedis(redis ?? '')
  const errors: Error[] = []
  const broker = await openBroker(server.url, { onError: (error) => errors.push(error) })
  const queue = openJobQueue(broker)
  await queue.ping()
  await server.close()
  while (errors.length === 0) await new Promise((resolve) => broker.queue.once('error', resolve))
  const startMs = performance.now()
  await assert.rejects(queue.ping(), { code: 'queue_unavailable' })
  assert.ok(performance.now() - startMs < 6_000)
  await queue.close()
  await broker.close()
})
