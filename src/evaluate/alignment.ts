// Which word of a hypothesis stands for which of a reference: METEOR's alignment by equal words and equal stems.

export interface Word {
  readonly text: string
  readonly stem: string
}

/** Word `hypothesis` of the one text and `reference` of the other stand for each other; both count from 0. */
export interface Match {
  readonly hypothesis: number
  readonly reference: number
}

/** Partial alignments that are kept from word to word, as in METEOR 1.5. */
const beamMax = 40

/** The matches of a partial alignment from the last to the first; many alignments share their first ones. */
interface Link extends Match {
  readonly previous: Link | undefined
}

interface Partial {
  /** Bit i is set if place i of the reference is taken and a later word could want it. */
  readonly taken: bigint
  readonly last: Link | undefined
  /** Matches of equal words, not of stems alone. */
  readonly equal: number
  /** Runs of matches whose words are neighbours in both texts. */
  readonly chunks: number
  /** Sum of |hypothesis - reference| over the matches. */
  readonly distance: number
}

/**
 * As many matches as there can be; of those alignments the one with the most equal words, then the fewest chunks, then
 * the least distance (Denkowski & Lavie 2014, section 2.1). In order of the hypothesis. The search is a beam: where a
 * text repeats many words an alignment with fewer chunks can be missed. Time is beamMax · words · occurrences of a word.
 */
export function align(hypothesis: readonly Word[], reference: readonly Word[]): readonly Match[] {
  const places = new Map<string, number[]>()
  reference.forEach(({ stem }, i) => {
    const known = places.get(stem)
    if (known) known.push(i)
    else places.set(stem, [i])
  })
  // Of each stem how many words of the hypothesis are still to come.
  const left = new Map<string, number>()
  for (const { stem } of hypothesis) left.set(stem, (left.get(stem) ?? 0) + 1)

  let beam: readonly Partial[] = [{ taken: 0n, last: undefined, equal: 0, chunks: 0, distance: 0 }]
  hypothesis.forEach(({ text, stem }, i) => {
    const candidates = places.get(stem)
    if (candidates === undefined) return
    const later = (left.get(stem) as number) - 1
    left.set(stem, later)
    const wanted = later === 0 ? ~candidates.reduce((bits, place) => bits | bit(place), 0n) : -1n
    const continued = new Map<string, Partial>()
    // What follows depends on the places that are left and the last match alone: of those alike the best goes on.
    const keep = (partial: Partial): void => {
      const reached = partial.last?.hypothesis === i ? partial.last.reference : -1
      const key = `${reached} ${partial.taken}`
      const other = continued.get(key)
      if (other === undefined || byQuality(partial, other) < 0) continued.set(key, partial)
    }
    for (const partial of beam) {
      const free = candidates.filter((place) => (partial.taken & bit(place)) === 0n)
      for (const place of free) keep(extend(partial, i, place, reference[place]?.text === text, wanted))
      // The word may go without a match if those of its stem that follow can fill all places.
      if (later >= free.length) keep({ ...partial, taken: partial.taken & wanted })
    }
    beam = [...continued.values()].sort(byQuality).slice(0, beamMax)
  })
  const matches: Match[] = []
  for (let link = beam[0]?.last; link; link = link.previous) matches.push(link)
  return matches.reverse()
}

function bit(place: number): bigint {
  return 1n << BigInt(place)
}

function extend(partial: Partial, word: number, place: number, isEqual: boolean, wanted: bigint): Partial {
  const { taken, last, equal, chunks, distance } = partial
  const follows = last?.hypothesis === word - 1 && last.reference === place - 1
  return {
    taken: (taken | bit(place)) & wanted,
    last: { hypothesis: word, reference: place, previous: last },
    equal: isEqual ? equal + 1 : equal,
    chunks: follows ? chunks : chunks + 1,
    distance: distance + Math.abs(word - place),
  }
}

function byQuality(a: Partial, b: Partial): number {
  return b.equal - a.equal || a.chunks - b.chunks || a.distance - b.distance
}
