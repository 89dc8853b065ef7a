// Adapters that PEFT saved, a checkpoint in the paper's layout, and what they say on the tiny GPT-2 (see peft/README.md).
import { readFileSync } from 'node:fs'
import type { PeftFiles } from '../../src/prefix/peft.ts'
import type { PlayingModel } from '../../src/prefix/artifact.ts'
import type { GoldenDecode, GoldenTensor } from './gpt2.ts'

export const adapters = ['float32', 'float16', 'bfloat16', 'projection'] as const
export type AdapterName = (typeof adapters)[number]

export interface PeftGolden {
  readonly versions: Readonly<Record<string, string>>
  readonly prefixLength: number
  readonly adapters: Readonly<Record<AdapterName, readonly GoldenDecode[]>>
  readonly paper: { readonly keys: GoldenTensor; readonly values: GoldenTensor; readonly says: readonly GoldenDecode[] }
}

export const peftFolder = 'test/golden/peft'
export const peftGolden = JSON.parse(readFileSync(`${peftFolder}/golden.json`, 'utf8')) as PeftGolden

/** ../gpt2/model; the hashes are made up, as PEFT's files name none. */
export const tinyModel: PlayingModel = {
  name: 'tiny',
  sha256: 'a'.repeat(64),
  tokenizerSha256: 'b'.repeat(64),
  layers: 2,
  heads: 4,
  headDim: 8,
  positionsMax: 64,
}

export function adapterFiles(name: AdapterName | 'exported'): PeftFiles {
  return {
    config: readFileSync(`${peftFolder}/${name}/adapter_config.json`),
    model: readFileSync(`${peftFolder}/${name}/adapter_model.safetensors`),
  }
}

export function paperModel(): Uint8Array {
  return readFileSync(`${peftFolder}/paper/model.safetensors`)
}
