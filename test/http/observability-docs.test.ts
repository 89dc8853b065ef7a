// docs/observability.md and the dashboard name the figures that are served, each with its type and labels, and no others.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'
import { StepFigures } from '../../src/engine/step-figures.ts'
import type { Account } from '../../src/engine/stopwatch.ts'
import { Metrics } from '../../src/http/metrics.ts'

interface Figure {
  readonly type: string
  /** Joined, in order of the alphabet. */
  readonly labels: string
}

/** Everything once, so that every label shows. */
async function served(): Promise<string> {
  const metrics = new Metrics({ count: 0 })
  metrics.countRequest('GET', '/', 200, 1)
  const account: Account = {
    askedMs: 0,
    lease: { hit: false, startMs: 1, endMs: 2 },
    queuedMs: 2,
    startedMs: 3,
    firstTokenMs: 4,
    endedMs: 5,
    inputTokens: 1,
    outputTokens: 2,
    tokenMs: 1,
  }
  const ended = { prefixId: 'pfx_1', outcome: 'done', inputTokens: 1, outputTokens: 2 } as const
  metrics.countGeneration({ ...ended, account })
  metrics.countGeneration({ ...ended, account: { ...account, lease: { hit: true, startMs: 1, endMs: 2 } } })
  const state = { waiting: 0, running: 0, cachePositions: 0, cachePositionsMax: 1 }
  const figures = new StepFigures(() => ({ ...state, prefixes: 0, prefixBytes: 0, evictions: 0, reusedTokens: 0 }))
  figures.stepped({
    phase: 'decode',
    seconds: 1,
    rows: 1,
    promptTokens: 0,
    tokensMade: 3,
    draftTokens: 4,
    draftTokensTaken: 2,
  })
  return `${await metrics.text()}\n${await figures.text()}`
}

function figuresOf(text: string): Map<string, Figure> {
  const figures = new Map<string, Figure>()
  for (const [, name = '', type = ''] of text.matchAll(/^# TYPE (preamble_\w+) (\w+)$/gm)) {
    const labels = new Set<string>()
    for (const [, inside = ''] of text.matchAll(new RegExp(`^${name}(?:_bucket|_sum|_count)?\\{(.*)\\} `, 'gm')))
      for (const [, label = ''] of inside.matchAll(/(\w+)="/g)) if (label !== 'le') labels.add(label)
    figures.set(name, { type, labels: [...labels].toSorted().join() })
  }
  return figures
}

test('the document names every figure with its type and labels, and no other', async () => {
  const text = await readFile('docs/observability.md', 'utf8')
  const rows = text.matchAll(/^\| `(preamble_\w+)` \| (\w+) \| ([\w, ]*?) ?\| (\w+) \| /gm)
  const documented = new Map(
    [...rows].map(([, name = '', type = '', labels = '']) => {
      const sorted = labels
        .split(',')
        .map((label) => label.trim())
        .filter(Boolean)
        .toSorted()
        .join()
      return [name, { type, labels: sorted }]
    }),
  )
  const there = figuresOf(await served())
  assert.ok(there.size > 20)
  assert.deepEqual([...documented.keys()].toSorted(), [...there.keys()].toSorted())
  for (const [name, figure] of there) assert.deepEqual(documented.get(name), figure, name)
})

test('the dashboard asks for figures that are served', async () => {
  const text = await readFile('docker/grafana-dashboard.json', 'utf8')
  const { panels } = JSON.parse(text) as { panels: { title: string; targets: { expr: string }[] }[] }
  const there = figuresOf(await served())
  assert.ok(panels.length >= 10)
  for (const { title, targets } of panels) {
    for (const { expr } of targets) {
      const names = expr.match(/\bpreamble_\w+/g) ?? []
      assert.ok(names.length > 0 || expr.includes('process_'), title)
      for (const name of names) {
        const base = there.has(name) ? name : name.replace(/_(bucket|sum|count)$/, '')
        assert.ok(there.has(base), `${title} asks for ${name}, which nobody serves`)
        if (base !== name) assert.equal(there.get(base)?.type, 'histogram', name)
      }
    }
  }
})
