// Weights once per device: a process takes those that another lends, and has its own where it cannot.
import assert from 'node:assert/strict'
import { fork, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { execPath } from 'node:process'
import { createInterface } from 'node:readline'
import { after, test } from 'node:test'
import { fileURLToPath } from 'node:url'
import { Worker } from 'node:worker_threads'
import { openModel } from '../../../src/model/model.ts'
import { openCudaRuntime } from '../../../src/runtime/cuda/cuda.ts'
import { sizeOf } from '../../../src/tensor/tensor.ts'
import { goldenFolder } from '../../golden/gpt2.ts'
import { buildStandIn, whyNot } from './stand-in/build.ts'

// On a device it runs in `npm run test:cuda` as part of the service; here processes are looked at one by one.
const skip = whyNot() ?? false
const folder = mkdtempSync(path.join(tmpdir(), 'preamble-lent-'))
after(() => rmSync(folder, { recursive: true }))
const program = fileURLToPath(new URL('sharing-process.js', import.meta.url))

interface Answer {
  readonly logits: number[]
  readonly used: number
  readonly warnings: string[]
}

function borrow(from: string, env: NodeJS.ProcessEnv = {}): Answer {
  const { stdout, stderr } = spawnSync(execPath, [program, from], {
    env: { ...process.env, ...env },
    encoding: 'utf8',
  })
  assert.ok(stdout !== '', stderr)
  return JSON.parse(stdout) as Answer
}

async function lend(warn: (message: string) => void, env: NodeJS.ProcessEnv = {}): Promise<void> {
  const { libraries, kernels } = buildStandIn()
  const exchange = { folder, role: 'lends', warn, bytesMin: 0 } as const
  Object.assign(process.env, env)
  const runtime = openCudaRuntime({ folder: kernels, libraries: [libraries], exchange })
  const model = await openModel(`${goldenFolder}/model`)
  const session = await runtime.openSession(model.forwardGraph(), model.weights, { ...model.config, rowsMax: 1 })
  for (const name of Object.keys(env)) delete process.env[name]
  // What is lent stays, also without whoever asked for it.
  await session.dispose()
}

const fileNames = (): string[] =>
  readdirSync(folder)
    .filter((file) => file.endsWith('.json'))
    .toSorted()
const lentIn = (file: string): Record<string, unknown> =>
  JSON.parse(readFileSync(path.join(folder, file), 'utf8')) as Record<string, unknown>

test('where the driver does not share, nothing is lent, and that is said once', { skip }, async () => {
  const warnings: string[] = []
  await lend((message) => warnings.push(message), { STAND_IN_WITHOUT_IPC: '1' })
  assert.equal(warnings.length, 1)
  assert.match(warnings[0] as string, /^weights on the device are not lent to trainings: .*\(801\)/)
  assert.deepEqual(fileNames(), [])
})

test('a second process computes the same without weights of its own', { skip }, async () => {
  const alone = borrow(path.join(folder, 'nobody'))
  await lend(assert.fail)
  const borrower = borrow(folder)
  assert.deepEqual(borrower.warnings, [])
  assert.deepEqual(borrower.logits, alone.logits)
  const { weights } = await openModel(`${goldenFolder}/model`)
  const bytes = [...weights.tensors.values()].reduce((sum, { shape }) => sum + 4 * sizeOf(shape), 0)
  assert.equal(alone.used - borrower.used, bytes)
})

test('a process that is refused copies the weights and says so once', { skip }, () => {
  const { warnings, logits } = borrow(folder, { STAND_IN_WITHOUT_IPC: '1' })
  assert.equal(warnings.length, 1)
  assert.match(warnings[0] as string, /^weights on the device are copied, not borrowed from the engine: .*\(801\)/)
  assert.deepEqual(logits, borrow(path.join(folder, 'nobody')).logits)
})

test('handles that are out of date are not trusted: of another weight, of a process that ended, damaged', {
  skip,
}, () => {
  const right = borrow(folder)
  const files = fileNames()
  const before = files.map((file) => lentIn(file))
  // Each says what another of its size said, as if memory had been given out anew.
  files.forEach((file, i) => {
    const other = before.findIndex((each, j) => j > i && each['bytes'] === before[i]!['bytes'])
    const found = other < 0 ? before.find((each) => each['bytes'] === before[i]!['bytes']) : before[other]
    writeFileSync(path.join(folder, file), JSON.stringify(found))
  })
  assert.deepEqual(borrow(folder).logits, right.logits)
  const ended = spawnSync(execPath, ['-e', '']).pid
  files.forEach((file, i) => writeFileSync(path.join(folder, file), JSON.stringify({ ...before[i], process: ended })))
  const own = borrow(folder)
  assert.deepEqual([own.logits, own.warnings], [right.logits, []])
  assert.ok(own.used > right.used)
  for (const file of files) writeFileSync(path.join(folder, file), '{')
  assert.deepEqual(borrow(folder).logits, right.logits)
})

for (const place of ['a thread', 'a process'] as const)
  test(`once ${place} that lends has ended, no result of borrowed weights is believed, and whoever has them is told`, {
    skip,
  }, async (t) => {
    const { libraries, kernels } = buildStandIn()
    const lent = mkdtempSync(path.join(tmpdir(), 'preamble-lent-'))
    t.after(() => rmSync(lent, { recursive: true }))
    const entry = new URL(`./lending-thread${path.extname(import.meta.url)}`, import.meta.url)
    const workerData = { folder: kernels, libraries: [libraries], lent }
    const isThread = place === 'a thread'
    const lender = isThread ? new Worker(entry, { workerData }) : fork(entry, [JSON.stringify(workerData)])
    lender.on('error', () => undefined)
    assert.equal((await once(lender, 'message'))[0], 'lent')
    const borrower = spawn(execPath, [program, lent, 'again'], { stdio: ['pipe', 'pipe', 'inherit'] })
    const lines = createInterface({ input: borrower.stdout })[Symbol.asyncIterator]()
    const read = async (): Promise<Record<string, unknown>> =>
      JSON.parse(String((await lines.next()).value)) as Record<string, unknown>
    const before = await read()
    assert.deepEqual(before['warnings'], [])
    const ended = new Promise((resolve) => lender.once('exit', resolve))
    // One dies of a bug and takes back what it said; the other has no time to.
    if (lender instanceof Worker) lender.postMessage('die', [])
    else lender.kill('SIGKILL')
    await ended
    borrower.stdin.write('\n')
    const gone = 'the engine that lent its weights on the device has ended'
    assert.deepEqual(await read(), { error: gone, gone: [gone] })
    // Its handles are of no use to the next process, which has weights of its own.
    const after = borrow(lent)
    assert.deepEqual([after.logits, after.warnings], [before['logits'], []])
    assert.ok(after.used > Number(before['used']))
  })
