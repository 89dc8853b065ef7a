// Stop texts and detokenizing: however text is cut into pieces, the caller sees the same and never too much.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Detokenizer } from '../../src/engine/detokenizer.ts'
import { StopTexts } from '../../src/engine/stop-texts.ts'
import { Random } from '../../src/random/random.ts'
import { byteTokenizer } from './fake-tokenizer.ts'

test('a stop text across pieces ends the text, and none of it is handed out', () => {
  assert.deepEqual(feed(['END'], ['The ', 'E', 'N', 'D of']), { pieces: ['The ', '', '', ''], found: true })
})

test('what might begin a stop text is held back, and handed out once it does not', () => {
  assert.deepEqual(feed(['END'], ['an E', 'Nd', 'EN']), { pieces: ['an ', 'ENd', '', 'EN'], found: false })
})

test('the held beginning moves on when the first one fails', () => {
  assert.deepEqual(feed(['aab'], ['a', 'a', 'a', 'b']), { pieces: ['', '', 'a', ''], found: true })
})

test('of two stop texts the one complete first counts, the longer one where they end together', () => {
  assert.deepEqual(feed(['c', 'abcd'], ['xabcd']), { pieces: ['xab'], found: true })
  assert.deepEqual(feed(['c', 'bc'], ['xabcd']), { pieces: ['xa'], found: true })
  assert.deepEqual(feed(['bc', 'c'], ['xabcd']), { pieces: ['xa'], found: true })
})

test('without stop texts everything goes through at once', () => {
  assert.deepEqual(feed([], ['a', 'b\n']), { pieces: ['a', 'b\n'], found: false })
})

test('the text does not hang on how it is cut', () => {
  const seed = Number(process.env['SEED'] ?? 7)
  const random = new Random(seed)
  for (let round = 0; round < 500; round++) {
    const text = letters(random, 30)
    const stops = Array.from({ length: 1 + random.below(3) }, () => letters(random, 4))
    const whole = feed(stops, [text])
    const cut = feed(stops, pieces(random, text))
    assert.equal(cut.pieces.join(''), whole.pieces.join(''), `SEED=${seed}, ${text}, ${stops.join(' ')}`)
    assert.equal(cut.found, whole.found)
    for (const stop of stops) assert.ok(!whole.pieces.join('').includes(stop))
  }
})

test('whatever the text, the tokens and the stops, no part of the stop that ends it is ever handed out', () => {
  const seed = Number(process.env['SEED'] ?? 17)
  const random = new Random(seed)
  // Characters of one to four bytes, so that tokens end within them; few of them, so that stops begin often and in vain.
  const alphabet = ['a', 'b', 'é', '€', '😀']
  const any = (lengthMax: number): string =>
    Array.from({ length: 1 + random.below(lengthMax) }, () => alphabet[random.below(alphabet.length)]).join('')
  for (let round = 0; round < 1000; round++) {
    const text = any(24)
    const stops = Array.from({ length: 1 + random.below(4) }, () => any(5))
    const name = `SEED=${seed}, ${text}, ${stops.join(' ')}`
    const detokenizer = new Detokenizer(byteTokenizer)
    const stopTexts = new StopTexts(stops)
    let out = ''
    // Where a text ends by the plain definition: at the stop whose end comes first, of those the longest.
    const ends = stops.map((stop) => ({ at: text.indexOf(stop), stop })).filter(({ at }) => at >= 0)
    const end = Math.min(...ends.map(({ at, stop }) => at + stop.length))
    const expected = text.slice(
      0,
      Math.min(text.length, ...ends.filter((e) => e.at + e.stop.length === end).map((e) => e.at)),
    )
    for (const token of byteTokenizer.encode(text)) {
      out += stopTexts.push(detokenizer.push(token))
      assert.ok(expected.startsWith(out), `${name}: ${out} was handed out`)
      if (stopTexts.found) break
    }
    out += stopTexts.push(detokenizer.flush()) + stopTexts.flush()
    assert.equal(out, expected, name)
    assert.equal(stopTexts.found, ends.length > 0, name)
  }
})

test('half a character is held back until the rest has come', () => {
  assert.deepEqual(detokenize([...Buffer.from('é€😀!')]), ['', 'é', '', '', '€', '', '', '', '😀', '!', ''])
})

test('a character that is never finished comes out as U+FFFD at the end', () => {
  assert.deepEqual(detokenize([97, 0xe2, 0x82]), ['a', '', '', '�'])
})

test('bytes that are no character come out as U+FFFD once something whole follows', () => {
  assert.deepEqual(detokenize([97, 0xff, 98]), ['a', '', '�b', ''])
  assert.deepEqual(detokenize([...Buffer.from('a�b')]), ['a', '', '', '', '�b', ''])
})

test('one leading space is left out, the others stay', () => {
  assert.deepEqual(detokenize([...Buffer.from(' a b')]), ['', 'a', ' ', 'b', ''])
  assert.deepEqual(detokenize([...Buffer.from('  a')]), ['', ' ', 'a', ''])
  assert.deepEqual(detokenize([...Buffer.from('a b')]), ['a', ' ', 'b', ''])
})

test('a token of a whole character and half of the next hands out the whole one, once', () => {
  const bytes = [[97, 0xe2], [0x82], [0xac, 98, 0xc3], [0xa9]]
  const detokenizer = new Detokenizer({
    decode: (tokens) => Buffer.from(tokens.flatMap((token) => bytes[token] ?? [])).toString(),
  })
  assert.deepEqual(
    [0, 1, 2, 3].map((token) => detokenizer.push(token)),
    ['a', '', '€b', 'é'],
  )
  assert.equal(detokenizer.flush(), '')
})

test('random bytes in any order come out as they decode in one go', () => {
  const seed = Number(process.env['SEED'] ?? 13)
  const random = new Random(seed)
  const some = [0x20, 0x41, 0xc3, 0xa9, 0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xff, 0xef, 0xbf, 0xbd]
  for (let round = 0; round < 500; round++) {
    const tokens = Array.from({ length: random.below(20) }, () => some[random.below(some.length)] as number)
    const expected = byteTokenizer.decode(tokens).replace(/^ /, '')
    assert.equal(detokenize(tokens).join(''), expected, `SEED=${seed}, bytes ${tokens.join(' ')}`)
  }
})

function feed(stops: readonly string[], text: readonly string[]): { pieces: string[]; found: boolean } {
  const stopTexts = new StopTexts(stops)
  const out = text.map((piece) => stopTexts.push(piece))
  const rest = stopTexts.flush()
  return { pieces: rest === '' ? out : [...out, rest], found: stopTexts.found }
}

function detokenize(tokens: readonly number[]): string[] {
  const detokenizer = new Detokenizer(byteTokenizer)
  return [...tokens.map((token) => detokenizer.push(token)), detokenizer.flush()]
}

function letters(random: Random, lengthMax: number): string {
  return Array.from({ length: 1 + random.below(lengthMax) }, () => 'abc'[random.below(3)]).join('')
}

function pieces(random: Random, text: string): string[] {
  const cut: string[] = []
  for (let at = 0; at < text.length; ) {
    const end = at + 1 + random.below(4)
    cut.push(text.slice(at, end))
    at = end
  }
  return cut
}
