// The compose file and the image: checked by Docker where it is at hand, and by reading them everywhere.
import assert from 'node:assert/strict'
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync } from 'node:fs'
import { readFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { test } from 'node:test'
import { parse } from 'yaml'
import { readConfig } from '../../src/config/config.ts'
import { variables } from '../../src/config/variables.ts'
import { openStore } from '../../src/store/open.ts'
import { findS3Server, noServer, startS3Server } from '../store/s3-server.ts'

interface ComposeService {
  readonly image: string
  readonly build?: { readonly context: string; readonly dockerfile: string }
  readonly command?: readonly string[]
  readonly environment?: Readonly<Record<string, string | number>>
  readonly volumes?: readonly string[]
  readonly ports?: readonly string[]
  readonly healthcheck?: { readonly test?: readonly string[]; readonly disable?: boolean }
  readonly depends_on?: Readonly<Record<string, { readonly condition: string }>>
}
interface Compose {
  readonly services: Readonly<Record<'api' | 'worker' | 'redis' | 's3' | 'bucket', ComposeService>>
  readonly volumes: Readonly<Record<string, unknown>>
}

const composeFile = 'docker-compose.yml'
const keys = '0123456789abcdef'

const readCompose = async (): Promise<Compose> => parse(await readFile(composeFile, 'utf8'), { merge: true }) as Compose

/** `${NAME:-default}` and `${NAME:?message}` as compose fills them in when only API_KEYS is set. */
function fill(value: string | number): string {
  return String(value).replace(
    /\$\{([A-Z0-9_]+)(?::([-?])([^}]*))?\}/g,
    (_, name: string, kind: string, rest: string) => {
      if (name === 'API_KEYS') return keys
      assert.equal(kind, '-', `${name} has no default`)
      return rest
    },
  )
}

function environmentOf({ environment = {} }: ComposeService): Record<string, string> {
  return Object.fromEntries(Object.entries(environment).map(([name, value]) => [name, fill(value)]))
}

