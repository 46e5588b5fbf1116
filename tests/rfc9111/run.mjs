// The public tests for HTTP caches (cache-tests.fyi) against a proxy that keeps what answers say themselves.
//
//   node run.mjs BINARY MODULES
//
// Prints every test that did not come out as it should and the counts. A test of kind `required` has to pass, unless one
// that it depends on does not; one of kind `optimal` or `check` only tells how a cache behaves. `expected.mjs` overrules
// both. ALL=1 prints every test that does not pass.

import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import { EXPECTED } from './expected.mjs'

const [binary, modules] = process.argv.slice(2)
const suite = join(modules, 'node_modules', 'http-cache-tests')
const load = (path) => import(pathToFileURL(path))

async function freePort () {
  const server = createServer().listen(0, '127.0.0.1')
  await once(server, 'listening')
  const { port } = server.address()
  server.close()
  await once(server, 'close')
  return port
}

async function reachable (url) {
  for (let tries = 0; tries < 300; tries++) {
    try {
      await fetch(url)
      return
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100))
    }
  }
  throw new Error(`nothing answers at ${url}`)
}

const [listen, admin, origin] = [await freePort(), await freePort(), await freePort()]
const directory = mkdtempSync(join(tmpdir(), 'rfc9111-'))
// The tests send these three fields with each request, another value each time, to tell their requests apart.
writeFileSync(join(directory, 'proxy.yaml'), `
listen: [{ name: app, address: "127.0.0.1:${listen}" }]
admin: { address: "127.0.0.1:${admin}" }
access_log: { format: off }
upstreams:
  origin:
    url: http://127.0.0.1:${origin}
    breaker: { enabled: false }
    concurrency: { limit: 1000 }
routes:
  - name: tests
    match: { path: "/test/{*rest}" }
    upstream: origin
    cache: { ignore: [Test-Name, Test-ID, Req-Num] }
  - name: harness
    match: { path: "/{*rest}" }
    upstream: origin
`)

const settings = { npm_config_protocol: 'http', npm_config_port: String(origin), npm_config_pidfile: join(directory, 'pid') }
const children = [
  spawn(process.execPath, [join(suite, 'server', 'server.mjs')], { cwd: suite, env: { ...process.env, ...settings }, stdio: 'ignore' }),
  spawn(binary, ['--config', join(directory, 'proxy.yaml')], { stdio: 'ignore' })
]
process.on('exit', () => children.forEach((child) => child.kill()))
await reachable(`http://127.0.0.1:${origin}/`)
await reachable(`http://127.0.0.1:${admin}/readyz`)

const { runTests, getResults } = await load(join(suite, 'client', 'runner.mjs'))
const { default: groups } = await load(join(suite, 'tests', 'index.mjs'))
const { default: request } = await load(join(modules, 'node_modules', 'node-fetch', 'lib', 'index.mjs'))
await runTests(groups, request, false, `http://127.0.0.1:${listen}`, 20)

const results = getResults()
const tests = groups.flatMap((group) => group.tests).filter((test) => test.id in results)
const tally = { required: [0, 0], optimal: [0, 0], check: [0, 0] }
let [passed, failed] = [0, 0]
for (const test of tests) {
  const kind = test.kind ?? 'required'
  const good = results[test.id] === true
  tally[kind][good ? 0 : 1]++
  const depends = (test.depends_on ?? []).some((id) => results[id] !== true)
  const wanted = EXPECTED[test.id]?.[0] ?? (kind === 'required' && !depends ? true : undefined)
  if (wanted === undefined || wanted === good) {
    passed++
    continue
  }
  failed++
  const what = good ? 'passes, and is listed as one that does not' : results[test.id].join(': ')
  console.log(`${test.id} (${kind}): ${what}\n    ${test.name}`)
}
for (const id of Object.keys(EXPECTED)) if (!(id in results)) console.log(`${id}: no such test`, failed++)
for (const [kind, [yes, no]] of Object.entries(tally)) console.log(`${kind}: ${yes} yes, ${no} no`)
if (process.env.ALL) {
  for (const test of tests.filter((test) => results[test.id] !== true)) {
    console.log(test.kind ?? 'required', test.id, results[test.id].join(': '), '|', test.name)
  }
}
console.log(`${passed} passed, ${failed} failed`)
process.exit(failed === 0 ? 0 : 1)
