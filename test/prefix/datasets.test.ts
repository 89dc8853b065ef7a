// Examples: good ones are kept under the hash of their content, bad ones are all named.
import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { describe, test } from 'node:test'
import { checkExamples, Datasets, parseJsonLines } from '../../src/prefix/datasets.ts'
import { MemoryStore } from '../../src/store/memory.ts'

const limits = { examplesMax: 5, exampleCharactersMax: 10, datasetBytesMax: 2_000 }

function bytes(text: string): Uint8Array {
  return new TextEncoder().encode(text)
}

const badValues: readonly (readonly [string, string])[] = [
  ['[]', 'must be an object with input and output, not a list'],
  ['null', 'must be an object with input and output, not null'],
  ['3', 'must be an object with input and output, not number'],
  ['{}', 'input is missing'],
  ['{"input":"a"}', 'output is missing'],
  ['{"input":"a","output":"b","c":1}', 'unknown field "c"'],
  ['{"input":"a","output":"b","__proto__":1}', 'unknown field "__proto__"'],
  ['{"input":1,"output":"b"}', 'input must be text, not number'],
  ['{"input":"a","output":null}', 'output must be text, not null'],
  ['{"input":"","output":"b"}', 'input is empty'],
  ['{"input":"a","output":" \\n"}', 'output is empty'],
  ['{"input":"01234567890","output":"b"}', 'input has 11 characters, at most 10 are taken'],
  ['{"input":"\\ud800","output":"b"}', 'input holds half of a surrogate pair'],
]

describe('JSON Lines', () => {
  test('give an example a line; blank lines, line ends of Windows and a byte order mark do not matter', () => {
    const text = '\ufeff{"input":"a","output":"b"}\r\n\r\n{"output":"ü","input":"c"}\n   \n{"input":"e","output":"f"}'
    const expected = [
      { input: 'a', output: 'b' },
      { input: 'c', output: 'ü' },
      { input: 'e', output: 'f' },
    ]
    assert.deepEqual(parseJsonLines(bytes(text)), expected)
  })

  for (const [value, reason] of badValues) {
    test(`${value} is refused by line: ${reason}`, () => {
      assert.throws(() => parseJsonLines(bytes(`{"input":"a","output":"b"}\n\n${value}\n`), limits), {
        code: 'examples_invalid',
        message: `1 of 2 examples are not valid; the first, line 3: ${reason}`,
        details: { errors: [{ line: 3, reason }], total: 1 },
      })
    })
  }

  test('every bad line is named, whatever is wrong with it', () => {
    const invalidUtf8 = Buffer.from([0x22, 0xc3, 0x28, 0x22])
    const lines = [bytes('{"input":"a","output":"b"}'), invalidUtf8, bytes('{"input"'), bytes(`"${'x'.repeat(1_500)}"`)]
    const joined = Buffer.concat(lines.flatMap((line) => [line, Buffer.from('\n')]))
    assert.throws(
      () => parseJsonLines(joined, limits),
      (error: Error & { details: { errors: { line: number; reason: string }[]; total: number } }) => {
        const { errors, total } = error.details
        assert.equal(total, 3)
        assert.deepEqual(
          errors.map(({ line }) => line),
          [2, 3, 4],
        )
        assert.equal(errors[0]?.reason, 'not valid UTF-8')
        assert.match(errors[1]?.reason ?? '', /^not JSON: /)
        assert.match(errors[2]?.reason ?? '', /^1502 bytes long, at most 1144/)
        return true
      },
    )
  })

  test('at most a hundred bad lines are listed, all are counted', () => {
    assert.throws(
      () => parseJsonLines(bytes('x\n'.repeat(250))),
      (error: Error & { details: { errors: unknown[]; total: number } }) => {
        assert.equal(error.details.errors.length, 100)
        assert.equal(error.details.total, 250)
        return true
      },
    )
  })

  test('nothing, too many examples and too many bytes are refused with both sides', () => {
    for (const text of ['', '\n', ' \r\n\n']) {
      assert.throws(() => parseJsonLines(bytes(text)), { code: 'examples_invalid', message: /no examples/ })
    }
    const line = '{"input":"a","output":"b"}\n'
    assert.equal(parseJsonLines(bytes(line.repeat(5)), limits).length, 5)
    const tooMany = { code: 'examples_invalid', message: 'there are 7 examples, at most 5 are taken' }
    assert.throws(() => parseJsonLines(bytes(line.repeat(7)), limits), tooMany)
    const tooLong = { code: 'examples_invalid', message: /2700 bytes, at most 2000/ }
    assert.throws(() => parseJsonLines(bytes(line.repeat(100)), limits), tooLong)
  })
})

describe('lists of examples', () => {
  test('are checked by the same rules, by index', () => {
    const good = { input: 'a', output: 'b' }
    assert.deepEqual(checkExamples([good], limits), [good])
    for (const [value, reason] of badValues) {
      assert.throws(() => checkExamples([good, JSON.parse(value)], limits), {
        code: 'examples_invalid',
        message: `1 of 2 examples are not valid; the first, index 1: ${reason}`,
        details: { errors: [{ index: 1, reason }], total: 1 },
      })
    }
    assert.throws(() => checkExamples([]), { code: 'examples_invalid', message: /no examples/ })
    assert.throws(() => checkExamples([good, good, good, good, good, good], limits), {
      code: 'examples_invalid',
      message: /6 examples/,
    })
  })
})

describe('Datasets', () => {
  const examples = [
    { input: 'a "quoted"\u2028', output: 'b\n' },
    { input: 'ü', output: '𝄞' },
  ]

  test('come back as they were put, under an id made of their content', async () => {
    const datasets = new Datasets(new MemoryStore())
    const stored = await datasets.put(examples)
    const lines = examples.map((example) => `${JSON.stringify(example)}\n`).join('')
    const sha256 = createHash('sha256').update(lines).digest('hex')
    assert.deepEqual(stored, { id: `ds_${sha256.slice(0, 32)}`, sha256, examples: 2 })
    assert.deepEqual(await datasets.get(stored.id), examples)
    const again = examples.map(({ input, output }) => ({ output, input }))
    assert.deepEqual(await datasets.put(again), stored)
  })

  test('that are not there are named', async () => {
    const datasets = new Datasets(new MemoryStore())
    for (const id of ['ds_0', `ds_${'0'.repeat(32)}`, '../a', '']) {
      await assert.rejects(datasets.get(id), { code: 'dataset_not_found', message: new RegExp(`"${id}"`) })
    }
  })

  test('that were damaged are not trained on', async () => {
    const store = new MemoryStore()
    const datasets = new Datasets(store)
    const { id } = await datasets.put(examples)
    await store.put(`datasets/${id}.jsonl`, bytes('{"input":"a","output":"b"}\n'))
    await assert.rejects(datasets.get(id), { code: 'examples_invalid', message: /is damaged/ })
  })
})
