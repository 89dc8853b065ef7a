// Opens the tensor file of another library: what it is if not safetensors, and its tensors as float32.
import { ServiceError } from '../errors/errors.ts'
import {
  type FloatDType,
  readSafetensors,
  type Safetensors,
  SafetensorsError,
  type StoredTensor,
  toFloat32,
} from '../tensor/safetensors.ts'
import { artifactHeaderBytesMax, type PlayingModel } from './artifact.ts'
import type { PrefixHeader } from './prefix.ts'

const floatDTypes: readonly FloatDType[] = ['F64', 'F32', 'F16', 'BF16']
const namesShownMax = 8

/** `part` is what the request calls the file. Throws `prefix_invalid`. */
export function openForeignFile(part: string, bytes: Uint8Array): Safetensors {
  if (isPickle(bytes)) {
    const problem = 'is a PyTorch pickle, which can run code when it is opened; save it as safetensors'
    throw invalidFile(part, problem)
  }
  try {
    return readSafetensors(bytes, artifactHeaderBytesMax)
  } catch (error) {
    if (!(error instanceof SafetensorsError)) throw error
    const details = { field: part, reason: error.kind }
    const message = `${part} is not a valid safetensors file: ${error.message}`
    throw new ServiceError('prefix_invalid', message, details, { cause: error })
  }
}

/** Every number of a tensor, each of them finite. Throws `prefix_invalid`. */
export function floatsOf(part: string, name: string, { dtype, bytes }: StoredTensor): Float32Array {
  const float = floatDTypes.find((each) => each === dtype)
  if (float === undefined) {
    throw invalidFile(part, `has ${name} with dtype ${dtype}, it must be ${floatDTypes.join(', ')}`)
  }
  const numbers = toFloat32(float, bytes)
  // A loop: with a callback a hundred million bytes would keep all others waiting for half a second.
  for (let at = 0; at < numbers.length; at++) {
    if (Number.isFinite(numbers[at])) continue
    throw invalidFile(part, `has ${numbers[at]} in ${name} at index ${at}, every number must be finite in float32`)
  }
  return numbers
}

export function invalidFile(part: string, problem: string): ServiceError {
  return new ServiceError('prefix_invalid', `${part} ${problem}`, { field: part })
}

/** Names of tensors, as many as a message takes. */
export function listNames(names: Iterable<string>): string {
  const all = [...names]
  if (all.length === 0) return 'no tensor'
  const shown = all.slice(0, namesShownMax).map((name) => JSON.stringify(name.slice(0, 100)))
  return all.length > namesShownMax ? `${shown.join(', ')} and ${all.length - namesShownMax} more` : shown.join(', ')
}

/** Today's pickles are zip files; the first ones begin with the opcode of their protocol. */
function isPickle(bytes: Uint8Array): boolean {
  return (bytes[0] === 0x50 && bytes[1] === 0x4b) || (bytes[0] === 0x80 && (bytes[1] as number) <= 5)
}

/** Of a prefix of GPT-2 from elsewhere: those files name no model, so it is that of the service; text positions start at P. */
export function foreignHeader(
  prefixLength: number,
  template: string,
  { layers, heads, headDim, sha256, tokenizerSha256 }: PlayingModel,
  training: PrefixHeader['training'],
): PrefixHeader {
  return {
    attachment: 'decoder_self',
    textPositionStart: prefixLength,
    prefixLength,
    layers,
    heads,
    headDim,
    modelSha256: sha256,
    tokenizerSha256,
    template,
    training,
  }
}
