// The rows that a run of a job writes: in order, and not more of them than can be kept.
import assert from 'node:assert/strict'
import { EventEmitter, once } from 'node:events'
import { test } from 'node:test'
import type { Broker, QueuedJob } from '../../src/jobs/broker.ts'
import { eventsMax, HistoryWriter, type HistoryRow } from '../../src/jobs/history.ts'

interface Recorder {
  readonly job: QueuedJob
  readonly rows: HistoryRow[]
  readonly updates: number[]
  readonly errors: Error[]
  readonly lock: AbortController
  readonly writer: HistoryWriter
}

/** A job that keeps what is written; `rowsBefore` it has from earlier runs. */
function recorder({ rowsBefore = 0, log = (): Promise<void> => Promise.resolve() } = {}): Recorder {
  const rows: HistoryRow[] = []
  const updates: number[] = []
  const errors: Error[] = []
  const job = {
    id: 'job_1',
    attemptsStarted: 1,
    log: async (row: string) => {
      await log()
      return rowsBefore + rows.push(JSON.parse(row) as HistoryRow)
    },
    updateProgress: async (progress: { step: number }) => void updates.push(progress.step),
  } as unknown as QueuedJob
  const producer = { publishEvent: () => Promise.resolve() } as unknown as Broker['producer']
  const lock = new AbortController()
  const writer = new HistoryWriter(job, lock.signal, producer, (error) => errors.push(error))
  return { job, rows, updates, errors, lock, writer }
}

const report = (step: number, steps: number): object => ({ step, steps, loss: 1 })
const stepsOf = ({ rows }: Recorder): unknown[] =>
  rows.filter(({ type }) => type === 'progress').map(({ data }) => data.step)

test('the reports of a short run all have rows, in order', async () => {
  const record = recorder()
  await record.writer.started()
  for (let step = 1; step <= 5; step++) await record.job.updateProgress(report(step, 5))
  await record.writer.flush()
  assert.equal(record.rows[0]?.type, 'started')
  assert.deepEqual(stepsOf(record), [1, 2, 3, 4, 5])
  assert.deepEqual(record.updates, [1, 2, 3, 4, 5])
})

test('a long run has few rows, evenly spread, the last report among them', async () => {
  const record = recorder()
  await record.writer.started()
  for (let step = 1; step <= 10_001; step++) await record.job.updateProgress(report(step, 10_001))
  await record.writer.flush()
  const steps = stepsOf(record)
  assert.ok(steps.length > 500 && steps.length < 850, `${steps.length} rows`)
  assert.equal(steps.at(-1), 10_001)
  assert.equal(record.updates.at(-1), 10_001)
})

test('a job that was run often keeps no more rows than it may', async () => {
  const record = recorder({ rowsBefore: eventsMax - 3 })
  await record.writer.started()
  for (let step = 1; step <= 9; step++) await record.job.updateProgress(report(step, 9))
  await record.writer.flush()
  assert.equal(record.rows.length, 3)
  assert.equal(record.updates.at(-1), 9)
})

test('reports that come faster than they are written are dropped, but not the last', async () => {
  const gate = new EventEmitter()
  const opened = once(gate, 'open')
  const record = recorder({ log: async () => void (await opened) })
  const reports = Array.from({ length: 200 }, (_, i) => record.job.updateProgress(report(i + 1, 200)))
  gate.emit('open')
  await Promise.all(reports)
  await record.writer.flush()
  assert.ok(record.rows.length < 30, `${record.rows.length} rows`)
  assert.deepEqual([stepsOf(record).at(-1), record.updates.at(-1)], [200, 200])
})

test('a row that cannot be written is reported and does not fail the run', async () => {
  const record = recorder({ log: () => Promise.reject(new Error('the server is away')) })
  await record.writer.started()
  await record.job.updateProgress(report(1, 1))
  await record.writer.flush()
  assert.ok(record.errors.some(({ message }) => message === 'the server is away'))
})

test('whoever has lost the lock of a job writes nothing more', async () => {
  const record = recorder()
  await record.writer.started()
  record.lock.abort('lock lost')
  await record.job.updateProgress(report(1, 1))
  await record.writer.flush()
  assert.deepEqual(
    record.rows.map(({ type }) => type),
    ['started'],
  )
})
