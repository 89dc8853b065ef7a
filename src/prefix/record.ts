// What the service remembers of a prefix from the moment it is asked for.

/** queued → training → ready | failed | cancelled; an imported prefix is ready at once. */
export type PrefixStatus = 'queued' | 'training' | 'ready' | 'failed' | 'cancelled'

export interface PrefixSample {
  readonly input: string
  readonly reference: string
  readonly output: string
}

/** What a fine-tuning job of OpenAI's interface was asked with, to be told again. */
export interface FineTuningRequest {
  /** What the training goes on from, as it was resolved: a prefix, or the bare model's name. */
  readonly model: string
  /** Ids of files, or of datasets. */
  readonly trainingFile: string
  readonly validationFile: string | null
  /** null: chosen. */
  readonly learningRateMultiplier: number | null
  readonly metadata: Readonly<Record<string, string>> | null
}

export interface PrefixRecord {
  /** `pfx_` and 24 characters of [0-9a-z]. */
  readonly id: string
  readonly name: string | null
  /** 1, 2, … under a name; null without one. */
  readonly version: number | null
  readonly status: PrefixStatus
  readonly jobId: string | null
  /** ISO 8601, UTC. */
  readonly createdAt: string
  readonly updatedAt: string
  readonly model: { readonly name: string; readonly sha256: string }
  readonly tokenizerSha256: string
  readonly template: string
  readonly prefixLength: number
  /** Of the artifact; null until it is ready. */
  readonly bytes: number | null
  readonly artifactSha256: string | null
  /** Training options: as asked until it is ready, as used from then on. */
  readonly training: Readonly<Record<string, unknown>>
  readonly dataset: { readonly id: string; readonly sha256: string; readonly examples: number } | null
  /** Share of the dataset held out, or the id of the dataset that was; null where nobody knows: it was imported. */
  readonly validation: number | string | null
  readonly step: number
  readonly steps: number | null
  readonly loss: number | null
  readonly validationLoss: number | null
  /** Scores of the latest evaluation, and the number of `examples` that they were taken on. */
  readonly metrics: Readonly<Record<string, number>>
  readonly samples: readonly PrefixSample[]
  readonly error: { readonly code: string; readonly detail: string } | null
  /** null: it was not asked for by OpenAI's interface. */
  readonly fineTuning: FineTuningRequest | null
}
