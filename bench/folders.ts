// Where benchmarks keep what takes long to make.
import { tmpdir } from 'node:os'
import path from 'node:path'

/** Of models and weights in 8 bits that are made once and found again. */
export const benchFolder = path.join(tmpdir(), 'preamble-bench')

/** Beside the store of the service, and like it of no interest to others. */
export const checkpointFolder = 'data/e2e'
