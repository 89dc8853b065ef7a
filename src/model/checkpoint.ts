// Finds a checkpoint's tensors in its safetensors file or shards, without reading their bytes into memory.
import { createHash } from 'node:crypto'
import { createReadStream } from 'node:fs'
import { readFile, realpath } from 'node:fs/promises'
import path from 'node:path'
import { pipeline } from 'node:stream/promises'
import { ServiceError } from '../errors/errors.ts'
import { commonFolder, type Weight, type WeightDType, type Weights } from '../tensor/weights.ts'
import { readHeader, type TensorEntry } from '../tensor/safetensors.ts'

const singleFile = 'model.safetensors'
const indexFile = 'model.safetensors.index.json'
/** A checkpoint cut into more files than this is not believed. */
const shardsMax = 1_000

const dtypes: Readonly<Record<string, WeightDType>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' }

/** Names in files may begin with `transformer.`; ours never do. */
const canonicalName = (name: string): string => name.replace(/^transformer\./, '')

/**
 * The tensors named in `shapes`, each checked for its shape; others in the files are left alone.
 * Throws `model_invalid` that names the tensor or file, and both sides.
 */
export async function openWeights(
  folder: string,
  shapes: ReadonlyMap<string, readonly number[]>,
): Promise<{ readonly weights: Weights; readonly sha256: string }> {
  const files = await checkpointFiles(folder)
  const found = new Map<string, Weight>()
  for (const file of files) {
    for (const [name, entry] of await readTensors(folder, file)) {
      const shape = shapes.get(canonicalName(name))
      if (shape !== undefined) found.set(canonicalName(name), toWeight(file, canonicalName(name), entry, shape))
    }
  }
  const missing = [...shapes.keys()].filter((name) => !found.has(name))
  if (missing.length > 0) {
    const more = missing.length > 1 ? ` and ${missing.length - 1} more` : ''
    throw invalid(`${folder}: tensor ${missing[0]}${more} is in none of ${files.join(', ')}`)
  }
  const sha256 = await hashFiles(folder, files)
  return { weights: { ...(await located(folder, files, found)), sha256 }, sha256 }
}

/** Files may be links out of the folder, as in Hugging Face's cache; runtimes are given what they point to. */
async function located(
  folder: string,
  files: readonly string[],
  tensors: ReadonlyMap<string, Weight>,
): Promise<Pick<Weights, 'folder' | 'tensors'>> {
  const real = new Map<string, string>()
  for (const file of files) real.set(file, await realpath(path.join(folder, file)))
  const common = [...real.values()].map((file) => path.dirname(file)).reduce(commonFolder)
  const below = (file: string): string => path.relative(common, real.get(file) ?? file)
  return {
    folder: common,
    tensors: new Map([...tensors].map(([name, weight]) => [name, { ...weight, file: below(weight.file) }])),
  }
}

async function checkpointFiles(folder: string): Promise<readonly string[]> {
  let text: string
  try {
    text = await readFile(path.join(folder, indexFile), 'utf8')
  } catch {
    return [singleFile]
  }
  try {
    const { weight_map: map } = JSON.parse(text) as { weight_map: Record<string, string> }
    const files = [...new Set(Object.values(map))].sort()
    const plain = files.every((file) => typeof file === 'string' && path.basename(file) === file)
    if (!plain || files.length === 0 || files.length > shardsMax)
      throw new Error(`${files.length} files, each a plain file name?`)
    return files
  } catch (error) {
    throw invalid(`${path.join(folder, indexFile)}: no usable weight_map: ${(error as Error).message}`, error)
  }
}

async function readTensors(folder: string, file: string): Promise<ReadonlyMap<string, TensorEntry>> {
  try {
    return (await readHeader(path.join(folder, file))).tensors
  } catch (error) {
    throw invalid(`${path.join(folder, file)}: ${(error as Error).message}`, error)
  }
}

function toWeight(
  file: string,
  name: string,
  { dtype, shape, offset, bytes }: TensorEntry,
  expected: readonly number[],
): Weight {
  const narrow = dtypes[dtype]
  if (narrow === undefined)
    throw invalid(`${file}: tensor ${name} is ${dtype}, supported are ${Object.keys(dtypes).join(', ')}`)
  if (shape.length !== expected.length || shape.some((extent, axis) => extent !== expected[axis])) {
    throw invalid(`${file}: tensor ${name} is [${shape}], config.json asks for [${expected}]`)
  }
  return { name, dtype: narrow, shape, file, offset, bytes }
}

async function hashFiles(folder: string, files: readonly string[]): Promise<string> {
  const hash = createHash('sha256')
  for (const file of files)
    await pipeline(createReadStream(path.join(folder, file), { highWaterMark: 1 << 20 }), hash, { end: false })
  return hash.digest('hex')
}

function invalid(message: string, cause?: unknown): ServiceError {
  return new ServiceError('model_invalid', message, {}, { cause })
}
