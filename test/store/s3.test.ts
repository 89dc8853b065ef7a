// The store in a bucket, against a real S3 server that this file starts.
import { CreateBucketCommand, S3Client } from '@aws-sdk/client-s3'
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { openStore } from '../../src/store/open.ts'
import { S3Store } from '../../src/store/s3.ts'
import { describeObjectStore, keys } from './contract.ts'
import { findS3Server, noServer, type S3Server, startS3Server } from './s3-server.ts'

const program = findS3Server()
const bucket = 'preamble-test-bucket'
let server: S3Server | undefined
let stores = 0

if (program === null) {
  test(noServer, { skip: noServer }, () => {})
} else {
  before(async () => {
    server = await startS3Server(program)
    process.env['AWS_SDK_JS_NODE_VERSION_SUPPORT_WARNING_DISABLED'] = 'true'
    const client = new S3Client({ region: 'us-east-1', forcePathStyle: true, maxAttempts: 10 })
    await client.send(new CreateBucketCommand({ Bucket: bucket }))
    client.destroy()
  })
  after(async () => {
    await server?.stop()
  })
  describeObjectStore(`S3Store on ${program.kind}`, () => openStore(`s3://${bucket}/runs/${stores++}`))
  describeS3()
}

function describeS3(): void {
  describe('S3Store', () => {
    test('lists more keys than one answer of the service holds', async () => {
      const store = await openStore(`s3://${bucket}/many`)
      const names = Array.from({ length: 1_005 }, (_, i) => `a/${String(i).padStart(4, '0')}`)
      for (let i = 0; i < names.length; i += 50) {
        await Promise.all(names.slice(i, i + 50).map((name) => store.put(name, Uint8Array.of(1))))
      }
      assert.deepEqual(await keys(store, 'a/'), names)
      assert.deepEqual(await keys(store, 'a/', 'a/0002'), names.slice(3))
    })

    test('works in the root of a bucket and sees what lies below its path alone', async () => {
      const [whole, part] = [await openStore(`s3://${bucket}`), await openStore(`s3://${bucket}/part/`)]
      await part.put('a', Uint8Array.of(5))
      await whole.put('part-not/a', Uint8Array.of(6))
      assert.deepEqual(await whole.get('part/a'), Uint8Array.of(5))
      assert.deepEqual(await keys(part, ''), ['a'])
    })

    test('a bucket that is not there is store_unavailable, naming bucket and host', async () => {
      const store = await openStore('s3://no-such-bucket')
      const host = new URL(server?.endpoint ?? '').host
      const refused = { code: 'store_unavailable', message: new RegExp(`no-such-bucket at ${host}.*NoSuchBucket`) }
      await assert.rejects(store.ping(), refused)
      await assert.rejects(store.put('a', Uint8Array.of(1)), refused)
      await assert.rejects(store.get('a'), { code: 'store_unavailable' })
      await assert.rejects(keys(store, ''), { code: 'store_unavailable' })
    })
  })
}

test('an S3 service that cannot be reached is store_unavailable, naming bucket and host', async () => {
  process.env['AWS_ACCESS_KEY_ID'] ??= 'nobody'
  process.env['AWS_SECRET_ACCESS_KEY'] ??= 'nothing'
  // Port 1 is never given out by the system.
  const store = await S3Store.open('s3://some-bucket/path', { AWS_ENDPOINT_URL: 'http://127.0.0.1:1' })
  const refused = { code: 'store_unavailable', message: /some-bucket at 127\.0\.0\.1:1/ }
  await assert.rejects(store.ping(), refused)
  await assert.rejects(store.get('a'), refused)
})
