// Computes a small training step on the device and holds it against the reference before anything real is trusted to it.
import { GraphBuilder } from '../graph/builder.ts'
import { gradient } from '../graph/gradient.ts'
import { inputsOf, makeGraph, type Graph } from '../graph/graph.ts'
import type { Value } from '../graph/ops.ts'
import { Random } from '../random/random.ts'
import { sizeOf, type Tensor } from '../tensor/tensor.ts'
import { evaluate } from './reference/reference.ts'
import type { ChosenToken, Feeds, RowOutcome, Runtime, TokenChoice } from './runtime.ts'
import { stepFactors, trainedGroups, type ResidentTraining } from './training.ts'

/** Of the largest value; float32 over some hundreds of terms comes a hundred times nearer. */
const tolerance = 1e-4
/** In 16 bits each rounding is of half a unit in the last place, at some places one after the other; a wrong layout is off by all of it. */
const tolerances = { float32: tolerance, bfloat16: 24 * 2 ** -9, float16: 24 * 2 ** -12 } as const
/** A head's width as in every GPT-2, so that kernels compiled for the check are the ones used later. */
const [width, rows, length, past, vocabulary] = [64, 2, 20, 5, 300]

/** What of a runtime is looked at. */
interface Checked extends Runtime {
  /** That it computes in; float32 alone where it does not say. */
  readonly forms?: readonly (keyof typeof tolerances)[]
  /** As a decode session chooses, from logits [choices.length, vocabulary] of the host. */
  readonly choose?: (
    logits: Float32Array,
    choices: readonly TokenChoice[],
  ) => readonly ChosenToken[] | Promise<readonly RowOutcome[]>
}

/** null: the device computes what the reference does. Otherwise what is wrong, in words. */
export async function wrongResults(runtime: Checked): Promise<string | null> {
  const graph = checkGraph()
  const random = new Random(1)
  const feeds: Record<string, Tensor> = {}
  for (const { attributes } of inputsOf(graph)) {
    const shape = attributes.shape as number[]
    const draw = (): number => (attributes.dtype === 'int32' ? Math.floor(random.next() * past) : random.normal() / 8)
    const drawn = Array.from({ length: sizeOf(shape) }, draw)
    const data = attributes.dtype === 'int32' ? Int32Array.from(drawn) : Float32Array.from(drawn)
    feeds[attributes.name] = { dtype: attributes.dtype, shape, data }
  }
  const expected = evaluate(graph, feeds)
  for (const form of runtime.forms ?? (['float32'] as const)) {
    const allowed = tolerances[form]
    const program = await runtime.compile(graph, { folder: '', tensors: new Map() }, form)
    const actual = await program.run(feeds)
    await program.dispose()
    for (const [name, { data }] of Object.entries(expected)) {
      const error = relativeError(actual[name]?.data ?? [], data)
      if (!(error <= allowed))
        return `${name} of a small training step in ${form} is off by ${error} of its largest value`
    }
  }
  const wrong = runtime.training === undefined ? null : await wrongUpdate(runtime.training, graph, feeds, expected)
  return wrong ?? wrongChoice(runtime)
}

/** null: of logits that rise from token to token by one the right ones are chosen. */
async function wrongChoice({ choose }: Checked): Promise<string | null> {
  if (choose === undefined) return null
  const row = Float32Array.from({ length: vocabulary }, (_, token) => (token * 7) % vocabulary)
  const token = (logit: number): number => row.indexOf(logit)
  const all = { topK: 0, topP: 1 }
  // Two logits one apart have probabilities of 0.731 and 0.269.
  const nearest = { temperature: 1, topK: 2, topP: 1 }
  // The first is forbidden, the second halved, the third made less than the fourth.
  const changes = {
    tokens: Int32Array.from([1, 2, 3], (rank) => token(vocabulary - rank)),
    amounts: Float64Array.of(0, 1, Infinity, 0, 2, 0, 1, 1, 2.5),
  }
  const isFirst = token(vocabulary - 1) < token(vocabulary - 2)
  const cases: [TokenChoice, number][] = [
    [{ temperature: 0, ...all, uniform: 0 }, token(vocabulary - 1)],
    [{ temperature: 1, topK: 1, topP: 1, uniform: 0.9 }, token(vocabulary - 1)],
    [{ temperature: 1, topK: 0, topP: 0.7, uniform: 0.9 }, token(vocabulary - 1)],
    [{ ...nearest, uniform: isFirst ? 0.72 : 0.28 }, token(vocabulary - 1)],
    [{ ...nearest, uniform: isFirst ? 0.74 : 0.26 }, token(vocabulary - 2)],
    [{ temperature: 0, ...all, uniform: 0, changes }, token(vocabulary - 4)],
  ]
  const logits = new Float32Array(cases.length * vocabulary)
  cases.forEach((_, i) => logits.set(row, i * vocabulary))
  const chosen = await choose(
    logits,
    cases.map(([choice]) => choice),
  )
  const tokenOf = (outcome: RowOutcome | undefined): number | undefined =>
    outcome !== undefined && 'token' in outcome ? outcome.token : undefined
  const wrong = cases.findIndex(([, expected], i) => tokenOf(chosen[i]) !== expected)
  if (wrong < 0) return null
  const [choice, expected] = cases[wrong] as [TokenChoice, number]
  return `the token chosen by ${JSON.stringify(choice)} is ${tokenOf(chosen[wrong])}, not ${expected}`
}

