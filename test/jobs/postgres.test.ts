// The jobs on a real PostgreSQL.
import { describeJobQueue } from './contract.ts'
import { findProgram, postgresFolders, startPostgres } from './servers.ts'

const folders = await postgresFolders()
const initdb = findProgram(['initdb'], folders)
const postgres = findProgram(['postgres'], folders)

describeJobQueue('jobs on PostgreSQL', {
  skip: initdb === null || postgres === null ? 'no postgres and initdb found' : null,
  shared: true,
  start: () => startPostgres(initdb ?? '', postgres ?? ''),
})
