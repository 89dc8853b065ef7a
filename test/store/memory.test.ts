// The store in memory does what every store must do.
import { MemoryStore } from '../../src/store/memory.ts'
import { describeObjectStore } from './contract.ts'

describeObjectStore('MemoryStore', async () => new MemoryStore())
