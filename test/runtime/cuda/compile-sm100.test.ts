// All kernels compiled for sm_100: Blackwell.
import { testCompiling } from './compile-contract.ts'

testCompiling(100)
