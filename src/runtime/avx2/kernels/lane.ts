// What a thread does in a run: it goes through the operations of a program and takes chunks of each, until none is left.
import { at, r12, r13, r14, r15, rax, rbp, rbx, rdi, rdx, rsi, rsp } from '../assembler.ts'
import type { VectorAssembler } from '../vectors.ts'

/** An operation, eight bytes each: its kernel, its arguments, how many chunks, how many are taken, how many are done. */
export const operationSlots = ['kernel', 'arguments', 'chunks', 'taken', 'done'] as const
/** Operations lie so far apart that threads do not disturb each other on the next one. */
export const operationBytes = 64
/** In front of them: how many there are, and where constants lie. */
export const headerSlots = ['operations', 'constants'] as const

/** Of Linux on x86-64: sched_setscheduler, and the policy of threads that compute. */
const [setScheduler, batch] = [144, 3]

const slot = (name: (typeof operationSlots)[number]): ReturnType<typeof at> => at(r12, 8 * operationSlots.indexOf(name))
const kept = [rbx, rbp, r12, r13, r14, r15]

/**
 * A function of C, of a program and a lane's own memory. As many threads as there are may run it at once on the same program, each
 * with memory of its own; it is over for all of them once the last chunk is done. Kernels may overwrite all registers but rsp.
 */
export function emitLane(m: VectorAssembler): void {
  m.push(...kept)
  emitAsBatch(m)
  // Program and memory on the stack: what a kernel leaves alone.
  m.push(rdi, rsi)
  const [program, memory] = [at(rsp, 8), at(rsp, 0)]
  m.load(r13, at(rdi))
  m.addressOf(r12, at(rdi, operationBytes))
  const [operation, end, take, wait, next] = [m.label(), m.label(), m.label(), m.label(), m.label()]
  m.place(operation)
  m.arithmetic('compare', r13, 0)
  m.jumpIf('equal', end)
  m.place(take)
  m.move(rax, 1)
  m.fetchAdd(slot('taken'), rax)
  m.compareAt(rax, slot('chunks'))
  m.jumpIf('aboveOrEqual', wait)
  m.move(rsi, rax)
  m.load(rdi, slot('arguments'))
  m.load(rdx, memory)
  m.load(rax, program)
  m.load(r14, at(rax, 8 * headerSlots.indexOf('constants')))
  m.load(rax, slot('kernel'))
  m.push(r12, r13)
  m.callAt(rax)
  m.pop(r12, r13)
  m.move(rax, 1)
  m.fetchAdd(slot('done'), rax)
  m.jump(take)

  m.place(wait)
  m.load(rax, slot('done'))
  m.compareAt(rax, slot('chunks'))
  m.jumpIf('aboveOrEqual', next)
  m.pause()
  m.jump(wait)
  m.place(next)
  m.arithmetic('add', r12, operationBytes)
  m.arithmetic('subtract', r13, 1)
  m.jump(operation)
  m.place(end)
  m.zeroUpper()
  m.pop(rdi, rsi)
  m.pop(...kept)
  m.return()
}

/**
 * The thread computes from now on and wakes up for nobody's answer: it does not take a processor from one that runs when it is woken. Else it took that of the
 * thread of JavaScript that was about to wake the next lane, for some milliseconds. Where that is not allowed nothing changes.
 */
function emitAsBatch(m: VectorAssembler): void {
  m.push(rdi, rsi)
  m.move(rax, 0)
  m.push(rax)
  m.move(rdi, 0)
  m.move(rsi, batch)
  m.move(rdx, rsp)
  m.move(rax, setScheduler)
  m.systemCall()
  m.pop(rax)
  m.pop(rdi, rsi)
}
