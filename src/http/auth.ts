// API keys: who may ask anything but whether the service is alive.
import { createHash, timingSafeEqual } from 'node:crypto'
import type { FastifyRequest } from 'fastify'
import { ServiceError } from '../errors/errors.ts'

/** Returns a check that throws `unauthorized` unless the request carries one of `keys` as `Authorization: Bearer`. */
export function createKeyCheck(keys: readonly string[]): (request: FastifyRequest) => void {
  const digests = keys.map(digestOf)
  return ({ headers }) => {
    const { authorization } = headers
    if (authorization === undefined) {
      throw new ServiceError('unauthorized', 'send an API key: Authorization: Bearer KEY')
    }
    const [, key] = /^Bearer +(\S+) *$/i.exec(authorization) ?? []
    if (key === undefined) {
      throw new ServiceError('unauthorized', 'the Authorization header is not of the form: Bearer KEY')
    }
    const digest = digestOf(key)
    // All of them, always: the time taken tells nothing about how much of which key was right.
    const matches = digests.map((known) => timingSafeEqual(known, digest))
    if (!matches.includes(true)) throw new ServiceError('unauthorized', 'the API key is not one of this service')
  }
}

/** Names the caller by its key without telling the key; the same for all where there is none. */
export function clientOf({ headers: { authorization } }: FastifyRequest): string {
  return authorization === undefined ? '' : digestOf(authorization).toString('hex').slice(0, clientCharacters)
}

/** Of a digest: enough that no two keys of a service are taken for one. */
const clientCharacters = 16

function digestOf(key: string): Buffer {
  return createHash('sha256').update(key).digest()
}
