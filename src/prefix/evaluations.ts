// What prefixes were measured to be worth: the last evaluations of each, in an object store.
import type { ObjectStore } from '../store/store.ts'

/** Of one prefix; a new one beyond them takes the place of the oldest. */
export const evaluationsMax = 20

export interface EvaluatedSystem {
  /** Scores by name, over all examples. */
  readonly metrics: Readonly<Record<string, number>>
}

/** The bare model with examples in its prompt. */
export interface FewShotSystem extends EvaluatedSystem {
  /** Examples in a prompt where the context had room for all. */
  readonly promptExamples: number
  /** As many as fitted, on the average. */
  readonly promptExamplesMean: number
}

/** One input, what would be right, and what each system said. */
export interface EvaluationSample {
  readonly input: string
  readonly references: readonly string[]
  readonly prefix: string
  readonly bare: string | null
  readonly fewShot: string | null
}

export interface Evaluation {
  /** It has no other name. */
  readonly jobId: string
  readonly prefixId: string
  /** ISO 8601, UTC. */
  readonly createdAt: string
  readonly datasetId: string
  /** Inputs that were scored. */
  readonly examples: number
  /** References of these, all together. */
  readonly references: number
  /** Inputs left out because they have no room in the model beside the prefix and the new tokens. */
  readonly skipped: number
  readonly maxNewTokens: number
  readonly seed: number
  readonly decoding: Readonly<Record<string, unknown>>
  /** Mean held-out loss of the prefix per target token, in nats; null where it was not measured. */
  readonly loss: number | null
  readonly prefix: EvaluatedSystem
  readonly bare: EvaluatedSystem | null
  readonly fewShot: FewShotSystem | null
  readonly samples: readonly EvaluationSample[]
}

/** Keys: `evaluations/PREFIX/JOB.json`. Ids of jobs count down, so that keys in byte order are the newest first. */
export class Evaluations {
  readonly #store: ObjectStore

  constructor(store: ObjectStore) {
    this.#store = store
  }

  /** Harmless if done twice. */
  async put(evaluation: Evaluation): Promise<void> {
    const { prefixId, jobId } = evaluation
    const bytes = new TextEncoder().encode(`${JSON.stringify(evaluation, null, 2)}\n`)
    await this.#store.put(`${folderOf(prefixId)}${jobId}.json`, bytes)
    const keys = await keysOf(this.#store, prefixId)
    for (const key of keys.slice(evaluationsMax)) await this.#store.delete(key)
  }

  /** The newest first. */
  async list(prefixId: string): Promise<Evaluation[]> {
    const found: Evaluation[] = []
    for (const key of await keysOf(this.#store, prefixId)) {
      const bytes = await this.#store.get(key)
      // null: it made room for a new one meanwhile.
      if (bytes !== null) found.push(JSON.parse(new TextDecoder().decode(bytes)) as Evaluation)
    }
    return found
  }

  async deleteAll(prefixId: string): Promise<void> {
    await deleteEvaluations(this.#store, prefixId)
  }
}

/** They go with their prefix. */
export async function deleteEvaluations(store: ObjectStore, prefixId: string): Promise<void> {
  for (const key of await keysOf(store, prefixId)) await store.delete(key)
}

async function keysOf(store: ObjectStore, prefixId: string): Promise<string[]> {
  const keys: string[] = []
  for await (const key of store.list(folderOf(prefixId))) keys.push(key)
  return keys
}

function folderOf(prefixId: string): string {
  return `evaluations/${prefixId}/`
}
