// The page of benchmarks: a section that is taken anew replaces the earlier one, the others stay as they are.
import assert from 'node:assert/strict'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { after, test } from 'node:test'
import { commands } from '../../bench/commands.ts'
import { table, writeSections, type Taken } from '../../bench/sections.ts'
import { usage } from '../../bench/usage.ts'

const folder = await mkdtemp(path.join(tmpdir(), 'preamble-page-'))
after(() => rm(folder, { recursive: true }))

const takenAt = (commit: string, rivals: Record<string, string> = {}): Taken => ({
  machine: { cpu: 'a CPU', processors: 2, node: '20', onnxruntime: '1', version: '0', commit },
  threads: 2,
  rivals,
})

test('a section replaces the one with its heading and says where it was taken; others and their order stay', async () => {
  const file = path.join(folder, 'page.md')
  const section = (heading: string, ms: number): { heading: string; text: string } => ({
    heading,
    text: `About ${heading}.\n\n${table({ ms: 'step, ms' }, [{ ms }])}`,
  })
  await writeSections([section('Training', 123.456), section('Decoding', 7)], takenAt('first'), file)
  await writeSections([section('Training', 99), section('Load', 1)], takenAt('second', { peft: '0.21' }), file)
  const text = await readFile(file, 'utf8')
  const headings = text.split('\n').filter((line) => line.startsWith('#'))
  assert.deepEqual(headings, ['# Benchmarks', '## Training', '## Decoding', '## Load'])
  const [, training, decoding] = text.split(/^## /m) as [string, string, string]
  assert.match(
    training,
    /About Training\.\n\n\| step, ms \|\n\| --- \|\n\| 99 \|\n\nTaken on a CPU, 2 .* second, peft 0\.21\./,
  )
  assert.match(decoding, /\| 7 \|\n\nTaken on a CPU, .* commit first\./)
  assert.doesNotMatch(text, /123|\n\n\n/)
})

test('figures have three digits, and one that was not taken a dash', () => {
  assert.equal(
    table({ a: 'a', b: 'b', c: 'c' }, [{ a: 1234.56, b: 'x' }])
      .split('\n')
      .at(-1),
    '| 1230 | x | – |',
  )
})

test('the usage names every benchmark', () => {
  const named = /\[([a-z0-9 |]+)\]/.exec(usage)?.[1]?.split(' | ')
  assert.deepEqual(
    named?.toSorted(),
    Object.keys(commands)
      .filter((name) => name !== '')
      .toSorted(),
  )
})
