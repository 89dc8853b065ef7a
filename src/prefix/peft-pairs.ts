// Which of the layers in PEFT's file a decoder layer plays: every one of a decoder alone, every other one beside an encoder.

/** Layers that PEFT stores, and how it plays them. */
export interface StoredLayers {
  readonly stored: number
  /** Of the decoder. */
  readonly played: number
  /** Whether there is an encoder, for whose layers PEFT cuts the stored ones too, and leaves them out. */
  readonly isCut: boolean
}

/** Decoder layer i plays stored layer 2i mod `stored` where there is an encoder (PEFT 0.21, `get_prompt`), else layer i. */
export function storedLayerOf(layer: number, { stored, isCut }: StoredLayers): number {
  return isCut ? (2 * layer) % stored : layer
}

/** From the layers of a file, one after the other, to those that are played. */
export function playedLayers(data: Float32Array, layers: StoredLayers): Float32Array {
  const size = data.length / layers.stored
  const out = new Float32Array(size * layers.played)
  for (let l = 0; l < layers.played; l++) {
    const from = storedLayerOf(l, layers) * size
    out.set(data.subarray(from, from + size), l * size)
  }
  return out
}

/**
 * The way back; what nobody plays is 0. Where two layers that differ are played from one stored layer the answer is those
 * two, by their numbers.
 */
export function layersToStore(data: Float32Array, layers: StoredLayers): Float32Array | readonly [number, number] {
  const size = data.length / layers.played
  const part = (layer: number): Float32Array => data.subarray(layer * size, (layer + 1) * size)
  const out = new Float32Array(size * layers.stored)
  const takenBy = new Map<number, number>()
  for (let l = 0; l < layers.played; l++) {
    const to = storedLayerOf(l, layers)
    const earlier = takenBy.get(to)
    if (earlier !== undefined && part(earlier).some((value, i) => value !== part(l)[i])) return [earlier, l]
    takenBy.set(to, l)
    out.set(part(l), to * size)
  }
  return out
}