/** The instructions of each stage, continuation lines joined, comments left out. */
async function readStages(file = 'docker/Dockerfile'): Promise<string[][]> {
  const text = (await readFile(file, 'utf8')).replace(/^\s*#.*\n/gm, '').replace(/\\\n\s*/g, '')
  return text
    .split(/^(?=FROM )/m)
    .slice(1)
    .map((stage) => stage.split('\n').filter((line) => line !== ''))
}

const docker = spawnSync('docker', ['compose', 'version'], { stdio: 'ignore' }).status === 0

test('docker compose accepts the compose file', {
  skip: docker ? false : 'docker with compose is not installed',
}, () => {
  const { status, stderr } = spawnSync('docker', ['compose', '-f', composeFile, 'config', '-q'], {
    env: { ...process.env, API_KEYS: keys },
    encoding: 'utf8',
  })
  assert.equal(status, 0, stderr)
})

test('the compose file has an API, a worker, Redis and an S3 server, each image with a tag that is not latest', async () => {
  const { services } = await readCompose()
  assert.deepEqual(Object.keys(services).sort(), ['api', 'bucket', 'redis', 's3', 'worker'])
  for (const [name, { image }] of Object.entries(services)) {
    assert.match(fill(image), /^[a-z0-9./-]+:[A-Za-z0-9._-]+$/, `${name}: ${image}`)
    assert.doesNotMatch(fill(image), /:latest$/, name)
  }
})

test('Redis keeps an append-only file on a volume and drops no key', async () => {
  const { services, volumes } = await readCompose()
  const command = (services.redis.command ?? []).join(' ')
  assert.match(command, /--appendonly yes/)
  assert.match(command, /--maxmemory-policy noeviction/)
  assert.ok(services.redis.volumes?.includes('redis:/data'))
  assert.ok(services.s3.volumes?.includes('s3:/data'))
  assert.deepEqual(Object.keys(volumes).sort(), ['redis', 's3'])
})

test('the service takes the environment that the compose file gives it', async () => {
  const { services } = await readCompose()
  for (const name of ['api', 'worker'] as const) {
    const environment = environmentOf(services[name])
    const unknown = Object.keys(environment).filter((key) => !(key in variables) && !/^(AWS|OTEL)_/.test(key))
    assert.deepEqual(unknown, [], name)
    const config = readConfig(environment)
    assert.equal(config.role, name === 'api' ? 'serve' : 'work')
    assert.equal(new URL(config.queueUrl).hostname, 'redis')
    assert.match(config.storeUrl, /^s3:\/\//)
  }
  const api = readConfig(environmentOf(services.api))
  assert.equal(api.host, '0.0.0.0')
  assert.deepEqual(api.apiKeys, [keys])
  assert.deepEqual(services.api.ports?.map(fill), [`8080:${api.port}`])
  // All workers must agree on it, and the API asks about the same jobs.
  assert.equal(services.api.environment?.['JOB_LOCK_MS'], services.worker.environment?.['JOB_LOCK_MS'])
})

test('API keys have no default: without them compose starts nothing', async () => {
  const { services } = await readCompose()
  assert.match(String(services.api.environment?.['API_KEYS']), /^\$\{API_KEYS:\?.+\}$/)
})

test('API and worker wait until Redis is healthy and the bucket is made, and the S3 server has their keys', async () => {
  const { services } = await readCompose()
  for (const name of ['api', 'worker'] as const) {
    assert.deepEqual(services[name].depends_on, {
      redis: { condition: 'service_healthy' },
      bucket: { condition: 'service_completed_successfully' },
    })
  }
  assert.deepEqual(services.bucket.depends_on, { s3: { condition: 'service_healthy' } })
  for (const name of ['redis', 's3'] as const) assert.ok(services[name].healthcheck?.test, `${name} has a health check`)
  const server = environmentOf(services.s3)
  const client = environmentOf(services.api)
  assert.equal(server['ROOT_ACCESS_KEY_ID'], client['AWS_ACCESS_KEY_ID'])
  assert.equal(server['ROOT_SECRET_ACCESS_KEY'], client['AWS_SECRET_ACCESS_KEY'])
  const { hostname, port } = new URL(client['AWS_ENDPOINT_URL'] ?? '')
  assert.equal(hostname, 's3')
  assert.ok(services.s3.command?.includes(`:${port}`))
})

test('the image is built in two stages, runs as a user of its own, and starts the service', async () => {
  const { services } = await readCompose()
  assert.equal(services.api.build?.dockerfile, 'docker/Dockerfile')
  const [build, image] = (await readStages()) as [string[], string[]]
  assert.ok(build.includes('RUN npm ci'))
  assert.ok(image.some((line) => line.startsWith('RUN npm ci --omit=dev ')))
  const user = image.indexOf('USER node')
  const start = image.findIndex((line) => line.startsWith('CMD '))
  assert.ok(user >= 0 && user < start)
  assert.deepEqual(JSON.parse((image[start] as string).slice('CMD '.length)), ['node', 'dist/src/cli/cli.js'])
})

for (const file of ['docker/Dockerfile', 'docker/Dockerfile.cuda', 'docker/Dockerfile.webgpu']) {
  test(`everything that the image of ${file} copies is in the repository and let through by .dockerignore`, async () => {
    const kept = (await readFile('.dockerignore', 'utf8')).split('\n').filter((line) => line.startsWith('!'))
    const copies = (await readStages(file))
      .flat()
      .filter((line) => line.startsWith('COPY ') && !line.includes('--from'))
    const sources = copies.flatMap((line) => line.split(' ').slice(1, -1))
    assert.ok(sources.includes('model') && sources.includes('src/runtime/cuda/kernels'))
    for (const source of sources) {
      assert.ok(existsSync(source), source)
      // A folder that is let through brings what is in it.
      const [top] = source.split('/') as [string]
      assert.ok(kept.includes(`!${source}`) || kept.includes(`!${top}`), `${source} is ignored`)
    }
  })
}

test('beside the compose file, that for a GPU gives API and worker its image and the device', async () => {
  const { services } = parse(await readFile('docker/compose.webgpu.yml', 'utf8'), { merge: true }) as {
    services: Record<string, { build: { dockerfile: string }; devices: string[]; environment?: unknown }>
  }
  const { services: base } = await readCompose()
  assert.deepEqual(Object.keys(services), ['api', 'worker'])
  for (const [name, { build, devices, environment }] of Object.entries(services)) {
    assert.ok(name in base && existsSync(build.dockerfile))
    assert.deepEqual(devices, ['/dev/dri'])
    // The image says what runs the model, and nothing here takes that back.
    assert.equal(environment, undefined)
    assert.equal('RUNTIME' in environmentOf(base[name as 'api']), false)
  }
  assert.ok((await readStages('docker/Dockerfile.webgpu')).at(-1)?.some((line) => line.includes(' RUNTIME=webgpu')))
})

test('beside the compose file, that for an NVIDIA GPU gives API and worker its image and one device', async () => {
  const { services } = parse(await readFile('docker/compose.cuda.yml', 'utf8'), { merge: true }) as {
    services: Record<string, { build: { dockerfile: string }; deploy: unknown; environment?: unknown }>
  }
  assert.deepEqual(Object.keys(services), ['api', 'worker'])
  for (const { build, deploy, environment } of Object.values(services)) {
    assert.equal(build.dockerfile, 'docker/Dockerfile.cuda')
    const device = { driver: 'nvidia', count: 1, capabilities: ['gpu'] }
    assert.deepEqual(deploy, { resources: { reservations: { devices: [device] } } })
    assert.equal(environment, undefined)
  }
  assert.ok((await readStages('docker/Dockerfile.cuda')).at(-1)?.some((line) => line.includes(' RUNTIME=cuda ')))
})

test("the image's health check passes for a service that answers, and fails for none", async () => {
  const [, image] = (await readStages()) as [string[], string[]]
  const line = image.find((text) => text.startsWith('HEALTHCHECK ')) ?? ''
  const [command, ...args] = JSON.parse(line.slice(line.indexOf('["'))) as [string, ...string[]]
  const server = createServer((request, response) =>
    response.writeHead(request.url === '/healthz' ? 200 : 404).end(),
  ).listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address() as AddressInfo
  const check = async (): Promise<number> => {
    const [code] = await once(spawn(command, args, { env: { ...process.env, PORT: String(port) } }), 'exit')
    return code as number
  }
  assert.equal(await check(), 0)
  server.close()
  server.closeAllConnections()
  assert.equal(await check(), 1)
})

const s3 = findS3Server()

test('the bucket script creates the bucket once, and the store works in it', {
  skip: s3 === null && noServer,
}, async () => {
  if (s3 === null) return
  const server = await startS3Server(s3)
  try {
    const storeUrl = 's3://preamble-compose/path'
    const env = { ...process.env, STORE_URL: storeUrl }
    for (const expected of [/created/, /is there/]) {
      const { stdout, status, stderr } = spawnSync(process.execPath, ['docker/create-bucket.mjs'], {
        env,
        encoding: 'utf8',
      })
      assert.equal(status, 0, stderr)
      assert.match(stdout, expected)
    }
    const store = await openStore(storeUrl)
    await store.put('a', Uint8Array.of(1))
    assert.deepEqual(await store.get('a'), Uint8Array.of(1))
  } finally {
    await server.stop()
  }
})
