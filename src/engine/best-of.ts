// Of several texts for each input, those that the model itself finds the most probable.

/** Groups of `bestOf` neighbours: of each the `n` of the highest mean log-probability, the best first; of equals the first. */
export function bestTexts<T extends { readonly meanLogprob: number }>(
  texts: readonly T[],
  { n, bestOf }: { readonly n: number; readonly bestOf: number },
): T[] {
  return Array.from({ length: texts.length / bestOf }, (_, group) =>
    texts
      .slice(group * bestOf, (group + 1) * bestOf)
      .toSorted((a, b) => b.meanLogprob - a.meanLogprob)
      .slice(0, n),
  ).flat()
}
