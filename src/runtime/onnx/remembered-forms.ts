// Which form a machine was found to compute fastest: kept, so that a later process chooses the same and need not measure.
import { randomUUID } from 'node:crypto'
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises'
import { cpus } from 'node:os'
import path from 'node:path'
import { quantizedForms, type ServingForm } from './forms.ts'
import type { LayerShape } from './measured-layers.ts'

/** Measurements kept; a folder is moved to other machines now and then, not to hundreds. */
const rememberedMax = 100
const known: readonly ServingForm[] = ['float32', ...quantizedForms, 'words']

/** Training has many rows at a time and gradients, decoding few rows, reading many: another form may be the fastest. */
export type Work = 'training' | 'decoding' | 'reading'

/** What a measurement is true of: with a form more than was known then, another may be the fastest. */
function keyOf(shape: LayerShape, threads: number, work: Work): string {
  const forms = (work === 'training' ? quantizedForms : known.slice(1)).join('/')
  return `${cpus()[0]?.model ?? 'unknown'}, ${threads} threads, layer ${shape.join(' x ')}, ${work} in ${forms}`
}

/** null: not measured yet, or not on this machine, or what is kept cannot be read. */
export async function rememberedForm(
  folder: string,
  shape: LayerShape,
  threads: number,
  work: Work = 'training',
): Promise<ServingForm | null> {
  const form = (await readForms(folder))[keyOf(shape, threads, work)]
  return known.find((each) => each === form) ?? null
}

/** Whatever goes wrong costs another measurement, no more. */
export async function rememberForm(
  folder: string,
  shape: LayerShape,
  threads: number,
  form: ServingForm,
  work: Work = 'training',
): Promise<void> {
  try {
    const earlier = Object.entries(await readForms(folder)).slice(1 - rememberedMax)
    const forms = { ...Object.fromEntries(earlier), [keyOf(shape, threads, work)]: form }
    await mkdir(folder, { recursive: true })
    const partial = path.join(folder, `forms.${randomUUID()}.partial`)
    await writeFile(partial, `${JSON.stringify(forms, null, 2)}\n`)
    await rename(partial, fileIn(folder))
  } catch {
    // The folder cannot be written: then weights in 8 bits cannot be kept either, and that is said where they are made.
  }
}

const fileIn = (folder: string): string => path.join(folder, 'forms.json')

async function readForms(folder: string): Promise<Readonly<Record<string, unknown>>> {
  try {
    const forms: unknown = JSON.parse(await readFile(fileIn(folder), 'utf8'))
    return typeof forms === 'object' && forms !== null ? (forms as Record<string, unknown>) : {}
  } catch {
    return {}
  }
}
