// PEFT's two files of a prefix as one zip.
import { zipSync } from 'fflate'
import type { PlayingModel } from '../prefix/artifact.ts'
import { peftFileNames, writePeft } from '../prefix/peft.ts'
import type { Prefix } from '../prefix/prefix.ts'

/** The first day that zip files know: equal prefixes give equal archives. In local time, as zip files are. */
const mtime = new Date(1980, 0, 1)

/** Stored, not compressed: trained numbers hardly shrink. Throws `not_supported` for what PEFT cannot express. */
export function peftArchive(prefix: Prefix, baseModel: string, played: Pick<PlayingModel, 'places'>): Uint8Array {
  const { config, model } = writePeft(prefix, baseModel, played)
  return zipSync({ [peftFileNames.config]: config, [peftFileNames.model]: model }, { level: 0, mtime })
}
