// The rules of the house: which folder may import which, which one owns each package, and how a file begins.
import assert from 'node:assert/strict'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { test } from 'node:test'

/** Top floor first. A folder imports from lower lines only; type imports count too. */
const floors = [
  'cli',
  'main',
  'http',
  'jobs',
  'engine train',
  'runtime model prefix',
  'graph store',
  'tensor tokenizer config random evaluate tracing',
  'errors',
]

const owners: Readonly<Record<string, readonly string[]>> = {
  fastify: ['http'],
  typebox: ['http'],
  fflate: ['http'],
  // The engine keeps figures of its steps in its own thread.
  'prom-client': ['http', 'engine'],
  '@opentelemetry/api': ['tracing'],
  '@opentelemetry/core': ['tracing'],
  '@opentelemetry/exporter-trace-otlp-http': ['tracing'],
  '@opentelemetry/resources': ['tracing'],
  '@opentelemetry/sdk-trace-base': ['tracing'],
  bullmq: ['jobs'],
  ioredis: ['jobs'],
  pg: ['jobs'],
  '@electric-sql/pglite': ['jobs'],
  'onnxruntime-node': ['runtime'],
  koffi: ['runtime'],
  'protobufjs/light.js': ['runtime'],
  '@aws-sdk/client-s3': ['store'],
  '@huggingface/tokenizers': ['tokenizer'],
  porter2: ['evaluate'],
  pino: ['main', 'http'],
  'close-with-grace': ['cli'],
}

const linesMax = 350
const nameless = /(^|\/)(utils?|helpers?|types?|managers?|common|misc|index)\.ts$/

interface Import {
  readonly file: string
  readonly room: string
  readonly specifier: string
}

test('imports go down the house', async () => {
  const floorOf = new Map(floors.flatMap((line, i) => line.split(' ').map((room) => [room, i] as const)))
  for (const { file, room, specifier } of await allImports()) {
    if (!specifier.startsWith('.')) continue
    const target = roomOf(path.join(path.dirname(file), specifier))
    if (target === room) continue
    const [from, to] = [floorOf.get(room), floorOf.get(target)]
    assert.ok(
      from !== undefined && to !== undefined,
      `${file} imports ${specifier}: no floor is named for ${room} or ${target}`,
    )
    assert.ok(from < to, `${file} imports ${specifier}: ${room} does not stand above ${target}`)
  }
})

test('each package is known to its owner alone', async () => {
  const seen = new Set<string>()
  for (const { file, room, specifier } of await allImports()) {
    const allowed = specifier.startsWith('@fastify/') ? ['http'] : owners[specifier]
    if (specifier.startsWith('.') || specifier.startsWith('node:')) continue
    assert.ok(allowed !== undefined, `${file} imports ${specifier}, which has no owner`)
    assert.ok(allowed.includes(room), `${file} imports ${specifier}, which belongs to ${allowed.join(' and ')}`)
    seen.add(specifier)
  }
  const { dependencies } = JSON.parse(await readFile('package.json', 'utf8')) as {
    dependencies: Record<string, string>
  }
  // Loaded when first asked for, or a peer that another package finds by itself.
  const notImported = ['ioredis']
  for (const name of Object.keys(dependencies)) {
    const used = [...seen].some((specifier) => specifier === name || specifier.startsWith(`${name}/`))
    assert.ok(used || notImported.includes(name), `package.json names ${name}, which nothing imports`)
  }
})

test('every source file opens with one plain sentence, is short, and has a name that says something', async () => {
  for (const file of await sources(['src', 'test', 'bench'])) {
    const lines = (await readFile(file, 'utf8')).split('\n')
    const first = lines[0]?.startsWith('#!') ? lines[1] : lines[0]
    assert.match(first ?? '', /^\/\/ \S.*[.:?]$/, `${file} does not open with a sentence`)
    assert.ok(lines.length <= linesMax, `${file} has ${lines.length} lines, at most ${linesMax} may be`)
    assert.doesNotMatch(file, nameless)
  }
})

test('nothing in the repository names a place of one machine', async () => {
  const foreign = /\/(work|root|home)\/[a-z]|\.library|localhost:48\d\d/
  for (const file of [
    ...(await sources(['src', 'test', 'bench'])),
    'README.md',
    'ARCHITECTURE.md',
    'CHANGELOG.md',
    'package.json',
  ]) {
    if (file.endsWith('tidy.test.ts')) continue
    const text = await readFile(file, 'utf8')
    const line = text.split('\n').findIndex((each) => foreign.test(each))
    assert.equal(line, -1, `${file}:${line + 1} names a place of one machine`)
  }
})

async function allImports(): Promise<Import[]> {
  const imports: Import[] = []
  for (const file of await sources(['src'])) {
    const text = await readFile(file, 'utf8')
    const matches = text.matchAll(
      /^(?:import|export|\} from)\b[^'"]*?from '([^']+)'|\bimport\('([^']+)'\)|^import '([^']+)'/gm,
    )
    for (const [, named, lazy, bare] of matches)
      imports.push({ file, room: roomOf(file), specifier: (named ?? lazy ?? bare) as string })
  }
  assert.ok(imports.length > 100)
  return imports
}

async function sources(folders: readonly string[]): Promise<string[]> {
  const files: string[] = []
  for (const folder of folders) {
    for (const entry of await readdir(folder, { recursive: true }))
      if (entry.endsWith('.ts')) files.push(path.join(folder, entry))
  }
  return files
}

function roomOf(file: string): string {
  return file.split(path.sep)[1] as string
}
