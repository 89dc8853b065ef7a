// A BART with seeded weights and a tokenizer of bytes, in Hugging Face's layout: enough for a service to run on.
import { writeFile } from 'node:fs/promises'
import path from 'node:path'
import { bartWeights } from '../../src/model/bart.ts'
import { readBartConfig } from '../../src/model/bart-config.ts'
import { Random } from '../../src/random/random.ts'
import { writeSafetensors } from '../../src/tensor/safetensors.ts'
import { sizeOf } from '../../src/tensor/tensor.ts'

const special = ['<s>', '<pad>', '</s>', '<unk>']

/** The characters that byte-level BPE has for bytes (Radford et al. 2019): printable ones for themselves, others from 256 on. */
function byteCharacters(): string[] {
  let next = 256
  return Array.from({ length: 256 }, (_, byte) => {
    const isPrintable = (byte >= 33 && byte <= 126) || (byte >= 161 && byte !== 173)
    return String.fromCharCode(isPrintable ? byte : next++)
  })
}

export async function writeBartFolder(folder: string, seed = 3): Promise<void> {
  const names = [...special, ...byteCharacters(), '<mask>']
  const vocabulary = Object.fromEntries(names.map((name, id) => [name, id]))
  const config = {
    model_type: 'bart',
    vocab_size: names.length,
    d_model: 32,
    max_position_embeddings: 128,
    encoder_layers: 2,
    decoder_layers: 1,
    encoder_ffn_dim: 48,
    decoder_ffn_dim: 64,
    encoder_attention_heads: 4,
    decoder_attention_heads: 4,
    activation_function: 'gelu',
    bos_token_id: 0,
    pad_token_id: 1,
    eos_token_id: 2,
    decoder_start_token_id: 2,
  }
  const generation = { forced_bos_token_id: 0, forced_eos_token_id: 2 }
  const random = new Random(seed)
  const specs = bartWeights({ ...readBartConfig(config, generation, 'config.json'), hasLogitsBias: true })
  const tensors = [...specs].map(([name, { shape, rowsBefore = 0 }]) => {
    const stored = shape.with(0, (shape[0] as number) + rowsBefore)
    const draw = (): number => {
      if (/norm\w*\.weight$/.test(name)) return 1
      return name.endsWith('bias') ? 0 : 0.2 * random.normal()
    }
    const data = Float32Array.from({ length: sizeOf(stored) }, draw)
    return { name: name === 'final_logits_bias' ? name : `model.${name}`, dtype: 'F32' as const, shape: stored, data }
  })
  await Promise.all([
    writeFile(path.join(folder, 'config.json'), JSON.stringify(config)),
    writeFile(path.join(folder, 'generation_config.json'), JSON.stringify(generation)),
    writeFile(path.join(folder, 'vocab.json'), JSON.stringify(vocabulary)),
    writeFile(path.join(folder, 'merges.txt'), '#version: 0.2\n'),
    writeFile(path.join(folder, 'model.safetensors'), writeSafetensors(tensors)),
  ])
}
