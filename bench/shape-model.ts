// Models of real shapes with seeded weights: speed does not depend on what a model knows.
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, open, readFile, rename, writeFile } from 'node:fs/promises'
import path from 'node:path'
import type { TensorSpec } from '../src/model/checkpoint.ts'
import { bartWeights } from '../src/model/bart.ts'
import { readBartConfig } from '../src/model/bart-config.ts'
import { readGpt2Config } from '../src/model/config.ts'
import { gpt2Weights } from '../src/model/gpt2.ts'

/** What config.json says. No token is forced, so that every step is one like the others. */
export const shapes = {
  // The vocabulary is that of the default model's tokenizer. For trying a bench, not for figures.
  tiny: gpt2Shape(2, 2, 128, 4096),
  gpt2: gpt2Shape(12, 12, 768),
  'gpt2-medium': gpt2Shape(24, 16, 1024),
  'bart-base': {
    model_type: 'bart',
    architectures: ['BartForConditionalGeneration'],
    activation_function: 'gelu',
    d_model: 768,
    encoder_layers: 6,
    decoder_layers: 6,
    encoder_attention_heads: 12,
    decoder_attention_heads: 12,
    encoder_ffn_dim: 3072,
    decoder_ffn_dim: 3072,
    max_position_embeddings: 1024,
    vocab_size: 50265,
    scale_embedding: false,
    bos_token_id: 0,
    pad_token_id: 1,
    eos_token_id: 2,
    decoder_start_token_id: 2,
    dropout: 0,
    attention_dropout: 0,
    activation_dropout: 0,
  },
}

export type ShapeName = keyof typeof shapes
type Tensors = ReadonlyMap<string, readonly number[]>

function gpt2Shape(layers: number, heads: number, width: number, vocabulary = 50257) {
  return {
    model_type: 'gpt2',
    architectures: ['GPT2LMHeadModel'],
    activation_function: 'gelu_new',
    n_positions: 1024,
    vocab_size: vocabulary,
    layer_norm_epsilon: 1e-5,
    bos_token_id: vocabulary - 1,
    eos_token_id: vocabulary - 1,
    resid_pdrop: 0,
    embd_pdrop: 0,
    attn_pdrop: 0,
    n_layer: layers,
    n_head: heads,
    n_embd: width,
  }
}

/** Names as they are in files, and shapes. */
function tensorsOf(config: (typeof shapes)[ShapeName]): Tensors {
  if (config.model_type === 'gpt2') return named('transformer.', gpt2Weights(readGpt2Config(config, 'config.json')))
  const specs = bartWeights({ ...readBartConfig(config, {}, 'config.json'), hasLogitsBias: false })
  const stored = ({ shape, rowsBefore = 0 }: TensorSpec): readonly number[] => [
    (shape[0] as number) + rowsBefore,
    ...shape.slice(1),
  ]
  const needed = [...specs].filter(([, { optional }]) => optional !== true)
  return named('model.', new Map(needed.map(([name, spec]) => [name, stored(spec)])))
}

const named = (prefix: string, tensors: Tensors): Tensors =>
  new Map([...tensors].map(([name, shape]) => [prefix + name, shape]))

/** Makes the folder where it is not there yet, and answers its path. The same weights every time. */
export async function shapeModel(name: ShapeName, cacheFolder: string): Promise<string> {
  const folder = path.join(cacheFolder, name)
  await mkdir(folder, { recursive: true })
  const config = shapes[name]
  await writeTokenizer(path.join(folder, 'tokenizer.json'), config.vocab_size)
  if (existsSync(path.join(folder, 'model.safetensors'))) return folder
  await writeFile(path.join(folder, 'config.json'), JSON.stringify(config, null, 2))
  await writeWeights(path.join(folder, 'model.safetensors'), tensorsOf(config))
  return folder
}

/** The default model's, with made-up words behind its own: no text encodes to them, and each token decodes to something. */
async function writeTokenizer(file: string, vocabulary: number): Promise<void> {
  if (existsSync(file)) return
  const tokenizer = JSON.parse(await readFile('model/tokenizer.json', 'utf8')) as {
    model: { vocab: Record<string, number> }
  }
  const { vocab } = tokenizer.model
  for (let id = Object.keys(vocab).length; id < vocabulary; id++) vocab[`Ġw${id}`] = id
  await writeFile(`${file}.partial`, JSON.stringify(tokenizer))
  await rename(`${file}.partial`, file)
}

/** Streams tensor by tensor: a whole checkpoint would not fit into one buffer comfortably. */
async function writeWeights(file: string, tensors: Tensors): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } }
  let end = 0
  for (const [name, shape] of tensors) {
    const begin = end
    end += 4 * shape.reduce((a, b) => a * b, 1)
    header[name] = { dtype: 'F32', shape, data_offsets: [begin, end] }
  }
  const text = Buffer.from(JSON.stringify(header))
  const head = Buffer.concat([Buffer.alloc(8), text, Buffer.alloc((8 - (text.length % 8)) % 8, ' ')])
  head.writeBigUInt64LE(BigInt(head.length - 8))

  const out = await open(`${file}.partial`, 'w')
  await out.write(head)
  for (const [name, shape] of tensors)
    await out.writeFile(new Uint8Array(seededTensor(name.slice(name.indexOf('.') + 1), shape).buffer))
  await out.sync()
  await out.close()
  await rename(`${file}.partial`, file)
}

/** Deviation 0.02 as in GPT-2's own initialization; scales of layer norms are 1, biases 0. */
function seededTensor(name: string, shape: readonly number[]): Float32Array {
  const data = new Float32Array(shape.reduce((a, b) => a * b, 1))
  if (name.endsWith('.bias')) return data
  if (/(ln_\w|layer_?norm(_embedding)?)\.weight$/.test(name)) return data.fill(1)
  let state = createHash('sha256').update(name).digest().readUInt32LE(0)
  // The sum of four uniform numbers has deviation √(4/12), and is near enough to normal for timing.
  for (let i = 0; i < data.length; i++) {
    let sum = -2
    for (let k = 0; k < 4; k++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0
      sum += state / 2 ** 32
    }
    data[i] = 0.02 * Math.sqrt(3) * sum
  }
  return data
}
