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

interface Partial {
  readonly matches: readonly Match[]
  /** Matches of equal words, not of stems alone. */
  readonly equal: number
  /** Runs of matches whose words are neighbours in both texts. */
  readonly chunks: number
  /** Sum of |hypothesis - reference| over the matches. */
  readonly distance: number
  readonly taken: ReadonlySet<number>
  /** Of each stem how many words of the hypothesis may still go without a match. */
  readonly skips: ReadonlyMap<string, number>
}

/**
 * As many matches as there can be; of those alignments the one with the most equal words, then the fewest chunks, then
 * the least distance (Denkowski & Lavie 2014, section 2.1). In order of the hypothesis. The search is a beam: where a text repeats many
 * words an alignment with fewer chunks can be missed. Time is beamMax · words · occurrences of a word.
 */
export function align(hypothesis: readonly Word[], reference: readonly Word[]): readonly Match[] {
  const places = new Map<string, number[]>()
  reference.forEach(({ stem }, i) => {
    const known = places.get(stem)
    if (known) known.push(i)
    else places.set(stem, [i])
  })
  const start: Partial = {
    matches: [],
    equal: 0,
    chunks: 0,
    distance: 0,
    taken: new Set(),
    skips: surplus(hypothesis, places),
  }
  let beam: readonly Partial[] = [start]
  hypothesis.forEach((word, i) => {
    const candidates = places.get(word.stem)
    if (candidates === undefined) return
    beam = beam
      .flatMap((partial) => continuations(partial, i, word, candidates, reference))
      .sort((a, b) => b.equal - a.equal || a.chunks - b.chunks || a.distance - b.distance)
      .slice(0, beamMax)
  })
  return (beam[0] as Partial).matches
}

function surplus(hypothesis: readonly Word[], places: ReadonlyMap<string, readonly number[]>): Map<string, number> {
  const counts = new Map<string, number>()
  for (const { stem } of hypothesis) counts.set(stem, (counts.get(stem) ?? 0) + 1)
  return new Map([...counts].map(([stem, count]) => [stem, Math.max(0, count - (places.get(stem)?.length ?? 0))]))
}

/** The word matches a place that is still free, or goes without if others of its stem can fill all places. */
function continuations(
  partial: Partial,
  at: number,
  { text, stem }: Word,
  places: readonly number[],
  reference: readonly Word[],
): Partial[] {
  const { matches, equal, chunks, distance, taken, skips } = partial
  const last = matches.at(-1)
  const continued = places
    .filter((place) => !taken.has(place))
    .map((place) => {
      const follows = last?.hypothesis === at - 1 && last.reference === place - 1
      return {
        matches: [...matches, { hypothesis: at, reference: place }],
        equal: reference[place]?.text === text ? equal + 1 : equal,
        chunks: follows ? chunks : chunks + 1,
        distance: distance + Math.abs(at - place),
        taken: new Set(taken).add(place),
        skips,
      }
    })
  const left = skips.get(stem) as number
  return left === 0 ? continued : [...continued, { ...partial, skips: new Map(skips).set(stem, left - 1) }]
}
