// What npm needs to install the same on every machine: exact versions, every platform's packages, no scripts, no hosts.
import assert from 'node:assert/strict'
import { readFile } from 'node:fs/promises'
import { test } from 'node:test'

interface Locked {
  readonly version?: string
  readonly resolved?: string
  readonly license?: string
  readonly optionalDependencies?: Readonly<Record<string, string>>
}

const manifest = JSON.parse(await readFile('package.json', 'utf8')) as Record<
  'dependencies' | 'devDependencies',
  Record<string, string>
>
const { packages } = JSON.parse(await readFile('package-lock.json', 'utf8')) as { packages: Record<string, Locked> }

test('every dependency is pinned to one version, and the lock file agrees', () => {
  for (const [name, version] of Object.entries({ ...manifest.dependencies, ...manifest.devDependencies })) {
    assert.match(version, /^\d+\.\d+\.\d+$/, name)
    assert.equal(packages[`node_modules/${name}`]?.version, version, name)
  }
})

test('the lock file names the optional packages of every platform, so that npm ci works on all of them', () => {
  const missing = Object.entries(packages).flatMap(([place, { optionalDependencies }]) =>
    Object.keys(optionalDependencies ?? {}).filter(
      (name) => !(`node_modules/${name}` in packages) && !(`${place}/node_modules/${name}` in packages),
    ),
  )
  assert.deepEqual(missing, [])
})

test('the lock file names no host, and the packages run no scripts when they are installed', async () => {
  assert.deepEqual(
    Object.entries(packages)
      .filter(([, { resolved }]) => resolved !== undefined)
      .map(([place]) => place),
    [],
  )
  assert.match(await readFile('.npmrc', 'utf8'), /^ignore-scripts=true$/m)
})

test('every package that is shipped has a permissive licence', () => {
  const permissive =
    /^(\(?(MIT|ISC|Apache-2\.0|BSD-[23]-Clause|0BSD|BlueOak-1\.0\.0|CC0-1\.0|Python-2\.0)( (OR|AND) |\)?$))+/
  const others = Object.entries(packages).filter(
    ([place, { license }]) => place !== '' && !permissive.test(license ?? 'none'),
  )
  assert.deepEqual(
    others.map(([place, { license }]) => `${place}: ${license}`),
    [],
  )
})
