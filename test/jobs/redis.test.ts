// The jobs on a real Redis, or Valkey, which speaks the same.
import { describeJobQueue } from './contract.ts'
import { findProgram, startRedis } from './servers.ts'

const program = findProgram(['redis-server', 'valkey-server'])

describeJobQueue('jobs on Redis', {
  skip: program === null ? 'no redis-server or valkey-server found' : null,
  shared: true,
  start: () => startRedis(program ?? ''),
})
