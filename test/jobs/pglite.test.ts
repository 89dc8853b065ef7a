// The jobs on PostgreSQL inside this process, the default.
import { describeJobQueue } from './contract.ts'

describeJobQueue('jobs on PGlite', {
  skip: null,
  shared: false,
  start: () => Promise.resolve({ url: 'pglite:memory', close: () => Promise.resolve() }),
})
