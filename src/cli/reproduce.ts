// The command `reproduce NAME`: trains a prefix again from its record and says whether the same numbers came out.
import { readConfig, type Environment } from '../config/config.ts'
import { openReproduction, reproduce } from '../main/reproduce.ts'
import type { PrefixRecord } from '../prefix/record.ts'
import type { TrainingProgress } from '../train/options.ts'

/** Where nobody looks at a terminal, a line so often. */
const lineEveryMs = 5_000

const say = (text: string): void => void process.stdout.write(`${text}\n`)

/** Answers the exit code: 0 only where every key and value is the same, bit for bit. Throws what keeps it from training. */
export async function reproduceCommand(args: readonly string[], env: Environment): Promise<number> {
  const [idOrName] = args
  if (idOrName === undefined || args.length > 1) {
    process.stderr.write('usage: preamble reproduce ID_OR_NAME\n')
    return 2
  }
  const parts = await openReproduction(readConfig(env))
  const { isIdentical, numbers, differences } = await reproduce(idOrName, parts, announce, showProgress)
  if (process.stdout.isTTY) say('')
  say(isIdentical ? `Identical: all ${numbers} keys and values, bit for bit.` : 'Different.')
  for (const difference of differences) say(`  ${difference}`)
  return isIdentical ? 0 : 1
}

function announce({ id, name, version, artifactSha256, training, dataset }: PrefixRecord): void {
  const called = name === null ? id : `${name}@${version} (${id})`
  say(`Training ${called} again, whose artifact is ${artifactSha256} …`)
  const { steps, seed, runtime, threads } = training
  say(
    `  ${String(steps)} steps on dataset ${dataset?.id}, seed ${String(seed)}, ${String(runtime)}, ${String(threads)} threads`,
  )
}

let shownMs = Number.NEGATIVE_INFINITY

/** One line that is written over on a terminal; elsewhere a new one every few seconds. */
function showProgress({ step, steps, loss, etaMs }: TrainingProgress): void {
  const line = `  step ${step} of ${steps}  loss ${loss.toFixed(3)}  ${Math.ceil(etaMs / 1000)} s left`
  if (process.stdout.isTTY) {
    process.stdout.write(`\r\u001B[K${line}`)
    return
  }
  if (performance.now() - shownMs < lineEveryMs && step < steps) return
  shownMs = performance.now()
  say(line)
}
