// Keeps the 8-bit form of a model's weights in a file, made on first use and memory-mapped from then on.
import { createHash, randomUUID } from 'node:crypto'
import { mkdir, open, readdir, realpath, rename, rm, stat, type FileHandle } from 'node:fs/promises'
import path from 'node:path'
import { encodeHeader, inOrder, readHeader, SafetensorsError, toFloat32 } from '../../tensor/safetensors.ts'
import type { TensorEntry, TensorPlan } from '../../tensor/safetensors.ts'
import { commonFolder, type Weight, type Weights } from '../../tensor/weights.ts'
import { tensorNames, tensorPlans, type Product, type QuantizedForm } from './forms.ts'
import { quantizeBlocks, quantizeColumns, type Quantized } from './quantize.ts'

/** Raised when the same weights are put into 8 bits in another way: files of another format are made anew. */
const format = 'preamble.quantized.1'
const suffix = '.safetensors'
/** Files kept in the folder; the ones not made for longest go first. */
const filesMax = 8
/** An unfinished file of a process that died is swept away after this. */
const unfinishedMsMax = 3_600_000
/** Of one weight to be quantized: it is held in memory as float32, and twice in 8 bits. */
const weightBytesMax = 4 * 1024 ** 3

const safetensorsTypes = { float32: 'F32', float16: 'F16', bfloat16: 'BF16' } as const
const weightTypes: Readonly<Record<string, Weight['dtype']>> = { F32: 'float32', U8: 'uint8', I8: 'int8' }

/**
 * `weights` together with the tensors that `products` need in `form`, the latter in `folder`. Throws what the file system
 * says where the folder cannot be written.
 */
export async function withQuantized(
  weights: Weights,
  products: readonly Product[],
  form: QuantizedForm,
  folder: string,
): Promise<Weights> {
  if (weights.sha256 === undefined) throw new Error(`the weights in ${weights.folder} have no sha256 to keep them by`)
  const plans = products.flatMap((product) => Object.values(tensorPlans(product)))
  const metadata = { format, form, weights: weights.sha256 }
  const start = `${weights.sha256}-${form}-`
  for (const file of await filesIn(folder, start)) {
    const entries = await readEntries(file, plans, metadata)
    if (entries !== null) return together(weights, file, entries)
  }
  // Named by what is in it: where its tensors lie is known to others that have yet to open it.
  const file = path.join(path.resolve(folder), `${start}${hashOf(plans)}${suffix}`)
  await mkdir(path.dirname(file), { recursive: true })
  await writeFileOf(file, weights, products, metadata)
  await sweep(path.dirname(file), file)
  const entries = await readEntries(file, plans, metadata)
  if (entries === null) throw new Error(`${file} was written and cannot be read again`)
  return together(weights, file, entries)
}

async function filesIn(folder: string, start: string): Promise<string[]> {
  const names = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return []
    throw error
  })
  const ours = names.filter((name) => name.startsWith(start) && name.endsWith(suffix)).toSorted()
  return ours.map((name) => path.join(path.resolve(folder), name))
}

function hashOf(plans: readonly TensorPlan[]): string {
  const layout = inOrder(plans).map(({ name, dtype, shape }) => [name, dtype, shape])
  return createHash('sha256').update(JSON.stringify(layout)).digest('hex').slice(0, 8)
}