/** null: an optimizer step does what AdamW says. */
async function wrongUpdate(
  training: ResidentTraining,
  graph: Graph,
  feeds: Feeds,
  expected: Feeds,
): Promise<string | null> {
  const options = { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weightDecay: 0.1, clipNorm: 0.5 }
  const [names, number, learningRate] = [['pastKey', 'pastValue'], 1, 0.1]
  const numbersOf = (name: string): Float32Array => feeds[name]?.data as Float32Array
  const zeros = (): Map<string, Float32Array> => new Map(names.map((name) => [name, numbersOf(name).map(() => 0)]))
  const parameters = new Map(names.map((name) => [name, numbersOf(name)]))
  const places = new Map([
    ['pastKey', { input: 'pastKey', gradient: 'dPastKey' }],
    ['pastValue', { input: 'pastValue', gradient: 'dPastValue' }],
  ])
  const trainables = training.hold({ parameters, first: zeros(), second: zeros() }, options)
  const program = await training.compile(graph, { folder: '', tensors: new Map() }, 'float32')
  const { gradientNorms } = await program.run(feeds, [
    { trainables, places, adds: false, step: { number, learningRate } },
  ])
  const [after, first, second] = trainedGroups.map((group) => trainables.read(group))
  trainables.dispose()
  await program.dispose()
  const gradientOf = (name: string): number[] => Array.from(expected[places.get(name)?.gradient ?? '']?.data ?? [])
  const norm = Math.hypot(...names.flatMap(gradientOf))
  const clip = options.clipNorm / norm
  const { rate, secondCorrection, decay } = stepFactors(options, number, learningRate)
  const checks: [string, ArrayLike<number>, ArrayLike<number>][] = [['the norm', [gradientNorms[0] ?? NaN], [norm]]]
  for (const name of names) {
    const [m, v] = [first?.get(name) ?? [], second?.get(name) ?? []]
    const gradients = gradientOf(name).map((g) => g * clip)
    checks.push(['a first moment', m, gradients.map((g) => (1 - options.beta1) * g)])
    checks.push(['a second moment', v, gradients.map((g) => (1 - options.beta2) * g * g)])
    // Of the device's own moments: where a gradient is nearly zero, its sign decides, and that may differ.
    const wanted = Array.from(
      numbersOf(name),
      (p, i) => decay * p - (rate * m[i]!) / (Math.sqrt(v[i]!) / secondCorrection + options.epsilon),
    )
    checks.push(['a parameter', after?.get(name) ?? [], wanted])
  }
  const wrong = checks.find(([, actual, wanted]) => !(relativeError(actual, wanted) <= tolerance))
  return wrong === undefined
    ? null
    : `${wrong[0]} of a small optimizer step is off by ${relativeError(wrong[1], wrong[2])} of its largest value`
}

/** One block of a decoder, its loss, and the gradient of its past. */
function checkGraph(): Graph {
  const g = new GraphBuilder()
  const table = g.input('table', [vocabulary, width])
  const x = g.gather(table, g.input('tokens', [rows, length], 'int32'))
  const norm = (value: Value, name: string): Value =>
    g.layerNorm(value, g.input(`${name}.scale`, [width]), g.input(`${name}.shift`, [width]), 1e-5)
  const qkv = g.linear(norm(x, 'first'), g.input('w', [width, 3 * width]), g.input('b', [3 * width]))
  const [q, k, v] = g.split(qkv, 2, [width, width, width]) as [Value, Value, Value]
  const pastKey = g.input('pastKey', [1, 1, width, past])
  const pastValue = g.input('pastValue', [1, 1, past, width])
  const attended = g.attention([q, k, v, pastKey, pastValue, g.input('lengths', [1], 'int32')], 1)
  const y = g.add(x, g.linear(attended, g.input('p', [width, width]), null))
  const inner = g.gelu(g.linear(norm(y, 'second'), g.input('u', [width, width]), g.input('c', [width])))
  const hidden = g.reshape(g.add(y, inner), [rows * length, width])
  const losses = g.crossEntropy([hidden, table, g.input('labels', [rows * length], 'int32')])
  const [dPastKey, dPastValue] = gradient(g, g.sumTo(losses, []), [pastKey, pastValue]) as [Value, Value]
  return makeGraph({ losses, dPastKey, dPastValue })
}

function relativeError(actual: ArrayLike<number>, expected: ArrayLike<number>): number {
  let [difference, magnitude] = [0, 0]
  for (let i = 0; i < expected.length; i++) {
    const off = Math.abs((actual[i] as number) - (expected[i] as number))
    if (!(off <= difference)) difference = off
    magnitude = Math.max(magnitude, Math.abs(expected[i] as number))
  }
  return difference / magnitude
}
