// Texts with an infix, which the engine does not serve: for each prompt, a prefix that holds the prompt and then the infix.
import assert from 'node:assert/strict'
import type { Model } from '../../src/model/model.ts'
import type { Prefix } from '../../src/prefix/prefix.ts'
import { inputMark, promptOf } from '../../src/prefix/template.ts'
import type { Runtime } from '../../src/runtime/runtime.ts'
import { float32, int32, type Tensor } from '../../src/tensor/tensor.ts'
import { endOfTextToken, type Tokenizer } from '../../src/tokenizer/tokenizer.ts'

export interface InfixParts {
  readonly runtime: Runtime
  readonly model: Model
  readonly tokenizer: Tokenizer
}

/** The prompt of every request to a prefix made here: the last token of the true prompt, the first to see the infix. */
export const promptLeft = endOfTextToken

/**
 * For each input the keys and values of its prompt but the last token, at positions from 0, and after them those of the
 * infix; the last token goes on at the position after both, as it does in training (src/train/infix.ts).
 */
export async function withPrompts(parts: InfixParts, infix: Prefix, inputs: readonly string[]): Promise<Prefix[]> {
  const { runtime, model, tokenizer } = parts
  assert.equal(infix.header.attachment, 'infix')
  const program = await runtime.compile(model.forwardGraph(), model.weights)
  const prefixes: Prefix[] = []
  for (const input of inputs) {
    const prompt = tokenizer.encode(promptOf(infix.header.template, input))
    assert.equal(prompt.at(-1), tokenizer.endOfText, 'the template ends in end-of-text')
    const tokens = prompt.slice(0, -1)
    const { present } = await program.run(firstFeeds(model, tokens))
    prefixes.push(joined(infix, (present as Tensor).data as Float32Array, tokens.length))
  }
  await program.dispose()
  return prefixes
}

/** One row from its beginning, over a past of one position that nobody sees: an empty one has no extent. */
function firstFeeds({ config: { layers, heads, headDim } }: Model, tokens: readonly number[]): Record<string, Tensor> {
  const positions = Int32Array.from(tokens, (_, t) => t)
  const feeds: Record<string, Tensor> = {
    tokens: int32(Int32Array.from(tokens), [1, tokens.length]),
    positions: int32(positions, [1, tokens.length]),
    rows: int32(Int32Array.of(tokens.length - 1), [1]),
    pastLengths: int32(Int32Array.of(0), [1]),
  }
  for (let l = 0; l < layers; l++) {
    feeds[`pastKey.${l}`] = float32(new Float32Array(heads * headDim), [1, heads, headDim, 1])
    feeds[`pastValue.${l}`] = float32(new Float32Array(heads * headDim), [1, heads, 1, headDim])
  }
  return feeds
}

/** `present` is [2·layers, 1, length, heads·headDim]: keys and values in turn, layer by layer. */
function joined({ header, keys, values }: Prefix, present: Float32Array, length: number): Prefix {
  const { layers, heads, headDim, prefixLength } = header
  const total = length + prefixLength
  const half = (s: 0 | 1, infix: Float32Array): Float32Array => {
    const out = new Float32Array(layers * heads * total * headDim)
    for (let l = 0; l < layers; l++) {
      for (let h = 0; h < heads; h++) {
        const head = l * heads + h
        for (let t = 0; t < length; t++) {
          const from = (((2 * l + s) * length + t) * heads + h) * headDim
          out.set(present.subarray(from, from + headDim), (head * total + t) * headDim)
        }
        const own = infix.subarray(head * prefixLength * headDim, (head + 1) * prefixLength * headDim)
        out.set(own, (head * total + length) * headDim)
      }
    }
    return out
  }
  const attached = { attachment: 'decoder_self', prefixLength: total, textPositionStart: total } as const
  return {
    header: { ...header, ...attached, template: inputMark },
    keys: half(0, keys),
    values: half(1, values),
  }
}
