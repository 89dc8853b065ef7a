// A training small enough for tests: the tiny GPT-2, a tokenizer of letters, and a task that can be learned.
import { openModel } from '../../src/model/model.ts'
import { createOnnxRuntime } from '../../src/runtime/onnx/onnx.ts'
import type { Tokenizer } from '../../src/tokenizer/tokenizer.ts'
import { trainingDefaults, type TrainingData, type TrainingOptions } from '../../src/train/options.ts'
import type { TrainerParts } from '../../src/train/trainer.ts'
import { goldenFolder } from '../golden/gpt2.ts'

/** Token 0 is end-of-text; the other 96 are the printable characters. */
export const letterTokenizer: Tokenizer = {
  endOfText: 0,
  vocabulary: 97,
  sha256: 'a'.repeat(64),
  special: new Map([[0, '<|endoftext|>']]),
  encode: (text) =>
    text
      .split('<|endoftext|>')
      .flatMap((piece, i) => [...(i > 0 ? [0] : []), ...Array.from(piece, (c) => 1 + ((c.charCodeAt(0) - 32) % 96))]),
  decode: (tokens) =>
    tokens
      .filter((token) => token > 0)
      .map((token) => String.fromCharCode(token + 31))
      .join(''),
}

export async function tinyParts(): Promise<TrainerParts> {
  return {
    runtime: createOnnxRuntime({ threads: 1 }),
    model: await openModel(`${goldenFolder}/model`),
    tokenizer: letterTokenizer,
  }
}

export const tinyOptions: TrainingOptions & { readonly prefixLength: number } = {
  ...trainingDefaults,
  prefixLength: 4,
  epochs: 5,
  batchSize: 4,
  learningRate: 1e-2,
  reparametrization: 8,
  initialization: 'text:abc',
}

/** Say the letter that comes next. */
export function tinyData(count = 24, heldOut = 6): TrainingData {
  const example = (i: number): { input: string; output: string } => ({
    input: 'x'.repeat(i % 5) + String.fromCharCode(97 + (i % 25)),
    output: String.fromCharCode(98 + (i % 25)),
  })
  return {
    examples: Array.from({ length: count }, (_, i) => example(i)),
    heldOut: Array.from({ length: heldOut }, (_, i) => example(i + 7)),
    template: ' {input} <|endoftext|>',
    from: null,
  }
}
