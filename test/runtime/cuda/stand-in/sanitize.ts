// Runs a command's Node with the stand-in built for AddressSanitizer and UndefinedBehaviorSanitizer; `npm run test:cuda-sanitize` is this file's.
import { execFileSync, spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { argv, env, execPath, exit } from 'node:process'
import { fileURLToPath } from 'node:url'
import { whyNot } from './build.ts'

/** Why sanitizers cannot be had; null where they can. */
export function whyUnsanitized(): string | null {
  const reason = whyNot()
  if (reason !== null) return reason
  return existsSync(runtimeLibrary()) ? null : 'g++ has no library of AddressSanitizer beside it'
}

/** Node is not built for it, so it must be there before everything else. */
function runtimeLibrary(): string {
  return execFileSync('g++', ['-print-file-name=libasan.so'], { encoding: 'utf8' }).trim()
}

/** For a Node that loads the stand-in. Node itself leaks, uses signals of its own, and is none of our business. */
export function sanitizedEnvironment(): NodeJS.ProcessEnv {
  return {
    ...env,
    PREAMBLE_SANITIZE: '1',
    LD_PRELOAD: runtimeLibrary(),
    ASAN_OPTIONS: 'detect_leaks=0:handle_segv=0:use_sigaltstack=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
  }
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const reason = whyUnsanitized()
  if (reason !== null) throw new Error(reason)
  spawn(execPath, argv.slice(2), { env: sanitizedEnvironment(), stdio: 'inherit' }).on('exit', (code) =>
    exit(code ?? 1),
  )
}
