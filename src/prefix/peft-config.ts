// PEFT's adapter_config.json: the fields that say which model a prefix fits, read with patience for all others.
import { ServiceError } from '../errors/errors.ts'
import { invalidFile } from './foreign-file.ts'

const peftConfigBytesMax = 1024 * 1024
export const peftType = 'PREFIX_TUNING'
export const peftTask = 'CAUSAL_LM'
/** Of an encoder and a decoder. */
export const peftTaskOfTwo = 'SEQ_2_SEQ_LM'

const part = 'adapter_config'
const numberMax = 1_000_000
const textCharactersMax = 1_000

/** Fields that are missing or null in the file are null here. */
export interface PeftConfig {
  readonly taskType: string | null
  readonly virtualTokens: number | null
  readonly layers: number | null
  /** Width of a key or value: all heads. */
  readonly tokenDim: number | null
  readonly heads: number | null
  readonly submodules: number | null
  readonly baseModel: string | null
  readonly peftVersion: string | null
}

type Fields = Readonly<Record<string, unknown>>

/** Throws `prefix_invalid` for what is no such file, `not_supported` for another kind of adapter. */
export function parsePeftConfig(bytes: Uint8Array): PeftConfig {
  const fields = parseObject(bytes)
  const type = fields['peft_type']
  if (type !== peftType) {
    if (type === undefined) throw invalidFile(part, `has no peft_type, it must be ${peftType}`)
    const message = `adapter_config has peft_type ${shown(type)}, this service takes ${peftType}`
    throw new ServiceError('not_supported', message, { field: 'peft_type', supported: [peftType] })
  }
  const heads = readNumber(fields, 'num_attention_heads')
  const tokenDim = readNumber(fields, 'token_dim')
  if (heads !== null && tokenDim !== null && tokenDim % heads !== 0) {
    throw invalidFile(part, `has token_dim ${tokenDim}, which its num_attention_heads ${heads} does not divide`)
  }
  return {
    heads,
    tokenDim,
    layers: readNumber(fields, 'num_layers'),
    virtualTokens: readNumber(fields, 'num_virtual_tokens'),
    submodules: readNumber(fields, 'num_transformer_submodules'),
    taskType: readText(fields, 'task_type'),
    baseModel: readText(fields, 'base_model_name_or_path'),
    peftVersion: readText(fields, 'peft_version'),
  }
}

function parseObject(bytes: Uint8Array): Fields {
  if (bytes.length > peftConfigBytesMax) {
    throw invalidFile(part, `has ${bytes.length} bytes, at most ${peftConfigBytesMax} are taken`)
  }
  let value: unknown
  try {
    value = JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes))
  } catch (cause) {
    const message = `adapter_config is not JSON: ${(cause as Error).message}`
    throw new ServiceError('prefix_invalid', message, { field: part }, { cause })
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    throw invalidFile(part, `is ${shown(value)}, it must be a JSON object`)
  }
  return value as Fields
}

function readNumber(fields: Fields, name: string): number | null {
  const value = fields[name] ?? null
  if (value === null) return null
  if (!Number.isInteger(value) || (value as number) < 1 || (value as number) > numberMax) {
    throw invalidFile(part, `has ${name} ${shown(value)}, it must be a whole number from 1 to ${numberMax}`)
  }
  return value as number
}

function readText(fields: Fields, name: string): string | null {
  const value = fields[name] ?? null
  if (value === null) return null
  if (typeof value !== 'string' || value.length > textCharactersMax) {
    throw invalidFile(part, `has ${name} ${shown(value)}, it must be a text of at most ${textCharactersMax} characters`)
  }
  return value
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return 'a list'
  const text = JSON.stringify(value)
  return text.length > 100 ? `${text.slice(0, 100)}…` : text
}
