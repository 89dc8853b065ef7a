// All kernels compiled for sm_80: Ampere, the oldest that is taken.
import { testCompiling } from './compile-contract.ts'

testCompiling(80)
