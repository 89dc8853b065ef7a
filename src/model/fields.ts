// Reads single fields of a config.json, and says of each that does not fit what it is and what would be.
import { ServiceError } from '../errors/errors.ts'

export type Json = Readonly<Record<string, unknown>>

export class Fields {
  readonly #json: Json
  readonly #file: string

  constructor(json: Json, file: string) {
    this.#json = json
    this.#file = file
  }

  get(field: string): unknown {
    return this.#json[field]
  }

  /** Throws `model_invalid` that names the field, what it is and what is supported. */
  refuse(field: string, supported: string): never {
    const message = `${this.#file}: ${field} is ${JSON.stringify(this.#json[field])}, supported is ${supported}`
    throw new ServiceError('model_invalid', message)
  }

  count(field: string): number {
    const value = this.#json[field]
    return typeof value === 'number' && Number.isInteger(value) && value > 0
      ? value
      : this.refuse(field, 'a positive integer')
  }

  /** A field that may be missing: then it is what all of `allowed` mean. */
  only(field: string, allowed: readonly unknown[]): void {
    if (this.#json[field] !== undefined && !allowed.includes(this.#json[field]))
      this.refuse(field, allowed.map((v) => JSON.stringify(v)).join(' or '))
  }

  /** The id of a token; null where the field is missing or null. */
  token(field: string, vocabulary: number): number | null {
    const value = this.#json[field] ?? null
    const isToken = typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < vocabulary
    return value === null || isToken ? value : this.refuse(field, `a token below ${vocabulary}, or null`)
  }
}
