// The tour for newcomers: starts the service, trains a prefix on restaurant records, and shows what it says.
import { existsSync } from 'node:fs'
import { mkdtemp, readFile, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { readConfig, type Config } from '../config/config.ts'
import { corpusBleu } from '../evaluate/bleu.ts'
import { createLogger, startService, type Service } from '../main/main.ts'
import { ServiceClient, type JobReport } from './client.ts'

/** What the prefix must gain over the bare model, in BLEU. */
const gainMin = 10
const shownMax = 6
const maxNewTokens = 64
const exampleFolder = fileURLToPath(new URL('../../../examples/e2e', import.meta.url))

interface HeldOut {
  readonly input: string
  readonly references: readonly string[]
}

const { values: options } = parseArgs({ options: { once: { type: 'boolean', default: false } } })
const say = (text: string): void => void process.stdout.write(`${text}\n`)

async function demo(): Promise<number> {
  const folder = options.once ? await mkdtemp(path.join(tmpdir(), 'preamble-demo-')) : null
  say('Starting the service with its embedded queue and store …')
  const service = await start(folder)
  const address = service.address as string
  const stop = async (): Promise<void> => {
    await service.close()
    if (folder !== null) await rm(folder, { recursive: true, force: true })
  }
  try {
    const client = new ServiceClient(address)
    const prefix = await train(client)
    const gain = await compare(client, prefix)
    if (options.once) {
      await stop()
      return gain >= gainMin ? 0 : 1
    }
    sayGoodbye(address, prefix)
  } catch (error) {
    say(`\n${(error as Error).message}`)
    await stop()
    return 1
  }
  for (const signal of ['SIGINT', 'SIGTERM'] as const)
    process.once(signal, () => void stop().then(() => process.exit(0)))
  return 0
}

/** On the configured port, or on any free one where that is taken. */
async function start(folder: string | null): Promise<Service> {
  const own = folder === null ? {} : { DATA: folder, PORT: '0' }
  const config = readConfig({ LOG_LEVEL: 'error', ...process.env, ...own })
  const log = createLogger(config.logLevel)
  try {
    return await startService(config, log)
  } catch (error) {
    if (!(error as Error).message.startsWith('PORT')) throw error
    return startService({ ...config, port: 0 } satisfies Config, log)
  }
}

/** A visitor waits: rate and form are chosen, the rest is given. */
const training = { prefixLength: 10, initialization: 'text:table to text', epochs: 12 }

async function train(client: ServiceClient): Promise<string> {
  const examples = await readLines<object>(path.join(exampleFolder, 'train.jsonl'))
  say(`Training a prefix on ${examples.length} records (POST /prefixes) …`)
  const { id, jobId } = await client.train({ name: 'e2e', examples, validation: 0.1, training })
  const startMs = performance.now()
  const events = client.follow(jobId)
  while ((await events.next()).done !== true) showProgress(await client.job(jobId))
  const job = await client.job(jobId)
  showProgress(job)
  if (process.stdout.isTTY) say('')
  if (job.status !== 'succeeded')
    throw new Error(`the training ${job.status}: ${job.error?.code ?? ''} ${job.error?.detail ?? ''}`)
  say(`Trained in ${Math.round((performance.now() - startMs) / 1000)} s: ${id}`)
  return id
}

let shown = { line: '', atMs: 0 }

/** One line that is written over on a terminal; elsewhere a new one every few seconds. */
function showProgress({ progress }: JobReport): void {
  if (progress === null) return
  const { step, steps, loss, validationLoss, examplesPerSecond, etaMs, choosing } = progress
  const where = choosing ? `choosing options, ${choosing.done} of ${choosing.total} steps` : `step ${step} of ${steps}`
  const heldOut = validationLoss === null ? '' : `  held-out ${validationLoss.toFixed(3)}`
  const line = `  ${where}  loss ${loss.toFixed(3)}${heldOut}  ${examplesPerSecond.toFixed(0)} examples/s  ${Math.ceil(etaMs / 1000)} s left`
  if (process.stdout.isTTY) process.stdout.write(`\r\u001B[K${line}`)
  else if (line !== shown.line && (performance.now() - shown.atMs > 5000 || step === steps)) {
    shown = { line, atMs: performance.now() }
    say(line)
  }
}

/** Shows a few records and answers what the prefix gains on all of them. */
async function compare(client: ServiceClient, prefix: string): Promise<number> {
  const heldOut = await readLines<HeldOut>(path.join(exampleFolder, 'heldout.jsonl'))
  const inputs = heldOut.map(({ input }) => input)
  const references = heldOut.map((record) => record.references)
  const bare = await client.generate(null, inputs, maxNewTokens)
  const tuned = await client.generate(prefix, inputs, maxNewTokens)
  for (let i = 0; i < shownMax; i++) {
    say(`\n  record  ${inputs[i]}\n  bare    ${oneLine(bare[i] as string)}\n  prefix  ${oneLine(tuned[i] as string)}`)
  }
  const score = (texts: readonly string[]): number => corpusBleu(texts, references, { lowercase: true }).score
  const [before, after] = [score(bare), score(tuned)]
  say(
    `\nBLEU on ${inputs.length} held-out records: bare model ${before.toFixed(1)}, with the prefix ${after.toFixed(1)}`,
  )
  return after - before
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim()

function sayGoodbye(address: string, prefix: string): void {
  const body = JSON.stringify({ prefix, input: 'name : Blue Spice | type : coffee shop | area : riverside' })
  say(`\nThe service goes on at ${address} (documentation: ${address}/docs). Try:\n`)
  say(`  curl -s ${address}/generate -H 'content-type: application/json' -d '${body}'`)
  say(`  curl -s ${address}/prefixes/${prefix}\n\nCtrl-C ends it.`)
}

async function readLines<T>(file: string): Promise<T[]> {
  if (!existsSync(file)) throw new Error(`${file} is missing: run this from a checkout of the project`)
  const text = await readFile(file, 'utf8')
  return text
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as T)
}

process.exitCode = await demo()
