// Prefixes in PEFT's two files, adapter_config.json and adapter_model.safetensors, in and out.
import { ServiceError } from '../errors/errors.ts'
import { writeSafetensors } from '../tensor/safetensors.ts'
import { checkPrefixFits, type PlayingModel, prefixLengthMax } from './artifact.ts'
import { columnCount, fromColumns, toColumns } from './columns.ts'
import { foreignHeader, floatsOf, invalidFile, listNames, openForeignFile } from './foreign-file.ts'
import { parsePeftConfig, type PeftConfig, peftTask, peftType } from './peft-config.ts'
import type { Prefix } from './prefix.ts'
import { inputMark } from './template.ts'

/** PEFT keeps no template: its users write whole prompts. */
export const peftTemplate = inputMark

export const peftFileNames = { config: 'adapter_config.json', model: 'adapter_model.safetensors' } as const

const tensorName = 'prompt_embeddings'

export interface PeftFiles {
  /** adapter_config.json */
  readonly config: Uint8Array
  /** adapter_model.safetensors */
  readonly model: Uint8Array
}

/**
 * The prefix for the model that plays it: PEFT names a model by a path alone, so shape is all that can be compared. Text
 * positions start at P, as PEFT plays GPT-2. Throws `prefix_invalid`, `prefix_model_mismatch` or `not_supported`, naming
 * both sides.
 */
export function readPeft(files: PeftFiles, model: PlayingModel, template: string = peftTemplate): Prefix {
  checkOrder(files)
  const config = parsePeftConfig(files.config)
  checkTask(config, model)
  const { tensors } = openForeignFile('adapter_model', files.model)
  const tensor = tensors.get(tensorName)
  if (tensor === undefined || tensors.size !== 1) {
    throw invalidFile('adapter_model', `has ${listNames(tensors.keys())}, it must have ${tensorName} alone`)
  }
  const prefixLength = checkShape(tensor.shape, config, model)
  const header = foreignHeader(prefixLength, template, model, {
    importedFrom: 'peft',
    baseModelNameOrPath: config.baseModel,
    peftVersion: config.peftVersion,
  })
  checkPrefixFits(header, model)
  return { header, ...fromColumns(floatsOf('adapter_model', tensorName, tensor), header) }
}

/**
 * PEFT's files of a prefix, equal for equal prefixes. `baseModel` is the name or path under which PEFT finds the model;
 * a prefix that came from PEFT keeps its own. Throws `not_supported` for what PEFT would play otherwise.
 */
export function writePeft({ header, keys, values }: Prefix, baseModel: string): PeftFiles {
  const { attachment, textPositionStart, prefixLength, layers, heads, headDim, training } = header
  if (attachment !== 'decoder_self') {
    throw inexpressible('attachment', attachment, 'decoder_self', `is attached to ${attachment}`)
  }
  if (textPositionStart !== prefixLength) {
    const found = `has text from position ${textPositionStart} on`
    throw inexpressible('textPositionStart', textPositionStart, prefixLength, found)
  }
  const tokenDim = heads * headDim
  const ownName = training['importedFrom'] === 'peft' ? training['baseModelNameOrPath'] : null
  const config = {
    base_model_name_or_path: typeof ownName === 'string' ? ownName : baseModel,
    encoder_hidden_size: tokenDim,
    inference_mode: true,
    num_attention_heads: heads,
    num_layers: layers,
    num_transformer_submodules: 1,
    num_virtual_tokens: prefixLength,
    peft_type: peftType,
    prefix_projection: false,
    task_type: peftTask,
    token_dim: tokenDim,
  }
  const shape = [prefixLength, columnCount(header)]
  const data = toColumns({ keys, values }, header)
  return {
    config: new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`),
    model: writeSafetensors([{ name: tensorName, dtype: 'F32', shape, data }], { format: 'pt' }),
  }
}

/** The commonest mistake has its own words: each file under the other's name. */
function checkOrder({ config, model }: PeftFiles): void {
  if (!beginsLikeJson(model) || beginsLikeJson(config)) return
  const problem = 'holds JSON and adapter_config does not: the two files are swapped'
  throw invalidFile('adapter_model', problem)
}

/** A safetensors file begins with a length, whose first byte may be any: its ninth opens the header. */
function beginsLikeJson(bytes: Uint8Array): boolean {
  const text = new TextDecoder('latin1').decode(bytes.subarray(0, 64)).trimStart()
  return text.startsWith('{') && bytes[8] !== 0x7b
}

function checkTask({ taskType, submodules }: PeftConfig, model: PlayingModel): void {
  if (taskType !== null && taskType !== peftTask) throw mismatch('task_type', taskType, peftTask, model)
  if (submodules !== null && submodules !== 1) throw mismatch('num_transformer_submodules', submodules, 1, model)
}

/** Config against tensor, then both against the model. Returns P. */
function checkShape(shape: readonly number[], config: PeftConfig, model: PlayingModel): number {
  const found = `has ${tensorName} [${shape.join(', ')}]`
  const [prefixLength, columns] = shape as [number, number]
  if (shape.length !== 2 || prefixLength === 0) {
    throw invalidFile('adapter_model', `${found}, it must be [virtual tokens, layers · 2 · width]`)
  }
  const { virtualTokens, layers, tokenDim, heads } = config
  if (virtualTokens !== null && virtualTokens !== prefixLength) {
    throw invalidFile('adapter_model', `${found}, adapter_config has num_virtual_tokens ${virtualTokens}`)
  }
  if (layers !== null && tokenDim !== null && columns !== layers * 2 * tokenDim) {
    const product = `num_layers ${layers} · 2 · token_dim ${tokenDim} = ${layers * 2 * tokenDim}`
    throw invalidFile('adapter_model', `${found}, adapter_config has ${product}`)
  }
  const width = model.heads * model.headDim
  if (layers !== null && layers !== model.layers) throw mismatch('num_layers', layers, model.layers, model)
  if (tokenDim !== null && tokenDim !== width) throw mismatch('token_dim', tokenDim, width, model)
  if (heads !== null && heads !== model.heads) throw mismatch('num_attention_heads', heads, model.heads, model)
  // Only where the config leaves something out can this differ still.
  if (columns !== columnCount(model)) throw mismatch(`columns of ${tensorName}`, columns, columnCount(model), model)
  if (prefixLength > prefixLengthMax) {
    throw invalidFile('adapter_model', `has ${prefixLength} virtual tokens, at most ${prefixLengthMax} are taken`)
  }
  return prefixLength
}

function mismatch(field: string, prefix: unknown, model: unknown, { name }: PlayingModel): ServiceError {
  const message = `the adapter has ${field} ${String(prefix)}, the model ${name} has ${String(model)}`
  return new ServiceError('prefix_model_mismatch', message, { field, prefix, model, modelName: name })
}

function inexpressible(field: string, prefix: unknown, peft: unknown, found: string): ServiceError {
  const message = `the prefix ${found}, PEFT plays ${field} ${String(peft)} alone, so its files cannot say this prefix`
  return new ServiceError('not_supported', message, { field, prefix, peft })
}