/** Null where the file is not there any more, is damaged, or is not what was asked for. */
async function readEntries(
  file: string,
  plans: readonly TensorPlan[],
  expected: Readonly<Record<string, string>>,
): Promise<ReadonlyMap<string, TensorEntry> | null> {
  try {
    const { tensors, metadata } = await readHeader(file)
    const isOurs = Object.entries(expected).every(([key, value]) => metadata[key] === value)
    const fits = ({ name, dtype, shape }: TensorPlan): boolean => {
      const entry = tensors.get(name)
      return entry?.dtype === dtype && entry.shape.join() === shape.join()
    }
    return isOurs && plans.every(fits) ? tensors : null
  } catch (error) {
    if (error instanceof SafetensorsError || (error as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw error
  }
}

/** Weight by weight: no more than one of them is in memory at a time. */
async function writeFileOf(
  file: string,
  weights: Weights,
  products: readonly Product[],
  metadata: Readonly<Record<string, string>>,
): Promise<void> {
  const plans = products.flatMap((product) => Object.values(tensorPlans(product)))
  const head = encodeHeader(plans, metadata)
  const offsets = new Map<string, number>()
  let end = head.length
  for (const { name, dtype, shape } of inOrder(plans)) {
    offsets.set(name, end)
    end += shape.reduce((size, extent) => size * extent, dtype === 'F32' ? 4 : 1)
  }
  const unfinished = `${file}.${randomUUID()}.unfinished`
  const out = await open(unfinished, 'wx')
  try {
    await writeAt(out, head, 0)
    for (const product of products) {
      const { values, scales } = await quantized(weights, product)
      const names = tensorNames(product)
      await writeAt(out, scales, offsets.get(names.scales) as number)
      await writeAt(out, values, offsets.get(names.values) as number)
    }
    await out.sync()
    await out.close()
    await rename(unfinished, file)
  } catch (error) {
    await out.close().catch(() => undefined)
    await rm(unfinished, { force: true })
    throw error
  }
}

async function quantized(
  weights: Weights,
  { name, shape: [rows, columns], transposed, bytes }: Product,
): Promise<Quantized<Int8Array | Uint8Array>> {
  const weight = weights.tensors.get(name)
  if (weight === undefined) throw new Error(`no weight is named ${name}`)
  const matrix = { data: await readFloat32(weights.folder, weight), rows, columns, transposed }
  return bytes === 'blocks' ? quantizeBlocks(matrix) : quantizeColumns(matrix, bytes)
}

async function readFloat32(folder: string, { name, dtype, file, offset, bytes }: Weight): Promise<Float32Array> {
  if (bytes > weightBytesMax)
    throw new Error(`weight ${name} has ${bytes} bytes, at most ${weightBytesMax} are quantized`)
  if (dtype === 'int8' || dtype === 'uint8') throw new Error(`weight ${name} is ${dtype} already`)
  const source = await open(path.join(folder, file))
  try {
    const data = new Uint8Array(bytes)
    for (let filled = 0; filled < bytes; ) {
      const { bytesRead } = await source.read(data, filled, bytes - filled, offset + filled)
      if (bytesRead === 0) throw new Error(`${file} ends before the last byte of ${name}`)
      filled += bytesRead
    }
    return toFloat32(safetensorsTypes[dtype], data)
  } finally {
    await source.close()
  }
}

async function writeAt(out: FileHandle, data: ArrayBufferView, position: number): Promise<void> {
  const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength)
  for (let done = 0; done < bytes.length; ) {
    const { bytesWritten } = await out.write(bytes, done, bytes.length - done, position + done)
    done += bytesWritten
  }
}

/** Other processes may have old files mapped: what is mapped stays readable after its name is gone. */
async function sweep(folder: string, kept: string): Promise<void> {
  const found: { readonly file: string; readonly ageMs: number }[] = []
  for (const name of await readdir(folder)) {
    const file = path.join(folder, name)
    const about = await stat(file).catch(() => null)
    if (about !== null && file !== kept) found.push({ file, ageMs: Date.now() - about.mtimeMs })
  }
  const finished = found.filter(({ file }) => file.endsWith(suffix)).toSorted((a, b) => a.ageMs - b.ageMs)
  const abandoned = found.filter(({ file, ageMs }) => file.endsWith('.unfinished') && ageMs > unfinishedMsMax)
  for (const { file } of [...finished.slice(filesMax - 1), ...abandoned]) await rm(file, { force: true })
}

/** The engine takes weights from below one folder only, and by their real paths: the nearest that holds all of them. */
async function together(weights: Weights, file: string, entries: ReadonlyMap<string, TensorEntry>): Promise<Weights> {
  const [theirs, ours] = [await realpath(weights.folder), await realpath(file)]
  const folder = commonFolder(theirs, path.dirname(ours))
  const tensors = new Map<string, Weight>()
  for (const [name, weight] of weights.tensors)
    tensors.set(name, { ...weight, file: path.relative(folder, path.join(theirs, weight.file)) })
  for (const [name, { dtype, shape, offset, bytes }] of entries) {
    const type = weightTypes[dtype] as Weight['dtype']
    tensors.set(name, { name, dtype: type, shape, file: path.relative(folder, ours), offset, bytes })
  }
  return { ...weights, folder, tensors }
}
