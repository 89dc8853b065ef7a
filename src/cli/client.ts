// The few calls that the demo makes of the service, over HTTP like anybody else.

export interface JobReport {
  readonly status: string
  readonly progress: {
    readonly step: number
    readonly steps: number
    readonly loss: number
    readonly validationLoss: number | null
    readonly examplesPerSecond: number
    readonly etaMs: number
    /** Before the first step: steps of the candidates among which the options are chosen. */
    readonly choosing?: { readonly done: number; readonly total: number }
  } | null
  readonly error: { readonly code: string; readonly detail: string } | null
}

export interface TrainingStarted {
  readonly id: string
  readonly jobId: string
}

export class ServiceClient {
  readonly #address: string

  constructor(address: string) {
    this.#address = address
  }

  train(body: object): Promise<TrainingStarted> {
    return this.#call('POST', '/prefixes', body)
  }

  job(id: string): Promise<JobReport> {
    return this.#call('GET', `/jobs/${id}`)
  }

  /** The greedy continuation of each input; `prefix` null is the bare model. */
  async generate(prefix: string | null, inputs: readonly string[], maxNewTokens: number): Promise<string[]> {
    const { outputs } = await this.#call<{ outputs: { text: string }[] }>('POST', '/generate', {
      prefix,
      input: inputs,
      maxNewTokens,
    })
    return outputs.map(({ text }) => text)
  }

  /** Waits for each new event of a job, and ends with the job. */
  async *follow(id: string): AsyncGenerator<void, void> {
    const response = await fetch(`${this.#address}/jobs/${id}/events`)
    if (!response.ok || response.body === null) throw new Error(`GET /jobs/${id}/events answered ${response.status}`)
    for await (const piece of response.body) if (piece.length > 0) yield
  }

  async #call<T>(method: string, path: string, body?: object): Promise<T> {
    const json =
      body === undefined ? {} : { body: JSON.stringify(body), headers: { 'content-type': 'application/json' } }
    const response = await fetch(this.#address + path, { method, ...json })
    const answer = (await response.json()) as T & { detail?: string }
    if (!response.ok) throw new Error(`${method} ${path} answered ${response.status}: ${answer.detail ?? ''}`)
    return answer
  }
}
