// A tokenizer whose tokens are the bytes of UTF-8, so that characters are cut in all ways; 256 is end-of-text.
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'

const mark = '<|endoftext|>'

export const byteTokenizer: Tokenizer = {
  endOfText: 256,
  vocabulary: 257,
  sha256: 'bytes',
  special: new Map([[256, mark]]),
  encode: (text) => text.split(mark).flatMap((part, i) => (i === 0 ? bytes(part) : [256, ...bytes(part)])),
  decode: (tokens) => Buffer.from(tokens.filter((token) => token < 256)).toString('utf8'),
}

function bytes(text: string): number[] {
  return [...Buffer.from(text, 'utf8')]
}
