// The configuration: defaults that work, every bad value named, all of them at once, and no secret shown.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, test } from 'node:test'
import { readConfig } from '../../src/config/config.ts'
import { countCores } from '../../src/config/cores.ts'
import { editDistance, meantName } from '../../src/config/misspelt.ts'
import { variables } from '../../src/config/variables.ts'
import type { ServiceError } from '../../src/errors/errors.ts'

interface Problem {
  readonly variable: string
  readonly value: string | null
  readonly allowed: string
}

function refusal(env: Record<string, string>): { message: string; problems: readonly Problem[] } {
  let refused: ServiceError | null = null
  try {
    readConfig(env)
  } catch (error) {
    refused = error as ServiceError
  }
  assert.equal(refused?.code, 'config_invalid', JSON.stringify(env))
  return { message: refused.message, problems: refused.details['problems'] as Problem[] }
}

describe('configuration', () => {
  test('nothing set gives defaults that work on one machine', () => {
    const config = readConfig({}, '/models/small')
    const { threads, ...rest } = config
    assert.ok(threads >= 1 && threads <= 16)
    assert.deepEqual(rest, {
      model: '/models/small',
      data: './data',
      queueUrl: 'pglite:data/queue',
      storeUrl: 'data/store',
      runtime: 'auto',
      precision: 'float32',
      cudaLibraries: [],
      role: 'all',
      host: '127.0.0.1',
      port: 8080,
      apiKeys: null,
      logLevel: 'info',
      rowsMax: 32,
      waitingMax: 256,
      draftTokensMax: 7,
      prefixBytesMax: 512 * 2 ** 20,
      bodyBytesMax: 33_554_432,
      workers: 1,
      trainingsTogether: 4,
      jobLockMs: 15_000,
    })
    assert.ok(Object.isFrozen(config))
  })

  test('everything set is taken as it is', () => {
    const env = {
      MODEL: '/m',
      DATA: '/d',
      QUEUE_URL: 'redis://:secret@host:6379/1',
      STORE_URL: 's3://bucket/path',
      RUNTIME: 'onnx',
      PRECISION: 'fast',
      CUDA_LIBRARIES: ['/opt/cuda/lib', '/opt/cublas/lib'].join(path.delimiter),
      ROLE: 'work',
      HOST: '0.0.0.0',
      PORT: '0',
      LOG_LEVEL: 'debug',
      THREADS: '3',
      ROWS_MAX: '4',
      API_KEYS: '0123456789abcdef, fedcba9876543210',
      WAITING_MAX: '0',
      DRAFT_TOKENS_MAX: '0',
      PREFIX_BYTES_MAX: '1048576',
      BODY_BYTES_MAX: '1024',
      WORKERS: '2',
      TRAININGS_TOGETHER: '6',
      JOB_LOCK_MS: '1000',
    }
    assert.deepEqual(readConfig(env), {
      model: '/m',
      data: '/d',
      queueUrl: env.QUEUE_URL,
      storeUrl: env.STORE_URL,
      runtime: 'onnx',
      precision: 'fast',
      cudaLibraries: ['/opt/cuda/lib', '/opt/cublas/lib'],
      role: 'work',
      host: '0.0.0.0',
      port: 0,
      logLevel: 'debug',
      threads: 3,
      rowsMax: 4,
      waitingMax: 0,
      draftTokensMax: 0,
      prefixBytesMax: 1_048_576,
      bodyBytesMax: 1024,
      apiKeys: ['0123456789abcdef', 'fedcba9876543210'],
      workers: 2,
      trainingsTogether: 6,
      jobLockMs: 1000,
    })
    assert.deepEqual(Object.keys(env).sort(), Object.keys(variables).sort())
  })

  test('queue and store lie under DATA unless they are given; an empty variable is not set', () => {
    const { queueUrl, storeUrl } = readConfig({ DATA: '/srv/preamble', QUEUE_URL: '', PORT: '' })
    assert.deepEqual(
      { queueUrl, storeUrl },
      { queueUrl: 'pglite:/srv/preamble/queue', storeUrl: '/srv/preamble/store' },
    )
  })

  const bad: readonly (readonly [string, string, RegExp])[] = [
    ['PORT', '65536', /PORT="65536".*from 0 to 65535/],
    ['PORT', '-1', /PORT="-1"/],
    ['PORT', '80.5', /PORT/],
    ['PORT', ' 80', /PORT/],
    ['PORT', '0x50', /PORT/],
    ['THREADS', '0', /THREADS="0".*from 1/],
    ['ROWS_MAX', 'many', /ROWS_MAX="many"/],
    ['WAITING_MAX', '1e3', /WAITING_MAX/],
    ['DRAFT_TOKENS_MAX', '16', /DRAFT_TOKENS_MAX="16".*from 0 to 15/],
    ['PREFIX_BYTES_MAX', '1024', /PREFIX_BYTES_MAX="1024".*from 1048576/],
    ['BODY_BYTES_MAX', '32MB', /BODY_BYTES_MAX="32MB"/],
    ['WORKERS', '0', /WORKERS/],
    ['JOB_LOCK_MS', '999', /JOB_LOCK_MS="999".*from 1000/],
    ['RUNTIME', 'gpu', /RUNTIME="gpu".*auto, onnx, cuda, webgpu$/],
    ['ROLE', 'worker', /ROLE="worker".*all, serve, work/],
    ['ROLE', 'serve', /QUEUE_URL is not allowed.*ROLE=serve/],
    ['LOG_LEVEL', 'verbose', /LOG_LEVEL="verbose".*trace, debug, info/],
    ['HOST', 'a b', /HOST="a b"/],
    ['HOST', 'http://localhost', /HOST/],
    ['QUEUE_URL', 'mysql://host', /QUEUE_URL="mysql:\/\/host".*redis:\/\//],
    ['QUEUE_URL', 'pglite:', /QUEUE_URL="pglite:"/],
    ['QUEUE_URL', 'localhost:6379', /QUEUE_URL/],
    ['STORE_URL', 'http://bucket', /STORE_URL="http:\/\/bucket".*s3:\/\/bucket\/path/],
    ['STORE_URL', 's3://', /STORE_URL="s3:\/\/"/],
    ['STORE_URL', 'S3://bucket', /STORE_URL/],
    ['API_KEYS', 'short', /API_KEYS is not allowed.*key 1 of 1 has 5/],
    ['API_KEYS', '0123456789abcdef,', /key 2 of 2 has 0/],
  ]
  for (const [name, value, message] of bad) {
    test(`${name}=${value} is refused`, () => {
      assert.match(refusal({ [name]: value }).message, message)
    })
  }

  test('all problems are reported at once', () => {
    const { message, problems } = refusal({ PORT: 'x', ROLE: 'y', STOREURL: 'z', THREADS: '2' })
    assert.deepEqual(
      problems.map(({ variable }) => variable),
      ['STOREURL', 'ROLE', 'PORT'],
    )
    assert.equal(message.split('\n').length, 3)
    assert.deepEqual(problems[2], { variable: 'PORT', value: 'x', allowed: variables.PORT.allowed })
  })

  test('no key and no password is shown', () => {
    const { message, problems } = refusal({
      API_KEYS: 'hunter2',
      QUEUE_URL: 'amqp://me:hunter2@host',
      API_KEYZ: 'hunter2',
    })
    assert.ok(!message.includes('hunter2'), message)
    assert.ok(!JSON.stringify(problems).includes('hunter2'))
    assert.match(message, /amqp:\/\/…@host/)
  })

  test('other machines need a key, unless that is switched off', () => {
    for (const HOST of ['0.0.0.0', '::', '192.168.1.5', 'example.org', '128.0.0.1']) {
      assert.match(refusal({ HOST }).message, /API_KEYS is not allowed.*HOST=/)
      assert.equal(readConfig({ HOST, API_KEYS: 'off' }).apiKeys, null)
      assert.deepEqual(readConfig({ HOST, API_KEYS: '0123456789abcdef' }).apiKeys, ['0123456789abcdef'])
    }
    for (const HOST of ['127.0.0.1', '127.8.8.8', 'localhost', '::1']) assert.equal(readConfig({ HOST }).apiKeys, null)
  })
})

describe('misspelt variables', () => {
  test('are refused with what was probably meant', () => {
    const meant = {
      STOREURL: 'STORE_URL',
      QUEUE_URI: 'QUEUE_URL',
      API_KEY: 'API_KEYS',
      THREAD: 'THREADS',
      RUNTIEM: 'RUNTIME',
      LOGLEVEL: 'LOG_LEVEL',
      MAX_ROWS: null,
      ROW_MAX: 'ROWS_MAX',
      JOB_LOCK: null,
      port: 'PORT',
      Model: 'MODEL',
    }
    for (const [name, known] of Object.entries(meant))
      assert.equal(meantName(name, Object.keys(variables)), known, name)
    assert.match(refusal({ QUEUE_URI: 'redis://host' }).message, /QUEUE_URI is not allowed; allowed: QUEUE_URL/)
  })

  test('what other programs put into the environment is left alone', () => {
    const names = `HOME PATH USER SHELL TERM LANG PWD LOGNAME MAIL HOSTNAME HOSTTYPE OLDPWD EDITOR DISPLAY TMPDIR NODE_ENV
      NODE_OPTIONS SHLVL LC_ALL TZ DEBUG CI GITHUB_TOKEN AWS_REGION AWS_ENDPOINT_URL REDIS_URL DATABASE_URL REDIS_PORT POST
      KUBERNETES_SERVICE_HOST XDG_DATA_HOME npm_config_cache INIT_CWD DATE MODE COST ROLES PORTS STORE_PORT JAVA_HOME _`
    const env = Object.fromEntries(names.split(/\s+/).map((name) => [name, 'x']))
    assert.doesNotThrow(() => readConfig(env))
  })

  test('letters left out, put in, replaced or swapped count one each', () => {
    const distances = [
      editDistance('', ''),
      editDistance('abc', ''),
      editDistance('abc', 'abcd'),
      editDistance('abc', 'axc'),
      editDistance('abc', 'acb'),
      editDistance('kitten', 'sitting'),
    ]
    assert.deepEqual(distances, [0, 3, 1, 1, 1, 3])
  })
})

/** One paragraph of /proc/cpuinfo. */
function processor(socket: number, core: number): string {
  return `processor\t: 0\nphysical id\t: ${socket}\nsiblings\t: 4\ncore id\t\t: ${core}\n`
}

describe('physical cores', () => {
  test('two threads of one core count once, cores of two sockets twice', () => {
    const cpuInfo = [processor(0, 0), processor(0, 1), processor(0, 0), processor(0, 1), processor(1, 0)].join('\n')
    assert.equal(countCores(cpuInfo, 8), 3)
  })

  test('no more are counted than may be used, and what is not known is taken as told', () => {
    assert.equal(countCores([processor(0, 0), processor(0, 1)].join('\n'), 1), 1)
    assert.equal(countCores(null, 6), 6)
    assert.equal(countCores('processor\t: 0\nBogoMIPS\t: 50\n', 4), 4)
  })
})

test('docs/configuration.md says of every variable what the code does, and of no other', async () => {
  const page = await readFile(path.join(process.cwd(), 'docs', 'configuration.md'), 'utf8')
  const rows = [...page.matchAll(/^\| `(\w+)` \| ([^|]+) \| ([^|]+) \| ([^|]*)\|$/gm)]
  const documented = rows.map(([, name, fallback, allowed]) => ({ name, default: fallback, allowed }))
  const inCode = Object.values(variables).map(({ name, default: fallback, allowed }) => ({
    name,
    default: fallback,
    allowed,
  }))
  assert.deepEqual(documented, inCode)
})
