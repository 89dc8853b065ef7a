// Held-out losses of trainings whose frozen layers are in 8 bits beside the same trainings in float32.
import { openModel } from '../src/model/model.ts'
import type { Example } from '../src/prefix/example.ts'
import { defaultTemplate } from '../src/prefix/template.ts'
import type { Runtime } from '../src/runtime/runtime.ts'
import { openTokenizer } from '../src/tokenizer/tokenizer.ts'
import { measureLoss } from '../src/train/evaluator.ts'
import { trainingDefaults, type TrainingOptions } from '../src/train/options.ts'
import { splitExamples } from '../src/train/split.ts'
import { openTraining, type TrainerParts } from '../src/train/trainer.ts'
import type { Figures } from './machine.ts'
import { readExamples, readHeldOut } from './records.ts'

/** The paper's form of a prefix; nothing is left to be chosen, so that both trainings differ in precision alone. */
const options: Partial<TrainingOptions> = {
  prefixLength: 10,
  epochs: 5,
  learningRate: 7.5e-4,
  reparametrization: 512,
  initialization: 'text:table to text',
}

/** Nats per target token on `examples/e2e/heldout.jsonl`, in float32 whatever a training was in. A row for each seed. */
export async function compareLosses(
  runtime: Runtime,
  folder: string,
  precision: string,
  seeds: readonly number[],
): Promise<Figures[]> {
  const parts = { runtime, model: await openModel(folder), tokenizer: await openTokenizer(folder) }
  const examples = await readExamples()
  const heldOut = (await readHeldOut()).flatMap(({ input, references }) =>
    references.map((output) => ({ input, output })),
  )
  const rows: Figures[] = []
  for (const seed of seeds) {
    const finish = (form: string): Promise<Outcome> => train(fixedTo(parts, form), examples, heldOut, seed)
    const [plain, fast] = [await finish('float32'), await finish(precision)]
    const percent = 100 * (fast.loss / plain.loss - 1)
    rows.push({ seed, form: fast.form, float32: plain.loss, fast: fast.loss, percent })
  }
  return rows
}

interface Outcome {
  readonly form: string
  readonly loss: number
}

async function train(
  parts: TrainerParts,
  examples: readonly Example[],
  heldOut: readonly Example[],
  seed: number,
): Promise<Outcome> {
  const data = { ...splitExamples(examples, 0.1, seed), template: defaultTemplate, from: null }
  const run = await openTraining(parts, data, { ...trainingDefaults, ...options, seed, precision: 'fast' }, null)
  for await (const _ of run.steps(new AbortController().signal));
  const loss = (await measureLoss(parts, await run.prefix(), heldOut)) as number
  await run.dispose()
  return { form: String(run.used['form']), loss }
}

/** Trainings in `form`; `fast` leaves it to what is the fastest. */
function fixedTo(parts: TrainerParts, form: string): TrainerParts {
  if (form === 'fast') return parts
  const { runtime } = parts
  return { ...parts, runtime: { ...runtime, fastForm: (graph, weights) => runtime.fastForm(graph, weights, form) } }
}
