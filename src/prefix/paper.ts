// Reads a checkpoint of the paper's own GPT-2 code and folds its network into an ordinary prefix.
import { setImmediate } from 'node:timers/promises'
import { ServiceError } from '../errors/errors.ts'
import type { Safetensors, StoredTensor } from '../tensor/safetensors.ts'
import { checkPrefixFits, type PlayingModel, prefixLengthMax } from './artifact.ts'
import { columnCount, fromColumns } from './columns.ts'
import { foreignHeader, floatsOf, invalidFile, listNames, openForeignFile } from './foreign-file.ts'
import { foldToken, type PaperNetwork } from './paper-network.ts'
import type { Prefix, PrefixHeader } from './prefix.ts'
import { defaultTemplate } from './template.ts'

const part = 'paper_model'
const hiddenMax = 65_536

/** Of `PrefixTuning` in gpt2/train_control.py. Its input_tokens are no parameter, but some variants save them as a buffer. */
const names = {
  embedding: 'wte.weight',
  hiddenWeight: 'control_trans.0.weight',
  hiddenBias: 'control_trans.0.bias',
  outputWeight: 'control_trans.2.weight',
  outputBias: 'control_trans.2.bias',
  tokens: 'input_tokens',
} as const

/** Tensors by which a variant of the network is known. */
const variants: readonly (readonly [tensor: string, what: string])[] = [
  ['control_trans.4.weight', 'its variant with a deeper network (deep_param)'],
  ['wte2.weight', 'its infix variant (use_infix) or a prefix of BART'],
  ['wte_enc.weight', 'a prefix of BART'],
  ['control_trans', 'its ablation without a network (init_shallow)'],
]

/**
 * The network's output column is ((2·layer + s)·heads + head)·headDim + i, s = 0 for keys and 1 for values; text positions
 * start at P, where GPT-2 goes on after its past. The file names no model and no number of heads: width and layers are all
 * that can be compared. Throws `prefix_invalid`, `prefix_model_mismatch` or `not_supported`, naming both sides.
 */
export async function readPaper(
  bytes: Uint8Array,
  model: PlayingModel,
  template: string = defaultTemplate,
): Promise<Prefix> {
  if (model.places !== undefined && model.places.length > 1) {
    const message = `${part} is of the paper's code for GPT-2, and the model ${model.name} has an encoder`
    throw new ServiceError('not_supported', message, { field: part })
  }
  const { tensors } = openForeignFile(part, bytes)
  checkNames(tensors)
  const { prefixLength, hidden } = checkShapes(tensors, model)
  const header = foreignHeader(prefixLength, template, model, { importedFrom: 'paper', reparametrization: hidden })
  checkPrefixFits(header, model)
  return { header, ...fromColumns(await foldAll(readNetwork(tensors), header), header) }
}

type Tensors = Safetensors['tensors']

/** [P, columns]. A token of a large model takes tens of milliseconds: others get their turn in between. */
async function foldAll(network: PaperNetwork, header: PrefixHeader): Promise<Float32Array> {
  const columns = columnCount(header)
  const rows = new Float32Array(header.prefixLength * columns)
  for (let token = 0; token < header.prefixLength; token++) {
    rows.set(foldToken(network, token), token * columns)
    await setImmediate()
  }
  return rows
}

function readNetwork(tensors: Tensors): PaperNetwork {
  const read = (name: string): Float32Array => floatsOf(part, name, tensors.get(name) as StoredTensor)
  return {
    embedding: read(names.embedding),
    hiddenWeight: read(names.hiddenWeight),
    hiddenBias: read(names.hiddenBias),
    outputWeight: read(names.outputWeight),
    outputBias: read(names.outputBias),
  }
}

function checkNames(tensors: Tensors): void {
  for (const [tensor, what] of variants) {
    if (!tensors.has(tensor)) continue
    const message = `paper_model has ${tensor}: it is ${what}, this service takes the network of two linear layers`
    throw new ServiceError('not_supported', message, { field: tensor })
  }
  const { tokens, ...needed } = names
  const missing = Object.values(needed).filter((name) => !tensors.has(name))
  const known: readonly string[] = [...Object.values(needed), tokens]
  const unknown = [...tensors.keys()].filter((name) => !known.includes(name))
  if (missing.length > 0) throw invalidFile(part, `has ${listNames(tensors.keys())}, it lacks ${missing.join(', ')}`)
  if (unknown.length > 0) throw invalidFile(part, `has ${listNames(unknown)}, it must have ${known.join(', ')} alone`)
}

/** Within the file first, then against the model. */
function checkShapes(tensors: Tensors, model: PlayingModel): { prefixLength: number; hidden: number } {
  const shapeOf = (name: string): readonly number[] => (tensors.get(name) as StoredTensor).shape
  const [prefixLength = 0, width = 0] = shapeOf(names.embedding)
  const [columns = 0, hidden = 0] = shapeOf(names.outputWeight)
  const check = (name: string, expected: readonly number[]): void => {
    const shape = shapeOf(name)
    if (shape.length === expected.length && shape.every((extent, i) => extent === expected[i] && extent > 0)) return
    const others = `[${expected.join(', ')}] as ${names.embedding} and ${names.outputWeight} have it`
    throw invalidFile(part, `has ${name} [${shape.join(', ')}], it must be ${others}`)
  }
  check(names.embedding, [prefixLength, width])
  check(names.hiddenWeight, [hidden, width])
  check(names.hiddenBias, [hidden])
  check(names.outputWeight, [columns, hidden])
  check(names.outputBias, [columns])
  checkTokens(tensors.get(names.tokens), prefixLength)
  if (prefixLength > prefixLengthMax || hidden > hiddenMax) {
    const found = `${prefixLength} virtual tokens and a hidden width of ${hidden}`
    throw invalidFile(part, `has ${found}, at most ${prefixLengthMax} and ${hiddenMax} are taken`)
  }
  const modelWidth = model.heads * model.headDim
  if (width !== modelWidth) throw mismatch('width', width, modelWidth, model)
  if (columns !== columnCount(model)) {
    throw mismatch('columns (layers · 2 · width)', columns, columnCount(model), model)
  }
  return { prefixLength, hidden }
}

/** Where they are saved they count the rows of the embedding. */
function checkTokens(tensor: StoredTensor | undefined, prefixLength: number): void {
  if (tensor === undefined) return
  const { buffer } = new Uint8Array(tensor.bytes)
  const counts = tensor.dtype === 'I64' && new BigInt64Array(buffer).every((token, i) => token === BigInt(i))
  if (counts && tensor.shape.join() === String(prefixLength)) return
  throw invalidFile(part, `has ${names.tokens} other than the numbers from 0 to ${prefixLength - 1} in I64`)
}

function mismatch(field: string, prefix: number, model: number, { name }: PlayingModel): ServiceError {
  const message = `paper_model has ${field} ${prefix}, the model ${name} has ${model}`
  return new ServiceError('prefix_model_mismatch', message, { field, prefix, model, modelName: name })
}
