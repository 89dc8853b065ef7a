// Prefixes in PEFT's two files, adapter_config.json and adapter_model.safetensors, in and out.
import { ServiceError } from '../errors/errors.ts'
import { writeSafetensors } from '../tensor/safetensors.ts'
import { checkPrefixFits, type PlayingModel, prefixLengthMax } from './artifact.ts'
import { columnCount, fromColumns, toColumns } from './columns.ts'
import { foreignHeader, floatsOf, invalidFile, listNames, openForeignFile } from './foreign-file.ts'
import { parsePeftConfig, type PeftConfig, peftTask, peftTaskOfTwo, peftType } from './peft-config.ts'
import { layersToStore, playedLayers, storedLayerOf, type StoredLayers } from './peft-pairs.ts'
import { type AttachedLayers, placesOf, type Prefix } from './prefix.ts'
import { inputMark } from './template.ts'

/** PEFT keeps no template: its users write whole prompts. */
const peftTemplate = inputMark

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
 * positions start at P, as PEFT plays GPT-2 and BART. Of BART it plays the decoder's own attention alone, and there every other
 * stored layer. Throws `prefix_invalid`, `prefix_model_mismatch` or `not_supported`, naming both sides.
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
  const layers = storedLayers(model)
  const stored = fromColumns(floatsOf('adapter_model', tensorName, tensor), { ...header, layers: layers.stored })
  return { header, keys: playedLayers(stored.keys, layers), values: playedLayers(stored.values, layers) }
}

const encoderOf = ({ places = [] }: Pick<PlayingModel, 'places'>): AttachedLayers | undefined =>
  places.find(({ attachment }) => attachment === 'encoder_self')

/** PEFT counts as many layers as transformers' `num_hidden_layers`: of a model with an encoder those are the encoder's. */
function storedLayers(model: Pick<PlayingModel, 'places' | 'layers'>): StoredLayers {
  const encoder = encoderOf(model)
  return { stored: encoder?.layers ?? model.layers, played: model.layers, isCut: encoder !== undefined }
}

/**
 * PEFT's files of a prefix, equal for equal prefixes. `baseModel` is the name or path under which PEFT finds the model;
 * a prefix that came from PEFT keeps its own. `model` is that which plays it. Throws `not_supported` for what PEFT would play
 * otherwise.
 */
export function writePeft(prefix: Prefix, baseModel: string, model: Pick<PlayingModel, 'places'> = {}): PeftFiles {
  const { header } = prefix
  const { textPositionStart, prefixLength, heads, headDim, training } = header
  const attachment = placesOf(header)
    .map((place) => place.attachment)
    .join(' and ')
  if (attachment !== 'decoder_self') {
    throw inexpressible('attachment', attachment, 'decoder_self', `is attached to ${attachment}`)
  }
  if (textPositionStart !== prefixLength) {
    const found = `has text from position ${textPositionStart} on`
    throw inexpressible('textPositionStart', textPositionStart, prefixLength, found)
  }
  const layers = storedLayers({ ...model, layers: header.layers })
  if (layers.played > layers.stored) throw tooDeep(layers)
  const tokenDim = heads * headDim
  const ownName = training['importedFrom'] === 'peft' ? training['baseModelNameOrPath'] : null
  const config = {
    base_model_name_or_path: typeof ownName === 'string' ? ownName : baseModel,
    encoder_hidden_size: tokenDim,
    inference_mode: true,
    num_attention_heads: heads,
    num_layers: layers.stored,
    num_transformer_submodules: layers.isCut ? 2 : 1,
    num_virtual_tokens: prefixLength,
    peft_type: peftType,
    prefix_projection: false,
    task_type: layers.isCut ? peftTaskOfTwo : peftTask,
    token_dim: tokenDim,
  }
  const written = { ...header, layers: layers.stored }
  const shape = [prefixLength, columnCount(written)]
  const [keys, values] = [stored(prefix.keys, layers), stored(prefix.values, layers)]
  const data = toColumns({ keys, values }, written)
  return {
    config: new TextEncoder().encode(`${JSON.stringify(config, null, 2)}\n`),
    model: writeSafetensors([{ name: tensorName, dtype: 'F32', shape, data }], { format: 'pt' }),
  }
}

function stored(data: Float32Array, layers: StoredLayers): Float32Array {
  const laid = layersToStore(data, layers)
  if (laid instanceof Float32Array) return laid
  const [a, b] = laid
  const message = `PEFT plays decoder layers ${a} and ${b} from one and the same stored layer, and those of the prefix differ`
  throw new ServiceError('not_supported', message, { field: 'layers', prefix: laid, peft: storedLayerOf(a, layers) })
}

function tooDeep({ stored: count, played }: StoredLayers): ServiceError {
  const message = `PEFT stores as many layers as the encoder has, ${count}, and the decoder has ${played}`
  return new ServiceError('not_supported', message, { field: 'layers', prefix: played, peft: count })
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
  const layers = storedLayers(model)
  const [task, modules] = layers.isCut ? [peftTaskOfTwo, 2] : [peftTask, 1]
  if (taskType !== null && taskType !== task) throw mismatch('task_type', taskType, task, model)
  if (submodules !== null && submodules !== modules)
    throw mismatch('num_transformer_submodules', submodules, modules, model)
  if (layers.played > layers.stored) throw tooDeep(layers)
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
  const { stored: count } = storedLayers(model)
  if (layers !== null && layers !== count) throw mismatch('num_layers', layers, count, model)
  if (tokenDim !== null && tokenDim !== width) throw mismatch('token_dim', tokenDim, width, model)
  if (heads !== null && heads !== model.heads) throw mismatch('num_attention_heads', heads, model.heads, model)
  // Only where the config leaves something out can this differ still.
  const wanted = columnCount({ ...model, layers: count })
  if (columns !== wanted) throw mismatch(`columns of ${tensorName}`, columns, wanted, model)
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
