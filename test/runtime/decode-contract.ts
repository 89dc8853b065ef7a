// What a decode session on a device must do, against PyTorch and beside the CPU: the cache of its rows is never on the host. Each device's own test file runs it.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { ChosenToken, DecodeSession, Past, Runtime, SessionPart, TokenChoice } from '../../src/runtime/runtime.ts'
import { assertClose, golden, goldenFolder, type GoldenDecode } from '../golden/gpt2.ts'

interface Device {
  /** For `test`: false, or why it is skipped. */
  readonly skip: false | string
  readonly open: () => Runtime | Promise<Runtime>
}

async function openSession(runtime: Runtime, folder = `${goldenFolder}/model`, rowsMax = 4): Promise<DecodeSession> {
  const model = await openModel(folder)
  return runtime.openSession(model.forwardGraph(runtime.segments), model.weights, { ...model.config, rowsMax })
}

const past: Past = {
  keys: Float32Array.from(golden.prefix['keys']!.data),
  values: Float32Array.from(golden.prefix['values']!.data),
  length: golden.prefixLength,
}
const best = (logits: Float32Array): number => logits.indexOf(Math.max(...logits))

export function testDecoding({ skip, open }: Device): void {
  let opened: Runtime | Promise<Runtime> | null = null
  const runtime = (): Runtime | Promise<Runtime> => (opened ??= open())

  for (const [what, cases, start] of [
    ['after a stored prefix', golden.expected.decode.prefix, past],
    ['of the bare model', golden.expected.decode.bare, null],
  ] as const) {
    test(`prefill and greedy steps ${what} agree with PyTorch on the device`, { skip }, async () => {
      const session = await openSession(await runtime())
      for (const { prompt, ids, logits } of cases) {
        session.seed(0, start)
        const width = logits.shape[1] as number
        let input = prompt
        for (const [step, id] of ids.entries()) {
          const actual = await session.extend(0, [input])
          assertClose(`logits of step ${step}`, actual, logits.data.slice(step * width, (step + 1) * width), 1e-5)
          assert.equal(best(actual), id)
          input = [id]
        }
      }
      await session.dispose()
    })
  }

  test('rows with different prefixes, lengths and places go on as on the CPU, also once they are moved', {
    skip,
  }, async () => {
    const sessions = [await openSession(await runtime()), await openSession(createOnnxRuntime({ threads: 1 }))]
    const [a, b] = golden.expected.decode.prefix as [GoldenDecode, GoldenDecode]
    const answers: Float32Array[][] = []
    for (const session of sessions) {
      session.seed(1, past)
      session.seed(2, null)
      session.seed(3, past)
      const own = [(await session.extend(1, [a.prompt, b.prompt.slice(0, 1), b.prompt])).slice()]
      session.copy(3, 0, 0, session.lengths[3] as number)
      session.release([3])
      own.push((await session.extend(0, [[5], [6], [7, 8, 9]])).slice())
      own.push((await session.extend(2, [[10]])).slice())
      // Rows that decode and a piece of a prompt in one step, from a row that begins as another does.
      session.copy(2, 3, 0, 4)
      const parts = [
        { start: 0, tokens: [[4], [3]] },
        { start: 3, tokens: [b.prompt] },
      ]
      own.push((await session.step(parts)).slice())
      answers.push(own)
    }
    const [device, host] = answers as [Float32Array[], Float32Array[]]
    device.forEach((logits, i) => assertClose(`call ${i}`, logits, host[i] as Float32Array, 1e-5))
    for (const session of sessions) await session.dispose()
  })

  for (const name of ['model-float16', 'model-bfloat16', 'model-shards']) {
    test(`weights are read from ${name}, and the logits are those of the CPU`, { skip }, async () => {
      const [device, host] = [
        await openSession(await runtime(), `${goldenFolder}/${name}`),
        await openSession(createOnnxRuntime({ threads: 1 }), `${goldenFolder}/${name}`),
      ]
      const prompt = golden.batch.tokens.data.slice(0, 5)
      for (const session of [device, host]) session.seed(0, past)
      assertClose('logits', await device.extend(0, [prompt]), await host.extend(0, [prompt]), 1e-5)
      await Promise.all([device.dispose(), host.dispose()])
    })
  }

  test('a row that copies the later part of another, and had the same beginning, goes on as that one', {
    skip,
  }, async () => {
    const model = await openModel(`${goldenFolder}/model`)
    const layout = { ...model.config, rowsMax: 2 }
    const session = await (await runtime()).openSession(model.forwardGraph(), model.weights, layout)
    session.seed(0, past)
    session.seed(1, past)
    await session.extend(0, [[5, 6, 7, 8]])
    session.copy(0, 1, past.length, past.length + 3)
    assert.equal(session.lengths[1], past.length + 3)
    const [one, other] = [await session.extend(1, [[9, 10]]), await session.extend(0, [[11]])]
    session.seed(0, past)
    await session.extend(0, [[5, 6, 7]])
    assertClose('logits', await session.extend(0, [[9, 10]]), one, 1e-5)
    assert.ok(best(one) >= 0 && best(other) >= 0)
    await session.dispose()
  })

  test('rows with a choice come back as tokens, the others as the logits that all would have, also of two parts', {
    skip,
  }, async () => {
    const session = await openSession(await runtime())
    const greedy = { temperature: 0, topK: 0, topP: 1, uniform: 0 }
    const first = { temperature: 1, topK: 1, topP: 1, uniform: 0.7 }
    for (const [parts, choices] of [
      [[{ start: 0, tokens: [[4], [5], [6, 7]] }], [null, greedy, null]],
      [
        [
          { start: 0, tokens: [[8], [9]] },
          { start: 3, tokens: [[1, 2, 3]] },
        ],
        [first, null, greedy],
      ],
    ] as [SessionPart[], (TokenChoice | null)[]][]) {
      const again = (): void => [0, 1, 2, 3].forEach((row) => session.seed(row, row === 1 ? null : past))
      again()
      const logits = (await session.step(parts)).slice()
      again()
      assert.ok(session.choose !== undefined)
      const outcomes = await session.choose(parts, choices)
      assert.equal(outcomes.length, choices.length)
      outcomes.forEach((outcome, i) => {
        const row = logits.subarray(i * session.vocabulary, (i + 1) * session.vocabulary)
        if (choices[i] === null) assert.deepEqual(outcome, row)
        else assert.equal((outcome as ChosenToken).token, best(row))
      })
      assert.deepEqual(
        [...session.lengths],
        parts.length === 1
          ? [past.length + 1, 1, past.length + 2, past.length]
          : [past.length + 1, 1, past.length, past.length + 3],
      )
    }
    await session.dispose()
  })

  test('a row with more positions than the cache has room for is refused before the device sees it', {
    skip,
  }, async () => {
    const session = await openSession(await runtime())
    const { positionsMax } = session.layout
    session.seed(0, past)
    await assert.rejects(session.extend(0, [Array.from({ length: positionsMax }, () => 1)]), /positions of 64/)
    // The session is as it was.
    assert.equal(session.lengths[0], past.length)
    await session.extend(0, [[1]])
    await session.dispose()
  })
}
